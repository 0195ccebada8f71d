//! General products at the shapes of networks and of backward passes, `f32`, one thread.
//!
//! `T` marks a factor that is given transposed, as weights `[out, in]` are in a forward pass.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use modalign_benches::{Threads, features};
use modalign_linalg::gemm;
use ndarray::Array2;
use ndarray::linalg::general_mat_mul;

/// What the product is in its network, `[M, K, N]`, and which factors are transposed.
const PRODUCTS: [(&str, [usize; 3], [bool; 2]); 12] = [
    ("lstm-recurrent", [32, 16, 64], [false, true]),
    ("lstm-input", [1600, 20, 64], [false, true]),
    ("linear", [32, 768, 128], [false, true]),
    ("linear-input-gradient", [32, 128, 768], [false, false]),
    ("linear-weight-gradient", [128, 32, 768], [true, false]),
    ("head", [32, 128, 1], [false, true]),
    ("attention-scores", [40, 64, 40], [false, true]),
    ("attention-values", [40, 40, 64], [false, false]),
    ("transformer", [1280, 768, 768], [false, true]),
    (
        "transformer-weight-gradient",
        [768, 1280, 768],
        [true, false],
    ),
    ("covariance-gradient", [2048, 768, 768], [false, false]),
    ("square", [1024, 1024, 1024], [false, false]),
];

fn bench(criterion: &mut Criterion) {
    let threads = Threads::new(1);
    for (name, [m, k, n], [left, right]) in PRODUCTS {
        let mark = |transposed| if transposed { "T" } else { "" };
        let id = format!("gemm/{name}/m={m},k={k},n={n}/f32");
        let mut group = criterion.benchmark_group(format!("{id}{}{}", mark(left), mark(right)));
        group.throughput(Throughput::Elements((2 * m * k * n) as u64));
        let stored = |rows, columns, transposed| {
            let shape = if transposed {
                (columns, rows)
            } else {
                (rows, columns)
            };
            features::<f32>(shape.0, shape.1, 1)
        };
        let (a, b) = (stored(m, k, left), stored(k, n, right));
        let a = if left { a.t() } else { a.view() };
        let b = if right { b.t() } else { b.view() };
        let mut c = Array2::zeros((m, n));
        group.bench_function("modalign", |bencher| {
            bencher.iter_custom(|calls| {
                let product = || gemm(1.0, black_box(&a), &b, 0.0, &mut c).expect("shapes fit");
                threads.time(calls, product)
            });
        });
        group.bench_function("ndarray", |bencher| {
            bencher.iter(|| general_mat_mul(1.0, black_box(&a), &b, 0.0, &mut c));
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
