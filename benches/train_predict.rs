//! Scores of one utterance after the other at the sizes of MOSI, and of a whole split, one thread.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use modalign_benches::{CORPORA, Threads, peer_config};
use modalign_train::{Predictor, run};
use ndarray::{Axis, s};

const ROWS: usize = 64;

fn bench(criterion: &mut Criterion) {
    let mut config = peer_config();
    config.training.max_epochs = 1;
    let threads = Threads::new(1);
    for corpus in &CORPORA[..2] {
        let split = corpus.split(ROWS);
        let dataset = modalign_data::Dataset {
            train: split.clone(),
            valid: split.clone(),
            test: split.clone(),
        };
        let experiment = run(&config, &dataset, &()).expect("the configuration fits the data");
        let predictor = Predictor::new(experiment.models[0].clone());
        let mut group = criterion.benchmark_group(format!("predict/{}", corpus.name));
        group.bench_function("one", |bencher| {
            let utterances: Vec<_> = (0..ROWS)
                .map(|row| {
                    ["text", "audio", "vision"].map(|key| {
                        let sequences = &split.features[key];
                        let steps = s![..sequences.lengths[row], ..];
                        sequences.values.index_axis(Axis(0), row).slice_move(steps)
                    })
                })
                .collect();
            let mut scorer = predictor.scorer();
            let mut rows = utterances.iter().cycle();
            bencher.iter_custom(|calls| {
                threads.time(calls, || {
                    let row = rows.next().expect("a cycle has no end");
                    black_box(scorer.score(row).expect("the row fits the model"));
                })
            });
        });
        group.throughput(Throughput::Elements(ROWS as u64));
        group.bench_function("split", |bencher| {
            bencher.iter_custom(|calls| {
                threads.time(calls, || {
                    black_box(predictor.predict(&split).expect("the split fits the model"));
                })
            });
        });
    }
}

fn settings() -> Criterion {
    Criterion::default()
        .sample_size(50)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! {
    name = benches;
    config = settings();
    targets = bench
}
criterion_main!(benches);
