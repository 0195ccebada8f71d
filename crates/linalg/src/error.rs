use thiserror::Error;

/// Operands that do not fit together, or a result that is not defined.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum LinalgError {
    /// A matrix does not have the shape that the others ask for.
    #[error("{operation}: {operand} has shape {found:?}, expected {expected:?}")]
    Shape {
        /// The function that was called.
        operation: &'static str,
        /// The operand that does not fit.
        operand: &'static str,
        /// The shape it must have.
        expected: [usize; 2],
        /// The shape it has.
        found: [usize; 2],
    },
    /// A vector does not have one entry for each row or column it belongs to.
    #[error("{operation}: {operand} has {found} entries, expected {expected}")]
    Length {
        /// The function that was called.
        operation: &'static str,
        /// The operand that does not fit.
        operand: &'static str,
        /// The number of entries it must have.
        expected: usize,
        /// The number of entries it has.
        found: usize,
    },
    /// An element is NaN or infinite where that is not allowed.
    #[error("{operation}: the element at {index:?} is not finite")]
    NotFinite {
        /// The function that was called.
        operation: &'static str,
        /// The row and column of the element.
        index: [usize; 2],
    },
    /// An iteration did not come to its end.
    #[error("{operation}: no convergence")]
    NoConvergence {
        /// The function that was called.
        operation: &'static str,
    },
    /// The function is defined for `f32` and `f64` only.
    #[error("{operation}: the elements are neither f32 nor f64")]
    ElementType {
        /// The function that was called.
        operation: &'static str,
    },
    /// A mean over no rows, or over rows whose weights add up to zero.
    #[error("{operation}: the rows have no weight, so they have no mean")]
    NoWeight {
        /// The function that was called.
        operation: &'static str,
    },
}

pub(crate) fn check_shape(
    operation: &'static str,
    operand: &'static str,
    found: (usize, usize),
    expected: (usize, usize),
) -> Result<(), LinalgError> {
    if found == expected {
        return Ok(());
    }
    Err(LinalgError::Shape {
        operation,
        operand,
        expected: expected.into(),
        found: found.into(),
    })
}

pub(crate) fn check_length(
    operation: &'static str,
    operand: &'static str,
    found: usize,
    expected: usize,
) -> Result<(), LinalgError> {
    if found == expected {
        return Ok(());
    }
    Err(LinalgError::Length {
        operation,
        operand,
        expected,
        found,
    })
}
