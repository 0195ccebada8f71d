//! A table of vectors.
//!
//! ```text
//! y_n = W[i_n]
//! dW[i] = Σ_{n: i_n = i} dy_n
//! ```

use modalign_core::{Scalar, check_shape, impl_parameters};
use ndarray::{Array2, ArrayView2};
use rand::Rng;

use crate::NnError;
use crate::error::check_size;
use crate::init::uniform;

/// A table of vectors looked up by index and, at the same time, the type of its gradient.
///
/// ```
/// use modalign_core::Parameters;
/// use modalign_nn::Embedding;
/// use ndarray::array;
///
/// let table = Embedding { weight: array![[1.0, 2.0], [3.0, 4.0]] };
/// let (y, cache) = table.forward(&[1, 1])?;
/// assert_eq!(y, array![[3.0, 4.0], [3.0, 4.0]]);
///
/// let mut grads = table.zeros_like();
/// table.backward(cache, array![[1.0, 0.0], [5.0, 2.0]].view(), &mut grads)?;
/// assert_eq!(grads.weight, array![[0.0, 0.0], [6.0, 2.0]]);
/// # Ok::<(), modalign_nn::NnError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding<A> {
    /// `W [rows, D]`.
    pub weight: Array2<A>,
}
impl_parameters!(Embedding { weight });

/// What the backward pass of [`Embedding`] needs.
#[derive(Debug)]
pub struct EmbeddingCache {
    indices: Vec<u32>,
}

impl<A: Scalar> Embedding<A> {
    /// Draws `rows` vectors of `size` entries uniformly from ±1/√size.
    ///
    /// # Errors
    ///
    /// [`NnError::Config`] if either is 0.
    pub fn new(rows: usize, size: usize, rng: &mut impl Rng) -> Result<Self, NnError> {
        for (parameter, value) in [("rows", rows), ("size", size)] {
            check_size("embedding", parameter, value)?;
        }
        let bound = 1.0 / (size as f64).sqrt();
        Ok(Self {
            weight: uniform((rows, size), bound, rng),
        })
    }

    /// `y [N, D]` for N indices, and the cache of its backward pass.
    ///
    /// # Errors
    ///
    /// [`NnError::Index`] if an index has no row.
    pub fn forward(&self, indices: &[u32]) -> Result<(Array2<A>, EmbeddingCache), NnError> {
        let cache = EmbeddingCache {
            indices: indices.to_vec(),
        };
        Ok((self.infer(indices)?, cache))
    }

    /// As [`forward`](Self::forward), without a cache.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn infer(&self, indices: &[u32]) -> Result<Array2<A>, NnError> {
        let rows = self.weight.nrows();
        let beyond = indices.iter().position(|&index| index as usize >= rows);
        if let Some(entry) = beyond {
            return Err(NnError::Index {
                operation: "embedding",
                entry,
                found: indices[entry],
                rows,
            });
        }
        let mut y = Array2::zeros((indices.len(), self.weight.ncols()));
        for (mut row, &index) in y.rows_mut().into_iter().zip(indices) {
            row.assign(&self.weight.row(index as usize));
        }
        Ok(y)
    }

    /// Adds the gradient of the table to `grads`.
    ///
    /// # Errors
    ///
    /// [`NnError::Shape`] if `dy` or `grads` does not fit; `grads` is then as it was.
    pub fn backward(
        &self,
        cache: EmbeddingCache,
        dy: ArrayView2<A>,
        grads: &mut Self,
    ) -> Result<(), NnError> {
        let expected = [cache.indices.len(), self.weight.ncols()];
        check_shape("embedding backward", "dy", dy.shape(), &expected)?;
        let table = self.weight.shape();
        check_shape(
            "embedding backward",
            "grads.weight",
            grads.weight.shape(),
            table,
        )?;
        for (dy, index) in dy.rows().into_iter().zip(cache.indices) {
            let mut row = grads.weight.row_mut(index as usize);
            row += &dy;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_additive, check_parameters, random, rng};
    use modalign_core::Parameters;
    use ndarray::array;
    use proptest::prelude::*;
    use rand::RngExt;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn gradients(rows in 1_u32..5, size in 1_usize..4, count in 0_usize..6, seed: u64) {
            let mut rng = rng(seed);
            let layer = Embedding::<f64>::new(rows as usize, size, &mut rng).unwrap();
            let indices: Vec<u32> = (0..count).map(|_| rng.random_range(0..rows)).collect();
            let dy = random((count, size), &mut rng);
            let mut grads = layer.zeros_like();
            let (y, cache) = layer.forward(&indices).unwrap();
            prop_assert_eq!(y, layer.infer(&indices).unwrap());
            layer.backward(cache, dy.view(), &mut grads).unwrap();
            check_parameters(&layer, &grads, &dy, |layer| layer.infer(&indices).unwrap());
            assert_additive(&layer, &grads, |grads| {
                let (_, cache) = layer.forward(&indices).unwrap();
                layer.backward(cache, dy.view(), grads).unwrap();
            });
        }
    }

    #[test]
    fn value_stability() {
        let layer = Embedding::<f32>::new(1, 4, &mut rng(1)).unwrap();
        let weight = array![[-0.09751434, -0.41961628, 0.09656018, -0.2806754]];
        assert_eq!(layer.weight, weight);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let layer = Embedding::<f32>::new(3, 2, &mut rng(1)).unwrap();
        let error = layer.infer(&[0, 3]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "embedding: entry 1 is 3, the table has 3 rows"
        );
        let (_, cache) = layer.forward(&[0, 2]).unwrap();
        let mut grads = layer.zeros_like();
        let dy = Array2::zeros((1, 2));
        assert!(layer.backward(cache, dy.view(), &mut grads).is_err());
        assert!(Embedding::<f32>::new(0, 2, &mut rng(1)).is_err());
        assert!(Embedding::<f32>::new(2, 0, &mut rng(1)).is_err());
    }
}
