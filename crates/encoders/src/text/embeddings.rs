//! The embeddings of BERT.
//!
//! ```text
//! y = dropout(norm(word[id] + position[p] + token_type[s]))
//! ```

use modalign_core::{Scalar, impl_parameters};
use modalign_nn::{
    Dropout, DropoutCache, Embedding, EmbeddingCache, Fixed, LayerNorm, LayerNormCache,
};
use ndarray::{Array2, ArrayView2, Ix2};
use rand::Rng;

use crate::text::batch::PackedTokens;
use crate::text::config::BertConfig;
use crate::{EncoderError, TokenBatch};

/// The embeddings of BERT and, at the same time, the type of their gradient.
#[derive(Debug, Clone)]
pub struct BertEmbeddings<A> {
    /// By token `[vocabulary, D]`.
    pub word: Embedding<A>,
    /// By position `[positions, D]`.
    pub position: Embedding<A>,
    /// By segment `[token types, D]`.
    pub token_type: Embedding<A>,
    /// Of the sum.
    pub norm: LayerNorm<A>,
    dropout: Fixed<A, Dropout>,
}
impl_parameters!(BertEmbeddings {
    word,
    position,
    token_type,
    norm,
    dropout
});

/// What the backward pass of [`BertEmbeddings`] needs.
#[derive(Debug)]
pub struct BertEmbeddingsCache<A> {
    word: EmbeddingCache,
    position: EmbeddingCache,
    token_type: EmbeddingCache,
    norm: LayerNormCache<A>,
    dropout: DropoutCache<A, Ix2>,
}

impl<A: Scalar> BertEmbeddings<A> {
    pub(crate) fn new(config: &BertConfig, rng: &mut impl Rng) -> Result<Self, EncoderError> {
        let size = config.layer.hidden_size;
        Ok(Self {
            word: Embedding::new(config.vocabulary_size, size, rng)?,
            position: Embedding::new(config.positions, size, rng)?,
            token_type: Embedding::new(config.token_types, size, rng)?,
            norm: LayerNorm::new(size, config.layer.layer_norm_epsilon)?,
            dropout: Fixed::new(Dropout::new(config.layer.dropout)?),
        })
    }

    /// `y [ΣL, D]`, the tokens of a batch text after text, and the cache of the backward pass.
    ///
    /// # Errors
    ///
    /// [`EncoderError::NoToken`], a shape that does not fit, or an index beyond its table.
    pub fn forward(
        &self,
        batch: &TokenBatch,
        rng: &mut impl Rng,
    ) -> Result<(Array2<A>, BertEmbeddingsCache<A>), EncoderError> {
        self.forward_packed(&batch.pack()?, rng)
    }

    /// As [`forward`](Self::forward), without dropout and without a cache.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn infer(&self, batch: &TokenBatch) -> Result<Array2<A>, EncoderError> {
        self.infer_packed(&batch.pack()?)
    }

    pub(crate) fn forward_packed(
        &self,
        tokens: &PackedTokens,
        rng: &mut impl Rng,
    ) -> Result<(Array2<A>, BertEmbeddingsCache<A>), EncoderError> {
        let (mut sum, word) = self.word.forward(&tokens.ids)?;
        let (added, position) = self.position.forward(&tokens.positions)?;
        sum += &added;
        let (added, token_type) = self.token_type.forward(&tokens.token_types)?;
        sum += &added;
        let (y, norm) = self.norm.forward(sum.view())?;
        let (y, dropout) = self.dropout.forward(y, rng);
        let cache = BertEmbeddingsCache {
            word,
            position,
            token_type,
            norm,
            dropout,
        };
        Ok((y, cache))
    }

    pub(crate) fn infer_packed(&self, tokens: &PackedTokens) -> Result<Array2<A>, EncoderError> {
        let mut sum = self.word.infer(&tokens.ids)?;
        sum += &self.position.infer(&tokens.positions)?;
        sum += &self.token_type.infer(&tokens.token_types)?;
        Ok(self.norm.infer(sum.view())?)
    }

    /// Adds the gradients of the tables and the norm to `grads`.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Nn`] if `dy` does not fit.
    pub fn backward(
        &self,
        cache: BertEmbeddingsCache<A>,
        dy: ArrayView2<A>,
        grads: &mut Self,
    ) -> Result<(), EncoderError> {
        let dy = self.dropout.backward(cache.dropout, dy.to_owned())?;
        let dsum = self.norm.backward(cache.norm, dy.view(), &mut grads.norm)?;
        let dsum = dsum.view();
        self.word.backward(cache.word, dsum, &mut grads.word)?;
        let positions = &mut grads.position;
        self.position.backward(cache.position, dsum, positions)?;
        let types = &mut grads.token_type;
        Ok(self.token_type.backward(cache.token_type, dsum, types)?)
    }
}
