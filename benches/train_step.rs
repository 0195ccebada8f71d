//! Training steps of the whole model on text vectors, batches of 32: three encoders, four heads, three
//! covariance losses, the label generator and Adam.
//!
//! Steps are timed inside [`modalign_train::run`], from the second epoch on, when everything is warm
//! and labels are generated.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use modalign_benches::{CORPORA, Threads, peer_config};
use modalign_data::Dataset;
use modalign_train::{Event, ExperimentConfig, Observer, run};

/// Notes when two batches of a run ended.
#[derive(Default)]
struct Stopwatch {
    first: usize,
    last: usize,
    /// Batches so far, and when the first of the two ended.
    state: Mutex<(usize, Option<Instant>, Duration)>,
}

impl Observer for Stopwatch {
    fn observe(&self, event: &Event<'_>) {
        if !matches!(event, Event::Step { .. }) {
            return;
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

/// The time of so many steps after the first epoch.
fn time(config: &ExperimentConfig, dataset: &Dataset, steps: usize) -> Duration {
    let epoch = dataset.train.len().div_ceil(config.training.batch_size);
    let mut config = config.clone();
    config.training.max_epochs = 1 + steps.div_ceil(epoch);
    config.training.patience = config.training.max_epochs;
    let stopwatch = Stopwatch {
        first: epoch,
        last: epoch + steps,
        ..Stopwatch::default()
    };
    run(&config, dataset, &stopwatch).expect("the configuration fits the data");
    let state = stopwatch.state.into_inner().expect("no thread panicked");
    state.2
}

fn bench(criterion: &mut Criterion) {
    let full = peer_config();
    let mut without_labels = full.clone();
    without_labels.objective.unimodal_weight = 0.0;
    let mut neither = without_labels.clone();
    neither.objective.shared_information_weight = 0.0;
    for corpus in CORPORA {
        let dataset = corpus.dataset();
        let mut group = criterion.benchmark_group(format!("step/{}", corpus.name));
        for (name, config) in [
            ("everything", &full),
            ("no-labels", &without_labels),
            ("no-labels,no-covariances", &neither),
        ] {
            for count in [1, 2] {
                let threads = Threads::new(count);
                let id = BenchmarkId::new(name, format!("threads={count}"));
                group.bench_function(id, |bencher| {
                    bencher.iter_custom(|steps| {
                        threads.install(|| time(config, &dataset, steps as usize))
                    });
                });
            }
        }
    }
}

fn settings() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(500))
}

criterion_group! {
    name = benches;
    config = settings();
    targets = bench
}
criterion_main!(benches);
