use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayBase, ArrayViewMut2, DataMut, Ix2, LinalgScalar};

use crate::error::check_shape;
use crate::typed;
use crate::{LinalgError, Operand};

/// General matrix product.
///
/// ```text
/// C ← α A B + β C        A [M, K], B [K, N], C [M, N]
/// ```
///
/// `A` and `B` are matrices, views with any strides (`&x.t()` costs nothing), or [`Operand`]s. With
/// `β = 0` the old content of `C` is not read: it may be anything, NaN included.
///
/// # Errors
///
/// [`LinalgError::Shape`] or [`LinalgError::Length`] if the operands do not fit; `C` is unchanged.
///
/// # Examples
///
/// ```
/// use modalign_linalg::gemm;
/// use ndarray::array;
///
/// let (x, weight) = (array![[1.0, 2.0]], array![[3.0, 4.0], [5.0, 6.0]]);
/// let mut y = array![[0.5, 0.5]];
/// gemm(1.0, &x, &weight.t(), 1.0, &mut y)?;
/// assert_eq!(y, array![[11.5, 17.5]]);
/// # Ok::<(), modalign_linalg::LinalgError>(())
/// ```
pub fn gemm<'a, 'b, A: LinalgScalar>(
    alpha: A,
    a: impl Into<Operand<'a, A>>,
    b: impl Into<Operand<'b, A>>,
    beta: A,
    c: &mut ArrayBase<impl DataMut<Elem = A>, Ix2>,
) -> Result<(), LinalgError> {
    let (a, b): (Operand<A>, Operand<A>) = (a.into(), b.into());
    a.check("gemm")?;
    b.check("gemm")?;
    let ((m, k), n) = (a.dim(), b.dim().1);
    check_shape("gemm", "b", b.dim(), (k, n))?;
    check_shape("gemm", "c", c.dim(), (m, n))?;
    product(alpha, a, Some(b), beta, c.view_mut());
    Ok(())
}

/// Product of an operand with its own transpose, a symmetric matrix.
///
/// ```text
/// C ← α P Pᵀ + β C        P [M, K], C [M, M]
/// ```
///
/// Half of the product is computed and mirrored, so `C` is symmetric to the last bit if it was so
/// before or `β = 0`. (If it was not, its lower triangle is used.) Two products of one sample
/// matrix `X [N, D]` with column means `m` matter most here:
///
/// ```text
/// covariance   (X − 1 mᵀ)ᵀ (X − 1 mᵀ) / (N − 1)  [D, D]   P = Operand::from(&x).centered(&m).t()
/// Gram matrix  (X − 1 mᵀ) (X − 1 mᵀ)ᵀ            [N, N]   P = Operand::from(&x).centered(&m)
/// ```
///
/// Weights enter twice, once with each factor: for samples that count `w` times, give `√w`.
///
/// # Errors
///
/// [`LinalgError::Shape`] or [`LinalgError::Length`] if the operands do not fit; `C` is unchanged.
///
/// # Examples
///
/// ```
/// use modalign_linalg::{Operand, column_means, syrk};
/// use ndarray::{Array1, Array2, array};
///
/// let x = array![[1.0, 0.0], [2.0, 1.0], [3.0, 5.0]];
/// let mut mean = Array1::zeros(2);
/// column_means(&x, None, &mut mean)?;
/// let mut covariance = Array2::zeros((2, 2));
/// syrk(0.5, Operand::from(&x).centered(&mean).t(), 0.0, &mut covariance)?;
/// assert_eq!(covariance, array![[1.0, 2.5], [2.5, 7.0]]);
/// # Ok::<(), modalign_linalg::LinalgError>(())
/// ```
pub fn syrk<'a, A: LinalgScalar>(
    alpha: A,
    p: impl Into<Operand<'a, A>>,
    beta: A,
    c: &mut ArrayBase<impl DataMut<Elem = A>, Ix2>,
) -> Result<(), LinalgError> {
    let p: Operand<A> = p.into();
    p.check("syrk")?;
    let m = p.dim().0;
    check_shape("syrk", "c", c.dim(), (m, m))?;
    product(alpha, p, None, beta, c.view_mut());
    Ok(())
}

/// `C ← α A B + β C`; without `B`, the symmetric `C ← α A Aᵀ + β C`.
fn product<A: LinalgScalar>(
    alpha: A,
    a: Operand<A>,
    b: Option<Operand<A>>,
    beta: A,
    mut c: ArrayViewMut2<A>,
) {
    let typed = typed::product::<A, f32>(alpha, a, b, beta, &mut c)
        || typed::product::<A, f64>(alpha, a, b, beta, &mut c);
    if typed {
        return;
    }
    let left = a.to_matrix();
    let right = match b {
        Some(b) => b.to_matrix(),
        None => a.t().to_matrix(),
    };
    general_mat_mul(alpha, &left, &right, beta, &mut c);
}
