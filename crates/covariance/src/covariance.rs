//! The covariance of the columns of a matrix.
//!
//! ```text
//! m_d = (1/N) Σ_n x_nd
//! C = (X − 1 mᵀ)ᵀ (X − 1 mᵀ) / (N − ddof)        X [N, D], C [D, D]
//! ```
//!
//! In two passes, means first: the one-pass form `XᵀX − N m mᵀ` loses all digits when the means are
//! large against the spread. An error `δ` of the means enters the covariance only as `δ δᵀ`.

use std::slice;

use modalign_core::Scalar;
use ndarray::Array2;

use crate::covariances::pull_back;
use crate::samples::{Sample, Samples};
use crate::{Batch, CovarianceError, workspace::Workspace};

/// Covariance of the columns of `x`.
///
/// ```text
/// m = Σ_n w_n x_n / V_1                                V_1 = Σ_n w_n, V_2 = Σ_n w_n²
/// C = Σ_n w_n (x_n − m)(x_n − m)ᵀ / (V_1 − ddof V_2 / V_1)
/// ```
///
/// `x [N, D]` gives `[D, D]`, symmetric to the last bit. Without row weights the divisor is
/// `N − ddof`; with weights of 0 and 1 it is the number of ones less `ddof`. `ddof = 1` makes the
/// estimate unbiased for independent rows, whatever their weights; 0 takes the mean. A constant
/// column has covariance zero with every column.
///
/// # Errors
///
/// [`CovarianceError::TooFewRows`] unless more than `ddof` rows count,
/// [`CovarianceError::NoColumns`], [`CovarianceError::RowWeights`],
/// [`CovarianceError::RowWeight`], [`CovarianceError::NonFinite`] naming the first NaN or infinite
/// entry, [`CovarianceError::Overflow`], [`CovarianceError::TooLarge`] for `D` above
/// [`MAX_SIDE`](crate::MAX_SIDE).
///
/// # Examples
///
/// ```
/// use modalign_covariance::{Batch, covariance};
/// use ndarray::array;
///
/// let x = array![[1.0, 0.0], [2.0, 1.0], [3.0, 5.0]];
/// assert_eq!(covariance(x.view(), 1)?, array![[1.0, 2.5], [2.5, 7.0]]);
///
/// let weights = array![4.0, 0.0, 4.0];
/// let weighted = Batch::from(x.view()).weighted(weights.view());
/// assert_eq!(covariance(weighted, 1)?, array![[2.0, 5.0], [5.0, 12.5]]);
/// # Ok::<(), modalign_covariance::CovarianceError>(())
/// ```
pub fn covariance<'a, A: Scalar>(
    x: impl Into<Batch<'a, A>>,
    ddof: usize,
) -> Result<Array2<A>, CovarianceError> {
    let batch = x.into();
    let mut sample = Sample::new(0);
    let mut covariance = Workspace::default();
    sample.set_with_covariance(batch, ddof, &mut covariance)?;
    check_finite(&batch, &covariance)?;
    Ok(covariance.into_array())
}

/// The value of a penalty on the covariance of one matrix, and its gradient in the matrix.
///
/// `penalty` returns the value and replaces the covariance by the gradient in it.
pub(crate) fn penalise<A: Scalar>(
    batch: Batch<A>,
    ddof: usize,
    penalty: impl FnOnce(&mut Array2<A>) -> f64,
) -> Result<(A, Array2<A>), CovarianceError> {
    let mut sample = Sample::new(0);
    let mut covariance = Workspace::default();
    sample.set_with_covariance(batch, ddof, &mut covariance)?;
    check_finite(&batch, &covariance)?;
    let mut gamma = covariance.into_array();
    let value = A::from_f64(penalty(&mut gamma));
    if !value.is_finite() {
        return Err(CovarianceError::Overflow {
            first: 0,
            second: 0,
        });
    }
    let mut gradient = Array2::zeros(batch.features.raw_dim());
    let batches = |_| batch;
    let samples = Samples {
        batches: &batches,
        members: slice::from_ref(&sample),
        ddof,
    };
    pull_back(&samples, 0, gamma.view(), &mut gradient)?;
    Ok((value, gradient))
}

/// No entry exceeds the largest variance by more than rounding, so that the diagonal tells, unless
/// the sums behind it come near the end of the numbers.
pub(crate) fn check_finite<A: Scalar>(
    batch: &Batch<A>,
    covariance: &Workspace<A>,
) -> Result<(), CovarianceError> {
    let safe = A::max_value().as_f64() / (4.0 * batch.features.nrows() as f64);
    let finite = |entries: &[A]| entries.iter().all(|entry| entry.is_finite());
    let small = batch.weights.is_none()
        && batch.running.is_none()
        && covariance
            .view()
            .diag()
            .iter()
            .all(|variance| variance.as_f64() < safe);
    if small || finite(covariance.entries()) {
        Ok(())
    } else {
        Err(CovarianceError::Overflow {
            first: 0,
            second: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MAX_SIDE;
    use approx::assert_abs_diff_eq;
    use ndarray::{Array, Array1, Axis, array, s};
    use proptest::prelude::*;

    fn naive(x: &Array2<f64>, ddof: usize) -> Array2<f64> {
        let (n, d) = x.dim();
        let mean = |k: usize| (0..n).map(|i| x[[i, k]]).sum::<f64>() / n as f64;
        Array2::from_shape_fn((d, d), |(k, l)| {
            (0..n)
                .map(|i| (x[[i, k]] - mean(k)) * (x[[i, l]] - mean(l)))
                .sum::<f64>()
                / (n - ddof) as f64
        })
    }

    fn matrix() -> impl Strategy<Value = Array2<f64>> {
        (2..12_usize, 1..9_usize).prop_flat_map(|(n, d)| {
            prop::collection::vec(-3.0..3.0, n * d)
                .prop_map(move |values| Array::from_shape_vec((n, d), values).unwrap())
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn it_is_what_the_loop_says(x in matrix(), ddof in 0..2_usize) {
            let found = covariance(x.view(), ddof).unwrap();
            assert_abs_diff_eq!(found, naive(&x, ddof), epsilon = 1e-12);
        }

        #[test]
        fn it_is_symmetric_and_positive_semidefinite(x in matrix(), direction in prop::collection::vec(-1.0..1.0, 9)) {
            let c = covariance(x.view(), 1).unwrap();
            prop_assert_eq!(&c, &c.t());
            let v = Array1::from(direction[..c.nrows()].to_vec());
            prop_assert!(v.dot(&c.dot(&v)) >= -1e-12);
        }

        #[test]
        fn shifts_and_row_order_do_not_matter_and_scale_enters_squared(
            x in matrix(), shift in -100.0..100.0, factor in -3.0..3.0,
        ) {
            let c = covariance(x.view(), 1).unwrap();
            let shifted = covariance(x.mapv(|x| x + shift).view(), 1).unwrap();
            assert_abs_diff_eq!(shifted, c, epsilon = 1e-10);
            let reversed = covariance(x.slice(s![..;-1, ..]), 1).unwrap();
            assert_abs_diff_eq!(reversed, c, epsilon = 1e-12);
            let scaled = covariance(x.mapv(|x| x * factor).view(), 1).unwrap();
            assert_abs_diff_eq!(scaled, c * (factor * factor), epsilon = 1e-10);
        }
    }

    #[test]
    fn one_column_and_constant_columns_are_defined() {
        let one = covariance(array![[1.0], [3.0]].view(), 1).unwrap();
        assert_eq!(one, array![[2.0]]);
        let c = covariance(array![[5.0, 1.0], [5.0, 2.0], [5.0, 3.0]].view(), 1).unwrap();
        assert_eq!(c, array![[0.0, 0.0], [0.0, 1.0]]);
        assert_eq!(
            covariance(array![[7.0, 2.0]].view(), 0).unwrap(),
            array![[0.0, 0.0], [0.0, 0.0]]
        );
    }

    #[test]
    fn any_memory_layout_will_do() {
        let x = Array::from_shape_fn((7, 6), |(i, j)| ((i * 5 + j * j) % 11) as f64);
        let view = x.slice(s![..;2, 1..;2]);
        let found = covariance(view, 1).unwrap();
        assert_abs_diff_eq!(found, naive(&view.to_owned(), 1), epsilon = 1e-12);
        let turned = covariance(x.t(), 1).unwrap();
        assert_abs_diff_eq!(turned, naive(&x.t().to_owned(), 1), epsilon = 1e-12);
    }

    #[test]
    fn bad_input_is_named() {
        let mut x = Array2::<f32>::zeros((4, 3));
        let short = |ddof| covariance(x.slice(s![..1, ..]), ddof);
        assert_eq!(
            short(1),
            Err(CovarianceError::TooFewRows {
                modality: 0,
                rows: 1,
                ddof: 1
            })
        );
        let empty = covariance(x.slice(s![..0, ..]), 0);
        assert_eq!(
            empty,
            Err(CovarianceError::TooFewRows {
                modality: 0,
                rows: 0,
                ddof: 0
            })
        );
        let narrow = covariance(x.slice(s![.., ..0]), 1);
        assert_eq!(narrow, Err(CovarianceError::NoColumns { modality: 0 }));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            x[[2, 1]] = bad;
            let named = CovarianceError::NonFinite {
                modality: 0,
                row: 2,
                column: 1,
            };
            assert_eq!(covariance(x.view(), 1), Err(named));
        }
        x[[2, 1]] = 0.0;
        x[[3, 1]] = 1e30;
        let overflow = CovarianceError::Overflow {
            first: 0,
            second: 0,
        };
        assert_eq!(covariance(x.view(), 1), Err(overflow));
        let wide = Array2::<f32>::zeros((2, 1))
            .broadcast((2, MAX_SIDE + 1))
            .map(|x| x.to_owned());
        let error = covariance(wide.unwrap().view(), 1);
        let too_large = CovarianceError::TooLarge {
            side: MAX_SIDE + 1,
            limit: MAX_SIDE,
        };
        assert_eq!(error, Err(too_large));
    }

    #[test]
    fn single_precision_stays_within_its_rounding() {
        let x = Array::from_shape_fn((50, 4), |(i, j)| ((i * 7 + j * 13) % 17) as f64 / 17.0);
        let narrow = covariance(x.mapv(|x| x as f32 + 100.0).view(), 1).unwrap();
        let wide = covariance(x.mapv(|x| f64::from(x as f32 + 100.0)).view(), 1).unwrap();
        let scale = wide.map_axis(Axis(0), |column| {
            column.iter().fold(0.0, |m: f64, x| m.max(x.abs()))
        });
        assert_abs_diff_eq!(
            narrow.mapv(f64::from),
            wide,
            epsilon = 8.0 * f64::from(f32::EPSILON) * scale.sum()
        );
    }
}
