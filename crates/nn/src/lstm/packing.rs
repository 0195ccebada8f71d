//! Sequences of different lengths without their padding.

use crate::NnError;

/// The layout `[P, ·]` of rows of a batch of sequences, P = Σ lengths.
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
}

/// Rows of one packing. The rows of a batch are dealt to packings of about as many lines, which may
/// be worked on side by side; sums over the batch are taken in the order of the packings. That
/// depends on the batch alone, and so no result depends on the number of threads.
const GROUP_ROWS: usize = 16;

impl Packing {
    /// How many packings a batch has.
    pub(super) fn groups(batch: usize) -> usize {
        batch.div_ceil(GROUP_ROWS).max(1)
    }

    /// Becomes the packing of one group of another batch in the same memory.
    pub(super) fn set(
        &mut self,
        lengths: &[usize],
        steps: usize,
        group: usize,
    ) -> Result<(), NnError> {
        if let Some(row) = lengths.iter().position(|&length| length > steps) {
            return Err(NnError::Length {
                operation: "lstm",
                row,
                found: lengths[row],
                steps,
            });
        }
        self.order.clear();
        self.order.extend(0..lengths.len());
        // With ties broken by their row, no two are equal, and this needs no memory.
        self.order
            .sort_unstable_by_key(|&row| (std::cmp::Reverse(lengths[row]), row));
        let groups = Self::groups(lengths.len());
        let mut place = 0;
        self.order.retain(|_| {
            place += 1;
            (place - 1) % groups == group
        });
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

    /// The rows.
    pub(super) fn batch(&self) -> usize {
        self.order.len()
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

    /// The row of the batch at each place of the sorted order.
    pub(super) fn rows(&self) -> &[usize] {
        &self.order
    }

    /// Step and place of every line.
    pub(super) fn places(&self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.longest())
            .flat_map(|step| (0..self.lines_of(step).len()).map(move |place| (step, place)))
    }

    /// The line of every row's sequence read from its last step to its first: line `i` of the
    /// mirrored layout is line `mirror()[i]` of this one, and the other way round.
    pub(super) fn mirror(&self) -> impl Iterator<Item = usize> {
        self.places()
            .map(|(step, place)| self.offsets[self.mirrored(step, place)] + place)
    }

    /// Which step of the row at a place is as far from its end as `step` is from its start.
    pub(super) fn mirrored(&self, step: usize, place: usize) -> usize {
        self.lengths[place] - 1 - step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_batch(lengths: &[usize], steps: usize) -> Result<Vec<Packing>, NnError> {
        let mut packings = vec![Packing::default(); Packing::groups(lengths.len())];
        for (group, packing) in packings.iter_mut().enumerate() {
            packing.set(lengths, steps, group)?;
        }
        Ok(packings)
    }

    fn packing(lengths: &[usize], steps: usize) -> Packing {
        let packings = of_batch(lengths, steps).unwrap();
        assert_eq!(packings.len(), 1);
        packings.into_iter().next().unwrap()
    }

    #[test]
    fn lines_are_time_major_and_sorted_by_length() {
        let packing = packing(&[1, 3, 0, 2], 4);
        let lines: Vec<_> = packing
            .places()
            .map(|(step, place)| 10 * packing.rows()[place] + step)
            .collect();
        assert_eq!(lines, [10, 30, 0, 11, 31, 12]);
        let mirror: Vec<_> = packing.mirror().collect();
        let mirrored: Vec<_> = mirror.iter().map(|&line| lines[line]).collect();
        assert_eq!(mirrored, [12, 31, 0, 11, 30, 10]);
        let twice: Vec<_> = mirror.iter().map(|&line| mirrored[line]).collect();
        assert_eq!(twice, lines);
    }

    #[test]
    fn groups_have_every_row_once_and_about_as_many_lines() {
        let lengths: Vec<usize> = (0..50).map(|row| (7 * row) % 31).collect();
        let packings = of_batch(&lengths, 31).unwrap();
        assert_eq!(packings.len(), 4);
        let mut rows: Vec<_> = packings.iter().flat_map(Packing::rows).copied().collect();
        rows.sort_unstable();
        assert_eq!(rows, (0..50).collect::<Vec<_>>());
        let lines: Vec<_> = packings.iter().map(Packing::lines).collect();
        assert_eq!(lines.iter().sum::<usize>(), lengths.iter().sum::<usize>());
        let spread = lines.iter().max().unwrap() - lines.iter().min().unwrap();
        assert!(spread <= 31, "{lines:?}");
    }

    #[test]
    fn empty_batches_and_sequences() {
        assert_eq!(packing(&[], 3).lines(), 0);
        assert_eq!(packing(&[0, 0], 0).lines(), 0);
        assert_eq!(
            of_batch(&[2, 4], 3).unwrap_err(),
            NnError::Length {
                operation: "lstm",
                row: 1,
                found: 4,
                steps: 3
            }
        );
    }
}
