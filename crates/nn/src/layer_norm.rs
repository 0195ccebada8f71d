//! Layer normalisation over the last axis.
//!
//! ```text
//! μ = mean(x),   σ² = mean((x − μ)²),   z = (x − μ)/√(σ² + ε),   y = γ z + β
//! dγ = Σ_rows dy z,   dβ = Σ_rows dy
//! dz = γ dy,   dx = (dz − mean(dz) − z mean(dz z))/√(σ² + ε)
//! ```
//!
//! Means are taken over the features of one row.

use modalign_core::{Scalar, check_shape, impl_parameters};
use ndarray::{Array1, Array2, ArrayView2, Axis, Zip};

use crate::error::{check_config, check_size};
use crate::{Fixed, NnError};

/// Layer normalisation and, at the same time, the type of its gradient.
///
/// ```text
/// y = γ (x − μ)/√(σ² + ε) + β
/// ```
///
/// with the mean μ and the biased variance σ² of each row.
///
/// ```
/// use modalign_nn::LayerNorm;
/// use ndarray::array;
///
/// let norm = LayerNorm::new(2, 1e-12)?;
/// let y = norm.infer(array![[1.0_f64, 3.0]].view())?;
/// assert!((y[[0, 0]] + 1.0).abs() < 1e-9 && (y[[0, 1]] - 1.0).abs() < 1e-9);
/// # Ok::<(), modalign_nn::NnError>(())
/// ```
///
/// # References
///
/// J. L. Ba, J. R. Kiros and G. E. Hinton, "Layer Normalization", 2016, arXiv 1607.06450.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerNorm<A> {
    /// The scale γ `[D]`.
    pub weight: Array1<A>,
    /// The shift β `[D]`.
    pub bias: Array1<A>,
    epsilon: Fixed<A, f64>,
}
impl_parameters!(LayerNorm {
    weight,
    bias,
    epsilon
});

/// What the backward pass of [`LayerNorm`] needs.
#[derive(Debug)]
pub struct LayerNormCache<A> {
    normalized: Array2<A>,
    inverse_deviation: Array1<A>,
}

impl<A: Scalar> LayerNorm<A> {
    /// Scale 1 and shift 0 for `size` features. `epsilon`, above 0, bounds the divisor of a row
    /// without variance.
    ///
    /// # Errors
    ///
    /// [`NnError::Config`] if either is outside its range.
    pub fn new(size: usize, epsilon: f64) -> Result<Self, NnError> {
        check_size("layer norm", "size", size)?;
        let holds = epsilon > 0.0 && epsilon.is_finite();
        check_config(holds, "layer norm", "epsilon", "above 0", epsilon)?;
        Ok(Self {
            weight: Array1::ones(size),
            bias: Array1::zeros(size),
            epsilon: Fixed::new(epsilon),
        })
    }

    /// `y [B, D]` for `x [B, D]`, and the cache of its backward pass.
    ///
    /// # Errors
    ///
    /// [`NnError::Shape`] if `x` has another width.
    pub fn forward(&self, x: ArrayView2<A>) -> Result<(Array2<A>, LayerNormCache<A>), NnError> {
        let expected = [x.nrows(), self.weight.len()];
        check_shape("layer norm", "x", x.shape(), &expected)?;
        check_shape("layer norm", "bias", self.bias.shape(), &expected[1..])?;
        let size = A::from_f64(self.weight.len() as f64);
        let epsilon = A::from_f64(*self.epsilon);
        let mut normalized = x.to_owned();
        let mut inverse_deviation = Array1::zeros(x.nrows());
        for (mut row, inverse) in normalized
            .rows_mut()
            .into_iter()
            .zip(&mut inverse_deviation)
        {
            let mean = row.sum() / size;
            row.mapv_inplace(|x| x - mean);
            let variance = row.fold(A::zero(), |sum, &x| sum + x * x) / size;
            *inverse = (variance + epsilon).sqrt().recip();
            row.mapv_inplace(|x| x * *inverse);
        }
        let mut y = &normalized * &self.weight;
        y += &self.bias;
        let cache = LayerNormCache {
            normalized,
            inverse_deviation,
        };
        Ok((y, cache))
    }

    /// As [`forward`](Self::forward), without a cache.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn infer(&self, x: ArrayView2<A>) -> Result<Array2<A>, NnError> {
        Ok(self.forward(x)?.0)
    }

    /// Adds the gradients of scale and shift to `grads` and returns `dx [B, D]`.
    ///
    /// # Errors
    ///
    /// [`NnError::Shape`] if `dy` or `grads` does not fit; `grads` is then as it was.
    pub fn backward(
        &self,
        cache: LayerNormCache<A>,
        dy: ArrayView2<A>,
        grads: &mut Self,
    ) -> Result<Array2<A>, NnError> {
        let LayerNormCache {
            normalized,
            inverse_deviation,
        } = cache;
        check_shape("layer norm backward", "dy", dy.shape(), normalized.shape())?;
        let width = self.weight.shape();
        check_shape(
            "layer norm backward",
            "grads.weight",
            grads.weight.shape(),
            width,
        )?;
        check_shape(
            "layer norm backward",
            "grads.bias",
            grads.bias.shape(),
            width,
        )?;
        grads.weight += &(&dy * &normalized).sum_axis(Axis(0));
        grads.bias += &dy.sum_axis(Axis(0));
        let size = A::from_f64(self.weight.len() as f64);
        let mut dx = &dy * &self.weight;
        for ((mut dz, z), &inverse) in dx
            .rows_mut()
            .into_iter()
            .zip(normalized.rows())
            .zip(&inverse_deviation)
        {
            let mean = dz.sum() / size;
            let projection = Zip::from(&dz)
                .and(&z)
                .fold(A::zero(), |sum, &d, &z| sum + d * z)
                / size;
            Zip::from(&mut dz)
                .and(&z)
                .for_each(|d, &z| *d = (*d - mean - z * projection) * inverse);
        }
        Ok(dx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_additive, check_input, check_parameters, random, rng};
    use approx::assert_relative_eq;
    use modalign_core::Parameters;
    use ndarray::array;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn gradients(
            rows in 1_usize..4,
            size in 1_usize..6,
            exponent in -3.0..1.0_f64,
            seed: u64,
        ) {
            let mut rng = rng(seed);
            let mut layer = LayerNorm::new(size, 10_f64.powf(exponent)).unwrap();
            layer.weight = random(size, &mut rng);
            layer.bias = random(size, &mut rng);
            let x = random((rows, size), &mut rng);
            let dy = random((rows, size), &mut rng);
            let mut grads = layer.zeros_like();
            let (_, cache) = layer.forward(x.view()).unwrap();
            let dx = layer.backward(cache, dy.view(), &mut grads).unwrap();
            check_input("dx", &x, &dx, &dy, |x| layer.infer(x.view()).unwrap());
            check_parameters(&layer, &grads, &dy, |layer| layer.infer(x.view()).unwrap());
            assert_additive(&layer, &grads, |grads| {
                let (_, cache) = layer.forward(x.view()).unwrap();
                layer.backward(cache, dy.view(), grads).unwrap();
            });
        }
    }

    #[test]
    fn a_constant_row_gives_the_shift() {
        let mut layer = LayerNorm::<f32>::new(3, 1e-5).unwrap();
        layer.bias = array![1.0, 2.0, 3.0];
        let y = layer.infer(array![[7.0, 7.0, 7.0]].view()).unwrap();
        assert_eq!(y, array![[1.0, 2.0, 3.0]]);
        assert!(
            layer
                .named_views()
                .iter()
                .all(|(name, _)| name != "epsilon")
        );
    }

    #[test]
    fn a_large_offset_costs_no_more_than_its_own_rounding() {
        let layer = LayerNorm::<f64>::new(4, 1e-12).unwrap();
        let x = array![[1.0, 2.0, 3.0, 5.0]];
        let near = layer.infer(x.view()).unwrap();
        let far = layer.infer((x + 1e8).view()).unwrap();
        assert_relative_eq!(near, far, max_relative = 1e-7);
    }

    #[test]
    fn values_outside_the_range_are_refused() {
        for (size, epsilon, expected) in [(0, 1e-5, "size"), (3, 0.0, "epsilon")] {
            let error = LayerNorm::<f64>::new(size, epsilon).unwrap_err();
            assert!(matches!(error, NnError::Config { parameter, .. } if parameter == expected));
        }
    }
}
