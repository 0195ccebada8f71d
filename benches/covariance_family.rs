//! Every distance with its gradient, and the streaming moments.
//!
//! Run with `cargo bench -p modalign-benches --bench covariance_family`.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use modalign_benches::features;
use modalign_covariance::{
    Distance, PairWeights, SharedInformation, SharedInformationConfig, Shrinkage, StreamingMoments,
};
use ndarray::{Array2, Axis};

/// Rows and columns of each of three modalities.
const SHAPES: [(usize, usize); 3] = [(32, 32), (32, 128), (128, 128)];

fn family(criterion: &mut Criterion) {
    let epsilon = 1e-3;
    let members = [
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
    ];
    let mut group = criterion.benchmark_group("family_forward_backward");
    for (n, d) in SHAPES {
        let features = [1, 2, 3].map(|seed| features::<f32>(n, d, seed));
        let views = features.each_ref().map(|x| x.view());
        let mut gradients = features.each_ref().map(|x| Array2::zeros(x.raw_dim()));
        for (name, distance, shrinkage) in members {
            let config = SharedInformationConfig {
                distance,
                shrinkage,
                ..Default::default()
            };
            let weights = PairWeights::uniform(3, 1.0).expect("a finite weight");
            let mut loss = SharedInformation::new(config, weights).expect("valid settings");
            group.bench_function(
                BenchmarkId::new(name, format!("m=3,n={n},d={d}/f32")),
                |bench| {
                    bench.iter(|| {
                        let value = loss.value_and_gradient(black_box(&views), &mut gradients);
                        black_box(value.expect("finite features").total)
                    });
                },
            );
        }
    }
    group.finish();
}

fn streaming(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("streaming_moments");
    for (rows, d) in [(8192, 64), (8192, 768)] {
        let x = features::<f32>(rows, d, 1);
        group.throughput(Throughput::Elements(rows as u64));
        group.sample_size(20);
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

criterion_group!(benches, family, streaming);
criterion_main!(benches);
