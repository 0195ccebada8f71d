//! From a sequence of features to one vector an utterance.

use modalign_core::{Parameters, Path, Scalar, check_shape};
use modalign_nn::{LstmWorkspace, SequenceBatch};
use ndarray::{Array2, ArrayView2, ArrayView3, ArrayViewD, ArrayViewMutD};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::parts::{Noise, Work};
use crate::{
    BertCache, BertEncoder, EncoderError, EncoderNoise, EncoderParts, LstmEncoder,
    LstmEncoderCache, LstmEncoderConfig, PooledConfig, PooledEncoder, PooledEncoderCache,
    Statistics, TokenBatch,
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
pub(crate) enum Inner<A> {
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
        let (noise, parts) = self.forward_parts(x.into(), lengths, &mut cache, &mut y)?;
        noise.draw(rng)?;
        parts.run()?;
        self.finish_forward(&mut cache, &mut y)?;
        Ok((y, cache))
    }

    /// The work of [`forward`](Self::forward), for a caller who has other work to do beside it: what
    /// is to be drawn and what is to be done before [`finish_forward`](Self::finish_forward) with the
    /// same cache and output. Their memory is used again, and nothing is allocated once sequences as
    /// long have been seen, except by a text encoder.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn forward_parts<'a>(
        &'a self,
        x: SequenceBatch<'a, A>,
        lengths: &'a [usize],
        cache: &'a mut EncoderCache<A>,
        y: &'a mut Array2<A>,
    ) -> Result<(EncoderNoise<'a, A>, EncoderParts<'a, A>), EncoderError> {
        let fits = match self {
            Self::Identity { .. } => matches!(cache.0, Inner::Identity),
            Self::Pooled(_) => matches!(cache.0, Inner::Pooled(_)),
            Self::Lstm(_) => matches!(cache.0, Inner::Lstm(_)),
            Self::Bert(_) => true,
        };
        if !fits {
            cache.0 = match self {
                Self::Pooled(_) => Inner::Pooled(PooledEncoderCache::default()),
                Self::Lstm(_) => Inner::Lstm(LstmEncoderCache::default()),
                Self::Identity { .. } | Self::Bert(_) => Inner::Identity,
            };
        }
        let statistics = |statistics, target| Work::Statistics {
            statistics,
            x,
            lengths,
            target,
        };
        let (noise, work) = match (self, &mut cache.0) {
            (Self::Identity { .. }, _) => {
                self.check_mean(x)?;
                (Noise::None, statistics(Statistics::Mean, y))
            }
            (Self::Pooled(encoder), Inner::Pooled(cache)) => {
                let (noise, target) = encoder.forward_parts(lengths.len(), cache);
                (
                    Noise::Dropout(noise),
                    statistics(*encoder.statistics, target),
                )
            }
            (Self::Lstm(encoder), Inner::Lstm(cache)) => {
                let (noise, parts) = encoder.forward_parts(x, lengths, cache)?;
                (Noise::Dropout(noise), Work::Lstm(parts))
            }
            (Self::Bert(encoder), cache) => {
                let noise = Noise::Bert {
                    encoder,
                    tokens: TokenBatch::from_steps(x, lengths)?,
                    cache,
                    y,
                };
                (noise, Work::None)
            }
            _ => return Err(EncoderError::Kind),
        };
        Ok((EncoderNoise(noise), EncoderParts(work)))
    }

    /// The rest of a pass, when the noise of [`forward_parts`](Self::forward_parts) is drawn and its
    /// parts are done.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Kind`] if the cache belongs to another kind of encoder, or a width that does not
    /// fit.
    pub fn finish_forward(
        &self,
        cache: &mut EncoderCache<A>,
        y: &mut Array2<A>,
    ) -> Result<(), EncoderError> {
        match (self, &mut cache.0) {
            (Self::Pooled(encoder), Inner::Pooled(cache)) => encoder.finish_forward(cache, y),
            (Self::Lstm(encoder), Inner::Lstm(cache)) => encoder.finish_forward(cache, y),
            (Self::Identity { .. }, Inner::Identity) | (Self::Bert(_), Inner::Bert(_)) => Ok(()),
            _ => Err(EncoderError::Kind),
        }
    }

    /// The output of the kind that passes features on.
    fn mean_into(
        &self,
        x: SequenceBatch<A>,
        lengths: &[usize],
        y: &mut Array2<A>,
    ) -> Result<(), EncoderError> {
        self.check_mean(x)?;
        Statistics::Mean.apply_into(x, lengths, y)
    }

    fn check_mean(&self, x: SequenceBatch<A>) -> Result<(), EncoderError> {
        let (rows, steps, width) = x.dim();
        let expected = [rows, steps, self.output_size()];
        check_shape("identity encoder", "x", &[rows, steps, width], &expected)?;
        Ok(())
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
    pub fn infer<'a>(
        &self,
        x: impl Into<SequenceBatch<'a, A>>,
        lengths: &[usize],
    ) -> Result<Array2<A>, EncoderError> {
        let x = x.into();
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
            Self::Identity { .. } => self.mean_into(x.into(), lengths, y),
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
        self.backward_parts(&mut cache, dy, grads)?.run()?;
        self.finish_backward(&cache, grads)
    }

    /// The work of [`backward`](Self::backward), for a caller who has other work to do beside it, and
    /// [`finish_backward`](Self::finish_backward) after it. The memory of the cache stays for the next
    /// pass; what it held is used up.
    ///
    /// # Errors
    ///
    /// As [`backward`](Self::backward).
    pub fn backward_parts<'a>(
        &'a self,
        cache: &'a mut EncoderCache<A>,
        dy: ArrayView2<'a, A>,
        grads: &'a mut Self,
    ) -> Result<EncoderParts<'a, A>, EncoderError> {
        let work = match (self, &mut cache.0, grads) {
            (Self::Identity { .. }, Inner::Identity, Self::Identity { .. }) => Work::None,
            (Self::Pooled(encoder), Inner::Pooled(cache), Self::Pooled(grads)) => {
                Work::PooledBackward {
                    encoder,
                    cache,
                    dy,
                    grads,
                }
            }
            (Self::Lstm(encoder), Inner::Lstm(cache), Self::Lstm(grads)) => {
                Work::Lstm(encoder.backward_parts(cache, dy, grads)?)
            }
            (Self::Bert(encoder), inner @ Inner::Bert(_), Self::Bert(grads)) => {
                match std::mem::take(inner) {
                    Inner::Bert(cache) => Work::BertBackward {
                        encoder,
                        cache: Box::new(cache),
                        dy,
                        grads,
                    },
                    _ => return Err(EncoderError::Kind),
                }
            }
            _ => return Err(EncoderError::Kind),
        };
        Ok(EncoderParts(work))
    }

    /// The rest of a pass, when the parts of [`backward_parts`](Self::backward_parts) are done.
    ///
    /// # Errors
    ///
    /// As [`backward`](Self::backward).
    pub fn finish_backward(
        &self,
        cache: &EncoderCache<A>,
        grads: &mut Self,
    ) -> Result<(), EncoderError> {
        match (self, &cache.0, grads) {
            (Self::Lstm(encoder), Inner::Lstm(cache), Self::Lstm(grads)) => {
                encoder.finish_backward(cache, grads)
            }
            (Self::Lstm(_), ..) => Err(EncoderError::Kind),
            _ => Ok(()),
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
