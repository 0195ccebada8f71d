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

use modalign_core::{Parameters, Path, Scalar, assign, impl_parameters, resize};
use modalign_data::Sequences;
use modalign_encoders::{
    BertEncoder, Encoder, EncoderCache, EncoderParts, Modality, ProjectionHead, RegressionHead,
    RegressionHeadCache,
};
use modalign_fusion::Concatenation;
use modalign_nn::{Fixed, Optimizer, SequenceBatch, sums_of_squares};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, s};
use rand::{Rng, RngExt};
use rayon::prelude::*;

use crate::awake;
use crate::error::check_count;
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
    pub sequences: SequenceBatch<'a, A>,
    /// `[B]`, each in 1 to T.
    pub lengths: &'a [usize],
}

impl<'a> From<&'a Sequences> for Input<'a, f32> {
    fn from(sequences: &'a Sequences) -> Self {
        Self {
            sequences: sequences.values.view().into(),
            lengths: &sequences.lengths,
        }
    }
}

/// What the model puts out for a batch. Per-modality entries are in the order of the model.
#[derive(Debug, Clone, Default)]
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
#[derive(Debug, Clone, Default)]
pub struct OutputGradients<A> {
    /// `[B]`.
    pub fused: Array1<A>,
    /// Each `[B]`.
    pub unimodal: Vec<Array1<A>>,
    /// Each `[B, D]`.
    pub shared: Vec<Array2<A>>,
}

/// What the backward pass of [`Model`] needs. An empty one is the default; passes that write into a
/// cache use its memory again.
#[derive(Debug, Default)]
pub struct ModelCache<A> {
    representations: Vec<Representation<A>>,
    branches: Vec<BranchCache<A>>,
    fusion: FusionCache<A>,
}

/// What an encoder puts out, and the factors of modality dropout if there are any.
#[derive(Debug, Default)]
struct Representation<A> {
    values: Array2<A>,
    kept: Option<Array2<A>>,
}

#[derive(Debug, Default)]
struct BranchCache<A> {
    encoder: EncoderCache<A>,
    head: RegressionHeadCache<A>,
    shared: Array2<A>,
    /// The gradients in the representation: all of it, the head's part and the projection's.
    gradient: Array2<A>,
    of_head: Array2<A>,
    of_projection: Array2<A>,
}

#[derive(Debug, Default)]
struct FusionCache<A> {
    /// The representations side by side.
    joined: Array2<A>,
    head: RegressionHeadCache<A>,
    /// The gradient in them, without the first ones that come from no trained encoder.
    gradient: Array2<A>,
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
        check_count("widths", widths.len(), config.modalities_in_use().count())?;
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

    /// Widths of the features: fusion first, then one a modality.
    pub fn feature_widths(&self) -> Vec<usize> {
        std::iter::once(self.fusion.feature_size())
            .chain(
                self.branches()
                    .map(|(_, branch)| branch.head.feature_size()),
            )
            .collect()
    }

    /// The modalities in use, the others at the end.
    fn in_use(&self) -> [Option<&Branch<A>>; 3] {
        let mut branches = self.branches().map(|(_, branch)| branch);
        [(); 3].map(|()| branches.next())
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
        rng: &mut (impl Rng + Send),
    ) -> Result<(Outputs<A>, ModelCache<A>), TrainError> {
        let (mut outputs, mut cache) = (Outputs::default(), ModelCache::default());
        self.forward_into(inputs, rng, &mut cache, &mut outputs)?;
        Ok((outputs, cache))
    }

    /// As [`forward`](Self::forward), into a cache and outputs whose memory is used again. Nothing is
    /// allocated once a batch as large has been seen, except by a text model that is trained.
    ///
    /// The rows of recurrent encoders, and modalities, are worked on side by side, with what is drawn at
    /// random beside them.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn forward_into(
        &self,
        inputs: &[Input<'_, A>],
        rng: &mut (impl Rng + Send),
        cache: &mut ModelCache<A>,
        outputs: &mut Outputs<A>,
    ) -> Result<(), TrainError> {
        let used = self.in_use();
        let count = used.iter().flatten().count();
        check_count("inputs", inputs.len(), count)?;
        let used = &used[..count];
        let ModelCache {
            representations,
            branches,
            fusion,
        } = cache;
        representations.resize_with(count, Representation::default);
        branches.resize_with(count, BranchCache::default);
        let mut parts = [(); 3].map(|()| None);
        let mut noises = [(); 3].map(|()| None);
        let caches = representations.iter_mut().zip(&mut *branches);
        for (index, (branch, (representation, cache))) in
            used.iter().flatten().zip(caches).enumerate()
        {
            let Input { sequences, lengths } = &inputs[index];
            let sequences = sequences.view();
            let Representation { values: y, kept } = representation;
            let BranchCache { encoder, head, .. } = cache;
            let (noise, part) = branch
                .encoder
                .forward_parts(sequences, lengths, encoder, y)?;
            parts[index] = Some(part);
            noises[index] = Some((branch, noise, lengths.len(), head, kept));
        }
        let rows = inputs.first().map_or(0, |input| input.lengths.len());
        let head = &mut fusion.head;
        let draw = || {
            for (branch, noise, rows, head, kept) in noises.into_iter().flatten() {
                noise.draw(rng)?;
                branch.head.draw(rows, rng, head);
                keep(rows, *branch.modality_dropout, rng, kept);
            }
            self.fusion.draw(rows, rng, head);
            Ok(())
        };
        encode(parts, draw)?;
        let finish = |((branch, representation), cache): Encoded<&mut _, A>| {
            branch.map_or(Ok(()), |branch| branch.finish(representation, cache))
        };
        let encoded = used.par_iter().zip(&mut *representations);
        side_by_side(encoded.zip(&mut *branches), finish)?;

        let judge = |((branch, representation), cache): Encoded<&Representation<A>, A>| {
            let x = representation.values.view();
            branch.map_or(Ok(()), |branch| branch.judge(x, cache))
        };
        let judged = used.par_iter().zip(&*representations).zip(&mut *branches);
        let (unimodal, fused) = awake::join(
            || side_by_side(judged, judge),
            || -> Result<(), TrainError> {
                fusion.join(representations)?;
                let FusionCache { joined, head, .. } = fusion;
                Ok(self.fusion.forward_into(joined.view(), head)?)
            },
        );
        fused.and(unimodal)?;

        assign(&mut outputs.fused, fusion.head.score());
        outputs.features.resize_with(1 + count, Default::default);
        outputs.unimodal.resize_with(count, Default::default);
        let shared = used.iter().flatten().filter(|one| one.projection.is_some());
        outputs.shared.resize_with(shared.count(), Default::default);
        assign(&mut outputs.features[0], fusion.head.feature());
        for (index, cache) in branches.iter().enumerate() {
            assign(&mut outputs.features[1 + index], cache.head.feature());
            assign(&mut outputs.unimodal[index], cache.head.score());
            if let Some(shared) = outputs.shared.get_mut(index) {
                assign(shared, cache.shared.view());
            }
        }
        Ok(())
    }

    /// Outputs of a batch, without dropout and without a cache.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn infer(&self, inputs: &[Input<'_, A>]) -> Result<Outputs<A>, TrainError> {
        check_count("inputs", inputs.len(), self.branches().count())?;
        let mut outputs = Outputs::default();
        let mut representations = Vec::with_capacity(inputs.len());
        let used = self.in_use();
        let inferred = used
            .par_iter()
            .with_max_len(1)
            .zip(inputs)
            .filter_map(|(branch, input)| Some(branch.as_ref()?.infer(input)))
            .collect::<Result<Vec<_>, _>>()?;
        for (representation, feature, score, shared) in inferred {
            outputs.shared.extend(shared);
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
        mut cache: ModelCache<A>,
        gradients: &OutputGradients<A>,
        grads: &mut Self,
    ) -> Result<(), TrainError> {
        self.backward_into(&mut cache, gradients, grads)
    }

    /// As [`backward`](Self::backward), leaving the memory of the cache for the next pass; what it
    /// held is used up.
    ///
    /// # Errors
    ///
    /// As [`backward`](Self::backward).
    pub fn backward_into(
        &self,
        cache: &mut ModelCache<A>,
        gradients: &OutputGradients<A>,
        grads: &mut Self,
    ) -> Result<(), TrainError> {
        self.backward_beside(cache, gradients, grads, || ())
    }

    /// As [`backward_into`](Self::backward_into), with something beside it, on the thread that has less
    /// to do.
    pub(crate) fn backward_beside(
        &self,
        cache: &mut ModelCache<A>,
        gradients: &OutputGradients<A>,
        grads: &mut Self,
        beside: impl FnOnce() + Send,
    ) -> Result<(), TrainError> {
        let modalities = cache.branches.len();
        let projections = self.branches().filter(|(_, one)| one.projection.is_some());
        for (what, found, expected) in [
            ("model", self.branches().count(), modalities),
            ("grads", grads.branches().count(), modalities),
            ("gradients.unimodal", gradients.unimodal.len(), modalities),
            (
                "gradients.shared",
                gradients.shared.len(),
                projections.count(),
            ),
        ] {
            check_count(what, found, expected)?;
        }
        let ModelCache {
            representations,
            branches,
            fusion,
        } = cache;
        let used = self.in_use();
        let trained = |branch: &&Branch<A>| branch.encoder.is_trained();
        // The first columns of the fusion are often text vectors, whose gradient nobody needs.
        let data = used.iter().flatten().take_while(|branch| !trained(branch));
        let first = data.map(|branch| branch.encoder.output_size()).sum();
        let mut parts = [&mut grads.text, &mut grads.audio, &mut grads.vision]
            .into_iter()
            .flatten();
        let mut parts = [(); 3].map(|()| parts.next());
        let count = branches.len();

        let judge = |(((branch, cache), grads), index): (Part<A>, usize)| {
            let (Some(branch), Some(grads)) = (branch, grads) else {
                return Ok(());
            };
            let representation = representations[index].values.view();
            let score = gradients.unimodal[index].view();
            let shared = gradients.shared.get(index).map(|one| one.view());
            branch.judge_backward(representation, cache, score, shared, grads)
        };
        let parallel = used.par_iter().zip(&mut *branches).zip(&mut parts);
        let (unimodal, fused) = awake::join(
            || {
                let judged = side_by_side(parallel.zip(0..count), judge);
                beside();
                judged
            },
            || -> Result<(), TrainError> {
                let FusionCache { head, gradient, .. } = fusion;
                let score = gradients.fused.view();
                self.fusion.add_gradients(head, score, &mut grads.fusion)?;
                Ok(self.fusion.input_gradient_into(head, first, gradient)?)
            },
        );
        fused.and(unimodal)?;

        let mut start = 0;
        for (index, (branch, cache)) in used.iter().flatten().zip(&mut *branches).enumerate() {
            let end = start + branch.encoder.output_size();
            if trained(branch) {
                let columns = s![.., start - first..end - first];
                let kept = representations[index].kept.as_ref();
                cache.add_up(fusion.gradient.slice(columns), kept);
            }
            start = end;
        }
        let mut work = [(); 3].map(|()| None);
        let branches_and_grads = used.iter().flatten().zip(&mut *branches).zip(&mut parts);
        for (work, ((branch, cache), grads)) in work.iter_mut().zip(branches_and_grads) {
            let BranchCache {
                encoder, gradient, ..
            } = cache;
            if let Some(grads) = grads {
                let (gradient, grads) = (gradient.view(), &mut grads.encoder);
                *work = Some((branch.encoder).backward_parts(encoder, gradient, grads)?);
            }
        }
        encode(work, nothing)?;
        let branches = used.iter().flatten().zip(branches);
        for ((branch, cache), grads) in branches.zip(parts.iter_mut().flatten()) {
            (branch.encoder).finish_backward(&cache.encoder, &mut grads.encoder)?;
        }
        Ok(())
    }

    /// Takes a step of the optimiser on two threads: modalities and fusion, as in the passes and in
    /// [`norm`](Self::norm), so that what a thread leaves of them in its cache is there for it.
    pub(crate) fn step(
        &mut self,
        optimizer: &mut Optimizer<A>,
        grads: &Self,
        learning_rate_factor: f64,
    ) -> Result<(), TrainError> {
        let mut arrays = 0;
        for (_, branch) in self.branches() {
            branch.visit(&mut Path::default(), &mut |_, _| arrays += 1);
        }
        let (mut first, mut second) = optimizer.begin_step(learning_rate_factor).split_at(arrays);
        let branches = [&mut self.text, &mut self.audio, &mut self.vision];
        let (branches, fusion) = awake::join(
            || {
                let branches = branches.into_iter().flatten();
                branches
                    .zip(grads.branches())
                    .try_for_each(|(branch, (_, grads))| first.apply(branch, grads))
            },
            || second.apply(&mut self.fusion, &grads.fusion),
        );
        Ok(branches.and(fusion)?)
    }

    /// The Euclidean norm of all parameters together, as [`global_norm`](modalign_nn::global_norm)
    /// takes it, on two threads.
    pub(crate) fn norm(&self, squares: &mut [Vec<f64>; 2]) -> f64 {
        let [branches, fusion] = squares;
        branches.clear();
        fusion.clear();
        awake::join(
            || {
                for (_, branch) in self.branches() {
                    sums_of_squares(branch, |square| branches.push(square));
                }
            },
            || sums_of_squares(&self.fusion, |square| fusion.push(square)),
        );
        squares
            .iter()
            .flatten()
            .fold(0.0, |sum, square| sum + square)
            .sqrt()
    }
}

/// Works on the parts of a pass of the encoders, with something beside them. Parts fall into shares of
/// the same rows in all modalities and in both passes of a batch, so that what a thread leaves of them in
/// its cache is there for it.
fn encode<A: Scalar>(
    parts: [Option<EncoderParts<'_, A>>; 3],
    beside: impl FnOnce() -> Result<(), TrainError> + Send,
) -> Result<(), TrainError> {
    let count = parts.iter().flatten().map(EncoderParts::count).max();
    let count = count.unwrap_or(0);
    if count < 2 {
        let (beside, encoded) = awake::join(beside, || {
            side_by_side(parts.into_par_iter(), |parts| {
                Ok(parts.map_or(Ok(()), EncoderParts::run)?)
            })
        });
        return beside.and(encoded);
    }
    let mut second = [(); 3].map(|()| None);
    let mut first = [(); 3].map(|()| None);
    for (index, parts) in parts.into_iter().enumerate() {
        if let Some(parts) = parts {
            // What cannot be split goes to the share that has nothing beside it.
            let here = if parts.count() < 2 { 0 } else { count / 2 };
            let (left, right) = parts.split_at(here);
            (first[index], second[index]) = (Some(left), Some(right));
        }
    }
    let (first, second) = awake::join(
        || {
            beside()?;
            encode(first, nothing)
        },
        || encode(second, nothing),
    );
    first.and(second)
}

fn nothing() -> Result<(), TrainError> {
    Ok(())
}

/// Works on the modalities side by side. What each one does is the same on any number of threads.
fn side_by_side<I: IndexedParallelIterator>(
    parts: I,
    work: impl Fn(I::Item) -> Result<(), TrainError> + Sync + Send,
) -> Result<(), TrainError> {
    parts.with_max_len(1).try_for_each(work)
}

impl<A: Scalar> Branch<A> {
    /// The rest of the encoder's pass.
    fn finish(
        &self,
        representation: &mut Representation<A>,
        cache: &mut BranchCache<A>,
    ) -> Result<(), TrainError> {
        let y = &mut representation.values;
        Ok(self.encoder.finish_forward(&mut cache.encoder, y)?)
    }

    /// Head and projection.
    fn judge(&self, x: ArrayView2<A>, cache: &mut BranchCache<A>) -> Result<(), TrainError> {
        self.head.forward_into(x, &mut cache.head)?;
        if let Some(projection) = &self.projection {
            projection.infer_into(x, &mut cache.shared)?;
        }
        Ok(())
    }

    fn judge_backward(
        &self,
        representation: ArrayView2<A>,
        cache: &mut BranchCache<A>,
        score: ArrayView1<A>,
        shared: Option<ArrayView2<A>>,
        grads: &mut Self,
    ) -> Result<(), TrainError> {
        let trained = self.encoder.is_trained();
        self.head
            .add_gradients(&mut cache.head, score, &mut grads.head)?;
        if trained {
            self.head
                .input_gradient_into(&cache.head, 0, &mut cache.of_head)?;
        }
        if let (Some(projection), Some(shared), Some(grads)) =
            (&self.projection, shared, &mut grads.projection)
        {
            let dx = trained.then_some(&mut cache.of_projection);
            projection.backward_into(representation, shared, grads, dx)?;
        }
        Ok(())
    }

    fn infer(&self, input: &Input<A>) -> Result<Inferred<A>, TrainError> {
        let representation = self.encoder.infer(input.sequences.view(), input.lengths)?;
        let (feature, score) = self.head.infer(representation.view())?;
        let shared = match &self.projection {
            Some(projection) => Some(projection.infer(representation.view())?),
            None => None,
        };
        Ok((representation, feature, score, shared))
    }
}

/// What the forward pass of one modality works on after its encoder; R borrows its representation.
type Encoded<'a, 'b, R, A> = ((&'a Option<&'b Branch<A>>, R), &'a mut BranchCache<A>);

/// What the backward pass of one modality works on.
type Part<'a, 'b, A> = (
    (&'a Option<&'b Branch<A>>, &'a mut BranchCache<A>),
    &'a mut Option<&'b mut Branch<A>>,
);

/// Representation, feature, score and projection of one modality.
type Inferred<A> = (Array2<A>, Array2<A>, Array1<A>, Option<Array2<A>>);

impl<A: Scalar> BranchCache<A> {
    /// Sums up the gradient in the representation, given that by way of the fusion.
    fn add_up(&mut self, of_fusion: ArrayView2<A>, kept: Option<&Array2<A>>) {
        assign(&mut self.gradient, of_fusion);
        if let Some(kept) = kept {
            self.gradient *= kept;
        }
        self.gradient += &self.of_head;
        if !self.of_projection.is_empty() {
            self.gradient += &self.of_projection;
        }
    }
}

impl<A: Scalar> FusionCache<A> {
    fn join(&mut self, representations: &[Representation<A>]) -> Result<(), TrainError> {
        let views = representations.iter().map(|one| one.values.view());
        Concatenation.infer_into(views, &mut self.joined)?;
        let mut start = 0;
        for one in representations {
            let end = start + one.values.ncols();
            if let Some(kept) = &one.kept {
                let mut columns = self.joined.slice_mut(s![.., start..end]);
                columns *= kept;
            }
            start = end;
        }
        Ok(())
    }
}

/// Draws one factor a row, `[B, 1]`: 0 with probability `rate`, else 1; none at rate 0.
fn keep<A: Scalar>(rows: usize, rate: f64, rng: &mut impl Rng, kept: &mut Option<Array2<A>>) {
    if rate == 0.0 {
        *kept = None;
        return;
    }
    let kept = kept.get_or_insert_default();
    resize(kept, (rows, 1));
    for factor in kept {
        *factor = if rng.random_bool(rate) {
            A::zero()
        } else {
            A::one()
        };
    }
}
