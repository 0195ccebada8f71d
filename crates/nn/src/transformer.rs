//! The encoder layer of BERT: attention and a feed-forward part, each added to its input and
//! normalised afterwards.
//!
//! ```text
//! h = norm(x + dropout(attention(x)))
//! y = norm(h + dropout(W₂ activation(W₁ h + b₁) + b₂))
//! ```

use modalign_core::{Scalar, check_shape, impl_parameters};
use modalign_linalg::gemm;
use ndarray::{Array2, ArrayBase, ArrayView2, Data, Ix2};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::attention::check_heads;
use crate::dropout::DropoutMask;
use crate::error::{check_config, check_size};
use crate::layer_norm::Addends;
use crate::pool::{product, recycle};
use crate::{
    Activation, ActivationCache, Dropout, Fixed, LayerNorm, LayerNormCache, Linear,
    MultiHeadAttention, MultiHeadAttentionCache, NnError,
};

/// The form of a [`TransformerLayer`]. The defaults are those of BERT-base.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransformerConfig {
    /// Features of a token D, at least 1. Default 768.
    pub hidden_size: usize,
    /// Attention heads, a divisor of `hidden_size`. Default 12.
    pub heads: usize,
    /// Features inside the feed-forward part, at least 1. Default 3072.
    pub intermediate_size: usize,
    /// The activation of the feed-forward part. Default GELU.
    pub activation: Activation,
    /// Dropout of what each part adds, in [0, 1). Default 0.1.
    pub dropout: f64,
    /// Dropout of the attention probabilities, in [0, 1). Default 0.1.
    pub attention_dropout: f64,
    /// Added to variances, above 0. Default 1e-12.
    pub layer_norm_epsilon: f64,
}

impl Default for TransformerConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            heads: 12,
            intermediate_size: 3072,
            activation: Activation::Gelu,
            dropout: 0.1,
            attention_dropout: 0.1,
            layer_norm_epsilon: 1e-12,
        }
    }
}

impl TransformerConfig {
    /// Checks every value.
    ///
    /// # Errors
    ///
    /// [`NnError::Config`] naming the value that is out of its range.
    pub fn validate(&self) -> Result<(), NnError> {
        let operation = "transformer";
        for (parameter, size) in [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
        ] {
            check_size(operation, parameter, size)?;
        }
        check_heads(operation, self.hidden_size, self.heads)?;
        for (parameter, rate) in [
            ("dropout", self.dropout),
            ("attention_dropout", self.attention_dropout),
        ] {
            let holds = (0.0..1.0).contains(&rate);
            check_config(holds, operation, parameter, "in [0, 1)", rate)?;
        }
        let epsilon = self.layer_norm_epsilon;
        let holds = epsilon > 0.0 && epsilon.is_finite();
        check_config(holds, operation, "layer_norm_epsilon", "above 0", epsilon)
    }
}

/// An encoder layer of BERT and, at the same time, the type of its gradient.
///
/// Sequences follow each other without padding, as [`MultiHeadAttention`] takes them.
///
/// ```
/// use modalign_core::{Stream, rng};
/// use modalign_nn::{TransformerConfig, TransformerLayer};
/// use ndarray::Array2;
///
/// let config = TransformerConfig {
///     hidden_size: 8, heads: 2, intermediate_size: 16, ..TransformerConfig::default()
/// };
/// let layer = TransformerLayer::<f64>::new(&config, &mut rng(1, Stream::Initialisation))?;
/// let x = Array2::from_shape_fn((5, 8), |(token, feature)| (token * feature) as f64);
/// let y = layer.infer(x.view(), &[3, 2])?;
/// // The last step is a normalisation with scale 1 and shift 0.
/// assert!(y.row(4).sum().abs() < 1e-9);
/// # Ok::<(), modalign_nn::NnError>(())
/// ```
///
/// # References
///
/// J. Devlin, M.-W. Chang, K. Lee and K. Toutanova, "BERT: Pre-training of Deep Bidirectional
/// Transformers for Language Understanding", 2019, arXiv 1810.04805.
#[derive(Debug, Clone, PartialEq)]
pub struct TransformerLayer<A> {
    /// From each token of a sequence to all of it.
    pub attention: MultiHeadAttention<A>,
    /// After the attention.
    pub attention_norm: LayerNorm<A>,
    /// Into the feed-forward part `[intermediate_size, D]`.
    pub intermediate: Linear<A>,
    /// Out of the feed-forward part `[D, intermediate_size]`.
    pub output: Linear<A>,
    /// After the feed-forward part.
    pub output_norm: LayerNorm<A>,
    activation: Fixed<A, Activation>,
    dropout: Fixed<A, Dropout>,
}
impl_parameters!(TransformerLayer {
    attention,
    attention_norm,
    intermediate,
    output,
    output_norm,
    activation,
    dropout
});

/// The random state of one pass through a [`TransformerLayer`]: what is dropped is a function of it.
#[derive(Debug, Clone, Copy)]
pub struct TransformerDropout {
    probabilities: DropoutMask,
    attention: DropoutMask,
    output: DropoutMask,
}

/// What the backward pass of [`TransformerLayer`] needs.
#[derive(Debug)]
pub struct TransformerLayerCache<A> {
    attention: MultiHeadAttentionCache<A>,
    attention_norm: LayerNormCache<A>,
    activation: ActivationCache<A, Ix2>,
    /// The input of `output`.
    activated: Array2<A>,
    output_norm: LayerNormCache<A>,
    dropout: TransformerDropout,
}

impl<A: Scalar> TransformerLayer<A> {
    /// Draws the weights as [`Linear::new`] does; the norms start at scale 1 and shift 0.
    ///
    /// # Errors
    ///
    /// [`NnError::Config`] naming the value that is out of its range.
    pub fn new(config: &TransformerConfig, rng: &mut impl Rng) -> Result<Self, NnError> {
        config.validate()?;
        let (size, epsilon) = (config.hidden_size, config.layer_norm_epsilon);
        Ok(Self {
            attention: MultiHeadAttention::new(size, config.heads, config.attention_dropout, rng)?,
            attention_norm: LayerNorm::new(size, epsilon)?,
            intermediate: Linear::new(size, config.intermediate_size, rng)?,
            output: Linear::new(config.intermediate_size, size, rng)?,
            output_norm: LayerNorm::new(size, epsilon)?,
            activation: Fixed::new(config.activation),
            dropout: Fixed::new(Dropout::new(config.dropout)?),
        })
    }

    /// `y [ΣL, D]` for `x [ΣL, D]`, and the cache of the backward pass. Sequence `b` is the next
    /// `lengths[b]` rows.
    ///
    /// # Errors
    ///
    /// [`NnError::Shape`] if the width or the sum of the lengths does not fit.
    pub fn forward(
        &self,
        x: ArrayView2<A>,
        lengths: &[usize],
        rng: &mut impl Rng,
    ) -> Result<(Array2<A>, TransformerLayerCache<A>), NnError> {
        self.forward_with(x, lengths, self.draw_dropout(rng))
    }

    /// Draws what a pass drops.
    pub fn draw_dropout(&self, rng: &mut impl Rng) -> TransformerDropout {
        TransformerDropout {
            probabilities: self.attention.draw_dropout(rng),
            attention: self.dropout.mask(rng),
            output: self.dropout.mask(rng),
        }
    }

    /// As [`forward`](Self::forward), with what was drawn before. The same `dropout` gives the same
    /// bits again.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn forward_with(
        &self,
        x: ArrayView2<A>,
        lengths: &[usize],
        dropout: TransformerDropout,
    ) -> Result<(Array2<A>, TransformerLayerCache<A>), NnError> {
        let x = x.as_standard_layout();
        let probabilities = dropout.probabilities;
        let (a, attention) = self
            .attention
            .attend(x.view(), lengths, None, probabilities)?;
        let addends = addends(&self.attention.output, dropout.attention, &x)?;
        let (h, attention_norm) = self.attention_norm.forward_sum(a, Some(addends))?;
        let f = product(&h, &self.intermediate.weight.t())?;
        let bias = bias(&self.intermediate)?;
        let (activated, activation) = self.activation.forward_biased(f, bias);
        let f = product(&activated, &self.output.weight.t())?;
        let addends = self::addends(&self.output, dropout.output, &h)?;
        let (y, output_norm) = self.output_norm.forward_sum(f, Some(addends))?;
        let cache = TransformerLayerCache {
            attention,
            attention_norm,
            activation,
            activated,
            output_norm,
            dropout,
        };
        recycle(h);
        Ok((y, cache))
    }

    /// As [`forward`](Self::forward), without dropout and without a cache.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn infer(&self, x: ArrayView2<A>, lengths: &[usize]) -> Result<Array2<A>, NnError> {
        let x = x.as_standard_layout();
        let a = self.attention.infer_attend(x.view(), lengths, None)?;
        let none = DropoutMask::NONE;
        let addends = addends(&self.attention.output, none, &x)?;
        let h = self.attention_norm.infer_sum(a, Some(addends))?;
        let f = product(&h, &self.intermediate.weight.t())?;
        let f = self.activation.infer_biased(f, bias(&self.intermediate)?);
        let y = product(&f, &self.output.weight.t())?;
        recycle(f);
        let addends = self::addends(&self.output, none, &h)?;
        let y = self.output_norm.infer_sum(y, Some(addends))?;
        recycle(h);
        Ok(y)
    }

    /// Adds the gradients of the weights to `grads` and returns `dx [ΣL, D]`.
    ///
    /// # Errors
    ///
    /// [`NnError::Shape`] if `dy` or `grads` does not fit.
    pub fn backward(
        &self,
        cache: TransformerLayerCache<A>,
        dy: ArrayView2<A>,
        grads: &mut Self,
    ) -> Result<Array2<A>, NnError> {
        let norm = &mut grads.output_norm;
        let mut dh = self.output_norm.backward(cache.output_norm, dy, norm)?;
        let df = cache.dropout.output.scaled(&dh);
        let activated = cache.activated;
        self.output
            .add_gradients(activated.view(), df.view(), &mut grads.output)?;
        recycle(activated);
        let dactivated = product(&df, &self.output.weight)?;
        recycle(df);
        let df = self.activation.backward(cache.activation, dactivated)?;
        let h = self.attention_norm.output(&cache.attention_norm);
        self.intermediate
            .add_gradients(h.view(), df.view(), &mut grads.intermediate)?;
        recycle(h);
        gemm(A::one(), &df, &self.intermediate.weight, A::one(), &mut dh)?;
        recycle(df);

        let norm = &mut grads.attention_norm;
        let mut dx = self
            .attention_norm
            .backward(cache.attention_norm, dh.view(), norm)?;
        recycle(dh);
        let da = cache.dropout.attention.scaled(&dx);
        let attention = &mut grads.attention;
        self.attention
            .add_backward(cache.attention, da.view(), attention, &mut dx, None)?;
        recycle(da);
        Ok(dx)
    }
}

fn addends<'a, A: Scalar>(
    layer: &'a Linear<A>,
    mask: DropoutMask,
    residual: &'a ArrayBase<impl Data<Elem = A>, Ix2>,
) -> Result<Addends<'a, A>, NnError> {
    Ok(Addends {
        bias: bias(layer)?,
        mask,
        residual: residual.as_slice().expect("its layout is standard"),
    })
}

/// One number an output.
fn bias<A: Scalar>(layer: &Linear<A>) -> Result<&[A], NnError> {
    check_shape(
        "transformer",
        "bias",
        layer.bias.shape(),
        &[layer.output_size()],
    )?;
    Ok(layer.bias.as_slice().expect("parameters are contiguous"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_additive, check_input, check_parameters, random, rng};
    use approx::assert_abs_diff_eq;
    use modalign_core::Parameters;
    use ndarray::s;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn gradients(
            (heads, head_size, intermediate_size) in (1_usize..3, 1_usize..4, 1_usize..4),
            lengths in prop::collection::vec(0_usize..4, 1..4),
            activation in prop::sample::select(vec![Activation::Tanh, Activation::Gelu]),
            dropout in prop_oneof![Just(0.0), 0.1..0.7],
            attention_dropout in prop_oneof![Just(0.0), 0.1..0.7],
            exponent in -2.0..0.0_f64,
            seed: u64,
        ) {
            let config = TransformerConfig {
                hidden_size: heads * head_size,
                heads,
                intermediate_size,
                activation,
                dropout,
                attention_dropout,
                layer_norm_epsilon: 10_f64.powf(exponent),
            };
            let mut draw = rng(seed);
            let mut layer = TransformerLayer::<f64>::new(&config, &mut draw).unwrap();
            for (_, mut view) in layer.named_views_mut() {
                view += &random(view.raw_dim(), &mut draw).mapv(|x| 0.3 * x);
            }
            let x = random((lengths.iter().sum(), config.hidden_size), &mut draw);
            let dy = random(x.raw_dim(), &mut draw);
            let forward = |layer: &TransformerLayer<f64>, x: &Array2<f64>| {
                layer.forward(x.view(), &lengths, &mut rng(seed)).unwrap()
            };
            let mut grads = layer.zeros_like();
            let (y, cache) = forward(&layer, &x);
            if dropout == 0.0 && attention_dropout == 0.0 {
                prop_assert_eq!(y, layer.infer(x.view(), &lengths).unwrap());
            }
            let dx = layer.backward(cache, dy.view(), &mut grads).unwrap();
            check_input("dx", &x, &dx, &dy, |x| forward(&layer, x).0);
            check_parameters(&layer, &grads, &dy, |layer| forward(layer, &x).0);
            assert_additive(&layer, &grads, |grads| {
                let (_, cache) = forward(&layer, &x);
                layer.backward(cache, dy.view(), grads).unwrap();
            });
        }
    }

    fn small() -> TransformerConfig {
        TransformerConfig {
            hidden_size: 6,
            heads: 2,
            intermediate_size: 5,
            ..TransformerConfig::default()
        }
    }

    #[test]
    fn a_sequence_does_not_depend_on_its_batch() {
        let layer = TransformerLayer::<f64>::new(&small(), &mut rng(1)).unwrap();
        let x = random((6, 6), &mut rng(2));
        let together = layer.infer(x.view(), &[2, 3, 1]).unwrap();
        let alone = layer.infer(x.slice(s![2..5, ..]), &[3]).unwrap();
        assert_abs_diff_eq!(together.slice(s![2..5, ..]), alone, epsilon = 1e-14);
    }

    #[test]
    fn threads_change_no_bit() {
        let config = TransformerConfig {
            hidden_size: 64,
            heads: 4,
            intermediate_size: 96,
            ..TransformerConfig::default()
        };
        let layer = TransformerLayer::<f32>::new(&config, &mut rng(1)).unwrap();
        let lengths: Vec<usize> = (0..20).map(|text| 1 + text * 13 % 31).collect();
        let x = random((lengths.iter().sum(), 64), &mut rng(2)).mapv(|x| x as f32);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.unwrap().install(|| {
                let mut grads = layer.zeros_like();
                let (y, cache) = layer.forward(x.view(), &lengths, &mut rng(3)).unwrap();
                let dx = layer.backward(cache, y.view(), &mut grads).unwrap();
                let inferred = layer.infer(x.view(), &lengths).unwrap();
                (y, dx, inferred, grads)
            })
        };
        let expected = run(1);
        for threads in [2, 3] {
            assert!(run(threads) == expected, "{threads} threads");
        }
    }

    #[test]
    fn single_precision_follows_double() {
        let layer = TransformerLayer::<f64>::new(&small(), &mut rng(1)).unwrap();
        let single = TransformerLayer::<f32>::new(&small(), &mut rng(1)).unwrap();
        let x = random((5, 6), &mut rng(2));
        let y = layer.infer(x.view(), &[3, 2]).unwrap();
        let single = single.infer(x.mapv(|x| x as f32).view(), &[3, 2]).unwrap();
        assert_abs_diff_eq!(single.mapv(f64::from), y, epsilon = 1e-5);
    }

    #[test]
    fn configurations_are_checked_and_kept() {
        let default = TransformerConfig::default();
        default.validate().unwrap();
        let json = serde_json::to_string(&default).unwrap();
        assert_eq!(
            serde_json::from_str::<TransformerConfig>(&json).unwrap(),
            default
        );
        assert!(serde_json::from_str::<TransformerConfig>(r#"{"head": 2}"#).is_err());

        let wrong: [(&str, fn(&mut TransformerConfig)); 6] = [
            ("hidden_size", |config| config.hidden_size = 0),
            ("heads", |config| config.heads = 5),
            ("intermediate_size", |config| config.intermediate_size = 0),
            ("dropout", |config| config.dropout = 1.0),
            ("attention_dropout", |config| {
                config.attention_dropout = -0.1
            }),
            ("layer_norm_epsilon", |config| {
                config.layer_norm_epsilon = 0.0
            }),
        ];
        for (name, change) in wrong {
            let mut config = default;
            change(&mut config);
            let error = TransformerLayer::<f32>::new(&config, &mut rng(1)).unwrap_err();
            assert!(matches!(error, NnError::Config { parameter, .. } if parameter == name));
        }
    }
}
