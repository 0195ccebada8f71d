//! From a representation to the width at which modalities are compared.
//!
//! ```text
//! S = r Wᵀ + b
//! ```
//!
//! Covariances compare at one width only, and representations have widths of their own. The
//! projection is linear, so that the shared-information loss acts on second moments of the
//! representation itself.

use modalign_core::{Scalar, impl_parameters};
use modalign_nn::{Linear, LinearCache};
use ndarray::{Array2, ArrayView2};
use rand::Rng;

use crate::EncoderError;

/// A linear projection to the shared width and, at the same time, the type of its gradient.
#[derive(Debug, Clone)]
pub struct ProjectionHead<A> {
    /// The projection.
    pub linear: Linear<A>,
}
impl_parameters!(ProjectionHead { linear });

/// What the backward pass of [`ProjectionHead`] needs.
#[derive(Debug)]
pub struct ProjectionHeadCache<A>(LinearCache<A>);

impl<A: Scalar> ProjectionHead<A> {
    /// Draws the initial weights.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Nn`] if a size is 0.
    pub fn new(
        input_size: usize,
        shared_width: usize,
        rng: &mut impl Rng,
    ) -> Result<Self, EncoderError> {
        Ok(Self {
            linear: Linear::new(input_size, shared_width, rng)?,
        })
    }

    /// `[B, shared_width]` for representations `[B, D]`, and the cache of the backward pass.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Nn`] if the width does not fit.
    pub fn forward(
        &self,
        x: ArrayView2<A>,
    ) -> Result<(Array2<A>, ProjectionHeadCache<A>), EncoderError> {
        let (y, cache) = self.linear.forward(x)?;
        Ok((y, ProjectionHeadCache(cache)))
    }

    /// As [`forward`](Self::forward), without a cache.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn infer(&self, x: ArrayView2<A>) -> Result<Array2<A>, EncoderError> {
        Ok(self.linear.infer(x)?)
    }

    /// As [`infer`](Self::infer), into `y`, which takes the shape of the result in the memory it has.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn infer_into(&self, x: ArrayView2<A>, y: &mut Array2<A>) -> Result<(), EncoderError> {
        Ok(self.linear.infer_into(x, y)?)
    }

    /// Adds the gradient of the weights to `grads` and returns that of the representation, `[B, D]`.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Nn`] if `dy` does not fit.
    pub fn backward(
        &self,
        cache: ProjectionHeadCache<A>,
        dy: ArrayView2<A>,
        grads: &mut Self,
    ) -> Result<Array2<A>, EncoderError> {
        Ok(self.linear.backward(cache.0, dy, &mut grads.linear)?)
    }

    /// As [`backward`](Self::backward) for the representation `x` that the caller has kept. Its
    /// gradient is computed where `dx` gives room for it.
    ///
    /// # Errors
    ///
    /// As [`backward`](Self::backward).
    pub fn backward_into(
        &self,
        x: ArrayView2<A>,
        dy: ArrayView2<A>,
        grads: &mut Self,
        dx: Option<&mut Array2<A>>,
    ) -> Result<(), EncoderError> {
        match dx {
            None => Ok(self.linear.add_gradients(x, dy, &mut grads.linear)?),
            Some(dx) => Ok(self.linear.backward_into(x, dy, &mut grads.linear, dx)?),
        }
    }
}
