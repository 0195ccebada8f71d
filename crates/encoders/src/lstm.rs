//! The encoder of the published method for audio and vision.
//!
//! ```text
//! r = W dropout(h_L) + b,   h_L the hidden state after the last valid step
//! ```
//!
//! Source: the audio and vision sub-network of Self-MM (Yu et al., AAAI 2021) as its published code
//! has it.

use modalign_core::{Scalar, impl_parameters};
use modalign_nn::{
    Dropout, DropoutCache, Fixed, Linear, Lstm, LstmCache, LstmConfig, LstmParts, SequenceBatch,
};
use ndarray::{Array2, ArrayView2, ArrayView3, Ix2};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::error::{check_rate, check_size};
use crate::parts::DropoutNoise;
use crate::{EncoderError, EncoderWorkspace};

/// The size of an [`LstmEncoder`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LstmEncoderConfig {
    /// Width H of the state.
    pub hidden_size: usize,
    /// Dropout on the last hidden state, in [0, 1).
    pub dropout: f64,
    /// Width of the representation.
    pub output_size: usize,
}

impl Default for LstmEncoderConfig {
    fn default() -> Self {
        Self {
            hidden_size: 32,
            dropout: 0.0,
            output_size: 32,
        }
    }
}

impl LstmEncoderConfig {
    /// Checks every value.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Config`] naming the field.
    pub fn validate(&self) -> Result<(), EncoderError> {
        check_size("lstm encoder", "hidden_size", self.hidden_size)?;
        check_rate("lstm encoder", "dropout", self.dropout)?;
        check_size("lstm encoder", "output_size", self.output_size)
    }
}

/// An encoder of the last hidden state and, at the same time, the type of its gradient.
#[derive(Debug, Clone)]
pub struct LstmEncoder<A> {
    /// One layer, forward in time.
    pub lstm: Lstm<A>,
    /// Not trained.
    pub dropout: Fixed<A, Dropout>,
    /// From the last hidden state to the representation.
    pub linear: Linear<A>,
}
impl_parameters!(LstmEncoder {
    lstm,
    dropout,
    linear
});

/// What the backward pass of [`LstmEncoder`] needs.
#[derive(Debug, Default)]
pub struct LstmEncoderCache<A> {
    lstm: LstmCache<A>,
    dropout: DropoutCache<A, Ix2>,
    /// The last hidden states, dropped.
    h: Array2<A>,
    dh: Array2<A>,
}

impl<A: Scalar> LstmEncoder<A> {
    /// Draws the initial weights for `input_size` features a step.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Config`] or a size of 0.
    pub fn new(
        config: &LstmEncoderConfig,
        input_size: usize,
        rng: &mut impl Rng,
    ) -> Result<Self, EncoderError> {
        config.validate()?;
        let form = LstmConfig {
            hidden_size: config.hidden_size,
            ..LstmConfig::default()
        };
        Ok(Self {
            lstm: Lstm::new(input_size, &form, rng)?,
            dropout: Fixed::new(Dropout::new(config.dropout)?),
            linear: Linear::new(config.hidden_size, config.output_size, rng)?,
        })
    }

    /// Representations `[B, output_size]` of `x [B, T, D]`, and the cache of the backward pass.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Length`] for a sequence without steps, [`EncoderError::Nn`] for lengths or a
    /// width that do not fit.
    pub fn forward(
        &self,
        x: ArrayView3<A>,
        lengths: &[usize],
        rng: &mut impl Rng,
    ) -> Result<(Array2<A>, LstmEncoderCache<A>), EncoderError> {
        let (mut y, mut cache) = (Array2::default((0, 0)), LstmEncoderCache::default());
        let (noise, parts) = self.forward_parts(x.into(), lengths, &mut cache)?;
        noise.draw(rng);
        parts.run()?;
        self.finish_forward(&mut cache, &mut y)?;
        Ok((y, cache))
    }

    /// What is to be drawn and what is to be done before [`finish_forward`](Self::finish_forward).
    pub(crate) fn forward_parts<'a>(
        &'a self,
        x: SequenceBatch<'a, A>,
        lengths: &[usize],
        cache: &'a mut LstmEncoderCache<A>,
    ) -> Result<(DropoutNoise<'a, A>, LstmParts<'a, A>), EncoderError> {
        check_lengths(x, lengths)?;
        let noise = DropoutNoise {
            dropout: *self.dropout,
            shape: Ix2(lengths.len(), self.lstm.output_size()),
            cache: &mut cache.dropout,
        };
        let parts = self.lstm.forward_final_parts(x, lengths, &mut cache.lstm)?;
        Ok((noise, parts))
    }

    pub(crate) fn finish_forward(
        &self,
        cache: &mut LstmEncoderCache<A>,
        y: &mut Array2<A>,
    ) -> Result<(), EncoderError> {
        let LstmEncoderCache {
            lstm, dropout, h, ..
        } = cache;
        self.lstm.last_hidden_into(lstm, h)?;
        dropout.apply(h)?;
        Ok(self.linear.infer_into(h.view(), y)?)
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
        let x = x.into();
        check_lengths(x, lengths)?;
        Ok(self
            .linear
            .infer(self.lstm.infer_final(x, lengths)?.view())?)
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
        check_lengths(x.into(), lengths)?;
        let EncoderWorkspace { lstm, vectors } = workspace;
        self.lstm.infer_final_into(x, lengths, lstm, vectors)?;
        Ok(self.linear.infer_into(vectors.view(), y)?)
    }

    /// Adds the gradient of the weights to `grads`. The input is data and gets none.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Nn`] if `dy` does not fit.
    pub fn backward(
        &self,
        mut cache: LstmEncoderCache<A>,
        dy: ArrayView2<A>,
        grads: &mut Self,
    ) -> Result<(), EncoderError> {
        self.backward_parts(&mut cache, dy, grads)?.run()?;
        self.finish_backward(&cache, grads)
    }

    /// What is to be done before [`finish_backward`](Self::finish_backward).
    pub(crate) fn backward_parts<'a>(
        &'a self,
        cache: &'a mut LstmEncoderCache<A>,
        dy: ArrayView2<A>,
        grads: &mut Self,
    ) -> Result<LstmParts<'a, A>, EncoderError> {
        let LstmEncoderCache {
            lstm,
            dropout,
            h,
            dh,
        } = cache;
        self.linear
            .backward_into(h.view(), dy, &mut grads.linear, dh)?;
        dropout.apply(dh)?;
        Ok(self.lstm.backward_final_parts(lstm, dh.view())?)
    }

    pub(crate) fn finish_backward(
        &self,
        cache: &LstmEncoderCache<A>,
        grads: &mut Self,
    ) -> Result<(), EncoderError> {
        Ok(self.lstm.add_gradients(&cache.lstm, &mut grads.lstm)?)
    }
}

fn check_lengths<A>(x: SequenceBatch<A>, lengths: &[usize]) -> Result<(), EncoderError> {
    match lengths.iter().position(|&length| length == 0) {
        Some(row) => Err(EncoderError::Length {
            row,
            steps: x.dim().1,
            found: 0,
        }),
        None => Ok(()),
    }
}
