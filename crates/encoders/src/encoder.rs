//! From a sequence of features to one vector an utterance.

use modalign_core::{Parameters, Path, Scalar, check_shape};
use modalign_nn::LstmWorkspace;
use ndarray::{Array2, ArrayView2, ArrayView3, ArrayViewD, ArrayViewMutD};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::{
    BertCache, BertEncoder, EncoderError, LstmEncoder, LstmEncoderCache, LstmEncoderConfig,
    PooledConfig, PooledEncoder, PooledEncoderCache, Statistics, TokenBatch,
};

/// Which encoder, and its size.
///
/// ```
/// use modalign_encoders::EncoderConfig;
///
/// let config: EncoderConfig =
///     serde_json::from_str(r#"{"kind": "lstm", "hidden_size": 16, "output_size": 32}"#)?;
/// config.validate()?;
/// assert_eq!(config.output_size(20), 32);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum EncoderConfig {
    /// Passes an utterance vector on as it is, or the mean of a sequence over its steps: for
    /// features that a pretrained model has computed. Nothing is trained.
    Identity {},
    /// Statistics over time through one layer.
    Pooled(PooledConfig),
    /// The last state of a long short-term memory through one layer.
    Lstm(LstmEncoderConfig),
}

impl EncoderConfig {
    /// Checks every value.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Config`] naming the encoder and the field.
    pub fn validate(&self) -> Result<(), EncoderError> {
        match self {
            Self::Identity {} => Ok(()),
            Self::Pooled(config) => config.validate(),
            Self::Lstm(config) => config.validate(),
        }
    }

    /// Width of the representation of sequences with `input_size` features a step.
    pub fn output_size(&self, input_size: usize) -> usize {
        match self {
            Self::Identity {} => input_size,
            Self::Pooled(config) => config.output_size,
            Self::Lstm(config) => config.output_size,
        }
    }
}

/// An encoder and, at the same time, the type of its gradient.
///
/// A cache serves one backward pass:
///
/// ```compile_fail
/// # use modalign_core::{Parameters, Stream, rng};
/// # use modalign_encoders::{Encoder, EncoderConfig, PooledConfig};
/// # use ndarray::Array3;
/// # let config = EncoderConfig::Pooled(PooledConfig::default());
/// # let mut rng = rng(1, Stream::Initialisation);
/// # let encoder = Encoder::<f32>::new(&config, 2, &mut rng).unwrap();
/// # let mut grads = encoder.zeros_like();
/// let (y, cache) = encoder.forward(Array3::ones((1, 1, 2)).view(), &[1], &mut rng).unwrap();
/// encoder.backward(cache, y.view(), &mut grads).unwrap();
/// encoder.backward(cache, y.view(), &mut grads).unwrap();
/// ```
#[derive(Debug, Clone)]
pub enum Encoder<A> {
    /// See [`EncoderConfig::Identity`].
    Identity {
        /// Features a step.
        input_size: usize,
    },
    /// See [`EncoderConfig::Pooled`].
    Pooled(PooledEncoder<A>),
    /// See [`EncoderConfig::Lstm`].
    Lstm(LstmEncoder<A>),
    /// A pretrained text encoder, read from a folder instead of drawn. Its steps are tokens, as
    /// [`TokenBatch::to_steps`] makes them.
    Bert(Box<BertEncoder<A>>),
}

/// What the backward pass of [`Encoder`] needs. An empty one is the default.
#[derive(Debug, Default)]
pub struct EncoderCache<A>(Inner<A>);

#[derive(Debug, Default)]
enum Inner<A> {
    #[default]
    Identity,
    Pooled(PooledEncoderCache<A>),
    Lstm(LstmEncoderCache<A>),
    Bert(BertCache<A>),
}

/// Memory that [`Encoder::infer_into`] uses again.
#[derive(Debug, Clone, Default)]
pub struct EncoderWorkspace<A> {
    pub(crate) lstm: LstmWorkspace,
    /// What the last layer reads.
    pub(crate) vectors: Array2<A>,
}

impl<A: Scalar> Encoder<A> {
    /// Draws the initial weights for `input_size` features a step.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Config`] or a size of 0.
    pub fn new(
        config: &EncoderConfig,
        input_size: usize,
        rng: &mut impl Rng,
    ) -> Result<Self, EncoderError> {
        Ok(match config {
            EncoderConfig::Identity {} => Self::Identity { input_size },
            EncoderConfig::Pooled(config) => {
                Self::Pooled(PooledEncoder::new(config, input_size, rng)?)
            }
            EncoderConfig::Lstm(config) => Self::Lstm(LstmEncoder::new(config, input_size, rng)?),
        })
    }

    /// Width of the representation.
    pub fn output_size(&self) -> usize {
        match self {
            Self::Identity { input_size } => *input_size,
            Self::Pooled(encoder) => encoder.linear.output_size(),
            Self::Lstm(encoder) => encoder.linear.output_size(),
            Self::Bert(encoder) => encoder.output_size(),
        }
    }

    /// Representations `[B, output_size]` of `x [B, T, D]` with a length in 1..=T a row, and the
    /// cache of the backward pass. Steps beyond a row's length do not matter.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Length`], or a width that does not fit.
    pub fn forward(
        &self,
        x: ArrayView3<A>,
        lengths: &[usize],
        rng: &mut impl Rng,
    ) -> Result<(Array2<A>, EncoderCache<A>), EncoderError> {
        let (mut y, mut cache) = (Array2::default((0, 0)), EncoderCache::default());
        self.draw(x, lengths, rng, &mut cache, &mut y)?;
        self.forward_into(x, lengths, &mut cache, &mut y)?;
        Ok((y, cache))
    }

    /// The random part of [`forward`](Self::forward), into a cache whose memory is used again;
    /// [`forward_into`](Self::forward_into) with the same arguments is the rest. A text encoder draws
    /// as it goes: all of its pass is done here.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn draw(
        &self,
        x: ArrayView3<A>,
        lengths: &[usize],
        rng: &mut impl Rng,
        cache: &mut EncoderCache<A>,
        y: &mut Array2<A>,
    ) -> Result<(), EncoderError> {
        match self {
            Self::Identity { .. } => cache.0 = Inner::Identity,
            Self::Pooled(encoder) => {
                if !matches!(cache.0, Inner::Pooled(_)) {
                    cache.0 = Inner::Pooled(PooledEncoderCache::default());
                }
                if let Inner::Pooled(cache) = &mut cache.0 {
                    encoder.draw(lengths.len(), rng, cache);
                }
            }
            Self::Lstm(encoder) => {
                if !matches!(cache.0, Inner::Lstm(_)) {
                    cache.0 = Inner::Lstm(LstmEncoderCache::default());
                }
                if let Inner::Lstm(cache) = &mut cache.0 {
                    encoder.draw(lengths.len(), rng, cache);
                }
            }
            Self::Bert(encoder) => {
                let (output, used) = encoder.forward(&TokenBatch::from_steps(x, lengths)?, rng)?;
                (*y, cache.0) = (output, Inner::Bert(used));
            }
        }
        Ok(())
    }

    /// As [`forward`](Self::forward), after [`draw`](Self::draw) and into the same cache and output.
    /// Nothing is allocated once sequences as long have been seen, except by a text encoder.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward); [`EncoderError::Kind`] if the cache belongs to another kind of
    /// encoder.
    pub fn forward_into(
        &self,
        x: ArrayView3<A>,
        lengths: &[usize],
        cache: &mut EncoderCache<A>,
        y: &mut Array2<A>,
    ) -> Result<(), EncoderError> {
        match (self, &mut cache.0) {
            (Self::Identity { .. }, Inner::Identity) => self.mean_into(x, lengths, y),
            (Self::Pooled(encoder), Inner::Pooled(cache)) => {
                encoder.forward_into(x, lengths, cache, y)
            }
            (Self::Lstm(encoder), Inner::Lstm(cache)) => encoder.forward_into(x, lengths, cache, y),
            (Self::Bert(_), Inner::Bert(_)) => Ok(()),
            _ => Err(EncoderError::Kind),
        }
    }

    /// The output of the kind that passes features on.
    fn mean_into(
        &self,
        x: ArrayView3<A>,
        lengths: &[usize],
        y: &mut Array2<A>,
    ) -> Result<(), EncoderError> {
        let (rows, steps, _) = x.dim();
        let expected = [rows, steps, self.output_size()];
        check_shape("identity encoder", "x", x.shape(), &expected)?;
        Statistics::Mean.apply_into(x, lengths, y)
    }

    /// Whether there are weights to train, so that the gradient in the output has a use.
    pub fn is_trained(&self) -> bool {
        !matches!(self, Self::Identity { .. })
    }

    /// As [`forward`](Self::forward), without dropout and without a cache.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn infer(&self, x: ArrayView3<A>, lengths: &[usize]) -> Result<Array2<A>, EncoderError> {
        match self {
            Self::Identity { .. } => {
                let mut y = Array2::default((0, 0));
                self.mean_into(x, lengths, &mut y)?;
                Ok(y)
            }
            Self::Pooled(encoder) => encoder.infer(x, lengths),
            Self::Lstm(encoder) => encoder.infer(x, lengths),
            Self::Bert(encoder) => encoder.infer(&TokenBatch::from_steps(x, lengths)?),
        }
    }

    /// As [`infer`](Self::infer), into `y`, which takes the shape of the result. Nothing is allocated
    /// once sequences as long have been seen, except by a text encoder.
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
        match self {
            Self::Identity { .. } => self.mean_into(x, lengths, y),
            Self::Pooled(encoder) => encoder.infer_into(x, lengths, workspace, y),
            Self::Lstm(encoder) => encoder.infer_into(x, lengths, workspace, y),
            Self::Bert(encoder) => {
                *y = encoder.infer(&TokenBatch::from_steps(x, lengths)?)?;
                Ok(())
            }
        }
    }

    /// Adds the gradient of the weights to `grads`. The input is data and gets none.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Kind`] if the cache or `grads` belongs to another kind of encoder, or a
    /// gradient that does not fit.
    pub fn backward(
        &self,
        mut cache: EncoderCache<A>,
        dy: ArrayView2<A>,
        grads: &mut Self,
    ) -> Result<(), EncoderError> {
        self.backward_into(&mut cache, dy, grads)
    }

    /// As [`backward`](Self::backward), leaving the memory of the cache for the next pass; what it
    /// held is used up.
    ///
    /// # Errors
    ///
    /// As [`backward`](Self::backward).
    pub fn backward_into(
        &self,
        cache: &mut EncoderCache<A>,
        dy: ArrayView2<A>,
        grads: &mut Self,
    ) -> Result<(), EncoderError> {
        match (self, &mut cache.0, grads) {
            (Self::Identity { .. }, Inner::Identity, Self::Identity { .. }) => Ok(()),
            (Self::Pooled(encoder), Inner::Pooled(cache), Self::Pooled(grads)) => {
                encoder.backward_into(cache, dy, grads)
            }
            (Self::Lstm(encoder), Inner::Lstm(cache), Self::Lstm(grads)) => {
                encoder.backward_into(cache, dy, grads)
            }
            (Self::Bert(encoder), inner @ Inner::Bert(_), Self::Bert(grads)) => {
                match std::mem::take(inner) {
                    Inner::Bert(cache) => encoder.backward(cache, dy, grads),
                    _ => Err(EncoderError::Kind),
                }
            }
            _ => Err(EncoderError::Kind),
        }
    }
}

impl<A: Scalar> Parameters<A> for Encoder<A> {
    fn visit<'a>(&'a self, path: &mut Path, visitor: &mut dyn FnMut(&str, ArrayViewD<'a, A>)) {
        match self {
            Self::Identity { .. } => {}
            Self::Pooled(encoder) => encoder.visit(path, visitor),
            Self::Lstm(encoder) => encoder.visit(path, visitor),
            Self::Bert(encoder) => encoder.visit(path, visitor),
        }
    }

    fn visit_mut<'a>(
        &'a mut self,
        path: &mut Path,
        visitor: &mut dyn FnMut(&str, ArrayViewMutD<'a, A>),
    ) {
        match self {
            Self::Identity { .. } => {}
            Self::Pooled(encoder) => encoder.visit_mut(path, visitor),
            Self::Lstm(encoder) => encoder.visit_mut(path, visitor),
            Self::Bert(encoder) => encoder.visit_mut(path, visitor),
        }
    }

    fn zip_mut<'a>(
        &'a mut self,
        other: &'a Self,
        path: &mut Path,
        visitor: &mut dyn FnMut(&str, ArrayViewMutD<'a, A>, ArrayViewD<'a, A>),
    ) {
        match (self, other) {
            (Self::Pooled(encoder), Self::Pooled(other)) => encoder.zip_mut(other, path, visitor),
            (Self::Lstm(encoder), Self::Lstm(other)) => encoder.zip_mut(other, path, visitor),
            (Self::Bert(encoder), Self::Bert(other)) => encoder.zip_mut(other, path, visitor),
            _ => {}
        }
    }

    fn zeros_like(&self) -> Self {
        match self {
            Self::Identity { input_size } => Self::Identity {
                input_size: *input_size,
            },
            Self::Pooled(encoder) => Self::Pooled(encoder.zeros_like()),
            Self::Lstm(encoder) => Self::Lstm(encoder.zeros_like()),
            Self::Bert(encoder) => Self::Bert(Box::new(encoder.zeros_like())),
        }
    }
}
