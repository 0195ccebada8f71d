//! Centred covariance of `x [N, D]`: column means and `(X − 1 mᵀ)ᵀ (X − 1 mᵀ) / (N − 1)`.
//!
//! Everyone gets the same row-major matrix, except `nalgebra`, which keeps columns, and writes into
//! memory that is there already where the interface allows it. `ndarray`, `ndarray-stats` and
//! `nalgebra` have one thread. `faer` and `openblas` are spared the upper triangle: they centre a
//! copy and multiply (`?syrk`) into the lower one. `openblas` comes with the feature of that name;
//! `OPENBLAS_CORETYPE=SKYLAKEX` gives it AVX-512 where its version does not know the processor.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use modalign_benches::SHAPES;

macro_rules! covariance {
    ($number:ident, $syrk:ident) => {
        mod $number {
            use faer::linalg::matmul::triangular::{BlockStructure, matmul};
            use faer::{Accum, MatMut, MatRef, Par};
            use modalign_linalg::scatter;
            use nalgebra::DMatrix;
            use ndarray::{Array1, Array2, Axis, Zip};
            use ndarray_stats::CorrelationExt;

            pub fn modalign(
                x: &Array2<$number>,
                mean: &mut Array1<$number>,
                covariance: &mut Array2<$number>,
            ) {
                let scale = 1.0 / (x.nrows() - 1) as $number;
                scatter(scale, x, mean, covariance).expect("there are rows");
            }

            pub fn ndarray(x: &Array2<$number>) -> Array2<$number> {
                let centered = x - &x.mean_axis(Axis(0)).expect("there are rows");
                centered.t().dot(&centered) / (x.nrows() - 1) as $number
            }

            pub fn ndarray_stats(x: &Array2<$number>) -> Array2<$number> {
                x.t().cov(1.0).expect("there are rows")
            }

            pub fn nalgebra(x: &DMatrix<$number>) -> DMatrix<$number> {
                let mean = x.row_mean();
                let mut centered = x.clone();
                for mut row in centered.row_iter_mut() {
                    row -= &mean;
                }
                centered.transpose() * &centered / (x.nrows() - 1) as $number
            }

            fn center(x: &Array2<$number>, centered: &mut Array2<$number>) {
                let mean = x.mean_axis(Axis(0)).expect("there are rows");
                for (mut row, x) in centered.rows_mut().into_iter().zip(x.rows()) {
                    Zip::from(&mut row)
                        .and(x)
                        .and(&mean)
                        .for_each(|row, &x, &mean| *row = x - mean);
                }
            }

            pub fn faer(
                x: &Array2<$number>,
                centered: &mut Array2<$number>,
                covariance: &mut Array2<$number>,
                threads: usize,
            ) {
                center(x, centered);
                let (n, d) = x.dim();
                let factor = centered.as_slice().expect("a new array is contiguous");
                let factor = MatRef::from_row_major_slice(factor, n, d);
                let target = covariance
                    .as_slice_mut()
                    .expect("a new array is contiguous");
                matmul(
                    MatMut::from_row_major_slice_mut(target, d, d),
                    BlockStructure::TriangularLower,
                    Accum::Replace,
                    factor.transpose(),
                    BlockStructure::Rectangular,
                    factor,
                    BlockStructure::Rectangular,
                    1.0 / (n - 1) as $number,
                    if threads == 1 {
                        Par::Seq
                    } else {
                        Par::rayon(threads)
                    },
                );
            }

            #[cfg(feature = "openblas")]
            #[allow(unsafe_code)]
            pub fn openblas(
                x: &Array2<$number>,
                centered: &mut Array2<$number>,
                covariance: &mut Array2<$number>,
            ) {
                use cblas_sys::{CblasLower, CblasRowMajor, CblasTrans};
                center(x, centered);
                let (n, d) = (x.nrows() as i32, x.ncols() as i32);
                let (from, to) = (centered.as_ptr(), covariance.as_mut_ptr());
                let scale = 1.0 / (n - 1) as $number;
                // SAFETY: both arrays are new, so row-major with `d` columns.
                unsafe {
                    cblas_sys::$syrk(
                        CblasRowMajor,
                        CblasLower,
                        CblasTrans,
                        d,
                        n,
                        scale,
                        from,
                        d,
                        0.0,
                        to,
                        d,
                    );
                }
            }

            pub fn bench(
                criterion: &mut criterion::Criterion,
                (n, d): (usize, usize),
                threads: usize,
            ) {
                let name = stringify!($number);
                let mut group = criterion
                    .benchmark_group(format!("covariance/n={n},d={d}/{name}/threads={threads}"));
                let pool = modalign_benches::Threads::new(threads);
                let x = modalign_benches::features::<$number>(n, d, 1);
                let (mut mean, mut covariance) = (Array1::zeros(d), Array2::zeros((d, d)));
                let mut centered = Array2::zeros((n, d));
                group.bench_function("modalign", |bencher| {
                    bencher.iter_custom(|calls| {
                        pool.time(calls, || {
                            modalign(super::black_box(&x), &mut mean, &mut covariance)
                        })
                    });
                });
                group.bench_function("faer", |bencher| {
                    bencher.iter_custom(|calls| {
                        pool.time(calls, || {
                            faer(
                                super::black_box(&x),
                                &mut centered,
                                &mut covariance,
                                threads,
                            );
                        })
                    });
                });
                #[cfg(feature = "openblas")]
                group.bench_function("openblas", |bencher| {
                    super::openblas_threads(threads);
                    bencher.iter(|| openblas(super::black_box(&x), &mut centered, &mut covariance));
                });
                if threads > 1 {
                    return;
                }
                group.bench_function("ndarray", |bencher| {
                    bencher.iter(|| ndarray(super::black_box(&x)));
                });
                group.bench_function("ndarray-stats", |bencher| {
                    bencher.iter(|| ndarray_stats(super::black_box(&x)));
                });
                let columns = DMatrix::from_fn(n, d, |i, j| x[[i, j]]);
                group.bench_function("nalgebra", |bencher| {
                    bencher.iter(|| nalgebra(super::black_box(&columns)));
                });
            }
        }
    };
}

covariance!(f32, cblas_ssyrk);
covariance!(f64, cblas_dsyrk);

#[cfg(feature = "openblas")]
#[allow(unsafe_code)]
fn openblas_threads(threads: usize) {
    #[link(name = "openblas")]
    unsafe extern "C" {
        fn openblas_set_num_threads(threads: std::ffi::c_int);
    }
    // SAFETY: that is its declaration.
    unsafe { openblas_set_num_threads(threads as i32) };
}

fn bench(criterion: &mut Criterion) {
    for threads in [1, 2] {
        for shape in SHAPES {
            f32::bench(criterion, shape, threads);
            f64::bench(criterion, shape, threads);
        }
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
