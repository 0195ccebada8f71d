//! What a run tells the outside: the loop knows no terminal and no file.

use modalign_metrics::Report;

use crate::{EpochRecord, LossTerms};

/// Receives events from several runs, which may go on at the same time on different threads.
pub trait Observer: Sync {
    /// Takes one event.
    fn observe(&self, event: &Event<'_>);
}

/// Something that happened in a run.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Transcripts were longer than the text model's limit and lost their ends.
    TextsTruncated {
        /// How many.
        texts: usize,
        /// Of how many training and validation rows.
        rows: usize,
    },
    /// A run begins.
    RunStarted {
        /// Its place among the runs, from 0.
        run: usize,
        /// The number of runs.
        runs: usize,
        /// What it is called, such as `seed 1111`.
        name: &'a str,
        /// The last epoch it can reach.
        max_epochs: usize,
        /// Batches an epoch.
        steps_per_epoch: usize,
        /// Trainable scalars.
        parameters: usize,
    },
    /// A batch went forward and backward.
    Step {
        /// The run.
        run: usize,
        /// The epoch, from 1.
        epoch: usize,
        /// The batch within the epoch, from 1.
        step: usize,
        /// Its loss.
        terms: &'a LossTerms,
    },
    /// An epoch ended with its validation.
    EpochFinished {
        /// The run.
        run: usize,
        /// What happened in it.
        record: &'a EpochRecord,
    },
    /// A run ended.
    RunFinished {
        /// The run.
        run: usize,
        /// The epoch whose parameters are kept.
        best_epoch: usize,
        /// Its validation metrics.
        valid: &'a Report,
    },
}

/// Observes nothing.
impl Observer for () {
    fn observe(&self, _: &Event<'_>) {}
}
