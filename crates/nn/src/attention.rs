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
//! one matrix product each for the whole batch. Threads take a sequence each, whose rows stay in the
//! cache from the biases to the context; its gradients take the places of what they belong to.

use std::ops::Range;

use modalign_core::{Scalar, check_shape, impl_parameters};
use modalign_linalg::gemm;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};
use rand::Rng;

use crate::dropout::DropoutMask;
use crate::error::check_config;
use crate::parts::{entries_mut, take, try_for_each_part};
use crate::pool::{copy, keep, matrix, numbers, product, recycle};
use crate::softmax::{softmax_backward_rows, softmax_rows};
use crate::{Dropout, Fixed, Linear, NnError};

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
    /// Absent where `x` attends to itself.
    memory: Option<Array2<A>>,
    projections: Projections<A>,
    context: Array2<A>,
    /// Of every block and head, before dropout.
    probabilities: Vec<A>,
    blocks: Vec<Block>,
    mask: DropoutMask,
}

#[derive(Debug)]
struct Projections<A> {
    query: Array2<A>,
    key: Array2<A>,
    value: Array2<A>,
}

impl<A: Scalar> Projections<A> {
    fn recycle(self) {
        [self.query, self.key, self.value]
            .into_iter()
            .for_each(recycle);
    }
}

/// The rows of one sequence.
#[derive(Debug)]
struct Block {
    x: usize,
    memory: usize,
}

/// What belongs to one sequence, row after row.
struct Part<'a, A> {
    block: usize,
    rows: usize,
    keys: usize,
    query: &'a mut [A],
    key: &'a mut [A],
    value: &'a mut [A],
    /// The heads' outputs side by side, or the gradient in them.
    context: &'a mut [A],
    /// Of all heads; empty if nobody needs them later.
    probabilities: &'a mut [A],
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
        let memory = Some((memory, memory_lengths));
        let (mut y, cache) = self.attend(x, lengths, memory, self.draw_dropout(rng))?;
        y += &self.output.bias;
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
        let mut y = self.infer_attend(x, lengths, Some((memory, memory_lengths)))?;
        y += &self.output.bias;
        Ok(y)
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
        let mut dx = Array2::zeros(cache.x.raw_dim());
        let memory = cache.memory.as_ref().unwrap_or(&cache.x);
        let mut dmemory = Array2::zeros(memory.raw_dim());
        self.add_backward(cache, dy, grads, &mut dx, Some(&mut dmemory))?;
        Ok((dx, dmemory))
    }

    /// Draws which probabilities a pass drops.
    pub(crate) fn draw_dropout(&self, rng: &mut impl Rng) -> DropoutMask {
        self.dropout.mask(rng)
    }

    /// As [`forward`](Self::forward), without the bias of the output; `x` attends to itself where
    /// there is no `memory`.
    pub(crate) fn attend(
        &self,
        x: ArrayView2<A>,
        lengths: &[usize],
        memory: Option<(ArrayView2<A>, &[usize])>,
        mask: DropoutMask,
    ) -> Result<(Array2<A>, MultiHeadAttentionCache<A>), NnError> {
        let (memory_rows, memory_lengths) = memory.unwrap_or((x, lengths));
        let blocks = blocks(x, lengths, memory_rows, memory_lengths)?;
        let mut projections = self.project(x, memory_rows)?;
        let mut context = matrix(x.dim());
        let pairs: usize = blocks.iter().map(|block| block.x * block.memory).sum();
        let mut probabilities = numbers(*self.heads * pairs);
        let parts = self.parts(&blocks, &mut projections, &mut context, &mut probabilities);
        try_for_each_part(*self.heads * pairs, parts, |part| {
            self.attend_part(part, mask)
        })?;
        let y = product(&context, &self.output.weight.t())?;
        let cache = MultiHeadAttentionCache {
            x: copy(x),
            memory: memory.map(|(memory, _)| copy(memory)),
            projections,
            context,
            probabilities,
            blocks,
            mask,
        };
        Ok((y, cache))
    }

    /// As [`attend`](Self::attend), without dropout and without a cache.
    pub(crate) fn infer_attend(
        &self,
        x: ArrayView2<A>,
        lengths: &[usize],
        memory: Option<(ArrayView2<A>, &[usize])>,
    ) -> Result<Array2<A>, NnError> {
        let (memory, memory_lengths) = memory.unwrap_or((x, lengths));
        let blocks = blocks(x, lengths, memory, memory_lengths)?;
        let mut projections = self.project(x, memory)?;
        let mut context = matrix(x.dim());
        let entries = context.len();
        let parts = self.parts(&blocks, &mut projections, &mut context, &mut []);
        try_for_each_part(entries, parts, |part| {
            self.attend_part(part, DropoutMask::NONE)
        })?;
        projections.recycle();
        let y = product(&context, &self.output.weight.t())?;
        recycle(context);
        Ok(y)
    }

    /// Adds the gradients of the weights to `grads`, and those of the inputs to `dx` and `dmemory`,
    /// or all to `dx` if there is no other.
    pub(crate) fn add_backward(
        &self,
        cache: MultiHeadAttentionCache<A>,
        dy: ArrayView2<A>,
        grads: &mut Self,
        dx: &mut Array2<A>,
        dmemory: Option<&mut Array2<A>>,
    ) -> Result<(), NnError> {
        let MultiHeadAttentionCache {
            x,
            memory,
            mut projections,
            context,
            mut probabilities,
            blocks,
            mask,
        } = cache;
        self.output
            .add_gradients(context.view(), dy, &mut grads.output)?;
        let mut dcontext = context;
        gemm(A::one(), &dy, &self.output.weight, A::zero(), &mut dcontext)?;
        let entries = probabilities.len();
        let parts = self.parts(&blocks, &mut projections, &mut dcontext, &mut probabilities);
        try_for_each_part(entries, parts, |part| self.backward_part(part, mask))?;
        recycle(dcontext);
        keep(probabilities);

        let memory = memory.as_ref().unwrap_or(&x).view();
        let Projections { query, key, value } = projections;
        self.query
            .add_gradients(x.view(), query.view(), &mut grads.query)?;
        gemm(A::one(), &query, &self.query.weight, A::one(), dx)?;
        recycle(query);
        let dmemory = dmemory.unwrap_or(dx);
        for (layer, gradient, grads) in [
            (&self.key, key, &mut grads.key),
            (&self.value, value, &mut grads.value),
        ] {
            layer.add_gradients(memory, gradient.view(), grads)?;
            gemm(A::one(), &gradient, &layer.weight, A::one(), dmemory)?;
            recycle(gradient);
        }
        recycle(x);
        Ok(())
    }

    /// Queries, keys and values, without their biases.
    fn project(&self, x: ArrayView2<A>, memory: ArrayView2<A>) -> Result<Projections<A>, NnError> {
        let width = self.query.input_size();
        check_shape("attention", "x", x.shape(), &[x.nrows(), width])?;
        check_shape(
            "attention",
            "memory",
            memory.shape(),
            &[memory.nrows(), width],
        )?;
        Ok(Projections {
            query: product(&x, &self.query.weight.t())?,
            key: product(&memory, &self.key.weight.t())?,
            value: product(&memory, &self.value.weight.t())?,
        })
    }

    /// What belongs to each block; no probabilities if there is no room for them.
    fn parts<'a>(
        &self,
        blocks: &[Block],
        projections: &'a mut Projections<A>,
        context: &'a mut Array2<A>,
        mut probabilities: &'a mut [A],
    ) -> Vec<Part<'a, A>> {
        let width = context.ncols();
        let mut query = entries_mut(&mut projections.query);
        let mut key = entries_mut(&mut projections.key);
        let mut value = entries_mut(&mut projections.value);
        let mut context = entries_mut(context);
        let kept = !probabilities.is_empty();
        let part = |(
            block,
            &Block {
                x: rows,
                memory: keys,
            },
        ): (usize, &Block)| Part {
            block,
            rows,
            keys,
            query: take(&mut query, rows * width),
            key: take(&mut key, keys * width),
            value: take(&mut value, keys * width),
            context: take(&mut context, rows * width),
            probabilities: match kept {
                true => take(&mut probabilities, *self.heads * rows * keys),
                false => &mut [],
            },
        };
        blocks.iter().enumerate().map(part).collect()
    }

    /// Adds the biases to queries, keys and values, and computes probabilities and context.
    fn attend_part(&self, part: Part<'_, A>, mask: DropoutMask) -> Result<(), NnError> {
        let width = self.query.output_size();
        let (rows, keys) = (part.rows, part.keys);
        if rows == 0 {
            return Ok(());
        }
        let mut query = view_mut(rows, width, part.query);
        query += &self.query.bias;
        let mut key = view_mut(keys, width, part.key);
        key += &self.key.bias;
        let mut value = view_mut(keys, width, part.value);
        value += &self.value.bias;
        let mut context = view_mut(rows, width, part.context);
        let size = rows * keys;
        let mut scratch = vec![A::zero(); size];
        for (head, columns) in self.columns().enumerate() {
            let kept = part.probabilities.get_mut(head * size..(head + 1) * size);
            let (query, key) = (
                query.slice(s![.., columns.clone()]),
                key.slice(s![.., columns.clone()]),
            );
            let weights = match kept {
                Some(probabilities) => {
                    let mut scores = view_mut(rows, keys, probabilities);
                    gemm(self.scale(), &query, &key.t(), A::zero(), &mut scores)?;
                    softmax_rows(probabilities, keys);
                    scratch.copy_from_slice(probabilities);
                    mask.scale(part.block * *self.heads + head, &mut scratch);
                    view(rows, keys, &scratch)
                }
                None => {
                    let mut scores = view_mut(rows, keys, &mut scratch);
                    gemm(self.scale(), &query, &key.t(), A::zero(), &mut scores)?;
                    softmax_rows(&mut scratch, keys);
                    view(rows, keys, &scratch)
                }
            };
            let value = value.slice(s![.., columns.clone()]);
            let mut context = context.slice_mut(s![.., columns]);
            gemm(A::one(), &weights, &value, A::zero(), &mut context)?;
        }
        Ok(())
    }

    /// Puts the gradients in queries, keys and values into their places.
    fn backward_part(&self, part: Part<'_, A>, mask: DropoutMask) -> Result<(), NnError> {
        let width = self.query.output_size();
        let (rows, keys) = (part.rows, part.keys);
        if rows == 0 {
            part.key.fill(A::zero());
            part.value.fill(A::zero());
            return Ok(());
        }
        let mut query = view_mut(rows, width, part.query);
        let mut key = view_mut(keys, width, part.key);
        let mut value = view_mut(keys, width, part.value);
        let dcontext = view(rows, width, part.context);
        let size = rows * keys;
        let mut scratch = vec![A::zero(); size];
        let mut dkey = Array2::zeros((keys, self.head_size()));
        let (scale, one, zero) = (self.scale(), A::one(), A::zero());
        for (head, columns) in self.columns().enumerate() {
            let probabilities = &mut part.probabilities[head * size..(head + 1) * size];
            let row = part.block * *self.heads + head;
            let dcontext = dcontext.slice(s![.., columns.clone()]);
            let mut query = query.slice_mut(s![.., columns.clone()]);
            let mut key = key.slice_mut(s![.., columns.clone()]);
            let mut value = value.slice_mut(s![.., columns]);

            let mut ddropped = Array2::zeros((rows, keys));
            gemm(one, &dcontext, &value.t(), zero, &mut ddropped)?;
            scratch.copy_from_slice(probabilities);
            mask.scale(row, &mut scratch);
            gemm(
                one,
                &view(rows, keys, &scratch).t(),
                &dcontext,
                zero,
                &mut value,
            )?;

            let dprobabilities = entries_mut(&mut ddropped);
            mask.scale(row, dprobabilities);
            softmax_backward_rows(probabilities, dprobabilities, keys);
            let dscores = view(rows, keys, probabilities);
            gemm(scale, &dscores.t(), &query, zero, &mut dkey)?;
            gemm(scale, &dscores, &key, zero, &mut query)?;
            key.assign(&dkey);
        }
        Ok(())
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
    let pairs = lengths.iter().zip(memory_lengths);
    let blocks: Vec<_> = pairs.map(|(&x, &memory)| Block { x, memory }).collect();
    if blocks.iter().any(|block| block.x > 0 && block.memory == 0) {
        return Err(NnError::Empty {
            operation: "attention",
        });
    }
    for (operand, found, rows) in [
        ("x", x.nrows(), lengths),
        ("memory", memory.nrows(), memory_lengths),
    ] {
        let rows = rows
            .iter()
            .fold(0_usize, |sum, &rows| sum.saturating_add(rows));
        check_shape("attention: rows and lengths", operand, &[found], &[rows])?;
    }
    Ok(blocks)
}

fn view<A>(rows: usize, columns: usize, entries: &[A]) -> ArrayView2<'_, A> {
    ArrayView2::from_shape((rows, columns), entries).expect("there are rows * columns entries")
}

fn view_mut<A>(rows: usize, columns: usize, entries: &mut [A]) -> ArrayViewMut2<'_, A> {
    ArrayViewMut2::from_shape((rows, columns), entries).expect("there are rows * columns entries")
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
