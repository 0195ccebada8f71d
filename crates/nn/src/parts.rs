//! Rows of matrices, shared out between threads.
//!
//! What a part holds depends on the shapes alone, never on the number of threads, so neither does any
//! result.

use modalign_core::Scalar;
use modalign_linalg::vectorized;
use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut1, Axis};
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use crate::NnError;

/// Rows of a part.
pub(crate) const ROWS: usize = 32;

/// Columns of a part where columns are summed.
const COLUMNS: usize = 256;

/// Entries that pay for waking other threads.
const WORTH_THREADS: usize = 1 << 14;

/// Calls `work` on every part, on all threads of the pool if there are many `entries`.
pub(crate) fn for_each_part<P: Send>(
    entries: usize,
    parts: Vec<P>,
    work: impl Fn(P) + Send + Sync,
) {
    if entries < WORTH_THREADS || parts.len() < 2 || rayon::current_num_threads() == 1 {
        parts.into_iter().for_each(work);
    } else {
        parts.into_par_iter().for_each(work);
    }
}

/// As [`for_each_part`], for work that can fail.
pub(crate) fn try_for_each_part<P: Send>(
    entries: usize,
    parts: Vec<P>,
    work: impl Fn(P) -> Result<(), NnError> + Send + Sync,
) -> Result<(), NnError> {
    if entries < WORTH_THREADS || parts.len() < 2 || rayon::current_num_threads() == 1 {
        parts.into_iter().try_for_each(work)
    } else {
        parts.into_par_iter().try_for_each(work)
    }
}

/// The entries of a matrix in standard layout, row after row.
pub(crate) fn entries_mut<A>(x: &mut Array2<A>) -> &mut [A] {
    x.as_slice_mut().expect("the layout is standard")
}

/// Splits so many entries off the front.
pub(crate) fn take<'a, A>(rest: &mut &'a mut [A], count: usize) -> &'a mut [A] {
    let (front, back) = std::mem::take(rest).split_at_mut(count);
    *rest = back;
    front
}

/// `target ← target + Σ_rows x`
pub(crate) fn add_column_sums<A: Scalar>(x: ArrayView2<A>, target: &mut Array1<A>) {
    let parts = x
        .axis_chunks_iter(Axis(1), COLUMNS)
        .zip(target.axis_chunks_iter_mut(Axis(0), COLUMNS));
    let add = |(x, mut target): (ArrayView2<A>, ArrayViewMut1<A>)| {
        vectorized(
            #[inline(always)]
            || {
                let mut sums = [A::zero(); COLUMNS];
                for row in x.rows() {
                    match row.as_slice() {
                        Some(row) => sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += x),
                        None => sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += x),
                    }
                }
                target
                    .iter_mut()
                    .zip(sums)
                    .for_each(|(target, sum)| *target += sum);
            },
        );
    };
    if x.len() < WORTH_THREADS {
        parts.for_each(add);
    } else {
        for_each_part(x.len(), parts.collect(), add);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{random, rng};

    #[test]
    fn column_sums_are_those_of_rows_in_order_on_any_number_of_threads() {
        let x = random((301, 517), &mut rng(1));
        let start = random(517, &mut rng(2));
        for x in [x.view(), random((517, 301), &mut rng(3)).t()] {
            let sums = x
                .rows()
                .into_iter()
                .fold(Array1::<f64>::zeros(517), |sums, row| sums + row);
            let expected = &start + &sums;
            for threads in [1, 2, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                let mut found = start.clone();
                pool.unwrap().install(|| add_column_sums(x, &mut found));
                assert_eq!(found, expected, "{threads} threads");
            }
        }
    }
}
