//! The time of steps and epochs inside a run.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use modalign_data::Dataset;
use modalign_train::{Event, ExperimentConfig, Observer, run};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unit {
    /// A batch.
    Step,
    /// An epoch with its validation.
    Epoch,
}

/// Notes when two steps or epochs of a run ended.
struct Stopwatch {
    unit: Unit,
    first: usize,
    last: usize,
    /// So many so far, and when the first of the two ended.
    state: Mutex<(usize, Option<Instant>, Duration)>,
}

impl Observer for Stopwatch {
    fn observe(&self, event: &Event<'_>) {
        match event {
            Event::Step { .. } if self.unit == Unit::Step => {}
            Event::EpochFinished { .. } if self.unit == Unit::Epoch => {}
            _ => return,
        }
        let mut state = self.state.lock().expect("no thread panics with the lock");
        state.0 += 1;
        if state.0 == self.first {
            state.1 = Some(Instant::now());
        }
        if let (true, Some(begin)) = (state.0 == self.last, state.1) {
            state.2 = begin.elapsed();
        }
    }
}

/// The time of so many steps or epochs of the first seed, after the first epoch.
///
/// # Panics
///
/// If the configuration does not fit the data.
pub fn time_training(
    config: &ExperimentConfig,
    dataset: &Dataset,
    unit: Unit,
    count: usize,
) -> Duration {
    let steps = dataset.train.len().div_ceil(config.training.batch_size);
    let (first, epochs) = match unit {
        Unit::Step => (steps, count.div_ceil(steps)),
        Unit::Epoch => (1, count),
    };
    let mut config = config.clone();
    config.seeds.truncate(1);
    config.training.max_epochs = 1 + epochs;
    config.training.patience = config.training.max_epochs;
    let stopwatch = Stopwatch {
        unit,
        first,
        last: first + count,
        state: Mutex::default(),
    };
    run(&config, dataset, &stopwatch).expect("the configuration fits the data");
    let state = stopwatch.state.into_inner().expect("no thread panicked");
    state.2
}
