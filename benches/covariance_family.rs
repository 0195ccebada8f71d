//! Every distance, value and value with gradient, and the streaming moments.
//!
//! Run with `cargo bench -p modalign-benches --bench covariance_family`. The eigendecompositions of
//! the widest shapes take seconds a sample; `-- family_forward/f32/threads=1` and the like run a part.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use modalign_benches::{SHAPES, Threads, features};
use modalign_core::Scalar;
use modalign_covariance::{
    Distance, PairWeights, SharedInformation, SharedInformationConfig, Shrinkage, StreamingMoments,
};
use ndarray::{Array2, Axis};

fn members() -> [(&'static str, Distance, Shrinkage); 7] {
    let epsilon = 1e-3;
    [
        ("frobenius", Distance::default(), Shrinkage::None),
        ("ledoit_wolf", Distance::default(), Shrinkage::LedoitWolf),
        (
            "correlation",
            Distance::Correlation { epsilon },
            Shrinkage::None,
        ),
        (
            "log_euclidean",
            Distance::LogEuclidean { epsilon },
            Shrinkage::Fixed(0.1),
        ),
        (
            "bures_wasserstein",
            Distance::BuresWasserstein { epsilon },
            Shrinkage::Fixed(0.1),
        ),
        (
            "cross_covariance",
            Distance::CrossCovariance {},
            Shrinkage::None,
        ),
        (
            "redundancy_reduction",
            Distance::RedundancyReduction {
                off_diagonal: 5e-3,
                epsilon,
            },
            Shrinkage::None,
        ),
    ]
}

/// Three modalities, each of the rows and columns of a shape.
fn family<A: Scalar>(criterion: &mut Criterion, kind: &str) {
    for (pass, backward) in [("forward", false), ("forward_backward", true)] {
        for threads in [1, 2] {
            let pool = Threads::new(threads);
            let mut group =
                criterion.benchmark_group(format!("family_{pass}/{kind}/threads={threads}"));
            for (n, d) in SHAPES {
                let features = [1, 2, 3].map(|seed| features::<A>(n, d, seed));
                let views = features.each_ref().map(|x| x.view());
                let mut gradients = features.each_ref().map(|x| Array2::zeros(x.raw_dim()));
                for (name, distance, shrinkage) in members() {
                    let config = SharedInformationConfig {
                        distance,
                        shrinkage,
                        ..Default::default()
                    };
                    let weights = PairWeights::uniform(3, 1.0).expect("a finite weight");
                    let mut loss = SharedInformation::new(config, weights).expect("valid settings");
                    let id = BenchmarkId::new(name, format!("m=3,n={n},d={d}"));
                    group.bench_function(id, |bench| {
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
                }
            }
            group.finish();
        }
    }
}

fn distances(criterion: &mut Criterion) {
    family::<f32>(criterion, "f32");
    family::<f64>(criterion, "f64");
}

fn streaming(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("streaming_moments");
    for (rows, d) in [(8192, 64), (8192, 768)] {
        let x = features::<f32>(rows, d, 1);
        group.throughput(Throughput::Elements(rows as u64));
        let id = BenchmarkId::from_parameter(format!("n={rows},d={d},block=1024/f32"));
        group.bench_function(id, |bench| {
            bench.iter(|| {
                let mut moments = StreamingMoments::new(d).expect("a width");
                moments
                    .extend(black_box(&x).axis_chunks_iter(Axis(0), 1024))
                    .expect("finite");
                moments.rows()
            });
        });
    }
    group.finish();
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
    targets = distances, streaming
}
criterion_main!(benches);
