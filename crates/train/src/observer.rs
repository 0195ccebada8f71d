//! What a run tells the outside: the loop knows no terminal and no file.

use modalign_metrics::Report;

use modalign_core::Store;

use crate::{Checkpoint, EpochRecord, LossTerms, TrainError};

/// Receives events from several runs, which may go on at the same time on different threads.
pub trait Observer: Sync {
    /// Takes one event.
    fn observe(&self, event: &Event<'_>);

    /// Where runs keep their state, so that they can go on after an interruption. By default
    /// nowhere.
    fn keeper(&self) -> Option<&dyn StateKeeper> {
        None
    }
}

/// Keeps the whole state of runs: parameters, optimiser moments, generated labels, positions of the
/// random generators, data order, early stopping, history and the best model. A run that begins from
/// a kept state ends in the same bits as one that was never interrupted.
///
/// Runs are told apart by their names, such as `seed 1111`; several may call at the same time.
pub trait StateKeeper: Sync {
    /// The last state that a run has kept, if it has.
    ///
    /// # Errors
    ///
    /// [`TrainError::State`] if there is one that cannot be used.
    fn restore(&self, run: &str) -> Result<Option<Store>, TrainError>;

    /// Keeps the state of a run in place of its earlier ones, after every epoch.
    ///
    /// # Errors
    ///
    /// [`TrainError::Keep`]; the run then stops.
    fn keep(&self, run: &str, state: &Store) -> Result<(), TrainError>;

    /// Keeps the best model so far of a run that diverged.
    ///
    /// # Errors
    ///
    /// [`TrainError::Store`].
    fn rescue(&self, run: &str, best: &Checkpoint) -> Result<(), TrainError>;

    /// After how many batches of an epoch the state is kept too; `None` for epochs alone.
    fn steps(&self) -> Option<usize>;

    /// Whether every run is to keep its state before its next batch and stop with
    /// [`TrainError::Interrupted`].
    fn is_interrupted(&self) -> bool;
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
    /// A run goes on from a kept state.
    RunResumed {
        /// The run.
        run: usize,
        /// Epochs it has behind it.
        epochs: usize,
        /// Batches it has behind it in the next one.
        batches: usize,
        /// The lowest validation loss so far.
        best_loss: Option<f64>,
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
