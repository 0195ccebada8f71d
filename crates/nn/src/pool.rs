//! Memory of large matrices, kept for the next ones of about their size.
//!
//! The passes of a transformer need the same few sizes again and again. An allocator gives memory of
//! that size back to the system and has it cleared page by page the next time, which takes an eighth of
//! a pass, and more on several threads.

use std::any::Any;
use std::sync::{Mutex, MutexGuard, PoisonError};

use modalign_core::Scalar;
use modalign_linalg::{Operand, gemm};
use ndarray::{Array2, ArrayView2};

use crate::NnError;

/// Entries from which memory is kept.
const LARGE: usize = 1 << 14;

/// How many others are taken until memory that nobody took is freed: more than a step of 24 layers takes,
/// 16 a layer. Sizes go with the lengths of the texts at hand, and what is given was not always taken here.
const KEPT_FOR: u64 = 1 << 9;

/// Vectors of numbers of any type, whose content is of no use to anybody.
struct Store {
    /// How many vectors were taken so far.
    taken: u64,
    free: Vec<Free>,
}

struct Free {
    numbers: Box<dyn Any + Send>,
    bytes: usize,
    /// How many were taken when it was given.
    since: u64,
}

static STORE: Mutex<Store> = Mutex::new(Store {
    taken: 0,
    free: Vec::new(),
});

fn store() -> MutexGuard<'static, Store> {
    STORE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// So many numbers, with any content.
pub(crate) fn numbers<A: Scalar>(count: usize) -> Vec<A> {
    if count < LARGE {
        return vec![A::zero(); count];
    }
    let mut store = store();
    store.taken += 1;
    let sizes = store.free.iter().enumerate().filter_map(|(index, one)| {
        let numbers: &Vec<A> = one.numbers.downcast_ref()?;
        Some((numbers.capacity(), index))
    });
    let fitting = sizes.filter(|(size, _)| (count..2 * count).contains(size));
    let taken = fitting
        .min()
        .map(|(_, index)| store.free.swap_remove(index));
    drop(store);
    match taken.map(|taken| taken.numbers.downcast::<Vec<A>>()) {
        Some(Ok(mut numbers)) => {
            numbers.resize(count, A::zero());
            *numbers
        }
        _ => vec![A::zero(); count],
    }
}

/// A matrix with any content.
pub(crate) fn matrix<A: Scalar>(shape: (usize, usize)) -> Array2<A> {
    let numbers = numbers(shape.0 * shape.1);
    // `numbers` gives exactly as many as it is asked for, and the shapes of matrices in memory have a
    // product that fits.
    Array2::from_shape_vec(shape, numbers).expect("there are as many numbers as the shape has")
}

/// A copy.
pub(crate) fn copy<A: Scalar>(x: ArrayView2<A>) -> Array2<A> {
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
    if numbers.capacity() < LARGE {
        return;
    }
    let mut store = store();
    let taken = store.taken;
    store.free.push(Free {
        bytes: size_of::<A>() * numbers.capacity(),
        numbers: Box::new(numbers),
        since: taken,
    });
    store.free.retain(|one| taken - one.since <= KEPT_FOR);
}

/// Gives the memory of a large matrix to those that later passes of transformer layers make. It stays
/// in the process while such passes need it, or until [`release_memory`].
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
    let free = std::mem::take(&mut store().free);
    free.iter().map(|one| one.bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Larger than what any other test of the crate makes, for the store is that of the process.
    const COUNT: usize = 1 << 21;

    #[test]
    fn memory_comes_back_for_about_the_same_size_and_type() {
        let numbers = |count| super::numbers::<f64>(count);
        let first = numbers(COUNT);
        let place = first.as_ptr();
        keep(first);
        let of_another_type = super::numbers::<f32>(COUNT);
        assert_ne!(of_another_type.as_ptr().addr(), place.addr());
        let half_as_large = numbers(COUNT / 2);
        assert_ne!(half_as_large.as_ptr(), place);
        let second = numbers(COUNT - 5);
        assert_eq!((second.as_ptr(), second.len()), (place, COUNT - 5));
        keep(second);
        let mut third = numbers(COUNT);
        assert_eq!((third.as_ptr(), third.len()), (place, COUNT));
        third.fill(7.0);
        keep(third);
        for _ in 0..=KEPT_FOR {
            drop(super::numbers::<f64>(LARGE));
        }
        keep(vec![0.0; LARGE]);
        let fourth = numbers(COUNT);
        assert!(fourth.iter().all(|&x| x == 0.0));
    }
}
