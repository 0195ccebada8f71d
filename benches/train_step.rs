//! Training steps and epochs of the whole model on text vectors, batches of 32: three encoders, four
//! heads, three covariance losses, the label generator and Adam.
//!
//! Both are timed inside [`modalign_train::run`], from the second epoch on, when everything is warm and
//! labels are generated. An epoch ends with its validation on a seventh as many rows. A whole run is five
//! seeds of five epochs, with the preparation of the data and a test on half as many rows.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use modalign_benches::{CORPORA, Threads, Unit, peer_config, time_training};
use modalign_data::Dataset;
use modalign_train::run;

/// Epochs of a whole run.
const RUN_EPOCHS: usize = 5;

fn bench(criterion: &mut Criterion) {
    let full = peer_config();
    let mut without_labels = full.clone();
    without_labels.objective.unimodal_weight = 0.0;
    let mut neither = without_labels.clone();
    neither.objective.shared_information_weight = 0.0;
    for corpus in CORPORA {
        let mut dataset = corpus.dataset();
        let mut group = criterion.benchmark_group(format!("step/{}", corpus.name));
        let mut bench = |name, config, dataset: &Dataset, unit| {
            for count in [1, 2] {
                let threads = Threads::new(count);
                let id = BenchmarkId::new(name, format!("threads={count}"));
                group.bench_function(id, |bencher| {
                    bencher.iter_custom(|calls| {
                        threads.install(|| time_training(config, dataset, unit, calls as usize))
                    });
                });
            }
        };
        for (name, config) in [
            ("everything", &full),
            ("no-labels", &without_labels),
            ("no-labels,no-covariances", &neither),
        ] {
            bench(name, config, &dataset, Unit::Step);
        }
        dataset.valid = corpus.split(corpus.rows / 7);
        bench("epoch", &full, &dataset, Unit::Epoch);
    }
    let mut five = full;
    five.seeds = (1111..1116).collect();
    five.training.max_epochs = RUN_EPOCHS;
    five.training.patience = RUN_EPOCHS;
    for corpus in &CORPORA[..2] {
        let dataset = Dataset {
            train: corpus.split(corpus.rows),
            valid: corpus.split(corpus.rows / 7),
            test: corpus.split(corpus.rows / 2),
        };
        let mut group = criterion.benchmark_group(format!("run/{}", corpus.name));
        for count in [1, 2] {
            let threads = Threads::new(count);
            group.bench_function(format!("threads={count}"), |bencher| {
                bencher.iter_custom(|calls| {
                    threads.time(calls, || {
                        let done = run(&five, &dataset, &());
                        black_box(done.expect("the configuration fits the data"));
                    })
                });
            });
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
