//! The shared-information loss of one pair: value, and value with gradient, each beside its naive
//! twin on plain `ndarray`, which has one thread.
//!
//! Run with `cargo bench -p modalign-benches --bench covariance_loss`.

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};
use modalign_benches::{SHAPES, Threads, features, naive_loss};
use modalign_core::Scalar;
use modalign_covariance::{PairWeights, SharedInformation, SharedInformationConfig};
use ndarray::Array2;

fn pair<A: Scalar>(
    group: &mut BenchmarkGroup<WallTime>,
    backward: bool,
    kind: &str,
    threads: usize,
) {
    let pool = Threads::new(threads);
    for (n, d) in SHAPES {
        let features = [features::<A>(n, d, 1), features::<A>(n, d, 2)];
        let views = features.each_ref().map(|x| x.view());
        let mut gradients = features.each_ref().map(|x| Array2::zeros(x.raw_dim()));
        let weights = PairWeights::uniform(2, 1.0).expect("a finite weight");
        let mut loss = SharedInformation::new(SharedInformationConfig::default(), weights)
            .expect("valid settings");
        group.sample_size(if n * d > 1 << 20 { 20 } else { 100 });
        let shape = format!("n={n},d={d}/{kind}/threads={threads}");
        group.bench_function(BenchmarkId::new("modalign", &shape), |bench| {
            bench.iter_custom(|calls| {
                pool.time(calls, || {
                    let views = black_box(&views);
                    let value = if backward {
                        loss.value_and_gradient(views, &mut gradients)
                    } else {
                        loss.value(views)
                    };
                    black_box(value.expect("finite features").total);
                })
            });
        });
        if threads > 1 {
            continue;
        }
        group.bench_function(BenchmarkId::new("ndarray", &shape), |bench| {
            bench.iter(|| naive_loss(black_box(&features), backward));
        });
    }
}

fn loss(criterion: &mut Criterion) {
    for (name, backward) in [("loss_forward", false), ("loss_forward_backward", true)] {
        let mut group = criterion.benchmark_group(name);
        for threads in [1, 2] {
            pair::<f32>(&mut group, backward, "f32", threads);
            pair::<f64>(&mut group, backward, "f64", threads);
        }
        group.finish();
    }
}

criterion_group!(benches, loss);
criterion_main!(benches);
