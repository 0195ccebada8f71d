//! Memory of large matrices, kept for the next ones of about their size.
//!
//! The passes of a transformer need the same few sizes again and again. An allocator gives memory of
//! that size back to the system and has it cleared page by page the next time, which takes an eighth of
//! a pass, and more on several threads.

use std::any::Any;
use std::sync::{Mutex, PoisonError};

use modalign_core::Scalar;
use modalign_linalg::{Operand, gemm};
use ndarray::Array2;

use crate::NnError;

/// Entries from which memory is kept.
const LARGE: usize = 1 << 14;

/// Vectors of numbers of any type, whose content is of no use to anybody.
static FREE: Mutex<Vec<Box<dyn Any + Send>>> = Mutex::new(Vec::new());

/// So many numbers, with any content.
pub(crate) fn numbers<A: Scalar>(count: usize) -> Vec<A> {
    if count < LARGE {
        return vec![A::zero(); count];
    }
    let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
    let sizes = free.iter().enumerate();
    let sizes = sizes.filter_map(|(index, one)| Some((one.downcast_ref::<Vec<A>>()?, index)));
    let sizes = sizes.map(|(numbers, index)| (numbers.capacity(), index));
    // Neither twice as large as needed, nor left behind by a size that is not used any more.
    let fits = |&(size, _): &(usize, usize)| (count..2 * count).contains(&size);
    let outgrown = |&(size, _): &(usize, usize)| (count / 2..count).contains(&size);
    let fitting = sizes.clone().filter(fits).min();
    let found = fitting.or_else(|| sizes.filter(outgrown).max());
    let taken = found.map(|(_, index)| free.swap_remove(index));
    drop(free);
    match taken.map(|taken| taken.downcast::<Vec<A>>()) {
        Some(Ok(mut numbers)) if numbers.capacity() >= count => {
            numbers.resize(count, A::zero());
            *numbers
        }
        _ => vec![A::zero(); count],
    }
}

/// A matrix with any content.
pub(crate) fn matrix<A: Scalar>(shape: (usize, usize)) -> Array2<A> {
    let numbers = numbers(shape.0 * shape.1);
    Array2::from_shape_vec(shape, numbers).expect("there are as many numbers")
}

/// A copy.
pub(crate) fn copy<A: Scalar>(x: ndarray::ArrayView2<A>) -> Array2<A> {
    let mut copy = matrix(x.dim());
    copy.assign(&x);
    copy
}

/// `A B`
pub(crate) fn product<'a, 'b, A: Scalar>(
    a: impl Into<Operand<'a, A>>,
    b: impl Into<Operand<'b, A>>,
) -> Result<Array2<A>, NnError> {
    let (a, b) = (a.into(), b.into());
    let mut c = matrix((a.dim().0, b.dim().1));
    gemm(A::one(), a, b, A::zero(), &mut c)?;
    Ok(c)
}

/// Keeps the memory of numbers that nobody needs any more.
pub(crate) fn keep<A: Scalar>(numbers: Vec<A>) {
    if numbers.capacity() >= LARGE {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        free.push(Box::new(numbers));
    }
}

/// Gives the memory of a large matrix to those that later passes of transformer layers make. It stays
/// in the process until [`release_memory`].
///
/// ```
/// use modalign_nn::{recycle, release_memory};
/// use ndarray::Array2;
///
/// recycle(Array2::<f32>::zeros((1000, 100)));
/// assert_eq!(release_memory(), 400_000);
/// ```
pub fn recycle<A: Scalar>(matrix: Array2<A>) {
    keep(matrix.into_raw_vec_and_offset().0);
}

/// Gives the memory that transformer layers keep between passes back to the system, and returns how
/// many bytes it was. For the end of a training: the next pass takes memory anew.
pub fn release_memory() -> usize {
    let free = std::mem::take(&mut *FREE.lock().unwrap_or_else(PoisonError::into_inner));
    let bytes = |one: &Box<dyn Any + Send>| match (
        one.downcast_ref::<Vec<f32>>(),
        one.downcast_ref::<Vec<f64>>(),
    ) {
        (Some(numbers), _) => size_of::<f32>() * numbers.capacity(),
        (_, Some(numbers)) => size_of::<f64>() * numbers.capacity(),
        _ => 0,
    };
    free.iter().map(bytes).sum()
}
