//! The work of a pass, in parts for a caller who does several encoders' side by side.

use modalign_core::Scalar;
use modalign_nn::{Dropout, DropoutCache, LstmParts, SequenceBatch};
use ndarray::{Array2, ArrayView2, Ix2};
use rand::Rng;

use crate::encoder::Inner;
use crate::{
    BertCache, BertEncoder, EncoderError, PooledEncoder, PooledEncoderCache, Statistics, TokenBatch,
};

/// What a pass of an [`Encoder`](crate::Encoder) in training draws at random. It may be drawn beside the
/// work of the [`EncoderParts`].
#[derive(Debug)]
pub struct EncoderNoise<'a, A>(pub(crate) Noise<'a, A>);

#[derive(Debug)]
pub(crate) enum Noise<'a, A> {
    None,
    Dropout(DropoutNoise<'a, A>),
    Bert {
        encoder: &'a BertEncoder<A>,
        tokens: TokenBatch,
        cache: &'a mut Inner<A>,
        y: &'a mut Array2<A>,
    },
}

#[derive(Debug)]
pub(crate) struct DropoutNoise<'a, A> {
    pub dropout: Dropout,
    pub shape: Ix2,
    pub cache: &'a mut DropoutCache<A, Ix2>,
}

impl<A: Scalar> DropoutNoise<'_, A> {
    pub fn draw(self, rng: &mut impl Rng) {
        self.dropout.draw(self.shape, rng, self.cache);
    }
}

impl<A: Scalar> EncoderNoise<'_, A> {
    /// Draws it. A text encoder draws as it goes: all of its pass is done here.
    ///
    /// # Errors
    ///
    /// Those of a text encoder's pass.
    pub fn draw(self, rng: &mut impl Rng) -> Result<(), EncoderError> {
        match self.0 {
            Noise::None => {}
            Noise::Dropout(noise) => noise.draw(rng),
            Noise::Bert {
                encoder,
                tokens,
                cache,
                y,
            } => {
                let (output, used) = encoder.forward(&tokens, rng)?;
                (*y, *cache) = (output, Inner::Bert(used));
            }
        }
        Ok(())
    }
}

/// The work of a pass of an [`Encoder`](crate::Encoder) in training, in parts that may be done in any
/// order and side by side. A part has the same rows in both passes of a batch; done by one thread, they
/// stay in its cache.
#[derive(Debug)]
pub struct EncoderParts<'a, A>(pub(crate) Work<'a, A>);

#[derive(Debug)]
pub(crate) enum Work<'a, A> {
    None,
    Statistics {
        statistics: Statistics,
        x: SequenceBatch<'a, A>,
        lengths: &'a [usize],
        target: &'a mut Array2<A>,
    },
    Lstm(LstmParts<'a, A>),
    PooledBackward {
        encoder: &'a PooledEncoder<A>,
        cache: &'a mut PooledEncoderCache<A>,
        dy: ArrayView2<'a, A>,
        grads: &'a mut PooledEncoder<A>,
    },
    BertBackward {
        encoder: &'a BertEncoder<A>,
        cache: Box<BertCache<A>>,
        dy: ArrayView2<'a, A>,
        grads: &'a mut BertEncoder<A>,
    },
}

impl<A: Scalar> EncoderParts<'_, A> {
    /// The number of parts.
    pub fn count(&self) -> usize {
        match &self.0 {
            Work::None => 0,
            Work::Lstm(parts) => parts.count(),
            Work::Statistics { .. } | Work::PooledBackward { .. } | Work::BertBackward { .. } => 1,
        }
    }

    /// The first parts, at most `count` of them, and the others.
    pub fn split_at(self, count: usize) -> (Self, Self) {
        match self.0 {
            Work::Lstm(parts) => {
                let (first, second) = parts.split_at(count);
                (Self(Work::Lstm(first)), Self(Work::Lstm(second)))
            }
            whole if count == 0 => (Self(Work::None), Self(whole)),
            whole => (Self(whole), Self(Work::None)),
        }
    }

    /// Does all parts, side by side where that pays.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Length`], or shapes that do not fit.
    pub fn run(self) -> Result<(), EncoderError> {
        match self.0 {
            Work::None => Ok(()),
            Work::Statistics {
                statistics,
                x,
                lengths,
                target,
            } => statistics.apply_into(x, lengths, target),
            Work::Lstm(parts) => Ok(parts.run()?),
            Work::PooledBackward {
                encoder,
                cache,
                dy,
                grads,
            } => encoder.backward_into(cache, dy, grads),
            Work::BertBackward {
                encoder,
                cache,
                dy,
                grads,
            } => encoder.backward(*cache, dy, grads),
        }
    }
}
