//! Off-diagonal covariance penalty: redundancy between the columns of one matrix.
//!
//! ```text
//! p = (1/D) Σ_{k ≠ l} C_kl²
//! Γ = (2/D) offdiag(C)
//! dp/dX = 4 / (D (N − ddof)) · (X − 1 mᵀ) offdiag(C)
//! ```

use modalign_core::Scalar;
use ndarray::Array2;

use crate::covariance::penalise;
use crate::{Batch, CovarianceError};

/// Sum of the squared off-diagonal covariances over D, and its gradient in `x`.
///
/// ```text
/// p = (1/D) Σ_{k ≠ l} C_kl²        C: covariance with divisor N − ddof
/// ```
///
/// `x [N, D]` gives the value and a gradient `[N, D]`. It is zero when the columns are
/// uncorrelated, whatever their variances. It can be lowered by shrinking the features, so it is
/// used with a term that keeps the variances up.
///
/// # Errors
///
/// As [`covariance`](crate::covariance()).
///
/// # Examples
///
/// ```
/// use modalign_covariance::off_diagonal_penalty;
/// use ndarray::array;
///
/// let x = array![[1.0, 0.0], [2.0, 1.0], [3.0, 5.0]];
/// let (value, gradient) = off_diagonal_penalty(x.view(), 1)?;
/// assert_eq!(value, 6.25); // 2 · 2.5² / 2
/// assert_eq!(gradient[[0, 0]], -5.0); // 4 / (2 · 2) · (0 − 2) · 2.5
/// # Ok::<(), modalign_covariance::CovarianceError>(())
/// ```
///
/// # References
///
/// Adrien Bardes, Jean Ponce, Yann LeCun, "VICReg: Variance-Invariance-Covariance Regularization
/// for Self-Supervised Learning", 2022 (the covariance term).
pub fn off_diagonal_penalty<'a, A: Scalar>(
    x: impl Into<Batch<'a, A>>,
    ddof: usize,
) -> Result<(A, Array2<A>), CovarianceError> {
    penalise(x.into(), ddof, |covariance| {
        let width = covariance.ncols() as f64;
        covariance.diag_mut().fill(A::zero());
        let sum: f64 = covariance.iter().map(|entry| entry.as_f64().powi(2)).sum();
        *covariance *= A::from_f64(2.0 / width);
        sum / width
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use modalign_gradcheck::check_gradient;
    use ndarray::Array;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn the_gradient_is_that_of_central_differences(
            (n, d) in (2..8_usize, 1..6_usize),
            ddof in 0..2_usize,
            values in prop::collection::vec(-2.0..2.0, 64),
        ) {
            let x = Array::from_shape_fn((n, d), |(i, j)| values[i * d + j]);
            let (_, gradient) = off_diagonal_penalty(x.view(), ddof).unwrap();
            check_gradient("x", &x, &gradient, |x| off_diagonal_penalty(x.view(), ddof).unwrap().0)
                .unwrap();
        }
    }
}
