use std::hint::black_box;

use modalign_benches::{Sampled, features, naive_covariance, naive_loss};
use modalign_core::Scalar;
use modalign_covariance::{PairWeights, SharedInformation, SharedInformationConfig, covariance};
use modalign_linalg::scatter;
use ndarray::{Array1, Array2};

macro_rules! covariance_of {
    ($name:ident, $number:ty, $syrk:ident) => {
        pub fn $name(formulation: &str, extents: &[usize]) -> Option<Sampled<'static>> {
            let &[rows, columns] = extents else {
                return None;
            };
            let x = features::<$number>(rows, columns, 1);
            let mut matrix = Array2::zeros((columns, columns));
            Some(match formulation {
                "modalign" => Sampled::new(move || {
                    black_box(covariance(black_box(&x).view(), 1).expect("finite features"));
                }),
                // The same into memory that is there already.
                "kernels" => {
                    let mut means = Array1::zeros(columns);
                    let scale = 1.0 / (rows - 1) as $number;
                    Sampled::new(move || {
                        scatter(scale, black_box(&x), &mut means, &mut matrix)
                            .expect("there are rows");
                    })
                }
                "ndarray" => Sampled::new(move || {
                    black_box(naive_covariance(black_box(&x)));
                }),
                // One triangle, into memory that is there already.
                #[cfg(feature = "openblas-backend")]
                "syrk" => {
                    use ndarray::{Axis, Zip};
                    let mut centered = Array2::zeros(x.raw_dim());
                    Sampled::new(move || {
                        let means = black_box(&x).mean_axis(Axis(0)).expect("there are rows");
                        for (mut row, x) in centered.rows_mut().into_iter().zip(x.rows()) {
                            Zip::from(&mut row)
                                .and(x)
                                .and(&means)
                                .for_each(|row, &x, &mean| *row = x - mean);
                        }
                        use cblas_sys::{CblasLower, CblasRowMajor, CblasTrans};
                        let (n, d) = (rows as i32, columns as i32);
                        let scale = 1.0 / (rows - 1) as $number;
                        let (from, to) = (centered.as_ptr(), matrix.as_mut_ptr());
                        // SAFETY: both arrays are new, so row-major with `d` columns.
                        #[allow(unsafe_code)]
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
                    })
                }
                _ => return None,
            })
        }
    };
}

covariance_of!(covariance_f32, f32, cblas_ssyrk);
covariance_of!(covariance_f64, f64, cblas_dsyrk);

pub fn loss<A: Scalar>(
    formulation: &str,
    extents: &[usize],
    backward: bool,
) -> Option<Sampled<'static>> {
    let &[rows, columns] = extents else {
        return None;
    };
    let features = [1, 2].map(|seed| features::<A>(rows, columns, seed));
    Some(match formulation {
        "modalign" => {
            let weights = PairWeights::uniform(2, 1.0).expect("a finite weight");
            let mut loss = SharedInformation::new(SharedInformationConfig::default(), weights)
                .expect("valid settings");
            let mut gradients = features.each_ref().map(|x| Array2::zeros(x.raw_dim()));
            Sampled::new(move || {
                let views = black_box(&features).each_ref().map(|x| x.view());
                let value = if backward {
                    loss.value_and_gradient(&views, &mut gradients)
                } else {
                    loss.value(&views)
                };
                black_box(value.expect("finite features").total);
            })
        }
        "ndarray" => Sampled::new(move || {
            black_box(naive_loss(black_box(&features), backward));
        }),
        _ => return None,
    })
}
