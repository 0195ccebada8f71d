//! Shape checks at the boundary of a public function.

use thiserror::Error;

/// An array that does not have the shape its function needs.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{operation}: {operand} has shape {found:?}, expected {expected:?}")]
pub struct ShapeError {
    /// The function or layer that was called.
    pub operation: &'static str,
    /// The argument, by the name its documentation gives it.
    pub operand: &'static str,
    /// The shape it must have.
    pub expected: Vec<usize>,
    /// The shape it has.
    pub found: Vec<usize>,
}

/// Compares a shape with the one needed.
///
/// # Errors
///
/// [`ShapeError`] naming the operation, the operand and both shapes.
///
/// ```
/// use modalign_core::check_shape;
///
/// assert!(check_shape("linear", "x", &[2, 3], &[2, 3]).is_ok());
/// let error = check_shape("linear", "x", &[2, 4], &[2, 3]).unwrap_err();
/// assert_eq!(error.to_string(), "linear: x has shape [2, 4], expected [2, 3]");
/// ```
pub fn check_shape(
    operation: &'static str,
    operand: &'static str,
    found: &[usize],
    expected: &[usize],
) -> Result<(), ShapeError> {
    if found == expected {
        return Ok(());
    }
    Err(ShapeError {
        operation,
        operand,
        expected: expected.to_vec(),
        found: found.to_vec(),
    })
}
