//! Sequences of different lengths without their padding.

use modalign_core::Scalar;
use ndarray::{Array2, Array3, ArrayView2, ArrayView3, ArrayViewMut2, Axis, s};

use crate::NnError;
use crate::memory::resized;

/// The layout `[P, ·]` of a batch of sequences, P = Σ lengths.
///
/// Rows are sorted by falling length, ties in their order. Step t holds one line for every row
/// longer than t; steps follow each other. The lines of a step are therefore the first lines of the
/// step before it, without those that have ended.
#[derive(Debug, Clone, Default)]
pub(super) struct Packing {
    /// The row of the batch at each place of the sorted order.
    order: Vec<usize>,
    /// The falling lengths.
    lengths: Vec<usize>,
    /// Where each step starts, and one more for the end.
    offsets: Vec<usize>,
    /// T of the batch, padding included.
    steps: usize,
}

impl Packing {
    pub(super) fn new(lengths: &[usize], steps: usize) -> Result<Self, NnError> {
        let mut packing = Self::default();
        packing.set(lengths, steps)?;
        Ok(packing)
    }

    /// Becomes the layout of another batch in the same memory.
    pub(super) fn set(&mut self, lengths: &[usize], steps: usize) -> Result<(), NnError> {
        if let Some(row) = lengths.iter().position(|&length| length > steps) {
            return Err(NnError::Length {
                operation: "lstm",
                row,
                found: lengths[row],
                steps,
            });
        }
        self.steps = steps;
        self.order.clear();
        self.order.extend(0..lengths.len());
        // With ties broken by their row, no two are equal, and this needs no memory.
        self.order
            .sort_unstable_by_key(|&row| (std::cmp::Reverse(lengths[row]), row));
        self.lengths.clear();
        self.lengths
            .extend(self.order.iter().map(|&row| lengths[row]));
        let longest = self.lengths.first().copied().unwrap_or(0);
        let (mut offset, mut active) = (0, self.lengths.len());
        self.offsets.clear();
        self.offsets.push(0);
        for step in 0..longest {
            while self.lengths[active - 1] <= step {
                active -= 1;
            }
            offset += active;
            self.offsets.push(offset);
        }
        Ok(())
    }

    /// B, the rows of the batch.
    pub(super) fn batch(&self) -> usize {
        self.order.len()
    }

    /// T, padding included.
    pub(super) fn steps(&self) -> usize {
        self.steps
    }

    /// P, the lines of the layout.
    pub(super) fn lines(&self) -> usize {
        self.offsets[self.offsets.len() - 1]
    }

    /// The steps up to the longest length.
    pub(super) fn longest(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The lines of one step.
    pub(super) fn lines_of(&self, step: usize) -> std::ops::Range<usize> {
        self.offsets[step]..self.offsets[step + 1]
    }

    /// How many of the first, longest rows have about half of the lines: at least 1 and fewer than
    /// all of two or more.
    pub(super) fn rows_of_half(&self) -> usize {
        let (mut rows, mut lines) = (1, self.lengths[0]);
        while rows + 1 < self.batch() && 2 * lines + self.lengths[rows] <= self.lines() {
            lines += self.lengths[rows];
            rows += 1;
        }
        rows
    }

    /// The line of every row's sequence read from its last step to its first: line `i` of the
    /// mirrored layout is line `mirror()[i]` of this one, and the other way round.
    pub(super) fn mirror(&self) -> Vec<usize> {
        let mut mirror = Vec::with_capacity(self.lines());
        for step in 0..self.longest() {
            for place in 0..self.lines_of(step).len() {
                mirror.push(self.offsets[self.lengths[place] - 1 - step] + place);
            }
        }
        mirror
    }

    /// `x [B, T, D]` without its padding, `[P, D]`.
    pub(super) fn pack<A: Scalar>(&self, x: ArrayView3<A>) -> Array2<A> {
        self.pack_into(x, Array2::zeros((0, 0)))
    }

    /// As [`pack`](Self::pack), in the memory of `packed`.
    pub(super) fn pack_into<A: Scalar>(&self, x: ArrayView3<A>, packed: Array2<A>) -> Array2<A> {
        let mut packed = resized(packed, self.lines(), x.dim().2);
        for step in 0..self.longest() {
            for (place, line) in self.lines_of(step).enumerate() {
                packed
                    .row_mut(line)
                    .assign(&x.slice(s![self.order[place], step, ..]));
            }
        }
        packed
    }

    /// The reverse of [`pack`](Self::pack), with zeros as padding.
    pub(super) fn unpack<A: Scalar>(&self, packed: ArrayView2<A>) -> Array3<A> {
        let mut x = Array3::zeros((self.batch(), self.steps, packed.ncols()));
        for step in 0..self.longest() {
            for (place, line) in self.lines_of(step).enumerate() {
                x.slice_mut(s![self.order[place], step, ..])
                    .assign(&packed.row(line));
            }
        }
        x
    }

    /// Rows of the batch `[B, D]` in the sorted order.
    pub(super) fn sort<A: Scalar>(&self, rows: ArrayView2<A>) -> Array2<A> {
        rows.select(Axis(0), &self.order)
    }

    /// Writes sorted rows to their places in the batch.
    pub(super) fn unsort<A: Scalar>(&self, sorted: ArrayView2<A>, mut rows: ArrayViewMut2<A>) {
        for (sorted, &row) in sorted.rows().into_iter().zip(&self.order) {
            rows.row_mut(row).assign(&sorted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn lines_are_time_major_and_sorted_by_length() {
        let packing = Packing::new(&[1, 3, 0, 2], 4).unwrap();
        let x = Array3::from_shape_fn((4, 4, 1), |(row, step, _)| (10 * row + step) as f64);
        let packed = packing.pack(x.view());
        assert_eq!(packed.column(0), array![10.0, 30.0, 0.0, 11.0, 31.0, 12.0]);
        let mirrored = packed.select(Axis(0), &packing.mirror());
        assert_eq!(
            mirrored.column(0),
            array![12.0, 31.0, 0.0, 11.0, 30.0, 10.0]
        );
        assert_eq!(mirrored.select(Axis(0), &packing.mirror()), packed);
        let unpacked = packing.unpack(packed.view());
        for (row, length) in [1, 3, 0, 2].into_iter().enumerate() {
            for step in 0..4 {
                let expected = if step < length {
                    x[[row, step, 0]]
                } else {
                    0.0
                };
                assert_eq!(unpacked[[row, step, 0]], expected);
            }
        }
    }

    #[test]
    fn halves_have_about_as_many_lines() {
        for (lengths, rows) in [
            (vec![4, 4, 4, 4], 2),
            (vec![1, 1, 1, 9, 2, 1], 1),
            (vec![8, 4, 4, 4, 4], 2),
            (vec![3, 0], 1),
            (vec![2, 2], 1),
        ] {
            assert_eq!(Packing::new(&lengths, 9).unwrap().rows_of_half(), rows);
        }
    }

    #[test]
    fn empty_batches_and_sequences() {
        assert_eq!(Packing::new(&[], 3).unwrap().lines(), 0);
        assert_eq!(Packing::new(&[0, 0], 0).unwrap().lines(), 0);
        assert_eq!(
            Packing::new(&[2, 4], 3).unwrap_err(),
            NnError::Length {
                operation: "lstm",
                row: 1,
                found: 4,
                steps: 3
            }
        );
    }
}
