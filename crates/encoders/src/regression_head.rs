//! A task head: from a representation to a feature and a score.
//!
//! ```text
//! f = relu(l1 dropout(r)),   ŷ = l3 relu(l2 f)
//! ```
//!
//! Source: the heads of Self-MM (Yu et al., AAAI 2021) as its published code has them.

use modalign_core::{Scalar, check_shape, impl_parameters};
use modalign_nn::{Activation, ActivationCache, Dropout, DropoutCache, Fixed, Linear, LinearCache};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, Ix2};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::EncoderError;
use crate::error::{check_rate, check_size};

/// The size of a head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegressionHeadConfig {
    /// Width of the feature and of the layer after it.
    pub hidden_size: usize,
    /// Dropout on the representation, in [0, 1).
    pub dropout: f64,
}

impl Default for RegressionHeadConfig {
    fn default() -> Self {
        Self {
            hidden_size: 64,
            dropout: 0.1,
        }
    }
}

impl RegressionHeadConfig {
    /// Checks every value.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Config`] naming the field.
    pub fn validate(&self) -> Result<(), EncoderError> {
        check_size("regression head", "hidden_size", self.hidden_size)?;
        check_rate("regression head", "dropout", self.dropout)
    }
}

/// A task head and, at the same time, the type of its gradient.
#[derive(Debug, Clone)]
pub struct RegressionHead<A> {
    /// Not trained.
    pub dropout: Fixed<A, Dropout>,
    /// From the representation to the feature.
    pub l1: Linear<A>,
    /// From the feature to the layer after it.
    pub l2: Linear<A>,
    /// To the score.
    pub l3: Linear<A>,
}
impl_parameters!(RegressionHead {
    dropout,
    l1,
    l2,
    l3
});

/// What the backward pass of [`RegressionHead`] needs.
#[derive(Debug)]
pub struct RegressionHeadCache<A> {
    dropout: DropoutCache<A, Ix2>,
    l1: LinearCache<A>,
    feature: ActivationCache<A, Ix2>,
    l2: LinearCache<A>,
    hidden: ActivationCache<A, Ix2>,
    l3: LinearCache<A>,
}

/// Memory that [`RegressionHead::score`] uses again.
#[derive(Debug, Clone, Default)]
pub struct RegressionHeadWorkspace<A> {
    feature: Array2<A>,
    hidden: Array2<A>,
    score: Array2<A>,
}

impl<A: Scalar> RegressionHead<A> {
    /// Draws the initial weights for representations of width `input_size`.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Config`] or a size of 0.
    pub fn new(
        input_size: usize,
        config: &RegressionHeadConfig,
        rng: &mut impl Rng,
    ) -> Result<Self, EncoderError> {
        config.validate()?;
        let hidden = config.hidden_size;
        Ok(Self {
            dropout: Fixed::new(Dropout::new(config.dropout)?),
            l1: Linear::new(input_size, hidden, rng)?,
            l2: Linear::new(hidden, hidden, rng)?,
            l3: Linear::new(hidden, 1, rng)?,
        })
    }

    /// Width of the feature.
    pub fn feature_size(&self) -> usize {
        self.l1.output_size()
    }

    /// Feature `[B, H]` and score `[B]` of representations `[B, D]` in training, and the cache of
    /// the backward pass.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Nn`] if the width does not fit.
    pub fn forward(
        &self,
        x: ArrayView2<A>,
        rng: &mut impl Rng,
    ) -> Result<(Array2<A>, Array1<A>, RegressionHeadCache<A>), EncoderError> {
        let (x, dropout) = self.dropout.forward(x.to_owned(), rng);
        let (z, l1) = self.l1.forward(x.view())?;
        let (f, feature) = Activation::Relu.forward(z);
        let (z, l2) = self.l2.forward(f.view())?;
        let (h, hidden) = Activation::Relu.forward(z);
        let (y, l3) = self.l3.forward(h.view())?;
        let cache = RegressionHeadCache {
            dropout,
            l1,
            feature,
            l2,
            hidden,
            l3,
        };
        Ok((f, y.index_axis_move(Axis(1), 0), cache))
    }

    /// As [`forward`](Self::forward), without dropout and without a cache.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn infer(&self, x: ArrayView2<A>) -> Result<(Array2<A>, Array1<A>), EncoderError> {
        let f = Activation::Relu.infer(self.l1.infer(x)?);
        let h = Activation::Relu.infer(self.l2.infer(f.view())?);
        let y = self.l3.infer(h.view())?;
        Ok((f, y.index_axis_move(Axis(1), 0)))
    }

    /// As [`infer`](Self::infer) for one row `[1, D]` and its score alone.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Nn`] if the width does not fit or there is not one row.
    pub fn score(
        &self,
        x: ArrayView2<A>,
        workspace: &mut RegressionHeadWorkspace<A>,
    ) -> Result<A, EncoderError> {
        let RegressionHeadWorkspace {
            feature,
            hidden,
            score,
        } = workspace;
        check_shape("score", "x", x.shape(), &[1, self.l1.input_size()])?;
        self.l1.infer_into(x, feature)?;
        *feature = Activation::Relu.infer(std::mem::take(feature));
        self.l2.infer_into(feature.view(), hidden)?;
        *hidden = Activation::Relu.infer(std::mem::take(hidden));
        self.l3.infer_into(hidden.view(), score)?;
        Ok(score[[0, 0]])
    }

    /// Adds the gradient of every weight to `grads` and returns the gradient `[B, D]` of the
    /// representation, for the gradient `[B]` of the score.
    ///
    /// The feature has no gradient of its own: the label generator, its only other user, takes it
    /// as a constant.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Nn`] if `dy` does not fit.
    pub fn backward(
        &self,
        cache: RegressionHeadCache<A>,
        dy: ArrayView1<A>,
        grads: &mut Self,
    ) -> Result<Array2<A>, EncoderError> {
        let dh = self
            .l3
            .backward(cache.l3, dy.insert_axis(Axis(1)), &mut grads.l3)?;
        let dz = Activation::Relu.backward(cache.hidden, dh)?;
        let df = self.l2.backward(cache.l2, dz.view(), &mut grads.l2)?;
        let dz = Activation::Relu.backward(cache.feature, df)?;
        let dx = self.l1.backward(cache.l1, dz.view(), &mut grads.l1)?;
        Ok(self.dropout.backward(cache.dropout, dx)?)
    }
}
