//! The shared-information loss of one pair: value, and value with gradient, each beside its naive
//! twin on plain `ndarray`.
//!
//! Run with `cargo bench -p modalign-benches --bench covariance_loss`.

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};
use modalign_core::Scalar;
use modalign_covariance::{PairWeights, SharedInformation, SharedInformationConfig};
use ndarray::{Array2, Axis};
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

/// The formula as one would write it down.
fn naive<A: Scalar>(a: &Array2<A>, b: &Array2<A>, backward: bool) -> (A, Option<[Array2<A>; 2]>) {
    let rows = |x: &Array2<A>| A::from_f64(x.nrows() as f64);
    let [a, b] = [a, b].map(|x| x - &(x.sum_axis(Axis(0)) / rows(x)));
    let divisor = |x: &Array2<A>| rows(x) - A::one();
    let [first, second] = [&a, &b].map(|x| x.t().dot(x) / divisor(x));
    let difference = first - second;
    let squared_width = A::from_f64((a.ncols() * a.ncols()) as f64);
    let value = difference.mapv(|x| x * x).sum() / (A::from_f64(4.0) * squared_width);
    let gradients = backward.then(|| {
        let da = a.dot(&difference) / (squared_width * divisor(&a));
        let db = b.dot(&difference) / (-squared_width * divisor(&b));
        [da, db]
    });
    (value, gradients)
}

fn pair<A: Scalar>(group: &mut BenchmarkGroup<WallTime>, backward: bool, kind: &str) {
    for (n, d) in SHAPES {
        let features = [features::<A>(n, d, 1), features::<A>(n, d, 2)];
        let views = features.each_ref().map(|x| x.view());
        let mut gradients = features.each_ref().map(|x| Array2::zeros(x.raw_dim()));
        let weights = PairWeights::uniform(2, 1.0).expect("a finite weight");
        let mut loss = SharedInformation::new(SharedInformationConfig::default(), weights)
            .expect("valid settings");
        group.sample_size(if n * d > 1 << 20 { 20 } else { 100 });
        let shape = format!("n={n},d={d}/{kind}");
        group.bench_function(BenchmarkId::new("modalign", &shape), |bench| {
            bench.iter(|| {
                let views = black_box(&views);
                let value = if backward {
                    loss.value_and_gradient(views, &mut gradients)
                } else {
                    loss.value(views)
                };
                black_box(value.expect("finite features").total)
            });
        });
        group.bench_function(BenchmarkId::new("ndarray", &shape), |bench| {
            bench.iter(|| naive(black_box(&features[0]), black_box(&features[1]), backward));
        });
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
