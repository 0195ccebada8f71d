//! An encoder of statistics over time, for vectors and for sequences whose order matters little.
//!
//! ```text
//! r = relu(W dropout(statistics(x)) + b)
//! ```

use modalign_core::{Scalar, assign, impl_parameters};
use modalign_nn::{Activation, Dropout, DropoutCache, Fixed, Linear, SequenceBatch};
use ndarray::{Array2, ArrayView2, ArrayView3, Ix2};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::error::{check_rate, check_size};
use crate::parts::DropoutNoise;
use crate::{EncoderError, EncoderWorkspace, Statistics};

/// The size of a [`PooledEncoder`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PooledConfig {
    /// What is taken over time.
    pub statistics: Statistics,
    /// Dropout on the statistics, in [0, 1).
    pub dropout: f64,
    /// Width of the representation.
    pub output_size: usize,
}

impl Default for PooledConfig {
    fn default() -> Self {
        Self {
            statistics: Statistics::Mean,
            dropout: 0.5,
            output_size: 64,
        }
    }
}

impl PooledConfig {
    /// Checks every value.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Config`] naming the field.
    pub fn validate(&self) -> Result<(), EncoderError> {
        check_rate("pooled encoder", "dropout", self.dropout)?;
        check_size("pooled encoder", "output_size", self.output_size)
    }
}

/// An encoder of statistics over time and, at the same time, the type of its gradient.
#[derive(Debug, Clone)]
pub struct PooledEncoder<A> {
    /// Not trained.
    pub statistics: Fixed<A, Statistics>,
    /// Not trained.
    pub dropout: Fixed<A, Dropout>,
    /// From the statistics to the representation.
    pub linear: Linear<A>,
}
impl_parameters!(PooledEncoder {
    statistics,
    dropout,
    linear
});

/// What the backward pass of [`PooledEncoder`] needs.
#[derive(Debug, Default)]
pub struct PooledEncoderCache<A> {
    /// The input is data: nobody asks for its gradient, so this serves forward alone.
    dropout: DropoutCache<A, Ix2>,
    /// The statistics, dropped.
    statistics: Array2<A>,
    y: Array2<A>,
    dz: Array2<A>,
}

impl<A: Scalar> PooledEncoder<A> {
    /// Draws the initial weights for `input_size` features a step.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Config`] or a size of 0.
    pub fn new(
        config: &PooledConfig,
        input_size: usize,
        rng: &mut impl Rng,
    ) -> Result<Self, EncoderError> {
        config.validate()?;
        let width = config.statistics.output_size(input_size);
        Ok(Self {
            statistics: Fixed::new(config.statistics),
            dropout: Fixed::new(Dropout::new(config.dropout)?),
            linear: Linear::new(width, config.output_size, rng)?,
        })
    }

    /// Representations `[B, output_size]` of `x [B, T, D]`, and the cache of the backward pass.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Length`], or a width that does not fit.
    pub fn forward(
        &self,
        x: ArrayView3<A>,
        lengths: &[usize],
        rng: &mut impl Rng,
    ) -> Result<(Array2<A>, PooledEncoderCache<A>), EncoderError> {
        let (mut y, mut cache) = (Array2::default((0, 0)), PooledEncoderCache::default());
        let (noise, statistics) = self.forward_parts(lengths.len(), &mut cache);
        noise.draw(rng);
        self.statistics.apply_into(x.into(), lengths, statistics)?;
        self.finish_forward(&mut cache, &mut y)?;
        Ok((y, cache))
    }

    /// What is to be drawn, and the statistics that are to be filled, before
    /// [`finish_forward`](Self::finish_forward).
    pub(crate) fn forward_parts<'a>(
        &self,
        rows: usize,
        cache: &'a mut PooledEncoderCache<A>,
    ) -> (DropoutNoise<'a, A>, &'a mut Array2<A>) {
        let noise = DropoutNoise {
            dropout: *self.dropout,
            shape: Ix2(rows, self.linear.input_size()),
            cache: &mut cache.dropout,
        };
        (noise, &mut cache.statistics)
    }

    pub(crate) fn finish_forward(
        &self,
        cache: &mut PooledEncoderCache<A>,
        y: &mut Array2<A>,
    ) -> Result<(), EncoderError> {
        cache.dropout.apply(&mut cache.statistics)?;
        self.linear.infer_into(cache.statistics.view(), y)?;
        *y = Activation::Relu.infer(std::mem::take(y));
        assign(&mut cache.y, y.view());
        Ok(())
    }

    /// As [`forward`](Self::forward), without dropout and without a cache.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn infer<'a>(
        &self,
        x: impl Into<SequenceBatch<'a, A>>,
        lengths: &[usize],
    ) -> Result<Array2<A>, EncoderError> {
        let mut statistics = Array2::default((0, 0));
        self.statistics
            .apply_into(x.into(), lengths, &mut statistics)?;
        Ok(Activation::Relu.infer(self.linear.infer(statistics.view())?))
    }

    /// As [`infer`](Self::infer), into `y`, which takes the shape of the result.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn infer_into(
        &self,
        x: ArrayView3<A>,
        lengths: &[usize],
        workspace: &mut EncoderWorkspace<A>,
        y: &mut Array2<A>,
    ) -> Result<(), EncoderError> {
        let statistics = &mut workspace.vectors;
        self.statistics.apply_into(x.into(), lengths, statistics)?;
        self.linear.infer_into(statistics.view(), y)?;
        *y = Activation::Relu.infer(std::mem::take(y));
        Ok(())
    }

    /// Adds the gradient of the weights to `grads`. The input is data and gets none.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Nn`] if `dy` does not fit.
    pub fn backward(
        &self,
        mut cache: PooledEncoderCache<A>,
        dy: ArrayView2<A>,
        grads: &mut Self,
    ) -> Result<(), EncoderError> {
        self.backward_into(&mut cache, dy, grads)
    }

    pub(crate) fn backward_into(
        &self,
        cache: &mut PooledEncoderCache<A>,
        dy: ArrayView2<A>,
        grads: &mut Self,
    ) -> Result<(), EncoderError> {
        let PooledEncoderCache {
            statistics, y, dz, ..
        } = cache;
        assign(dz, dy);
        *dz = Activation::Relu.backward_at(y, std::mem::take(dz))?;
        Ok(self
            .linear
            .add_gradients(statistics.view(), dz.view(), &mut grads.linear)?)
    }
}
