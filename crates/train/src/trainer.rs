//! One run: from initial parameters to those that validation chose.

use modalign_core::{ChaCha8Rng, Parameters, Stream, rng};
use modalign_data::{Split, epoch_order};
use modalign_labels::{LabelError, LabelGenerator, LabelState, UpdateReport};
use modalign_metrics::{Report, evaluate};
use modalign_nn::{LinearWarmup, Optimizer, clip_gradient_norm, global_norm};
use ndarray::{Array1, Array2, s};

use crate::config::{Accumulation, ExperimentConfig, TrainingConfig};
use crate::model::{Input, Model};
use crate::objective::{Objective, Targets};
use crate::prepared::{Preparation, PreparedData};
use crate::{EpochRecord, Event, LabelMovement, LossTerms, Observer, TrainError};

/// A validation loss must fall by this much to count as better, as in the published code.
const MINIMUM_IMPROVEMENT: f64 = 1e-6;

/// Rows a batch when nothing is learned; only the memory depends on it.
const INFERENCE_BATCH: usize = 256;

/// What a run leaves behind.
pub(crate) struct TrainedRun {
    pub model: Model<f32>,
    pub history: Vec<EpochRecord>,
    pub best_epoch: usize,
    pub valid: Report,
    /// `[M, N]`: the generated labels of the training rows at the end of the last epoch.
    pub labels: Array2<f32>,
}

/// The epoch that validation prefers so far.
struct Best {
    epoch: usize,
    loss: f64,
    valid: Report,
    model: Model<f32>,
}

/// Everything that changes while a run goes on.
pub(crate) struct Trainer<'a> {
    config: &'a ExperimentConfig,
    data: &'a PreparedData,
    run: RunId<'a>,
    model: Model<f32>,
    gradients: Model<f32>,
    optimizer: Optimizer<f32>,
    schedule: Option<LinearWarmup>,
    objective: Objective<f32>,
    labels: Option<(LabelGenerator, LabelState<f32>)>,
    order: ChaCha8Rng,
    noise: ChaCha8Rng,
    observer: &'a dyn Observer,
}

/// How a run is told apart from the others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunId<'a> {
    pub index: usize,
    pub runs: usize,
    pub name: &'a str,
    pub seed: u64,
}

impl<'a> Trainer<'a> {
    pub fn new(
        config: &'a ExperimentConfig,
        data: &'a PreparedData,
        run: RunId<'a>,
        observer: &'a dyn Observer,
    ) -> Result<Self, TrainError> {
        let widths: Vec<_> = data.preparation.iter().map(|one| one.width).collect();
        let initialisation = &mut rng(run.seed, Stream::Initialisation);
        let text = data.text_encoder();
        let model = Model::with_text_encoder(config, &widths, text, initialisation)?;
        let gradients = model.zeros_like();
        let optimizer = config.new_optimizer(&model)?;
        let labels = if config.uses_label_generator() {
            let generator = LabelGenerator::new(config.label_generator)?;
            let state = generator
                .initial_state(data.train.labels.view(), &model.feature_widths())
                .map_err(|error| match error {
                    LabelError::LabelOutOfRange {
                        index,
                        value,
                        limit,
                    } => {
                        let neutral = f64::from(config.data.neutral_label);
                        TrainError::Label {
                            row: index,
                            id: data.train.id[index].clone(),
                            label: value + neutral,
                            neutral,
                            limit,
                        }
                    }
                    error => error.into(),
                })?;
            Some((generator, state))
        } else {
            None
        };
        Ok(Self {
            config,
            data,
            run,
            gradients,
            optimizer,
            schedule: schedule(&config.training, data.train.len()),
            objective: Objective::new(config)?,
            labels,
            order: rng(run.seed, Stream::Order),
            noise: rng(run.seed, Stream::Dropout),
            model,
            observer,
        })
    }

    /// Trains until early stopping or the last epoch.
    pub fn train(mut self) -> Result<TrainedRun, TrainError> {
        let rows = self.data.train.len();
        self.observer.observe(&Event::RunStarted {
            run: self.run.index,
            runs: self.run.runs,
            name: self.run.name,
            max_epochs: self.config.training.max_epochs,
            steps_per_epoch: rows.div_ceil(self.config.training.batch_size),
            parameters: self.model.parameter_count(),
        });
        let mut history: Vec<EpochRecord> = Vec::new();
        let mut best: Option<Best> = None;
        for epoch in 1..=self.config.training.max_epochs {
            let record = self.epoch(epoch, best.as_ref().map(|best| best.loss))?;
            if record.is_best {
                let model = self.model.clone();
                let (loss, valid) = (record.valid_loss, record.valid.clone());
                best = Some(Best {
                    epoch,
                    loss,
                    valid,
                    model,
                });
            }
            self.observer.observe(&Event::EpochFinished {
                run: self.run.index,
                record: &record,
            });
            history.push(record);
            let best_epoch = best.as_ref().map_or(0, |best| best.epoch);
            if epoch - best_epoch >= self.config.training.patience {
                break;
            }
        }
        let Some(Best {
            epoch: best_epoch,
            valid,
            model,
            ..
        }) = best
        else {
            return Err(TrainError::Config {
                key: "training.max_epochs".to_owned(),
                expected: "at least 1",
                found: self.config.training.max_epochs.to_string(),
            });
        };
        self.observer.observe(&Event::RunFinished {
            run: self.run.index,
            best_epoch,
            valid: &valid,
        });
        let labels = match &self.labels {
            Some((_, state)) => state.labels().slice(s![1.., ..]).to_owned(),
            None => Array2::zeros((0, rows)),
        };
        Ok(TrainedRun {
            model,
            history,
            best_epoch,
            valid,
            labels,
        })
    }

    fn epoch(&mut self, epoch: usize, best_loss: Option<f64>) -> Result<EpochRecord, TrainError> {
        let training = &self.config.training;
        let order = epoch_order(self.data.train.len(), &mut self.order);
        let batches: Vec<_> = order.chunks(training.batch_size).collect();
        let mut train = LossTerms::default();
        let mut report = UpdateReport::default();
        let mut gradient_norm = 0.0;
        let mut steps = 0;
        for (index, rows) in batches.iter().enumerate() {
            let (terms, update) = self.batch(epoch, index + 1, rows)?;
            self.observer.observe(&Event::Step {
                run: self.run.index,
                epoch,
                step: index + 1,
                terms: &terms,
            });
            train.accumulate(&terms, rows.len() as f64 / order.len() as f64);
            report += update;

            let accumulated = index % training.accumulation_steps + 1;
            let last = index + 1 == batches.len();
            if accumulated == training.accumulation_steps
                || (last && training.step_trailing_batches)
            {
                gradient_norm += self.step(accumulated)?;
                steps += 1;
            }
            if last || accumulated == training.accumulation_steps {
                self.gradients.set_zero();
            }
        }

        let (valid_loss, valid) = self.validate(epoch)?;
        Ok(EpochRecord {
            epoch,
            train,
            gradient_norm: if steps > 0 {
                gradient_norm / steps as f64
            } else {
                0.0
            },
            valid_loss,
            valid,
            is_best: best_loss.is_none_or(|best| valid_loss <= best - MINIMUM_IMPROVEMENT),
            labels: self.label_movement(),
            label_updates: report,
        })
    }

    /// One batch forward and backward, then the label generator, in the published order.
    fn batch(
        &mut self,
        epoch: usize,
        number: usize,
        rows: &[usize],
    ) -> Result<(LossTerms, UpdateReport), TrainError> {
        let batch = self.data.train.batch(&self.data.keys(), rows)?;
        let multimodal = batch.labels;
        let targets = match &self.labels {
            Some((_, state)) => Targets {
                multimodal,
                unimodal: state.targets(rows)?.slice(s![1.., ..]).to_owned(),
                weights: state.loss_weights(rows)?,
            },
            None => Targets::multimodal_only(multimodal, batch.sequences.len()),
        };
        let inputs: Vec<_> = batch.sequences.iter().map(Input::from).collect();
        let (outputs, cache) = self.model.forward(&inputs, &mut self.noise)?;
        let (terms, output_gradients) = self.objective.evaluate(&outputs, &targets)?;
        self.require_finite("the loss", terms.total, epoch, number, rows)?;
        self.model
            .backward(cache, &output_gradients, &mut self.gradients)?;

        let mut report = UpdateReport::default();
        if let Some((generator, state)) = &mut self.labels {
            let features: Vec<_> = outputs.features.iter().map(|one| one.view()).collect();
            report = generator.update(state, epoch, rows, &features)?;
        }
        Ok((terms, report))
    }

    /// One optimiser step on the gradients of `accumulated` batches; returns their norm.
    fn step(&mut self, accumulated: usize) -> Result<f64, TrainError> {
        if self.config.training.accumulation == Accumulation::Mean && accumulated > 1 {
            let scale = 1.0 / accumulated as f32;
            for (_, mut gradient) in self.gradients.named_views_mut() {
                gradient *= scale;
            }
        }
        let bound = self.config.training.clip_gradient_norm;
        let norm = if bound > 0.0 {
            clip_gradient_norm(&mut self.gradients, bound)
        } else {
            global_norm(&self.gradients)
        };
        let factor = self
            .schedule
            .map_or(1.0, |schedule| schedule.factor(self.optimizer.steps()));
        self.optimizer
            .step(&mut self.model, &self.gradients, factor)?;
        Ok(norm)
    }

    fn validate(&self, epoch: usize) -> Result<(f64, Report), TrainError> {
        let valid = &self.data.valid;
        let predictions = predict(&self.model, &self.data.preparation, valid)?.fused;
        let loss = predictions
            .iter()
            .zip(&valid.labels)
            .map(|(&found, &label)| f64::from((found - label).abs()))
            .sum::<f64>()
            / valid.len() as f64;
        self.require_finite("the validation loss", loss, epoch, 0, &[])?;
        let convention = self.config.data.convention;
        Ok((
            loss,
            evaluate(convention, predictions.view(), valid.labels.view())?,
        ))
    }

    fn label_movement(&self) -> Vec<LabelMovement> {
        let Some((_, state)) = &self.labels else {
            return Vec::new();
        };
        let labels = state.labels();
        let multimodal = labels.row(0);
        self.config
            .modalities_in_use()
            .zip(labels.rows().into_iter().skip(1))
            .map(|(modality, row)| {
                let mut shifts: Vec<f64> = row
                    .iter()
                    .zip(multimodal)
                    .map(|(&s, &m)| f64::from(s - m))
                    .collect();
                shifts.sort_by(f64::total_cmp);
                let count = shifts.len() as f64;
                LabelMovement {
                    modality,
                    mean_shift: shifts.iter().sum::<f64>() / count,
                    mean_absolute_shift: shifts.iter().map(|shift| shift.abs()).sum::<f64>()
                        / count,
                    quantiles: [0.05, 0.25, 0.5, 0.75, 0.95].map(|level| quantile(&shifts, level)),
                }
            })
            .collect()
    }

    fn require_finite(
        &self,
        term: &str,
        value: f64,
        epoch: usize,
        batch: usize,
        rows: &[usize],
    ) -> Result<(), TrainError> {
        if value.is_finite() {
            return Ok(());
        }
        Err(TrainError::NotFinite {
            run: self.run.name.to_owned(),
            term: term.to_owned(),
            value,
            epoch,
            batch,
            id: rows
                .first()
                .map_or_else(String::new, |&row| self.data.train.id[row].clone()),
        })
    }
}

/// The course of the learning rates of a run that goes to its last epoch.
fn schedule(training: &TrainingConfig, rows: usize) -> Option<LinearWarmup> {
    let batches = rows.div_ceil(training.batch_size);
    let steps = if training.step_trailing_batches {
        batches.div_ceil(training.accumulation_steps)
    } else {
        batches / training.accumulation_steps
    };
    let total_steps = (steps * training.max_epochs).max(1) as u64;
    training.warm_up.map(|part| LinearWarmup {
        warmup_steps: (part * total_steps as f64) as u64,
        total_steps,
    })
}

/// Linear interpolation between the two nearest of sorted values, as NumPy's default.
fn quantile(sorted: &[f64], level: f64) -> f64 {
    let position = level * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = position.ceil() as usize;
    sorted[below] + (position - position.floor()) * (sorted[above] - sorted[below])
}

/// Predictions for every row of a split, relative to the neutral label.
pub(crate) struct SplitPredictions {
    pub fused: Array1<f32>,
    /// `[M, N]`.
    pub unimodal: Array2<f32>,
}

pub(crate) fn predict(
    model: &Model<f32>,
    preparation: &[Preparation],
    split: &Split,
) -> Result<SplitPredictions, TrainError> {
    let keys: Vec<_> = preparation
        .iter()
        .map(|one| one.features.as_str())
        .collect();
    let rows: Vec<usize> = (0..split.len()).collect();
    let mut fused = Array1::zeros(rows.len());
    let mut unimodal = Array2::zeros((preparation.len(), rows.len()));
    for chunk in rows.chunks(INFERENCE_BATCH) {
        let batch = split.batch(&keys, chunk)?;
        let inputs: Vec<_> = batch.sequences.iter().map(Input::from).collect();
        let outputs = model.infer(&inputs)?;
        for (position, &row) in chunk.iter().enumerate() {
            fused[row] = outputs.fused[position];
            for (modality, prediction) in outputs.unimodal.iter().enumerate() {
                unimodal[[modality, row]] = prediction[position];
            }
        }
    }
    Ok(SplitPredictions { fused, unimodal })
}
