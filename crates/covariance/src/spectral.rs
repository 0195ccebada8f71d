//! Functions of a covariance through its eigendecomposition, in `f64` whatever the features are: the
//! smallest eigenvalues decide, and `f32` would not leave them a digit.
//!
//! ```text
//! C + ε I = V diag(λ) Vᵀ,  λ ≥ ε
//! f(C + ε I) = V diag(f(λ)) Vᵀ
//! ```

use modalign_core::Scalar;
use modalign_linalg::{Operand, SymmetricEigen, eigh, gemm};
use ndarray::{Array1, Array2};

use crate::{CovarianceError, workspace::Workspace};

/// The eigendecomposition of a covariance of `modality` plus `epsilon` times the identity.
///
/// A covariance has no negative eigenvalues; what rounding makes negative counts as zero.
pub(crate) fn decompose<A: Scalar>(
    matrix: &Workspace<A>,
    epsilon: f64,
    modality: usize,
) -> Result<SymmetricEigen<f64>, CovarianceError> {
    let matrix = matrix.view().mapv(A::as_f64);
    if !matrix.iter().all(|entry| entry.is_finite()) {
        return Err(CovarianceError::Overflow {
            first: modality,
            second: modality,
        });
    }
    let mut eigen = eigh(&matrix)?;
    eigen.values.mapv_inplace(|value| value.max(0.0) + epsilon);
    Ok(eigen)
}

/// `V diag(f(λ)) Vᵀ`.
pub(crate) fn apply(
    eigen: &SymmetricEigen<f64>,
    f: impl Fn(f64) -> f64,
) -> Result<Array2<f64>, CovarianceError> {
    let values: Array1<f64> = eigen.values.mapv(f);
    let vectors = eigen.vectors.t();
    let scaled = Operand::from(&vectors).weighted(&values).t();
    let mut result = Array2::zeros(eigen.vectors.raw_dim());
    gemm(1.0, scaled, &vectors, 0.0, &mut result)?;
    Ok(result)
}

/// `A B`.
pub(crate) fn product(a: &Array2<f64>, b: &Array2<f64>) -> Result<Array2<f64>, CovarianceError> {
    let mut result = Array2::zeros((a.nrows(), b.ncols()));
    gemm(1.0, a, b, 0.0, &mut result)?;
    Ok(result)
}
