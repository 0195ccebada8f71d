//! Scores of one utterance after the other, in memory that is used again.

use modalign_data::Sequences;
use modalign_encoders::{EncoderWorkspace, Modality, RegressionHeadWorkspace};
use ndarray::{Array2, Array3, ArrayView2, s};
use serde::Serialize;

use crate::{Checkpoint, TrainError};

/// The scores of one utterance, on the label scale of the training data.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Scores {
    /// The score of all modalities together.
    pub fused: f32,
    /// The score of each modality by itself.
    pub unimodal: Vec<(Modality, f32)>,
    /// Where each modality pulls: its own score minus the fused one.
    pub pull: Vec<(Modality, f32)>,
}

/// Scores utterances one by one, from [`Predictor::scorer`](crate::Predictor::scorer).
///
/// Nothing is allocated once an utterance as long has been scored. Each thread takes a scorer of its
/// own; all of them can share one predictor.
#[derive(Debug)]
pub struct Scorer<'a> {
    checkpoint: &'a Checkpoint,
    branches: Vec<Branch>,
    /// The representations side by side, `[1, Σ D_s]`.
    joined: Array2<f32>,
    fusion: RegressionHeadWorkspace<f32>,
    scores: Scores,
}

/// What scoring needs for one modality.
#[derive(Debug)]
struct Branch {
    /// The features of one utterance, prepared.
    sequences: Sequences,
    encoder: EncoderWorkspace<f32>,
    representation: Array2<f32>,
    head: RegressionHeadWorkspace<f32>,
}

impl<'a> Scorer<'a> {
    pub(crate) fn new(checkpoint: &'a Checkpoint) -> Self {
        let branches: Vec<_> = checkpoint
            .preparation
            .iter()
            .map(|one| Branch {
                sequences: Sequences {
                    values: Array3::zeros((1, 0, one.width)),
                    lengths: vec![0],
                },
                encoder: EncoderWorkspace::default(),
                representation: Array2::zeros((1, 0)),
                head: RegressionHeadWorkspace::default(),
            })
            .collect();
        let width = checkpoint
            .model
            .branches()
            .map(|(_, branch)| branch.encoder.output_size())
            .sum();
        Self {
            checkpoint,
            branches,
            joined: Array2::zeros((1, width)),
            fusion: RegressionHeadWorkspace::default(),
            scores: Scores::default(),
        }
    }

    /// The scores of an utterance with features `[T, D]` of each modality that the model reads, in
    /// the order text, audio, vision; a vector is one step. A text model's features are its tokens or,
    /// frozen, its vector, not the transcript. They are the same as those of
    /// [`predict`](crate::Predictor::predict) up to rounding.
    ///
    /// # Errors
    ///
    /// [`TrainError::Modalities`], [`TrainError::Width`], [`TrainError::NoSteps`] or
    /// [`TrainError::Feature`] for features that do not fit the model, [`TrainError::Score`] for a
    /// score that is no finite number.
    pub fn score(&mut self, utterance: &[ArrayView2<f32>]) -> Result<&Scores, TrainError> {
        let Checkpoint {
            config,
            preparation,
            model,
            ..
        } = self.checkpoint;
        if utterance.len() != preparation.len() {
            return Err(TrainError::Modalities {
                expected: preparation.len(),
                found: utterance.len(),
            });
        }
        let neutral = config.data.neutral_label;
        let Scores {
            fused,
            unimodal,
            pull,
        } = &mut self.scores;
        unimodal.clear();
        pull.clear();
        let mut start = 0;
        for (((modality, part), one), (features, branch)) in model
            .branches()
            .zip(preparation)
            .zip(utterance.iter().zip(&mut self.branches))
        {
            check(modality, one.width, features)?;
            copy(features, &mut branch.sequences);
            if let Some(standardizer) = &one.standardizer {
                standardizer.apply(&mut branch.sequences)?;
            }
            let Sequences { values, lengths } = &branch.sequences;
            let representation = &mut branch.representation;
            part.encoder
                .infer_into(values.view(), lengths, &mut branch.encoder, representation)?;
            let score = part.head.score(representation.view(), &mut branch.head)?;
            unimodal.push((modality, finite(modality, score + neutral)?));
            let end = start + representation.ncols();
            self.joined
                .slice_mut(s![.., start..end])
                .assign(representation);
            start = end;
        }
        let score = model.fusion.score(self.joined.view(), &mut self.fusion)?;
        *fused = finite("fused", score + neutral)?;
        pull.extend(
            unimodal
                .iter()
                .map(|&(modality, own)| (modality, own - *fused)),
        );
        Ok(&self.scores)
    }
}

fn check(modality: Modality, width: usize, features: &ArrayView2<f32>) -> Result<(), TrainError> {
    if features.ncols() != width {
        return Err(TrainError::Width {
            modality,
            expected: width,
            found: features.ncols(),
        });
    }
    if features.nrows() == 0 {
        return Err(TrainError::NoSteps { modality });
    }
    match features
        .indexed_iter()
        .find(|(_, value)| !value.is_finite())
    {
        None => Ok(()),
        Some(((step, column), &value)) => Err(TrainError::Feature {
            modality,
            step,
            column,
            value,
        }),
    }
}

/// A score that is a number.
pub(crate) fn finite(task: impl ToString, value: f32) -> Result<f32, TrainError> {
    if value.is_finite() {
        return Ok(value);
    }
    Err(TrainError::Score {
        task: task.to_string(),
        value,
    })
}

/// Makes these features the one row of `sequences`, in the memory it has.
fn copy(features: &ArrayView2<f32>, sequences: &mut Sequences) {
    let (mut values, _) = std::mem::take(&mut sequences.values).into_raw_vec_and_offset();
    values.clear();
    values.extend(features.iter());
    let (steps, width) = features.dim();
    sequences.values =
        Array3::from_shape_vec((1, steps, width), values).expect("there is a value for each entry");
    sequences.lengths[0] = steps;
}
