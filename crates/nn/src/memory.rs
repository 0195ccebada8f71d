//! Arrays that change their size without giving up their memory.

use modalign_core::Scalar;
use ndarray::Array2;

/// An array of another size in the memory of this one, with entries that are yet to be written.
pub(crate) fn resized<A: Scalar>(array: Array2<A>, rows: usize, columns: usize) -> Array2<A> {
    let (mut entries, _) = array.into_raw_vec_and_offset();
    entries.resize(rows * columns, A::zero());
    Array2::from_shape_vec((rows, columns), entries).expect("there are rows * columns entries")
}
