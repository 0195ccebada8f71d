//! The final hidden state of an LSTM and the gradients of its weights, `f32`, 32 rows.
//!
//! `full` rows all have T steps, `varied` rows between a quarter of T and T.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use modalign_benches::{Threads, seeded_sequences};
use modalign_core::{Parameters, Stream, rng};
use modalign_nn::{Lstm, LstmCache, LstmConfig};
use ndarray::Array2;

const ROWS: usize = 32;

/// T, D and H.
const SHAPES: [[usize; 3]; 8] = [
    [50, 5, 16],
    [50, 20, 32],
    [375, 5, 16],
    [500, 20, 32],
    [500, 74, 16],
    [375, 35, 32],
    [500, 35, 32],
    [500, 74, 128],
];

fn bench(criterion: &mut Criterion) {
    for [steps, width, hidden_size] in SHAPES {
        let config = LstmConfig {
            hidden_size,
            ..LstmConfig::default()
        };
        let lstm = Lstm::<f32>::new(width, &config, &mut rng(1, Stream::Initialisation))
            .expect("the sizes are positive");
        let mut grads = lstm.zeros_like();
        let sequences = seeded_sequences(ROWS, [steps, width]);
        let x = sequences.values.view();
        let dh = Array2::ones((ROWS, hidden_size));
        let (mut cache, mut h) = (LstmCache::default(), Array2::zeros((0, 0)));
        for (kind, lengths) in [("full", &vec![steps; ROWS]), ("varied", &sequences.lengths)] {
            let id = format!("lstm/t={steps},d={width},h={hidden_size}/f32/{kind}");
            let mut group = criterion.benchmark_group(id);
            group.throughput(Throughput::Elements(lengths.iter().sum::<usize>() as u64));
            for count in [1, 2] {
                let threads = Threads::new(count);
                let id = |name| BenchmarkId::new(name, format!("threads={count}"));
                group.bench_function(id("forward"), |bencher| {
                    bencher.iter_custom(|calls| {
                        threads.time(calls, || {
                            black_box(lstm.infer_final(x, lengths).expect("shapes fit"));
                        })
                    });
                });
                group.bench_function(id("forward+backward"), |bencher| {
                    bencher.iter_custom(|calls| {
                        threads.time(calls, || {
                            let done = lstm.forward_final_into(x, lengths, &mut cache, &mut h);
                            done.expect("shapes fit");
                            let done = lstm.backward_final_into(&mut cache, dh.view(), &mut grads);
                            done.expect("shapes fit");
                        })
                    });
                });
            }
        }
    }
}

fn settings() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
}

criterion_group! {
    name = benches;
    config = settings();
    targets = bench
}
criterion_main!(benches);
