//! An experiment that is interrupted after every batch.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use modalign_core::Store;
use modalign_data::Dataset;
use modalign_train::{
    Checkpoint, Event, Experiment, ExperimentConfig, Observer, StateKeeper, TrainError, run,
};

/// Keeps the state of the one run in memory and lets it do one batch.
#[derive(Default)]
struct Keeper {
    state: Mutex<Option<Store>>,
    batches: AtomicUsize,
}

impl Observer for Keeper {
    fn observe(&self, _: &Event<'_>) {}

    fn keeper(&self) -> Option<&dyn StateKeeper> {
        Some(self)
    }
}

impl StateKeeper for Keeper {
    fn restore(&self, _: &str) -> Result<Option<Store>, TrainError> {
        self.batches.store(0, Ordering::SeqCst);
        Ok(self.state.lock().unwrap().clone())
    }

    fn keep(&self, _: &str, state: &Store) -> Result<(), TrainError> {
        // Through the bytes of a file, as a state goes.
        let bytes = state.to_bytes().unwrap();
        *self.state.lock().unwrap() = Some(Store::from_bytes(&bytes, "state")?);
        Ok(())
    }

    fn rescue(&self, run: &str, _: &Checkpoint) -> Result<(), TrainError> {
        panic!("{run} diverged")
    }

    fn steps(&self) -> Option<usize> {
        None
    }

    fn is_interrupted(&self) -> bool {
        self.batches.fetch_add(1, Ordering::SeqCst) >= 1
    }
}

/// Runs one batch at a time, each time from the state that the time before has left; says how often
/// it was interrupted.
pub fn run_batch_by_batch(config: &ExperimentConfig, data: &Dataset) -> (Experiment, usize) {
    assert_eq!(config.seeds.len(), 1);
    let keeper = Keeper::default();
    let mut interruptions = 0;
    loop {
        match run(config, data, &keeper) {
            Err(TrainError::Interrupted { .. }) => interruptions += 1,
            ended => return (ended.unwrap(), interruptions),
        }
    }
}
