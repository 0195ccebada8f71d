//! Both routes of the published distance on either side of the boundary that `Route::Auto` draws,
//! for two and three modalities. `auto` should be as fast as the faster one, or close to it.
//!
//! Run with `cargo bench -p modalign-benches --bench covariance_crossover`.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use modalign_benches::features;
use modalign_covariance::{
    Distance, PairWeights, Route, SharedInformation, SharedInformationConfig,
};
use ndarray::Array2;

const ROUTES: [(Route, &str); 3] = [
    (Route::Covariance, "covariance"),
    (Route::Gram, "gram"),
    (Route::Auto, "auto"),
];

/// Modalities, rows of each, columns.
fn shapes() -> impl Iterator<Item = (usize, usize, usize)> {
    let two = [16, 32, 48, 64, 96, 128].map(|width| (2, 32, width));
    let wide = [128, 192, 256, 384, 512].map(|width| (2, 128, width));
    let three = [32, 64, 96, 128, 192].map(|width| (3, 32, width));
    two.into_iter().chain(wide).chain(three)
}

fn crossover(criterion: &mut Criterion) {
    for backward in [false, true] {
        let name = if backward {
            "crossover_forward_backward"
        } else {
            "crossover_forward"
        };
        let mut group = criterion.benchmark_group(name);
        for (m, n, d) in shapes() {
            let features: Vec<_> = (0..m as u64)
                .map(|seed| features::<f32>(n, d, seed))
                .collect();
            let views: Vec<_> = features.iter().map(|x| x.view()).collect();
            let mut gradients: Vec<_> = features
                .iter()
                .map(|x| Array2::zeros(x.raw_dim()))
                .collect();
            for (route, name) in ROUTES {
                let distance = Distance::Frobenius { route };
                let config = SharedInformationConfig {
                    distance,
                    ..Default::default()
                };
                let weights = PairWeights::uniform(m, 1.0).expect("a finite weight");
                let mut loss = SharedInformation::new(config, weights).expect("valid settings");
                let id = BenchmarkId::new(name, format!("m={m},n={n},d={d}/f32"));
                group.bench_function(id, |bench| {
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
            }
        }
        group.finish();
    }
}

criterion_group!(benches, crossover);
criterion_main!(benches);
