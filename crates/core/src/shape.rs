//! Shape checks at the boundary of a public function, and arrays that change their shape.

use ndarray::{Array, ArrayView, Dimension, IntoDimension};
use num_traits::Zero;
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

/// Gives an array another shape, in standard layout and in the memory it has if that is enough.
/// What its entries are is not said; they are yet to be written.
///
/// ```
/// use modalign_core::resize;
/// use ndarray::Array2;
///
/// let mut array = Array2::<f32>::ones((4, 3));
/// let memory = array.as_ptr();
/// resize(&mut array, (2, 5));
/// assert_eq!((array.dim(), array.as_ptr()), ((2, 5), memory));
/// ```
pub fn resize<T: Clone + Zero, I: IntoDimension>(array: &mut Array<T, I::Dim>, shape: I)
where
    Array<T, I::Dim>: Default,
{
    let shape = shape.into_dimension();
    if array.raw_dim() == shape && array.is_standard_layout() {
        return;
    }
    let (mut entries, _) = std::mem::take(array).into_raw_vec_and_offset();
    entries.resize(shape.size(), T::zero());
    *array = Array::from_shape_vec(shape, entries).expect("there are as many entries as the shape");
}

/// Makes an array a copy of another, in standard layout and in the memory it has if that is enough.
///
/// ```
/// use modalign_core::assign;
/// use ndarray::{Array1, array};
///
/// let mut array = Array1::zeros(5);
/// assign(&mut array, array![1.0, 2.0].view());
/// assert_eq!(array, array![1.0, 2.0]);
/// ```
pub fn assign<T: Clone + Zero, D: Dimension>(array: &mut Array<T, D>, other: ArrayView<T, D>)
where
    Array<T, D>: Default,
{
    resize(array, other.raw_dim());
    array.assign(&other);
}
