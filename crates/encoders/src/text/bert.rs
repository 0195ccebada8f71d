//! The BERT encoder.
//!
//! ```text
//! h₀ = embeddings(tokens),   h_n = layer_n(h_{n−1}),   r = pooling(h_N)
//! ```
//!
//! All states are `[ΣL, D]`, the tokens of a batch text after text without padding.

use std::ops::Range;
use std::path::Path;

use modalign_core::{Scalar, Stream, check_shape, impl_parameters};
use modalign_nn::{Fixed, TransformerDropout, TransformerLayer, TransformerLayerCache, recycle};
use ndarray::{Array2, Array3, ArrayView2, Axis, s};
use rand::Rng;

use crate::text::config::{Architecture, BertConfig, Pooling};
use crate::text::embeddings::{BertEmbeddings, BertEmbeddingsCache};
use crate::text::folder::{read_weights, read_whole, write_weights};
use crate::{EncoderError, TokenBatch};

/// A text encoder of the BERT family and, at the same time, the type of its gradient.
///
/// BERT, MiniLM, RoBERTa and DistilBERT are of this form.
///
/// ```
/// use modalign_core::{Parameters, Stream, rng};
/// use modalign_encoders::{BertConfig, BertEncoder, TokenBatch};
/// use modalign_nn::TransformerConfig;
/// use ndarray::array;
///
/// let layer = TransformerConfig {
///     hidden_size: 8, heads: 2, intermediate_size: 16, ..TransformerConfig::default()
/// };
/// let config = BertConfig {
///     vocabulary_size: 20, positions: 6, layers: 2, layer, ..BertConfig::default()
/// };
/// let encoder = BertEncoder::<f64>::new(&config, &mut rng(1, Stream::Initialisation))?;
/// let batch = TokenBatch {
///     ids: array![[1, 7, 2], [1, 2, 0]],
///     mask: array![[true, true, true], [true, true, false]],
///     token_types: array![[0, 0, 0], [0, 0, 0]],
/// };
/// assert_eq!(encoder.infer(&batch)?.dim(), (2, 8));
///
/// let (y, cache) = encoder.forward(&batch, &mut rng(1, Stream::Dropout))?;
/// let mut grads = encoder.zeros_like();
/// encoder.backward(cache, y.view(), &mut grads)?;
/// // Token 9 is in no text.
/// assert_eq!(grads.embeddings.word.weight.row(9).sum(), 0.0);
/// # Ok::<(), modalign_encoders::EncoderError>(())
/// ```
///
/// # References
///
/// J. Devlin, M.-W. Chang, K. Lee and K. Toutanova, "BERT: Pre-training of Deep Bidirectional
/// Transformers for Language Understanding", 2019, arXiv 1810.04805.
///
/// Y. Liu et al., "RoBERTa: A Robustly Optimized BERT Pretraining Approach", 2019, arXiv 1907.11692.
///
/// V. Sanh, L. Debut, J. Chaumond and T. Wolf, "DistilBERT, a distilled version of BERT: smaller,
/// faster, cheaper and lighter", 2019, arXiv 1910.01108.
///
/// W. Wang et al., "MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of
/// Pre-Trained Transformers", 2020, arXiv 2002.10957.
#[derive(Debug, Clone)]
pub struct BertEncoder<A> {
    /// From tokens to states.
    pub embeddings: BertEmbeddings<A>,
    /// From states to states.
    pub layers: Vec<TransformerLayer<A>>,
    pooling: Fixed<A, Pooling>,
    /// The embeddings and this many of the first layers stay as they are; nothing does if absent.
    frozen_layers: Fixed<A, Option<usize>>,
    /// Whether the backward pass computes each layer again, of which only the input is kept.
    recompute: Fixed<A, bool>,
}
impl_parameters!(BertEncoder {
    embeddings,
    layers,
    pooling,
    frozen_layers,
    recompute
});

/// What the backward pass of [`BertEncoder`] needs.
#[derive(Debug)]
pub struct BertCache<A> {
    /// Of what is trained.
    embeddings: Option<BertEmbeddingsCache<A>>,
    layers: Vec<LayerCache<A>>,
    lengths: Vec<usize>,
}

#[derive(Debug)]
enum LayerCache<A> {
    Whole(Box<TransformerLayerCache<A>>),
    /// The layer's input and its dropout, from which the rest is computed again.
    Input(Array2<A>, TransformerDropout),
}

impl<A: Scalar> BertEncoder<A> {
    /// Draws initial weights, uniformly within ±1/√inputs.
    ///
    /// # Errors
    ///
    /// As [`BertConfig::validate`].
    pub fn new(config: &BertConfig, rng: &mut impl Rng) -> Result<Self, EncoderError> {
        config.validate()?;
        let embeddings = BertEmbeddings::new(config, rng)?;
        let layers = (0..config.layers)
            .map(|_| TransformerLayer::new(&config.layer, rng))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            embeddings,
            layers,
            pooling: Fixed::new(config.pooling),
            frozen_layers: Fixed::new(None),
            recompute: Fixed::new(false),
        })
    }

    /// Reads a Hugging Face folder as it is: `config.json` and `model.safetensors`, stored as f32,
    /// f64, f16 or bf16, with or without the prefix of their architecture (`bert.`), with today's or the
    /// first names of the norms. Its pooler and the heads of its tasks are left out.
    ///
    /// # Errors
    ///
    /// As [`BertConfig::load`]; [`EncoderError::Io`] or [`EncoderError::Format`] for weights that
    /// cannot be read or are cut off; [`EncoderError::MissingTensor`],
    /// [`EncoderError::UnexpectedTensor`], [`EncoderError::TensorShape`] or
    /// [`EncoderError::Unsupported`] for one that does not fit the configuration.
    pub fn load(folder: impl AsRef<Path>, pooling: Pooling) -> Result<Self, EncoderError> {
        let folder = folder.as_ref();
        let config = BertConfig::load(folder, pooling)?;
        let weights = folder.join("model.safetensors");
        let bytes = read_whole(&weights, config.parameter_count())?;
        // Every weight drawn here is replaced or the folder refused.
        let mut rng = modalign_core::rng(0, Stream::Initialisation);
        let mut encoder = Self::new(&config, &mut rng)?;
        read_weights(&weights, &bytes, &mut encoder, |name| {
            hugging_face_name(config.architecture, name)
        })?;
        Ok(encoder)
    }

    /// Writes a folder that [`load`](Self::load) and `transformers` read: `config.json` and
    /// `model.safetensors` under their names, in f32. `config` is what the encoder was made with.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Io`] or [`EncoderError::Format`] for a file that cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>, config: &BertConfig) -> Result<(), EncoderError> {
        let folder = folder.as_ref();
        config.save(folder)?;
        let path = folder.join("model.safetensors");
        write_weights(&path, self, |name| {
            hugging_face_name(config.architecture, name)
        })
    }

    /// Trains the last `count` layers alone. The layers below and the embeddings stay as they are:
    /// they run without dropout and get no gradient.
    pub fn train_last_layers(&mut self, count: usize) {
        self.frozen_layers = Fixed::new(Some(self.layers.len().saturating_sub(count)));
    }

    /// Keeps only the inputs of the layers for the backward pass, which then computes each layer again
    /// before it goes through it. Outputs and gradients have the same bits. This is gradient
    /// checkpointing: a third more arithmetic, and the memory of one layer in place of all.
    ///
    /// Source: T. Chen, B. Xu, C. Zhang and C. Guestrin, "Training Deep Nets with Sublinear Memory
    /// Cost", 2016, arXiv 1604.06174.
    pub fn recompute_layers(&mut self, recompute: bool) {
        self.recompute = Fixed::new(recompute);
    }

    /// Whether the parameter of this dotted name is trained.
    pub fn is_trained(&self, name: &str) -> bool {
        let Some(frozen) = *self.frozen_layers else {
            return true;
        };
        name.strip_prefix("layers.")
            .and_then(|rest| rest.split('.').next())
            .and_then(|index| index.parse::<usize>().ok())
            .is_some_and(|index| index >= frozen)
    }

    /// Width D of the representation.
    pub fn output_size(&self) -> usize {
        self.embeddings.norm.weight.len()
    }

    /// Representations `[B, D]` of B texts, and the cache of the backward pass.
    ///
    /// # Errors
    ///
    /// [`EncoderError::NoToken`] for a text without a token, [`EncoderError::Shape`] for arrays that
    /// do not fit together, [`EncoderError::Nn`] for a token, a position or a segment beyond its
    /// table.
    pub fn forward(
        &self,
        batch: &TokenBatch,
        rng: &mut impl Rng,
    ) -> Result<(Array2<A>, BertCache<A>), EncoderError> {
        let tokens = batch.pack()?;
        let (mut states, embeddings) = if self.frozen_layers.is_some() {
            (self.embeddings.infer_packed(&tokens)?, None)
        } else {
            let (states, cache) = self.embeddings.forward_packed(&tokens, rng)?;
            (states, Some(cache))
        };
        let (frozen, trained) = self.layers.split_at(self.frozen_layers.unwrap_or(0));
        for layer in frozen {
            states = infer_layer(layer, states, &tokens.lengths)?;
        }
        let mut layers = Vec::with_capacity(trained.len());
        for layer in trained {
            let dropout = layer.draw_dropout(rng);
            let (next, cache) = layer.forward_with(states.view(), &tokens.lengths, dropout)?;
            let input = std::mem::replace(&mut states, next);
            layers.push(match *self.recompute {
                true => LayerCache::Input(input, dropout),
                false => {
                    recycle(input);
                    LayerCache::Whole(Box::new(cache))
                }
            });
        }
        let y = self.pool(states.view(), &tokens.lengths);
        recycle(states);
        let cache = BertCache {
            embeddings,
            layers,
            lengths: tokens.lengths,
        };
        Ok((y, cache))
    }

    /// As [`forward`](Self::forward), without dropout and without a cache.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn infer(&self, batch: &TokenBatch) -> Result<Array2<A>, EncoderError> {
        let (states, lengths) = self.infer_packed(batch)?;
        let y = self.pool(states.view(), &lengths);
        recycle(states);
        Ok(y)
    }

    /// The last layer's states of every token `[B, L, D]`, zero where there is none.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn infer_states(&self, batch: &TokenBatch) -> Result<Array3<A>, EncoderError> {
        Ok(batch.unpack(self.infer_packed(batch)?.0.view()))
    }

    /// Adds the gradient of the weights to `grads`. The tokens are data and get none.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Shape`] if `dy` or `grads` does not fit.
    pub fn backward(
        &self,
        cache: BertCache<A>,
        dy: ArrayView2<A>,
        grads: &mut Self,
    ) -> Result<(), EncoderError> {
        let expected = [cache.lengths.len(), self.output_size()];
        check_shape("bert backward", "dy", dy.shape(), &expected)?;
        let (layers, found) = (self.layers.len(), grads.layers.len());
        check_shape("bert backward", "grads.layers", &[found], &[layers])?;
        let mut dstates = self.pool_backward(dy, &cache.lengths);
        let frozen = self.frozen_layers.unwrap_or(0);
        let trained = self.layers[frozen..].iter();
        let layers = trained.zip(&mut grads.layers[frozen..]).zip(cache.layers);
        for ((layer, grads), layer_cache) in layers.rev() {
            let layer_cache = match layer_cache {
                LayerCache::Whole(cache) => *cache,
                LayerCache::Input(x, dropout) => {
                    let (y, layer_cache) = layer.forward_with(x.view(), &cache.lengths, dropout)?;
                    [x, y].into_iter().for_each(recycle);
                    layer_cache
                }
            };
            let dx = layer.backward(layer_cache, dstates.view(), grads)?;
            recycle(std::mem::replace(&mut dstates, dx));
        }
        match cache.embeddings {
            Some(cache) => self
                .embeddings
                .backward(cache, dstates.view(), &mut grads.embeddings),
            None => Ok(()),
        }
    }

    fn infer_packed(&self, batch: &TokenBatch) -> Result<(Array2<A>, Vec<usize>), EncoderError> {
        let tokens = batch.pack()?;
        let mut states = self.embeddings.infer_packed(&tokens)?;
        for layer in &self.layers {
            states = infer_layer(layer, states, &tokens.lengths)?;
        }
        Ok((states, tokens.lengths))
    }

    fn pool(&self, states: ArrayView2<A>, lengths: &[usize]) -> Array2<A> {
        let mut y = Array2::zeros((lengths.len(), states.ncols()));
        for (mut y, rows) in y.rows_mut().into_iter().zip(texts(lengths)) {
            match *self.pooling {
                Pooling::Cls => y.assign(&states.row(rows.start)),
                Pooling::Mean => {
                    let count = A::from_f64(rows.len() as f64);
                    y += &states.slice(s![rows, ..]).sum_axis(Axis(0));
                    y /= count;
                }
            }
        }
        y
    }

    fn pool_backward(&self, dy: ArrayView2<A>, lengths: &[usize]) -> Array2<A> {
        let mut dstates = Array2::zeros((lengths.iter().sum(), dy.ncols()));
        for (dy, rows) in dy.rows().into_iter().zip(texts(lengths)) {
            match *self.pooling {
                Pooling::Cls => dstates.row_mut(rows.start).assign(&dy),
                Pooling::Mean => {
                    let count = A::from_f64(rows.len() as f64);
                    dstates.slice_mut(s![rows, ..]).assign(&(&dy / count));
                }
            }
        }
        dstates
    }
}

fn infer_layer<A: Scalar>(
    layer: &TransformerLayer<A>,
    states: Array2<A>,
    lengths: &[usize],
) -> Result<Array2<A>, EncoderError> {
    let next = layer.infer(states.view(), lengths)?;
    recycle(states);
    Ok(next)
}

/// The rows of every text, none of which is empty.
fn texts(lengths: &[usize]) -> impl Iterator<Item = Range<usize>> {
    lengths.iter().scan(0, |start, &length| {
        let rows = *start..*start + length;
        *start = rows.end;
        Some(rows)
    })
}

/// What a Hugging Face folder calls the parameter that [`BertEncoder`] calls `name`.
///
/// ```
/// use modalign_encoders::{Architecture, hugging_face_name};
///
/// let name = "layers.3.attention.output.bias";
/// assert_eq!(
///     hugging_face_name(Architecture::Bert, name),
///     "encoder.layer.3.attention.output.dense.bias",
/// );
/// assert_eq!(
///     hugging_face_name(Architecture::DistilBert, name),
///     "transformer.layer.3.attention.out_lin.bias",
/// );
/// ```
pub fn hugging_face_name(architecture: Architecture, name: &str) -> String {
    const EMBEDDINGS: [(&str, &str); 4] = [
        ("embeddings.word", "embeddings.word_embeddings"),
        ("embeddings.position", "embeddings.position_embeddings"),
        ("embeddings.token_type", "embeddings.token_type_embeddings"),
        ("embeddings.norm", "embeddings.LayerNorm"),
    ];
    const BERT: [(&str, &str); 8] = [
        ("attention.query", "attention.self.query"),
        ("attention.key", "attention.self.key"),
        ("attention.value", "attention.self.value"),
        ("attention.output", "attention.output.dense"),
        ("attention_norm", "attention.output.LayerNorm"),
        ("intermediate", "intermediate.dense"),
        ("output", "output.dense"),
        ("output_norm", "output.LayerNorm"),
    ];
    const DISTIL_BERT: [(&str, &str); 8] = [
        ("attention.query", "attention.q_lin"),
        ("attention.key", "attention.k_lin"),
        ("attention.value", "attention.v_lin"),
        ("attention.output", "attention.out_lin"),
        ("attention_norm", "sa_layer_norm"),
        ("intermediate", "ffn.lin1"),
        ("output", "ffn.lin2"),
        ("output_norm", "output_layer_norm"),
    ];
    let (stack, parts) = match architecture {
        Architecture::Bert | Architecture::Roberta => ("encoder", &BERT),
        Architecture::DistilBert => ("transformer", &DISTIL_BERT),
    };
    let (layer, rest) = match name
        .strip_prefix("layers.")
        .and_then(|rest| rest.split_once('.'))
    {
        Some((index, rest)) => (format!("{stack}.layer.{index}."), rest),
        None => (String::new(), name),
    };
    let (part, array) = rest.rsplit_once('.').unwrap_or((rest, ""));
    let part = EMBEDDINGS
        .iter()
        .chain(parts)
        .find(|(own, _)| *own == part)
        .map_or(part, |(_, theirs)| theirs);
    format!("{layer}{part}.{array}")
}
