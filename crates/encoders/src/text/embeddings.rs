//! The embeddings of BERT.
//!
//! ```text
//! y = dropout(norm(word[id] + position[p + p₀] + token_type[s]))
//! ```
//!
//! RoBERTa's positions begin at the row p₀ = 2, the others' at 0; DistilBERT has no segments.

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
    /// By segment `[token types, D]`, if there are any.
    pub token_type: Option<Embedding<A>>,
    /// Of the sum.
    pub norm: LayerNorm<A>,
    dropout: Fixed<A, Dropout>,
    first_position: Fixed<A, usize>,
}
impl_parameters!(BertEmbeddings {
    word,
    position,
    token_type,
    norm,
    dropout,
    first_position
});

/// What the backward pass of [`BertEmbeddings`] needs.
#[derive(Debug)]
pub struct BertEmbeddingsCache<A> {
    word: EmbeddingCache,
    position: EmbeddingCache,
    token_type: Option<EmbeddingCache>,
    norm: LayerNormCache<A>,
    dropout: DropoutCache<A, Ix2>,
}

impl<A: Scalar> BertEmbeddings<A> {
    pub(crate) fn new(config: &BertConfig, rng: &mut impl Rng) -> Result<Self, EncoderError> {
        let size = config.layer.hidden_size;
        Ok(Self {
            word: Embedding::new(config.vocabulary_size, size, rng)?,
            position: Embedding::new(config.positions, size, rng)?,
            token_type: (config.token_types > 0)
                .then(|| Embedding::new(config.token_types, size, rng))
                .transpose()?,
            norm: LayerNorm::new(size, config.layer.layer_norm_epsilon)?,
            dropout: Fixed::new(Dropout::new(config.layer.dropout)?),
            first_position: Fixed::new(config.architecture.first_position()),
        })
    }

    /// The rows of the position table.
    fn positions(&self, tokens: &PackedTokens) -> Vec<u32> {
        // What is beyond 32 bits is beyond every table, and refused there.
        let first = u32::try_from(*self.first_position).unwrap_or(u32::MAX);
        let positions = tokens.positions.iter();
        positions
            .map(|position| position.saturating_add(first))
            .collect()
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
        let (added, position) = self.position.forward(&self.positions(tokens))?;
        sum += &added;
        let token_type = match &self.token_type {
            Some(table) => {
                let (added, cache) = table.forward(&tokens.token_types)?;
                sum += &added;
                Some(cache)
            }
            None => None,
        };
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
        sum += &self.position.infer(&self.positions(tokens))?;
        if let Some(table) = &self.token_type {
            sum += &table.infer(&tokens.token_types)?;
        }
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
        if let (Some(table), Some(cache), Some(grads)) =
            (&self.token_type, cache.token_type, &mut grads.token_type)
        {
            table.backward(cache, dsum, grads)?;
        }
        Ok(())
    }
}
