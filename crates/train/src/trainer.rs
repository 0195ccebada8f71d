//! One run: from initial parameters to those that validation chose.

use std::fmt::Display;
use std::sync::mpsc::sync_channel;

use modalign_core::{ChaCha8Rng, Parameters, Store, Stream, rng};
use modalign_data::{Batch, Split, epoch_order};
use modalign_labels::{LabelError, LabelGenerator, LabelState, UpdateReport};
use modalign_metrics::{Report, evaluate};
use modalign_nn::{LinearWarmup, Optimizer, clip_gradient_norm, global_norm};
use ndarray::{Array1, Array2, s};
use serde::{Deserialize, Serialize};

use crate::config::{Accumulation, ExperimentConfig, TrainingConfig};
use crate::model::{Input, Model};
use crate::objective::{Objective, Targets};
use crate::prepared::{Preparation, PreparedData};
use crate::{EpochRecord, Event, LabelMovement, LossTerms, Observer, StateKeeper, TrainError};

/// A validation loss must fall by this much to count as better, as in the published code.
const MINIMUM_IMPROVEMENT: f64 = 1e-6;

/// The names of a kept state's metadata and arrays.
const CONFIG: &str = "config";
const POSITION: &str = "position";
const MODEL: &str = "model";
const BEST_MODEL: &str = "best_model";
const GRADIENTS: &str = "gradients";
const OPTIMIZER: &str = "optimizer";
const LABELS: &str = "labels";
const ORDER: &str = "order";

/// Rows a batch when nothing is learned; only the memory depends on it.
pub(crate) const INFERENCE_BATCH: usize = 256;

/// Batches that wait while the one before is learned from, where they are read from a file.
const BATCHES_AHEAD: usize = 1;

/// What a run leaves behind.
pub(crate) struct TrainedRun {
    pub model: Model<f32>,
    pub history: Vec<EpochRecord>,
    pub best_epoch: usize,
    pub valid: Report,
    /// `[M, N]`: the generated labels of the training rows at the end of the last epoch.
    pub labels: Array2<f32>,
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
    /// The parameters of the epoch that validation prefers so far.
    best_model: Option<Model<f32>>,
    position: Position,
    /// The rows in the order of the epoch under way; empty between epochs.
    order: Vec<usize>,
    observer: &'a dyn Observer,
}

/// Where a run stands, apart from its arrays.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Position {
    history: Vec<EpochRecord>,
    /// Batches done of the epoch under way.
    batches: usize,
    /// Means so far of the epoch under way.
    train: LossTerms,
    label_updates: UpdateReport,
    /// Sum over the optimiser steps of the epoch under way.
    gradient_norm: f64,
    steps: usize,
    order: ChaCha8Rng,
    noise: ChaCha8Rng,
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
            best_model: None,
            position: Position {
                history: Vec::new(),
                batches: 0,
                train: LossTerms::default(),
                label_updates: UpdateReport::default(),
                gradient_norm: 0.0,
                steps: 0,
                order: rng(run.seed, Stream::Order),
                noise: rng(run.seed, Stream::Dropout),
            },
            order: Vec::new(),
            model,
            observer,
        })
    }

    /// Trains until early stopping or the last epoch, from the beginning or from where a kept state
    /// stands.
    pub fn train(&mut self) -> Result<TrainedRun, TrainError> {
        self.observer.observe(&Event::RunStarted {
            run: self.run.index,
            runs: self.run.runs,
            name: self.run.name,
            max_epochs: self.config.training.max_epochs,
            steps_per_epoch: self.batch_count(),
            parameters: self.model.parameter_count(),
        });
        if self.restore()? {
            self.observer.observe(&Event::RunResumed {
                run: self.run.index,
                epochs: self.position.history.len(),
                batches: self.position.batches,
                best_loss: self.best_epoch().map(|best| best.valid_loss),
            });
        }
        while !self.is_finished() {
            self.epoch()?;
        }
        let (Some(best), Some(model)) = (self.best_epoch(), &self.best_model) else {
            return Err(TrainError::Config {
                key: "training.max_epochs".to_owned(),
                expected: "at least 1",
                found: self.config.training.max_epochs.to_string(),
            });
        };
        let (best_epoch, valid) = (best.epoch, best.valid.clone());
        self.observer.observe(&Event::RunFinished {
            run: self.run.index,
            best_epoch,
            valid: &valid,
        });
        let labels = match &self.labels {
            Some((_, state)) => state.labels().slice(s![1.., ..]).to_owned(),
            None => Array2::zeros((0, self.data.train.len())),
        };
        Ok(TrainedRun {
            model: model.clone(),
            history: self.position.history.clone(),
            best_epoch,
            valid,
            labels,
        })
    }

    /// The parameters that validation prefers so far, if an epoch has ended.
    pub fn best_model(&self) -> Option<&Model<f32>> {
        self.best_model.as_ref()
    }

    fn best_epoch(&self) -> Option<&EpochRecord> {
        self.position
            .history
            .iter()
            .rev()
            .find(|record| record.is_best)
    }

    fn is_finished(&self) -> bool {
        let epochs = self.position.history.len();
        let best = self.best_epoch().map_or(0, |best| best.epoch);
        let training = &self.config.training;
        epochs >= training.max_epochs || epochs - best >= training.patience
    }

    fn batch_count(&self) -> usize {
        let batch_size = self.config.training.batch_size;
        self.data.train.len().div_ceil(batch_size)
    }

    /// What is left of the epoch under way, then its validation.
    fn epoch(&mut self) -> Result<(), TrainError> {
        let epoch = self.position.history.len() + 1;
        let training = &self.config.training;
        if self.order.is_empty() {
            self.order = epoch_order(self.data.train.len(), &mut self.position.order);
        }
        let data = self.data;
        let order = self.order.clone();
        let first = self.position.batches;
        let batches = order.chunks(training.batch_size).skip(first);
        if data.train.file_features.is_empty() {
            let keys = data.keys();
            for rows in batches {
                self.step_of_epoch(epoch, data.train.batch(&keys, rows)?)?;
            }
        } else {
            std::thread::scope(|scope| {
                let (sender, receiver) = sync_channel(BATCHES_AHEAD);
                scope.spawn(move || {
                    let keys = data.keys();
                    for rows in batches {
                        if sender.send(data.train.batch(&keys, rows)).is_err() {
                            // The epoch has ended early.
                            break;
                        }
                    }
                });
                for batch in receiver {
                    self.step_of_epoch(epoch, batch?)?;
                }
                Ok::<_, TrainError>(())
            })?;
        }

        let (valid_loss, valid) = self.validate(epoch)?;
        let best = self.best_epoch().map(|best| best.valid_loss);
        let position = &mut self.position;
        let steps = std::mem::take(&mut position.steps);
        let gradient_norm = std::mem::take(&mut position.gradient_norm);
        let record = EpochRecord {
            epoch,
            train: std::mem::take(&mut position.train),
            gradient_norm: if steps > 0 {
                gradient_norm / steps as f64
            } else {
                0.0
            },
            valid_loss,
            valid,
            is_best: best.is_none_or(|best| valid_loss <= best - MINIMUM_IMPROVEMENT),
            label_updates: std::mem::take(&mut position.label_updates),
            labels: self.label_movement(),
        };
        self.position.batches = 0;
        self.order.clear();
        if record.is_best {
            self.best_model = Some(self.model.clone());
        }
        self.observer.observe(&Event::EpochFinished {
            run: self.run.index,
            record: &record,
        });
        self.position.history.push(record);
        match self.observer.keeper() {
            Some(keeper) => self.keep(keeper),
            None => Ok(()),
        }
    }

    /// Learns from the next batch of the epoch under way.
    fn step_of_epoch(&mut self, epoch: usize, batch: Batch) -> Result<(), TrainError> {
        self.stop_if_interrupted()?;
        let training = &self.config.training;
        let index = self.position.batches;
        let weight = batch.rows.len() as f64 / self.order.len() as f64;
        let (terms, update) = self.batch(epoch, index + 1, batch)?;
        self.observer.observe(&Event::Step {
            run: self.run.index,
            epoch,
            step: index + 1,
            terms: &terms,
        });
        self.position.train.accumulate(&terms, weight);
        self.position.label_updates += update;

        let accumulated = index % training.accumulation_steps + 1;
        let last = index + 1 == self.batch_count();
        if accumulated == training.accumulation_steps || (last && training.step_trailing_batches) {
            self.position.gradient_norm += self.step(epoch, index + 1, accumulated)?;
            self.position.steps += 1;
        }
        if last || accumulated == training.accumulation_steps {
            self.gradients.set_zero();
        }
        self.position.batches += 1;
        if let Some(keeper) = self.observer.keeper()
            && keeper
                .steps()
                .is_some_and(|steps| self.position.batches.is_multiple_of(steps))
        {
            self.keep(keeper)?;
        }
        Ok(())
    }

    fn stop_if_interrupted(&self) -> Result<(), TrainError> {
        let Some(keeper) = self.observer.keeper() else {
            return Ok(());
        };
        if !keeper.is_interrupted() {
            return Ok(());
        }
        self.keep(keeper)?;
        Err(TrainError::Interrupted {
            run: self.run.name.to_owned(),
            epoch: self.position.history.len() + 1,
            batches: self.position.batches,
        })
    }

    /// Whether the gradients of some batches wait for the next step.
    fn holds_gradients(&self) -> bool {
        self.position.batches < self.batch_count()
            && !self
                .position
                .batches
                .is_multiple_of(self.config.training.accumulation_steps)
    }

    fn keep(&self, keeper: &dyn StateKeeper) -> Result<(), TrainError> {
        let json = |value: Result<String, serde_json::Error>| {
            value.map_err(|error| self.refuse_state(error.to_string()))
        };
        let mut state = Store::default();
        let config = json(serde_json::to_string(self.config))?;
        state.metadata.insert(CONFIG.to_owned(), config);
        let position = json(serde_json::to_string(&self.position))?;
        state.metadata.insert(POSITION.to_owned(), position);
        state.insert_parameters(MODEL, &self.model);
        if let Some(best) = &self.best_model {
            state.insert_parameters(BEST_MODEL, best);
        }
        if self.holds_gradients() {
            state.insert_parameters(GRADIENTS, &self.gradients);
        }
        self.optimizer.save(&mut state, OPTIMIZER);
        if let Some((_, labels)) = &self.labels {
            labels.insert_into(&mut state, LABELS);
        }
        let order: Array1<u64> = self.order.iter().map(|&row| row as u64).collect();
        state.insert(ORDER, &order);
        keeper.keep(self.run.name, &state)
    }

    /// Takes a kept state over, if there is one. On an error the run is not to be used.
    fn restore(&mut self) -> Result<bool, TrainError> {
        let Some(keeper) = self.observer.keeper() else {
            return Ok(false);
        };
        let Some(state) = keeper.restore(self.run.name)? else {
            return Ok(false);
        };
        let entry = |key: &str| {
            state
                .metadata
                .get(key)
                .ok_or_else(|| self.refuse_state(format!("it has no metadata entry {key}")))
        };
        let config: ExperimentConfig = serde_json::from_str(entry(CONFIG)?)
            .map_err(|error| self.refuse_state(format!("its configuration: {error}")))?;
        if config != *self.config {
            let reason = "it was kept with another configuration".to_owned();
            return Err(self.refuse_state(reason));
        }
        let position: Position = serde_json::from_str(entry(POSITION)?)
            .map_err(|error| self.refuse_state(format!("its position: {error}")))?;
        let rows = self.data.train.len();
        let mut order = Vec::new();
        for row in state.array::<u64>(ORDER)? {
            match usize::try_from(row) {
                Ok(row) if row < rows => order.push(row),
                _ => return Err(self.refuse_state(format!("it has row {row} of {rows}"))),
            }
        }
        let expected = if order.is_empty() { 0 } else { rows };
        if order.len() != expected || position.batches > self.batch_count() {
            return Err(self.refuse_state(format!(
                "it orders {} rows and has done {} batches, the data have {rows} rows in {} batches",
                order.len(),
                position.batches,
                self.batch_count()
            )));
        }
        self.position = position;
        self.order = order;
        state.read_parameters(MODEL, &mut self.model)?;
        if self.best_epoch().is_some() {
            let mut best = self.model.clone();
            state.read_parameters(BEST_MODEL, &mut best)?;
            self.best_model = Some(best);
        }
        if self.holds_gradients() {
            state.read_parameters(GRADIENTS, &mut self.gradients)?;
        }
        self.optimizer.load(&state, OPTIMIZER)?;
        if let Some((_, labels)) = &mut self.labels {
            labels.read_from(&state, LABELS)?;
        }
        Ok(true)
    }

    fn refuse_state(&self, reason: String) -> TrainError {
        TrainError::State {
            run: self.run.name.to_owned(),
            reason,
        }
    }

    /// One batch forward and backward, then the label generator, in the published order.
    fn batch(
        &mut self,
        epoch: usize,
        number: usize,
        batch: Batch,
    ) -> Result<(LossTerms, UpdateReport), TrainError> {
        let rows = &batch.rows[..];
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
        let (outputs, cache) = self.model.forward(&inputs, &mut self.position.noise)?;
        let (terms, output_gradients) = self.objective.evaluate(&outputs, &targets)?;
        for (term, value) in terms.named() {
            self.require_finite(&term, value, epoch, number, rows)?;
        }
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
    fn step(&mut self, epoch: usize, batch: usize, accumulated: usize) -> Result<f64, TrainError> {
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
        let first = (batch - accumulated) * self.config.training.batch_size;
        let end = self
            .order
            .len()
            .min(batch * self.config.training.batch_size);
        self.require_finite(
            &"gradient norm",
            norm,
            epoch,
            batch,
            &self.order[first..end],
        )?;
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
        self.require_finite(&"validation loss", loss, epoch, self.batch_count(), &[])?;
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
        term: &dyn Display,
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
            term: term.to_string(),
            value,
            epoch,
            batch,
            ids: rows
                .iter()
                .map(|&row| self.data.train.id[row].clone())
                .collect(),
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
    let total_steps = steps.saturating_mul(training.max_epochs).max(1) as u64;
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
