//! Tokens of several texts, and their layout without padding.

use modalign_core::{Scalar, check_shape};
use modalign_nn::SequenceBatch;
use ndarray::{Array2, Array3, ArrayView2};

use crate::EncoderError;

/// The tokens of B texts, padded to L.
///
/// ```text
/// ids, mask, token_types: [B, L] each
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenBatch {
    /// Indices into the vocabulary. What stands where the mask is off does not matter.
    pub ids: Array2<u32>,
    /// Where there is a token. Every row has one at least. A token's position is its column.
    pub mask: Array2<bool>,
    /// The segment of a token: 0, or 1 in the second of two texts.
    pub token_types: Array2<u32>,
}

/// The tokens of a batch in one line, text after text.
#[derive(Debug)]
pub(crate) struct PackedTokens {
    pub(crate) ids: Vec<u32>,
    pub(crate) positions: Vec<u32>,
    pub(crate) token_types: Vec<u32>,
    pub(crate) lengths: Vec<usize>,
}

impl TokenBatch {
    /// The tokens as steps of two numbers, `[B, L, 2]` with the lengths of the rows: a token's id and
    /// its segment, exact in every float up to 2²⁴. Tokens of a row close up, so that positions are
    /// kept where the mask has no gap.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Shape`] if the three arrays differ in shape.
    pub fn to_steps(&self) -> Result<(Array3<f32>, Vec<usize>), EncoderError> {
        self.check()?;
        let (rows, columns) = self.mask.dim();
        let mut steps = Array3::zeros((rows, columns.max(1), 2));
        let mut lengths = vec![0; rows];
        for ((row, column), _) in self.mask.indexed_iter().filter(|(_, on)| **on) {
            steps[[row, lengths[row], 0]] = self.ids[[row, column]] as f32;
            steps[[row, lengths[row], 1]] = self.token_types[[row, column]] as f32;
            lengths[row] += 1;
        }
        Ok((steps, lengths))
    }

    /// The tokens that [`to_steps`](Self::to_steps) made steps of.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Shape`] if a step is not two numbers or there is not a length a row,
    /// [`EncoderError::Length`] for a length of 0 or beyond the steps.
    pub fn from_steps<'a, A: Scalar>(
        steps: impl Into<SequenceBatch<'a, A>>,
        lengths: &[usize],
    ) -> Result<Self, EncoderError> {
        let steps = steps.into();
        let (rows, columns, width) = steps.dim();
        let expected = [rows, columns, 2];
        check_shape("token batch", "steps", &[rows, columns, width], &expected)?;
        check_shape("token batch", "lengths", &[lengths.len()], &[rows])?;
        let outside = |length: usize| length == 0 || length > columns;
        if let Some(row) = lengths.iter().position(|&length| outside(length)) {
            return Err(EncoderError::Length {
                row,
                steps: columns,
                found: lengths[row],
            });
        }
        // Conversion to an integer saturates: what is no index becomes one that no table has, or 0.
        let integers = |number: usize| {
            let values = steps.values();
            Array2::from_shape_fn((rows, columns), |(row, step)| {
                values[[steps.row(row), step, number]].as_f64() as u32
            })
        };
        Ok(Self {
            ids: integers(0),
            mask: Array2::from_shape_fn((rows, columns), |(row, step)| step < lengths[row]),
            token_types: integers(1),
        })
    }

    pub(crate) fn check(&self) -> Result<(), EncoderError> {
        let shape = self.ids.shape();
        check_shape("token batch", "mask", self.mask.shape(), shape)?;
        let types = self.token_types.shape();
        check_shape("token batch", "token_types", types, shape)?;
        Ok(())
    }

    pub(crate) fn pack(&self) -> Result<PackedTokens, EncoderError> {
        self.check()?;
        let count = self.mask.iter().filter(|&&on| on).count();
        let mut packed = PackedTokens {
            ids: Vec::with_capacity(count),
            positions: Vec::with_capacity(count),
            token_types: Vec::with_capacity(count),
            lengths: Vec::with_capacity(self.ids.nrows()),
        };
        for (row, mask) in self.mask.rows().into_iter().enumerate() {
            let before = packed.ids.len();
            for (position, _) in mask.iter().enumerate().filter(|(_, on)| **on) {
                packed.ids.push(self.ids[[row, position]]);
                // A position beyond 32 bits is beyond every table, and refused there.
                packed
                    .positions
                    .push(u32::try_from(position).unwrap_or(u32::MAX));
                packed.token_types.push(self.token_types[[row, position]]);
            }
            let length = packed.ids.len() - before;
            if length == 0 {
                return Err(EncoderError::NoToken { row });
            }
            packed.lengths.push(length);
        }
        Ok(packed)
    }

    /// Puts one row of `states` at every token and zeros between.
    pub(crate) fn unpack<A: Scalar>(&self, states: ArrayView2<A>) -> Array3<A> {
        let (rows, steps) = self.mask.dim();
        let mut padded = Array3::zeros((rows, steps, states.ncols()));
        let tokens = self.mask.indexed_iter().filter(|(_, on)| **on);
        for (((row, step), _), state) in tokens.zip(states.rows()) {
            padded.slice_mut(ndarray::s![row, step, ..]).assign(&state);
        }
        padded
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn packing_keeps_positions_and_unpacking_returns_to_them() {
        let batch = TokenBatch {
            ids: array![[5, 6, 7], [8, 9, 10]],
            mask: array![[true, false, true], [false, true, false]],
            token_types: array![[0, 0, 1], [0, 0, 0]],
        };
        let packed = batch.pack().unwrap();
        assert_eq!(packed.ids, [5, 7, 9]);
        assert_eq!(packed.positions, [0, 2, 1]);
        assert_eq!(packed.token_types, [0, 1, 0]);
        assert_eq!(packed.lengths, [2, 1]);
        let padded = batch.unpack(array![[1.0], [2.0], [3.0]].view());
        assert_eq!(padded, array![[[1.0], [0.0], [2.0]], [[0.0], [3.0], [0.0]]]);
    }

    #[test]
    fn steps_are_the_tokens() {
        let batch = TokenBatch {
            ids: array![[5, 6, 7], [8, 0, 0]],
            mask: array![[true, true, true], [true, false, false]],
            token_types: array![[0, 0, 1], [1, 0, 0]],
        };
        let (steps, lengths) = batch.to_steps().unwrap();
        assert_eq!(lengths, [3, 1]);
        assert_eq!(
            TokenBatch::from_steps(steps.view(), &lengths).unwrap(),
            batch
        );
        for lengths in [[0, 1], [3, 4]] {
            let refused = TokenBatch::from_steps(steps.view(), &lengths);
            assert!(matches!(refused, Err(EncoderError::Length { .. })));
        }
        let refused = TokenBatch::from_steps(steps.view(), &[3]);
        assert!(matches!(refused, Err(EncoderError::Shape(_))));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut batch = TokenBatch {
            ids: array![[5, 6], [7, 8]],
            mask: array![[true, true], [false, false]],
            token_types: array![[0, 0], [0, 0]],
        };
        assert_eq!(batch.pack().unwrap_err(), EncoderError::NoToken { row: 1 });
        batch.mask = array![[true, true]];
        assert!(matches!(batch.pack(), Err(EncoderError::Shape(_))));
        batch.mask = array![[true, true], [true, true]];
        batch.token_types = array![[0], [0]];
        assert!(matches!(batch.pack(), Err(EncoderError::Shape(_))));
    }
}
