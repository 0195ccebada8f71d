//! A task head: from a representation to a feature and a score.
//!
//! ```text
//! f = relu(l1 dropout(r)),   ŷ = l3 relu(l2 f)
//! ```
//!
//! Source: the heads of Self-MM (Yu et al., AAAI 2021) as its published code has them.

use modalign_core::{Scalar, assign, check_shape, impl_parameters};
use modalign_nn::{Activation, Dropout, DropoutCache, Fixed, Linear};
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
#[derive(Debug, Default)]
pub struct RegressionHeadCache<A> {
    dropout: DropoutCache<A, Ix2>,
    /// The representation, dropped.
    x: Array2<A>,
    feature: Array2<A>,
    hidden: Array2<A>,
    /// `[B, 1]`.
    score: Array2<A>,
    dhidden: Array2<A>,
    dfeature: Array2<A>,
}

impl<A: Scalar> RegressionHeadCache<A> {
    /// The feature `[B, H]` that the last forward pass left.
    pub fn feature(&self) -> ArrayView2<'_, A> {
        self.feature.view()
    }

    /// The score `[B]` that the last forward pass left.
    pub fn score(&self) -> ArrayView1<'_, A> {
        self.score.index_axis(Axis(1), 0)
    }
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
        let mut cache = RegressionHeadCache::default();
        self.draw(x.nrows(), rng, &mut cache);
        self.forward_into(x, &mut cache)?;
        let (feature, score) = (cache.feature().to_owned(), cache.score().to_owned());
        Ok((feature, score, cache))
    }

    /// Draws what [`forward`](Self::forward) draws for so many rows, into a cache whose memory is
    /// used again.
    pub fn draw(&self, rows: usize, rng: &mut impl Rng, cache: &mut RegressionHeadCache<A>) {
        let shape = Ix2(rows, self.l1.input_size());
        self.dropout.draw(shape, rng, &mut cache.dropout);
    }

    /// As [`forward`](Self::forward), after [`draw`](Self::draw) and into the same cache.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward), also for other rows than were drawn for.
    pub fn forward_into(
        &self,
        x: ArrayView2<A>,
        cache: &mut RegressionHeadCache<A>,
    ) -> Result<(), EncoderError> {
        let RegressionHeadCache {
            dropout,
            x: kept,
            feature,
            hidden,
            score,
            ..
        } = cache;
        assign(kept, x);
        dropout.apply(kept)?;
        self.l1.infer_into(kept.view(), feature)?;
        *feature = Activation::Relu.infer(std::mem::take(feature));
        self.l2.infer_into(feature.view(), hidden)?;
        *hidden = Activation::Relu.infer(std::mem::take(hidden));
        Ok(self.l3.infer_into(hidden.view(), score)?)
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
        mut cache: RegressionHeadCache<A>,
        dy: ArrayView1<A>,
        grads: &mut Self,
    ) -> Result<Array2<A>, EncoderError> {
        let mut dx = Array2::default((0, 0));
        self.add_gradients(&mut cache, dy, grads)?;
        self.input_gradient_into(&cache, 0, &mut dx)?;
        Ok(dx)
    }

    /// The first half of [`backward`](Self::backward), leaving the memory of the cache for the next
    /// pass: adds the gradient of every weight to `grads`.
    ///
    /// # Errors
    ///
    /// As [`backward`](Self::backward).
    pub fn add_gradients(
        &self,
        cache: &mut RegressionHeadCache<A>,
        dy: ArrayView1<A>,
        grads: &mut Self,
    ) -> Result<(), EncoderError> {
        let RegressionHeadCache {
            x,
            feature,
            hidden,
            dhidden,
            dfeature,
            ..
        } = cache;
        let dy = dy.insert_axis(Axis(1));
        self.l3
            .backward_into(hidden.view(), dy, &mut grads.l3, dhidden)?;
        *dhidden = Activation::Relu.backward_at(hidden, std::mem::take(dhidden))?;
        self.l2
            .backward_into(feature.view(), dhidden.view(), &mut grads.l2, dfeature)?;
        *dfeature = Activation::Relu.backward_at(feature, std::mem::take(dfeature))?;
        Ok(self
            .l1
            .add_gradients(x.view(), dfeature.view(), &mut grads.l1)?)
    }

    /// The second half of [`backward`](Self::backward): the gradient of the representation from
    /// column `first` on, `[B, D − first]`, into `dx`, which takes its shape in the memory it has.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Nn`] if there is no column `first` or before the other half.
    pub fn input_gradient_into(
        &self,
        cache: &RegressionHeadCache<A>,
        first: usize,
        dx: &mut Array2<A>,
    ) -> Result<(), EncoderError> {
        self.l1
            .input_gradient_into(cache.dfeature.view(), first, dx)?;
        Ok(cache.dropout.apply_columns(first, dx)?)
    }
}
