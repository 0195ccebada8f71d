#![doc = include_str!("../README.md")]

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayBase, Data, DataMut, Ix2, LinalgScalar};
use thiserror::Error;

/// Operands that do not fit together.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum LinalgError {
    /// Two extents that must be equal are not.
    #[error("{operation}: {operand} has shape {found:?}, expected {expected:?}")]
    Shape {
        /// The product that was asked for.
        operation: &'static str,
        /// The operand that does not fit.
        operand: &'static str,
        /// The shape it must have.
        expected: [usize; 2],
        /// The shape it has.
        found: [usize; 2],
    },
}

/// `c ← α a b + β c` for `a [M, K]`, `b [K, N]`, `c [M, N]`.
///
/// # Errors
///
/// [`LinalgError::Shape`] if the operands do not fit.
pub fn gemm<A: LinalgScalar>(
    alpha: A,
    a: &ArrayBase<impl Data<Elem = A>, Ix2>,
    b: &ArrayBase<impl Data<Elem = A>, Ix2>,
    beta: A,
    c: &mut ArrayBase<impl DataMut<Elem = A>, Ix2>,
) -> Result<(), LinalgError> {
    let expect = |operand, found: (usize, usize), expected: (usize, usize)| {
        if found == expected {
            return Ok(());
        }
        Err(LinalgError::Shape {
            operation: "gemm",
            operand,
            expected: expected.into(),
            found: found.into(),
        })
    };
    expect("b", b.dim(), (a.ncols(), b.ncols()))?;
    expect("c", c.dim(), (a.nrows(), b.ncols()))?;
    general_mat_mul(alpha, a, b, beta, c);
    Ok(())
}
