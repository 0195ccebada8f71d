//! The multi-task model: one encoder a modality, a head for each and one for all together.
//!
//! ```text
//! r_s = encoder_s(x_s)                      the representation of modality s
//! (f_s, ŷ_s) = head_s(r_s)                  its feature and its own score
//! S_s = projection_s(r_s)                   what the shared-information loss compares
//! (f_m, ŷ_m) = head_m([r_text r_audio r_vision])
//! ```
//!
//! The unimodal heads sit beside the fusion, not before it: modalities meet in the encoders alone.
//! Source: Yu, Xu, Yuan and Wu, "Learning Modality-Specific Representations with Self-Supervised
//! Multi-Task Learning for Multimodal Sentiment Analysis", AAAI 2021, as its published code has it;
//! the projections are this project's choice, for covariances are comparable at one width only.

use modalign_core::{Parameters, Scalar, impl_parameters};
use modalign_data::Sequences;
use modalign_encoders::{
    BertEncoder, Encoder, EncoderCache, Modality, ProjectionHead, ProjectionHeadCache,
    RegressionHead, RegressionHeadCache,
};
use modalign_fusion::{Concatenation, ConcatenationCache};
use modalign_nn::Fixed;
use ndarray::{Array1, Array2, ArrayView3};
use rand::{Rng, RngExt};

use crate::{ExperimentConfig, TrainError};

/// One modality's part of the model, and the type of its gradient.
#[derive(Debug, Clone)]
pub struct Branch<A> {
    /// From features to the representation.
    pub encoder: Encoder<A>,
    /// The unimodal task.
    pub head: RegressionHead<A>,
    /// To the width that the shared-information loss compares; absent where that loss is off.
    pub projection: Option<ProjectionHead<A>>,
    /// Probability that a training row hides this modality from the fusion, in [0, 1).
    pub modality_dropout: Fixed<A, f64>,
}
impl_parameters!(Branch {
    encoder,
    head,
    projection,
    modality_dropout
});

/// The multi-task model and, at the same time, the type of its gradient.
#[derive(Debug, Clone)]
pub struct Model<A> {
    /// Text, if it is in use.
    pub text: Option<Branch<A>>,
    /// Audio, if it is in use.
    pub audio: Option<Branch<A>>,
    /// Vision, if it is in use.
    pub vision: Option<Branch<A>>,
    /// The task of all modalities together.
    pub fusion: RegressionHead<A>,
}
impl_parameters!(Model {
    text,
    audio,
    vision,
    fusion
});

/// The features of one modality for a batch.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a, A> {
    /// `[B, T, D]`; steps beyond a row's length do not matter.
    pub values: ArrayView3<'a, A>,
    /// `[B]`, each in 1 to T.
    pub lengths: &'a [usize],
}

impl<'a> From<&'a Sequences> for Input<'a, f32> {
    fn from(sequences: &'a Sequences) -> Self {
        Self {
            values: sequences.values.view(),
            lengths: &sequences.lengths,
        }
    }
}

/// What the model puts out for a batch. Per-modality entries are in the order of the model.
#[derive(Debug, Clone)]
pub struct Outputs<A> {
    /// Fused scores `[B]`.
    pub fused: Array1<A>,
    /// Unimodal scores, each `[B]`.
    pub unimodal: Vec<Array1<A>>,
    /// Features of the heads, each `[B, H]`: fusion first, then one a modality.
    pub features: Vec<Array2<A>>,
    /// Projections for the shared-information loss, each `[B, D]`; empty where it is off.
    pub shared: Vec<Array2<A>>,
}

/// The gradient of a loss in [`Outputs`]. No loss depends on the features: the label generator
/// takes them as constants.
#[derive(Debug, Clone)]
pub struct OutputGradients<A> {
    /// `[B]`.
    pub fused: Array1<A>,
    /// Each `[B]`.
    pub unimodal: Vec<Array1<A>>,
    /// Each `[B, D]`.
    pub shared: Vec<Array2<A>>,
}

/// What the backward pass of [`Model`] needs.
#[derive(Debug)]
pub struct ModelCache<A> {
    branches: Vec<BranchCache<A>>,
    fusion_input: ConcatenationCache,
    fusion: RegressionHeadCache<A>,
}

#[derive(Debug)]
struct BranchCache<A> {
    encoder: EncoderCache<A>,
    head: RegressionHeadCache<A>,
    projection: Option<ProjectionHeadCache<A>>,
    kept: Option<Array2<A>>,
}

/// The number of scalars of a model, the largest number if there are more. `text` is the parameters
/// and the output size of a pretrained text encoder.
pub(crate) fn parameter_count(
    config: &ExperimentConfig,
    widths: &[usize],
    mut text: Option<(usize, usize)>,
) -> usize {
    let shared = config.uses_shared_information();
    let (mut count, mut fusion_width) = (0_usize, 0_usize);
    for (modality, &width) in config.modalities_in_use().zip(widths) {
        let settings = config.modality(modality);
        let pretrained = match modality {
            Modality::Text => text.take(),
            _ => None,
        };
        let (encoder, size) = pretrained.unwrap_or_else(|| {
            let encoder = &settings.encoder;
            (encoder.parameter_count(width), encoder.output_size(width))
        });
        let projection = match shared {
            true => size
                .saturating_add(1)
                .saturating_mul(config.objective.shared_width),
            false => 0,
        };
        count = [encoder, settings.head.parameter_count(size), projection]
            .into_iter()
            .fold(count, usize::saturating_add);
        fusion_width = fusion_width.saturating_add(size);
    }
    count.saturating_add(config.fusion.parameter_count(fusion_width))
}

impl<A: Scalar> Model<A> {
    /// Draws the initial parameters for features of the given widths, one a modality in use.
    ///
    /// # Errors
    ///
    /// An invalid configuration, or as many widths as there are not modalities.
    pub fn new(
        config: &ExperimentConfig,
        widths: &[usize],
        rng: &mut impl Rng,
    ) -> Result<Self, TrainError> {
        Self::with_text_encoder(config, widths, None, rng)
    }

    /// As [`new`](Self::new), with a pretrained encoder in the place of the text encoder that the
    /// configuration describes. Its input is tokens, as
    /// [`TokenBatch::to_steps`](modalign_encoders::TokenBatch::to_steps) makes them.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_text_encoder(
        config: &ExperimentConfig,
        widths: &[usize],
        mut text: Option<BertEncoder<A>>,
        rng: &mut impl Rng,
    ) -> Result<Self, TrainError> {
        let pretrained = text
            .as_ref()
            .map(|text| (text.parameter_count(), text.output_size()));
        let parameters = parameter_count(config, widths, pretrained);
        let bytes = parameters.saturating_mul(size_of::<A>());
        // The memory is asked for and given back, so that what does not fit is an error here.
        if Vec::<u8>::new().try_reserve_exact(bytes).is_err() {
            return Err(TrainError::Memory { parameters });
        }
        let shared = config.uses_shared_information();
        let mut branches = [None, None, None];
        let mut fusion_width = 0;
        for (modality, &width) in config.modalities_in_use().zip(widths) {
            let settings = config.modality(modality);
            let pretrained = match modality {
                Modality::Text => text.take(),
                _ => None,
            };
            let encoder = match pretrained {
                Some(encoder) => Encoder::Bert(Box::new(encoder)),
                None => Encoder::new(&settings.encoder, width, rng)?,
            };
            let size = encoder.output_size();
            let head = RegressionHead::new(size, &settings.head, rng)?;
            let projection = shared
                .then(|| ProjectionHead::new(size, config.objective.shared_width, rng))
                .transpose()?;
            fusion_width += size;
            let modality_dropout = Fixed::new(settings.modality_dropout);
            branches[modality as usize] = Some(Branch {
                encoder,
                head,
                projection,
                modality_dropout,
            });
        }
        let fusion = RegressionHead::new(fusion_width, &config.fusion, rng)?;
        let [text, audio, vision] = branches;
        Ok(Self {
            text,
            audio,
            vision,
            fusion,
        })
    }

    /// The modalities in use, in order, with their parts.
    pub fn branches(&self) -> impl Iterator<Item = (Modality, &Branch<A>)> {
        let branches = [&self.text, &self.audio, &self.vision];
        Modality::ALL
            .into_iter()
            .zip(branches)
            .filter_map(|(modality, branch)| Some((modality, branch.as_ref()?)))
    }

    fn branches_mut(&mut self) -> impl Iterator<Item = &mut Branch<A>> {
        [&mut self.text, &mut self.audio, &mut self.vision]
            .into_iter()
            .flatten()
    }

    /// Widths of the features: fusion first, then one a modality.
    pub fn feature_widths(&self) -> Vec<usize> {
        std::iter::once(self.fusion.feature_size())
            .chain(
                self.branches()
                    .map(|(_, branch)| branch.head.feature_size()),
            )
            .collect()
    }

    /// Outputs of a batch in training, with the cache of the backward pass.
    ///
    /// Dropout masks come from `rng`. A row that modality dropout takes a modality from has zeros in
    /// its place in the fusion; the unimodal task of that modality goes on.
    ///
    /// # Errors
    ///
    /// Sequences that do not fit the model.
    pub fn forward(
        &self,
        inputs: &[Input<'_, A>],
        rng: &mut impl Rng,
    ) -> Result<(Outputs<A>, ModelCache<A>), TrainError> {
        let mut outputs = Outputs::empty();
        let mut caches = Vec::with_capacity(inputs.len());
        let mut representations = Vec::with_capacity(inputs.len());
        for ((_, branch), input) in self.branches().zip(inputs) {
            let (mut representation, encoder) =
                branch.encoder.forward(input.values, input.lengths, rng)?;
            let (feature, score, head) = branch.head.forward(representation.view(), rng)?;
            let projection = match &branch.projection {
                Some(projection) => {
                    let (shared, cache) = projection.forward(representation.view())?;
                    outputs.shared.push(shared);
                    Some(cache)
                }
                None => None,
            };
            outputs.features.push(feature);
            outputs.unimodal.push(score);
            let kept = keep(representation.nrows(), *branch.modality_dropout, rng);
            if let Some(kept) = &kept {
                representation *= kept;
            }
            caches.push(BranchCache {
                encoder,
                head,
                projection,
                kept,
            });
            representations.push(representation);
        }
        let views: Vec<_> = representations.iter().map(|one| one.view()).collect();
        let (joined, fusion_input) = Concatenation.forward(&views)?;
        let (feature, fused, fusion) = self.fusion.forward(joined.view(), rng)?;
        outputs.fused = fused;
        outputs.features.insert(0, feature);
        Ok((
            outputs,
            ModelCache {
                branches: caches,
                fusion_input,
                fusion,
            },
        ))
    }

    /// Outputs of a batch, without dropout and without a cache.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn infer(&self, inputs: &[Input<'_, A>]) -> Result<Outputs<A>, TrainError> {
        let mut outputs = Outputs::empty();
        let mut representations = Vec::with_capacity(inputs.len());
        for ((_, branch), input) in self.branches().zip(inputs) {
            let representation = branch.encoder.infer(input.values, input.lengths)?;
            let (feature, score) = branch.head.infer(representation.view())?;
            if let Some(projection) = &branch.projection {
                outputs
                    .shared
                    .push(projection.infer(representation.view())?);
            }
            outputs.features.push(feature);
            outputs.unimodal.push(score);
            representations.push(representation);
        }
        let views: Vec<_> = representations.iter().map(|one| one.view()).collect();
        let joined = Concatenation.infer(&views)?;
        let (feature, fused) = self.fusion.infer(joined.view())?;
        outputs.fused = fused;
        outputs.features.insert(0, feature);
        Ok(outputs)
    }

    /// Adds the gradient of every parameter to `grads`.
    ///
    /// # Errors
    ///
    /// Gradients that do not fit the outputs of the pass that made the cache.
    pub fn backward(
        &self,
        cache: ModelCache<A>,
        gradients: &OutputGradients<A>,
        grads: &mut Self,
    ) -> Result<(), TrainError> {
        let joined =
            self.fusion
                .backward(cache.fusion, gradients.fused.view(), &mut grads.fusion)?;
        let mut representations = Concatenation.backward(cache.fusion_input, joined.view())?;
        let parts = self
            .branches()
            .zip(grads.branches_mut())
            .zip(cache.branches);
        for (index, (((_, branch), grads), cache)) in parts.enumerate() {
            let mut representation = std::mem::take(&mut representations[index]);
            if let Some(kept) = &cache.kept {
                representation *= kept;
            }
            let score = gradients.unimodal[index].view();
            representation += &branch.head.backward(cache.head, score, &mut grads.head)?;
            if let (Some(projection), Some(cache), Some(grads)) =
                (&branch.projection, cache.projection, &mut grads.projection)
            {
                let shared = gradients.shared[index].view();
                representation += &projection.backward(cache, shared, grads)?;
            }
            branch
                .encoder
                .backward(cache.encoder, representation.view(), &mut grads.encoder)?;
        }
        Ok(())
    }
}

/// One factor a row, `[B, 1]`: 0 with probability `rate`, else 1; none at rate 0.
fn keep<A: Scalar>(rows: usize, rate: f64, rng: &mut impl Rng) -> Option<Array2<A>> {
    (rate > 0.0).then(|| {
        Array2::from_shape_simple_fn((rows, 1), || {
            if rng.random_bool(rate) {
                A::zero()
            } else {
                A::one()
            }
        })
    })
}

impl<A: Scalar> Outputs<A> {
    fn empty() -> Self {
        Self {
            fused: Array1::zeros(0),
            unimodal: Vec::new(),
            features: Vec::new(),
            shared: Vec::new(),
        }
    }
}
