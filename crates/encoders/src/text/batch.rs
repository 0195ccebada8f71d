//! Tokens of several texts, and their layout without padding.

use modalign_core::{Scalar, check_shape};
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
    pub(crate) fn pack(&self) -> Result<PackedTokens, EncoderError> {
        let shape = self.ids.shape();
        check_shape("token batch", "mask", self.mask.shape(), shape)?;
        let types = self.token_types.shape();
        check_shape("token batch", "token_types", types, shape)?;
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
