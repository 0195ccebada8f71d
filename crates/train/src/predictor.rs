//! Scores for new rows.

use modalign_data::{Sequences, Split};
use modalign_encoders::Modality;
use modalign_metrics::{Report, evaluate};
use ndarray::{Array2, Axis};
use serde::Serialize;

use crate::prepared::prepare;
use crate::scorer::finite;
use crate::trainer::{INFERENCE_BATCH, predict};
use crate::{Checkpoint, Scorer, TrainError};

/// The scores of one row, on the label scale of the data.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Prediction {
    /// The row's id.
    pub id: String,
    /// Its label.
    pub label: f32,
    /// The score of all modalities together.
    pub fused: f32,
    /// The score of each modality by itself.
    pub unimodal: Vec<(Modality, f32)>,
    /// Where each modality pulls: its own score minus the fused one.
    pub pull: Vec<(Modality, f32)>,
}

/// What a model makes of the rows of one modality.
#[derive(Debug, Clone, PartialEq)]
pub struct Representation {
    /// The modality.
    pub modality: Modality,
    /// The output of its encoder, `[N, H]`.
    pub encoded: Array2<f32>,
    /// Its projection to the width that the shared-information loss compares, `[N, D]`; none where
    /// that loss is off.
    pub shared: Option<Array2<f32>>,
}

/// Applies a trained model.
///
/// One value can serve several threads.
#[derive(Debug, Clone)]
pub struct Predictor {
    checkpoint: Checkpoint,
}

impl Predictor {
    /// From a trained model.
    pub fn new(checkpoint: Checkpoint) -> Self {
        Self { checkpoint }
    }

    /// The model in use.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Gives the model back.
    pub fn into_checkpoint(self) -> Checkpoint {
        self.checkpoint
    }

    /// For scores of one utterance after the other.
    pub fn scorer(&self) -> Scorer<'_> {
        Scorer::new(&self.checkpoint)
    }

    /// Scores every row, in order.
    ///
    /// # Errors
    ///
    /// [`TrainError::Data`] if the split lacks a feature array the model needs,
    /// [`TrainError::Width`] if one has another width than in training, [`TrainError::Score`] for a
    /// score that is no finite number.
    pub fn predict(&self, split: &Split) -> Result<Vec<Prediction>, TrainError> {
        let Checkpoint {
            config,
            preparation,
            model,
            ..
        } = &self.checkpoint;
        let neutral = config.data.neutral_label;
        let prepared = prepare(preparation, neutral, split)?;
        let scores = predict(model, preparation, &prepared)?;
        (0..prepared.len())
            .map(|row| {
                let fused = scores.fused[row];
                finite("fused", fused)?;
                let column = scores.unimodal.column(row);
                let each = |offset: f32| {
                    config
                        .modalities_in_use()
                        .zip(column)
                        .map(move |(modality, &score)| (modality, score + offset))
                };
                for (modality, &score) in config.modalities_in_use().zip(column) {
                    finite(modality, score)?;
                }
                Ok(Prediction {
                    id: split.id[row].clone(),
                    label: split.labels[row],
                    fused: fused + neutral,
                    unimodal: each(neutral).collect(),
                    pull: each(-fused).collect(),
                })
            })
            .collect()
    }

    /// What the model makes of every row before it scores, one entry a modality.
    ///
    /// # Errors
    ///
    /// As [`predict`](Self::predict).
    pub fn representations(&self, split: &Split) -> Result<Vec<Representation>, TrainError> {
        let Checkpoint {
            config,
            preparation,
            model,
            ..
        } = &self.checkpoint;
        let prepared = prepare(preparation, config.data.neutral_label, split)?;
        let rows: Vec<usize> = (0..split.len()).collect();
        model
            .branches()
            .zip(preparation)
            .map(|((modality, branch), one)| {
                let mut encoded = Array2::zeros((split.len(), branch.encoder.output_size()));
                let parts = encoded.axis_chunks_iter_mut(Axis(0), INFERENCE_BATCH);
                for (rows, mut part) in rows.chunks(INFERENCE_BATCH).zip(parts) {
                    let batch = prepared.batch(&[&one.features], rows)?;
                    let Sequences { values, lengths } = &batch.sequences[0];
                    part.assign(&branch.encoder.infer(values.view(), lengths)?);
                }
                let shared = match &branch.projection {
                    Some(projection) => Some(projection.infer(encoded.view())?),
                    None => None,
                };
                Ok(Representation {
                    modality,
                    encoded,
                    shared,
                })
            })
            .collect()
    }

    /// The metrics on a split, under the convention the model was trained with.
    ///
    /// # Errors
    ///
    /// As [`predict`](Self::predict).
    pub fn evaluate(&self, split: &Split) -> Result<Report, TrainError> {
        let Checkpoint {
            config,
            preparation,
            model,
            ..
        } = &self.checkpoint;
        let prepared = prepare(preparation, config.data.neutral_label, split)?;
        let fused = predict(model, preparation, &prepared)?.fused;
        Ok(evaluate(
            config.data.convention,
            fused.view(),
            prepared.labels.view(),
        )?)
    }
}
