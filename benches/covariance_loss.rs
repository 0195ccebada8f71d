//! The shared-information loss of one pair: value, and value with gradient.
//!
//! Run with `cargo bench -p modalign-benches --bench covariance_loss`.

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};
use modalign_core::Scalar;
use modalign_covariance::{PairWeights, SharedInformation, SharedInformationConfig};
use ndarray::Array2;
use rand::RngExt;

/// Rows and columns of each modality.
const SHAPES: [(usize, usize); 7] = [
    (32, 32),
    (32, 128),
    (32, 768),
    (128, 128),
    (512, 256),
    (2048, 768),
    (8192, 1024),
];

/// Independent entries from −1 to 1.
fn features<A: Scalar>(rows: usize, columns: usize, seed: u64) -> Array2<A> {
    let mut rng = modalign_core::rng(seed, modalign_core::Stream::Generation);
    Array2::from_shape_simple_fn((rows, columns), || A::from_f64(rng.random_range(-1.0..1.0)))
}

fn pair<A: Scalar>(group: &mut BenchmarkGroup<WallTime>, backward: bool, kind: &str) {
    for (n, d) in SHAPES {
        let features = [features::<A>(n, d, 1), features::<A>(n, d, 2)];
        let views = features.each_ref().map(|x| x.view());
        let mut gradients = features.each_ref().map(|x| Array2::zeros(x.raw_dim()));
        let weights = PairWeights::uniform(2, 1.0).expect("a finite weight");
        let mut loss = SharedInformation::new(SharedInformationConfig::default(), weights)
            .expect("valid settings");
        if n * d > 1 << 20 {
            group.sample_size(20);
        }
        group.bench_function(
            BenchmarkId::from_parameter(format!("n={n},d={d}/{kind}")),
            |bench| {
                if backward {
                    bench.iter(|| {
                        let value = loss.value_and_gradient(black_box(&views), &mut gradients);
                        black_box(value.expect("finite features").total)
                    });
                } else {
                    bench.iter(|| {
                        let value = loss.value(black_box(&views));
                        black_box(value.expect("finite features").total)
                    });
                }
            },
        );
    }
}

fn loss(criterion: &mut Criterion) {
    for (name, backward) in [("loss_forward", false), ("loss_forward_backward", true)] {
        let mut group = criterion.benchmark_group(name);
        pair::<f32>(&mut group, backward, "f32");
        pair::<f64>(&mut group, backward, "f64");
        group.finish();
    }
}

criterion_group!(benches, loss);
criterion_main!(benches);
