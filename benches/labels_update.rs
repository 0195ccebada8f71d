//! One update of the label generator from a batch of 32 rows, `f32`, at the sizes of the peers:
//! fused features of width 128, and 32, 16 and 32 for the modalities.

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use modalign_benches::seeded_matrix;
use modalign_labels::{LabelGenerator, LabelGeneratorConfig};
use ndarray::Array1;

const ROWS: usize = 32;
const WIDTHS: [usize; 4] = [128, 32, 16, 32];

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("label_update");
    let generator = LabelGenerator::new(LabelGeneratorConfig::mmsa()).expect("a preset is valid");
    let features = WIDTHS.map(|width| seeded_matrix(ROWS, width).mapv(|x| x as f32));
    let views = features.each_ref().map(|one| one.view());
    for samples in [1284, 16326] {
        let labels = Array1::linspace(-3.0_f32, 3.0, samples);
        let mut state = generator
            .initial_state(labels.view(), &WIDTHS)
            .expect("the labels are in range");
        // Rows far apart, as a shuffled epoch has them.
        let order: Vec<usize> = (0..samples).map(|index| index * 7919 % samples).collect();
        let mut batches = order.chunks_exact(ROWS).cycle();
        for rows in order.chunks_exact(ROWS) {
            let done = generator.update(&mut state, 1, rows, &views);
            done.expect("the batch fits");
        }
        let id = BenchmarkId::from_parameter(format!("n={samples},b={ROWS}/f32"));
        group.bench_function(id, |bencher| {
            bencher.iter_custom(|calls| {
                let begin = Instant::now();
                for rows in batches.by_ref().take(calls as usize) {
                    let done = generator.update(&mut state, 2, rows, &views);
                    done.expect("the batch fits");
                }
                begin.elapsed()
            });
        });
    }
}

fn settings() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! {
    name = benches;
    config = settings();
    targets = bench
}
criterion_main!(benches);
