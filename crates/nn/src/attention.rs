//! Multi-head attention over sequences of different lengths, laid out without padding.
//!
//! ```text
//! Q = x W_Qᵀ + b_Q,   K = m W_Kᵀ + b_K,   V = m W_Vᵀ + b_V
//! P = softmax(Q_h K_hᵀ/√(D/heads)),   C_h = dropout(P) V_h      each sequence and head on its own
//! y = C W_Oᵀ + b_O
//! ```
//!
//! The sequences of a batch follow each other in one matrix `[ΣL, D]`, so that a masked key is a row
//! that is not there: padding costs nothing and there is no mask to add. The four projections are
//! one matrix product each for the whole batch.

use std::ops::Range;

use modalign_core::{Scalar, check_shape, impl_parameters};
use modalign_linalg::gemm;
use ndarray::{Array2, ArrayView2, Ix2, s};
use rand::Rng;

use crate::error::check_config;
use crate::{
    Dropout, DropoutCache, Fixed, Linear, LinearCache, NnError, softmax, softmax_backward,
};

/// Multi-head attention and, at the same time, the type of its gradient.
///
/// The rows of `x` ask, the rows of `memory` answer. For self-attention give the same array twice
/// and add the two input gradients.
///
/// ```
/// use modalign_core::{Parameters, Stream, rng};
/// use modalign_nn::MultiHeadAttention;
/// use ndarray::array;
///
/// let mut rng = rng(1, Stream::Initialisation);
/// let mut attention = MultiHeadAttention::<f64>::new(2, 1, 0.0, &mut rng)?;
/// attention.set_zero();
/// attention.value.weight = array![[1.0, 0.0], [0.0, 1.0]];
/// attention.output.weight = array![[1.0, 0.0], [0.0, 1.0]];
/// // Two sequences, of lengths 2 and 1. With zero queries a row is the mean of its own sequence.
/// let x = array![[1.0, 2.0], [3.0, 6.0], [7.0, 7.0]];
/// let y = attention.infer(x.view(), &[2, 1], x.view(), &[2, 1])?;
/// assert_eq!(y, array![[2.0, 4.0], [2.0, 4.0], [7.0, 7.0]]);
/// # Ok::<(), modalign_nn::NnError>(())
/// ```
///
/// # References
///
/// A. Vaswani et al., "Attention Is All You Need", 2017, arXiv 1706.03762.
#[derive(Debug, Clone, PartialEq)]
pub struct MultiHeadAttention<A> {
    /// Q `[D, D]`.
    pub query: Linear<A>,
    /// K `[D, D]`.
    pub key: Linear<A>,
    /// V `[D, D]`.
    pub value: Linear<A>,
    /// From the heads, side by side, to the output `[D, D]`.
    pub output: Linear<A>,
    heads: Fixed<A, usize>,
    dropout: Fixed<A, Dropout>,
}
impl_parameters!(MultiHeadAttention {
    query,
    key,
    value,
    output,
    heads,
    dropout
});

/// What the backward pass of [`MultiHeadAttention`] needs.
#[derive(Debug)]
pub struct MultiHeadAttentionCache<A> {
    x: Array2<A>,
    memory: Array2<A>,
    projections: Projections<A>,
    blocks: Vec<Block>,
    /// Of every block and head.
    probabilities: Vec<(Array2<A>, DropoutCache<A, Ix2>)>,
    output: LinearCache<A>,
}

#[derive(Debug)]
struct Projections<A> {
    query: Array2<A>,
    key: Array2<A>,
    value: Array2<A>,
}

/// The rows of one sequence.
#[derive(Debug)]
struct Block {
    x: Range<usize>,
    memory: Range<usize>,
}

impl<A: Scalar> MultiHeadAttention<A> {
    /// Draws the weights of `heads` heads for `size` features, with dropout of the probabilities at
    /// `dropout`, in [0, 1).
    ///
    /// # Errors
    ///
    /// [`NnError::Config`] if a value is outside its range or `size` is not a multiple of `heads`.
    pub fn new(
        size: usize,
        heads: usize,
        dropout: f64,
        rng: &mut impl Rng,
    ) -> Result<Self, NnError> {
        check_heads("attention", size, heads)?;
        Ok(Self {
            query: Linear::new(size, size, rng)?,
            key: Linear::new(size, size, rng)?,
            value: Linear::new(size, size, rng)?,
            output: Linear::new(size, size, rng)?,
            heads: Fixed::new(heads),
            dropout: Fixed::new(Dropout::new(dropout)?),
        })
    }

    /// `y [ΣL, D]` for `x [ΣL, D]` that attends to `memory [ΣK, D]`, and the cache of the backward
    /// pass. Sequence `b` is the next `lengths[b]` rows of `x` and the next `memory_lengths[b]` rows
    /// of `memory`.
    ///
    /// # Errors
    ///
    /// [`NnError::Shape`] if a width or the sum of the lengths does not fit, [`NnError::Empty`] if a
    /// sequence with rows in `x` has none in `memory`.
    pub fn forward(
        &self,
        x: ArrayView2<A>,
        lengths: &[usize],
        memory: ArrayView2<A>,
        memory_lengths: &[usize],
        rng: &mut impl Rng,
    ) -> Result<(Array2<A>, MultiHeadAttentionCache<A>), NnError> {
        let blocks = blocks(x, lengths, memory, memory_lengths)?;
        let projections = self.project(x, memory)?;
        let mut probabilities = Vec::with_capacity(blocks.len() * *self.heads);
        let context = self.attend(&projections, &blocks, |block| {
            let (dropped, dropout) = self.dropout.forward(block.clone(), rng);
            probabilities.push((block, dropout));
            dropped
        })?;
        let (y, output) = self.output.forward(context.view())?;
        let cache = MultiHeadAttentionCache {
            x: x.to_owned(),
            memory: memory.to_owned(),
            projections,
            blocks,
            probabilities,
            output,
        };
        Ok((y, cache))
    }

    /// As [`forward`](Self::forward), without dropout and without a cache.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn infer(
        &self,
        x: ArrayView2<A>,
        lengths: &[usize],
        memory: ArrayView2<A>,
        memory_lengths: &[usize],
    ) -> Result<Array2<A>, NnError> {
        let blocks = blocks(x, lengths, memory, memory_lengths)?;
        let projections = self.project(x, memory)?;
        let context = self.attend(&projections, &blocks, |block| block)?;
        self.output.infer(context.view())
    }

    /// Adds the gradients of the weights to `grads` and returns `dx [ΣL, D]` and
    /// `dmemory [ΣK, D]`.
    ///
    /// # Errors
    ///
    /// [`NnError::Shape`] if `dy` or `grads` does not fit.
    pub fn backward(
        &self,
        cache: MultiHeadAttentionCache<A>,
        dy: ArrayView2<A>,
        grads: &mut Self,
    ) -> Result<(Array2<A>, Array2<A>), NnError> {
        let MultiHeadAttentionCache {
            x,
            memory,
            projections: Projections { query, key, value },
            blocks,
            probabilities,
            output,
        } = cache;
        let dcontext = self.output.backward(output, dy, &mut grads.output)?;
        let mut dquery = Array2::zeros(query.raw_dim());
        let mut dkey = Array2::zeros(key.raw_dim());
        let mut dvalue = Array2::zeros(value.raw_dim());
        let (scale, one, zero) = (self.scale(), A::one(), A::zero());
        let places = blocks
            .iter()
            .flat_map(|block| self.columns().map(move |columns| (block, columns)));
        for ((block, columns), (probabilities, dropout)) in places.zip(probabilities) {
            let asking = s![block.x.clone(), columns.clone()];
            let answering = s![block.memory.clone(), columns];
            let dcontext = dcontext.slice(&asking);
            let dropped = dropout.scale(probabilities.clone());
            let mut dvalue = dvalue.slice_mut(&answering);
            gemm(one, &dropped.t(), &dcontext, zero, &mut dvalue)?;

            let mut ddropped = Array2::zeros(dropped.raw_dim());
            let value = value.slice(&answering);
            gemm(one, &dcontext, &value.t(), zero, &mut ddropped)?;
            let dprobabilities = dropout.scale(ddropped);
            let dscores = softmax_backward(probabilities.view(), dprobabilities.view())?;

            let (query, key) = (query.slice(&asking), key.slice(&answering));
            gemm(scale, &dscores, &key, zero, &mut dquery.slice_mut(&asking))?;
            let mut dkey = dkey.slice_mut(&answering);
            gemm(scale, &dscores.t(), &query, zero, &mut dkey)?;
        }
        let (x, memory) = (x.view(), memory.view());
        let dx = self.query.backward_at(x, dquery.view(), &mut grads.query)?;
        let mut dmemory = self.key.backward_at(memory, dkey.view(), &mut grads.key)?;
        dmemory += &self
            .value
            .backward_at(memory, dvalue.view(), &mut grads.value)?;
        Ok((dx, dmemory))
    }

    fn project(&self, x: ArrayView2<A>, memory: ArrayView2<A>) -> Result<Projections<A>, NnError> {
        Ok(Projections {
            query: self.query.infer(x)?,
            key: self.key.infer(memory)?,
            value: self.value.infer(memory)?,
        })
    }

    /// The heads' outputs side by side `[ΣL, D]`; `weights` makes weights of the probabilities of
    /// every block and head.
    fn attend(
        &self,
        Projections { query, key, value }: &Projections<A>,
        blocks: &[Block],
        mut weights: impl FnMut(Array2<A>) -> Array2<A>,
    ) -> Result<Array2<A>, NnError> {
        let mut context = Array2::zeros(query.raw_dim());
        for block in blocks {
            for columns in self.columns() {
                let asking = s![block.x.clone(), columns.clone()];
                let answering = s![block.memory.clone(), columns];
                let (query, key) = (query.slice(&asking), key.slice(&answering));
                let mut scores = Array2::zeros((query.nrows(), key.nrows()));
                gemm(self.scale(), &query, &key.t(), A::zero(), &mut scores)?;
                let weights = weights(softmax(scores));
                let value = value.slice(&answering);
                let mut context = context.slice_mut(&asking);
                gemm(A::one(), &weights, &value, A::zero(), &mut context)?;
            }
        }
        Ok(context)
    }

    /// The columns of every head.
    fn columns(&self) -> impl Iterator<Item = Range<usize>> + use<A> {
        let size = self.head_size();
        (0..*self.heads).map(move |head| head * size..(head + 1) * size)
    }

    fn scale(&self) -> A {
        A::from_f64((self.head_size() as f64).sqrt().recip())
    }

    fn head_size(&self) -> usize {
        self.query.output_size() / *self.heads
    }
}

/// Fails unless `size` features can be dealt out to `heads` heads.
pub(crate) fn check_heads(
    operation: &'static str,
    size: usize,
    heads: usize,
) -> Result<(), NnError> {
    let holds = heads > 0 && size.is_multiple_of(heads);
    let expected = "a divisor of the number of features";
    check_config(holds, operation, "heads", expected, heads as f64)
}

fn blocks<A>(
    x: ArrayView2<A>,
    lengths: &[usize],
    memory: ArrayView2<A>,
    memory_lengths: &[usize],
) -> Result<Vec<Block>, NnError> {
    check_shape(
        "attention",
        "memory_lengths",
        &[memory_lengths.len()],
        &[lengths.len()],
    )?;
    let mut blocks = Vec::with_capacity(lengths.len());
    let (mut x_row, mut memory_row) = (0, 0);
    for (&length, &memory_length) in lengths.iter().zip(memory_lengths) {
        if length > 0 && memory_length == 0 {
            return Err(NnError::Empty {
                operation: "attention",
            });
        }
        let block = Block {
            x: x_row..x_row + length,
            memory: memory_row..memory_row + memory_length,
        };
        (x_row, memory_row) = (block.x.end, block.memory.end);
        if length > 0 {
            blocks.push(block);
        }
    }
    for (operand, found, rows) in [
        ("x", x.nrows(), x_row),
        ("memory", memory.nrows(), memory_row),
    ] {
        check_shape("attention: rows and lengths", operand, &[found], &[rows])?;
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_additive, check_input, check_parameters, random, rng};
    use approx::assert_abs_diff_eq;
    use modalign_core::Parameters;
    use proptest::prelude::*;
    use rand::RngExt;

    fn lengths(count: usize, range: Range<usize>, rng: &mut impl Rng) -> Vec<usize> {
        (0..count)
            .map(|_| rng.random_range(range.clone()))
            .collect()
    }

    /// One query, one head, one key at a time, from the formula.
    fn naive(
        layer: &MultiHeadAttention<f64>,
        x: &Array2<f64>,
        lengths: &[usize],
        memory: &Array2<f64>,
        memory_lengths: &[usize],
    ) -> Array2<f64> {
        let project =
            |linear: &Linear<f64>, x: &Array2<f64>| x.dot(&linear.weight.t()) + &linear.bias;
        let (query, key) = (project(&layer.query, x), project(&layer.key, memory));
        let value = project(&layer.value, memory);
        let mut context = Array2::zeros(x.raw_dim());
        let size = x.ncols() / *layer.heads;
        let (mut row, mut start) = (0, 0);
        for (&length, &memory_length) in lengths.iter().zip(memory_lengths) {
            for n in row..row + length {
                for head in 0..*layer.heads {
                    let features = head * size..(head + 1) * size;
                    let weights: Vec<f64> = (start..start + memory_length)
                        .map(|m| {
                            let score: f64 =
                                features.clone().map(|d| query[[n, d]] * key[[m, d]]).sum();
                            (score / (size as f64).sqrt()).exp()
                        })
                        .collect();
                    let total: f64 = weights.iter().sum();
                    for d in features {
                        for (offset, weight) in weights.iter().enumerate() {
                            context[[n, d]] += weight / total * value[[start + offset, d]];
                        }
                    }
                }
            }
            row += length;
            start += memory_length;
        }
        project(&layer.output, &context)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn gradients(
            (heads, head_size, count) in (1_usize..4, 1_usize..3, 1_usize..4),
            dropout in prop_oneof![Just(0.0), 0.1..0.7],
            seed: u64,
        ) {
            let mut draw = rng(seed);
            let size = heads * head_size;
            let layer = MultiHeadAttention::<f64>::new(size, heads, dropout, &mut draw).unwrap();
            let (l, k) = (lengths(count, 0..4, &mut draw), lengths(count, 1..4, &mut draw));
            let x = random((l.iter().sum(), size), &mut draw);
            let memory = random((k.iter().sum(), size), &mut draw);
            let dy = random(x.raw_dim(), &mut draw);
            let forward = |layer: &MultiHeadAttention<f64>, x: &Array2<f64>, memory: &Array2<f64>| {
                layer.forward(x.view(), &l, memory.view(), &k, &mut rng(seed)).unwrap()
            };
            let mut grads = layer.zeros_like();
            let (_, cache) = forward(&layer, &x, &memory);
            let (dx, dmemory) = layer.backward(cache, dy.view(), &mut grads).unwrap();
            check_input("dx", &x, &dx, &dy, |x| forward(&layer, x, &memory).0);
            check_input("dmemory", &memory, &dmemory, &dy, |memory| forward(&layer, &x, memory).0);
            check_parameters(&layer, &grads, &dy, |layer| forward(layer, &x, &memory).0);
            assert_additive(&layer, &grads, |grads| {
                let (_, cache) = forward(&layer, &x, &memory);
                layer.backward(cache, dy.view(), grads).unwrap();
            });
        }

        #[test]
        fn follows_the_formula_entry_by_entry(
            (heads, head_size, count) in (1_usize..4, 1_usize..5, 1_usize..5),
            seed: u64,
        ) {
            let mut draw = rng(seed);
            let size = heads * head_size;
            let layer = MultiHeadAttention::<f64>::new(size, heads, 0.5, &mut draw).unwrap();
            let (l, k) = (lengths(count, 0..7, &mut draw), lengths(count, 1..7, &mut draw));
            let x = random((l.iter().sum(), size), &mut draw);
            let memory = random((k.iter().sum(), size), &mut draw);
            let y = layer.infer(x.view(), &l, memory.view(), &k).unwrap();
            let expected = naive(&layer, &x, &l, &memory, &k);
            assert_abs_diff_eq!(y, expected, epsilon = 1e-13);
        }
    }

    #[test]
    fn without_dropout_forward_and_infer_agree() {
        let layer = MultiHeadAttention::<f32>::new(4, 2, 0.0, &mut rng(1)).unwrap();
        let x = random((5, 4), &mut rng(2)).mapv(|x| x as f32);
        let lengths = [3, 2];
        let (y, _) = layer
            .forward(x.view(), &lengths, x.view(), &lengths, &mut rng(3))
            .unwrap();
        let inferred = layer.infer(x.view(), &lengths, x.view(), &lengths).unwrap();
        assert_eq!(y, inferred);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for heads in [0, 3] {
            let error = MultiHeadAttention::<f64>::new(4, heads, 0.0, &mut rng(1)).unwrap_err();
            assert!(matches!(
                error,
                NnError::Config {
                    parameter: "heads",
                    ..
                }
            ));
        }
        let layer = MultiHeadAttention::<f64>::new(4, 2, 0.0, &mut rng(1)).unwrap();
        let x = Array2::zeros((3, 4));
        let infer = |lengths: &[usize], memory_lengths: &[usize]| {
            layer.infer(x.view(), lengths, x.view(), memory_lengths)
        };
        assert!(infer(&[2, 1], &[1, 2]).is_ok());
        assert!(matches!(infer(&[2, 2], &[1, 2]), Err(NnError::Shape(_))));
        assert!(matches!(infer(&[2, 1], &[1, 1]), Err(NnError::Shape(_))));
        assert!(matches!(infer(&[3], &[1, 2]), Err(NnError::Shape(_))));
        let empty = infer(&[2, 1], &[3, 0]).unwrap_err();
        assert_eq!(
            empty,
            NnError::Empty {
                operation: "attention"
            }
        );
    }
}
