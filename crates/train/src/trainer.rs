//! One run: from initial parameters to those that validation chose.

use std::fmt::Display;
use std::sync::mpsc::sync_channel;

use modalign_core::{ChaCha8Rng, Parameters, Path, Store, Stream, assign, resize, rng};
use modalign_data::{Batch, Sequences, Split, epoch_order};
use modalign_encoders::{Encoder, Modality};
use modalign_labels::{LabelError, LabelGenerator, LabelState, UpdateReport};
use modalign_metrics::{Report, evaluate};
use modalign_nn::{LinearWarmup, Optimizer, SequenceBatch, scale_to_norm};
use ndarray::{Array1, Array2, Array3, ArrayView3, s};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::awake;
use crate::config::{Accumulation, ExperimentConfig, TrainingConfig};
use crate::history::Term;
use crate::model::{Input, Model, ModelCache, OutputGradients, Outputs};
use crate::objective::{Objective, Targets};
use crate::prepared::{Preparation, PreparedData};
use crate::{EpochRecord, Event, LabelMovement, LossTerms, Observer, StateKeeper, TrainError};

/// A validation loss must fall by this much to count as better, as in the published code.
const MINIMUM_IMPROVEMENT: f64 = 1e-6;

/// A loss this many times that of the first batch, or this large where that one was below 1, has
/// exploded, though it may still be a number.
const EXPLOSION: f64 = 1e6;

/// The names of a kept state's metadata and arrays.
const CONFIG: &str = "config";
const POSITION: &str = "position";
const MODEL: &str = "model";
const BEST_MODEL: &str = "best_model";
const GRADIENTS: &str = "gradients";
const OPTIMIZER: &str = "optimizer";
const LABELS: &str = "labels";
const ORDER: &str = "order";

/// Rows a batch when nothing is learned; only the memory and what threads can share depend on it.
pub(crate) const INFERENCE_BATCH: usize = 64;

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
    workspace: Workspace,
    observer: &'a dyn Observer,
}

/// Memory that every step uses again. What it holds between steps has no meaning.
#[derive(Default)]
struct Workspace {
    /// Of the rows of a batch, for each modality.
    lengths: [Vec<usize>; Modality::ALL.len()],
    targets: Targets<f32>,
    /// `[M+1, B]`
    labels: Array2<f32>,
    cache: ModelCache<f32>,
    outputs: Outputs<f32>,
    output_gradients: OutputGradients<f32>,
    terms: LossTerms,
    squares: [Vec<f64>; 2],
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
    /// The total loss of the first batch of all.
    first_loss: Option<f64>,
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
                first_loss: None,
                order: rng(run.seed, Stream::Order),
                noise: rng(run.seed, Stream::Dropout),
            },
            order: Vec::new(),
            workspace: Workspace::default(),
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
        self.warm_up()?;
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
        let order = self.order.clone();
        let batches = order
            .chunks(training.batch_size)
            .skip(self.position.batches);
        awake::with_second_thread(|| {
            if self.data.train.file_features.is_empty() {
                self.steps_in_memory(epoch, batches)
            } else {
                self.steps_from_file(epoch, batches)
            }
        })?;

        let (valid_loss, valid) = self.validate(epoch)?;
        let best = self.best_epoch().map(|best| best.valid_loss);
        let position = &mut self.position;
        let steps = std::mem::take(&mut position.steps);
        let gradient_norm = std::mem::take(&mut position.gradient_norm);
        let record = EpochRecord {
            epoch,
            train: position.train.clone(),
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
        self.position.train.clear();
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

    /// Learns from these batches, whose rows are read where they lie.
    fn steps_in_memory<'r>(
        &mut self,
        epoch: usize,
        batches: impl Iterator<Item = &'r [usize]>,
    ) -> Result<(), TrainError> {
        let data = self.data;
        let mut lengths = std::mem::take(&mut self.workspace.lengths);
        for rows in batches {
            let (inputs, count) = select(&data.preparation, &data.train, rows, &mut lengths)?;
            self.step_of_epoch(epoch, rows, &inputs[..count])?;
        }
        self.workspace.lengths = lengths;
        Ok(())
    }

    /// As [`steps_in_memory`](Self::steps_in_memory), with a thread of its own that waits for the
    /// file.
    fn steps_from_file<'r>(
        &mut self,
        epoch: usize,
        batches: impl Iterator<Item = &'r [usize]> + Send,
    ) -> Result<(), TrainError> {
        let data = self.data;
        std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel(BATCHES_AHEAD);
            let (give_back, served) = sync_channel::<Batch>(BATCHES_AHEAD + 2);
            scope.spawn(move || {
                let keys = data.keys();
                for rows in batches {
                    let mut batch = served.try_recv().unwrap_or_default();
                    let read = data.train.batch_into(&keys, rows, &mut batch);
                    if sender.send(read.map(|()| batch)).is_err() {
                        // The epoch has ended early.
                        break;
                    }
                }
            });
            for batch in receiver {
                let batch = batch?;
                let (inputs, count) = inputs(&batch);
                self.step_of_epoch(epoch, &batch.rows, &inputs[..count])?;
                // Without a taker, the last batches have been read.
                let _ = give_back.try_send(batch);
            }
            Ok(())
        })
    }

    /// Takes all the memory that a step needs: a pass over zeros of the size of the largest batch.
    fn warm_up(&mut self) -> Result<(), TrainError> {
        let mut encoders = self.model.branches().map(|(_, branch)| &branch.encoder);
        let draws_tokens = |encoder| matches!(encoder, &Encoder::Bert(_));
        if self.is_finished() || encoders.any(draws_tokens) {
            return Ok(());
        }
        let train = &self.data.train;
        let rows = self.config.training.batch_size.min(train.len());
        let largest = Batch {
            rows: vec![0; rows],
            sequences: self
                .data
                .keys()
                .into_iter()
                .filter_map(|key| train.extent(key))
                .map(|[steps, width]| Sequences {
                    values: Array3::zeros((rows, steps, width)),
                    lengths: vec![steps; rows],
                })
                .collect(),
            labels: Array1::zeros(rows),
        };
        let Workspace {
            cache,
            outputs,
            output_gradients,
            ..
        } = &mut self.workspace;
        let noise = &mut self.position.noise.clone();
        let (inputs, count) = inputs(&largest);
        self.model
            .forward_into(&inputs[..count], noise, cache, outputs)?;
        let zeros = |one: &Array2<f32>| Array2::zeros(one.raw_dim());
        *output_gradients = OutputGradients {
            fused: Array1::zeros(rows),
            unimodal: vec![Array1::zeros(rows); outputs.unimodal.len()],
            shared: outputs.shared.iter().map(zeros).collect(),
        };
        self.model
            .backward_into(cache, output_gradients, &mut self.gradients.clone())?;
        Ok(())
    }

    /// Learns from the next batch of the epoch under way.
    fn step_of_epoch(
        &mut self,
        epoch: usize,
        rows: &[usize],
        inputs: &[Input<'_, f32>],
    ) -> Result<(), TrainError> {
        self.stop_if_interrupted()?;
        let training = &self.config.training;
        let index = self.position.batches;
        let weight = rows.len() as f64 / self.order.len() as f64;
        let update = self.batch(epoch, index + 1, rows, inputs)?;
        let terms = &self.workspace.terms;
        self.observer.observe(&Event::Step {
            run: self.run.index,
            epoch,
            step: index + 1,
            terms,
        });
        self.position.train.accumulate(terms, weight);
        self.position.label_updates += update;

        let accumulated = index % training.accumulation_steps + 1;
        let last = index + 1 == self.batch_count();
        if accumulated == training.accumulation_steps || (last && training.step_trailing_batches) {
            self.position.gradient_norm += self.step(epoch, index + 1, accumulated)?;
            self.position.steps += 1;
        }
        if last || accumulated == training.accumulation_steps {
            let Model {
                text,
                audio,
                vision,
                fusion,
            } = &mut self.gradients;
            awake::join(
                || {
                    [text, audio, vision]
                        .into_iter()
                        .for_each(|branch| branch.set_zero())
                },
                || fusion.set_zero(),
            );
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

    /// One batch forward and backward, and through the label generator, which takes the features as
    /// the forward pass leaves them and the labels as the loss has used them. Leaves the terms of the
    /// loss in the workspace.
    fn batch(
        &mut self,
        epoch: usize,
        number: usize,
        rows: &[usize],
        inputs: &[Input<'_, f32>],
    ) -> Result<UpdateReport, TrainError> {
        let Workspace {
            targets,
            labels,
            cache,
            outputs,
            output_gradients,
            terms,
            ..
        } = &mut self.workspace;
        resize(&mut targets.multimodal, rows.len());
        for (label, &row) in targets.multimodal.iter_mut().zip(rows) {
            *label = self.data.train.labels[row];
        }
        match &self.labels {
            Some((_, state)) => {
                state.targets_into(rows, labels)?;
                assign(&mut targets.unimodal, labels.slice(s![1.., ..]));
                state.loss_weights_into(rows, &mut targets.weights)?;
            }
            None => targets.set_multimodal_only(inputs.len()),
        }
        self.model
            .forward_into(inputs, &mut self.position.noise, cache, outputs)?;

        let place = Place {
            run: self.run,
            ids: &self.data.train.id,
            epoch,
            batch: number,
            rows,
        };
        let (outputs, generated) = (&*outputs, &mut self.labels);
        self.objective
            .evaluate_into(outputs, targets, terms, output_gradients)?;
        for (term, value) in terms.named() {
            place.require_finite(&term, value)?;
        }
        let first = *self.position.first_loss.get_or_insert(terms.total);
        let limit = EXPLOSION * first.max(1.0);
        if terms.total > limit {
            return Err(place.diverged(&Term::Total, terms.total, limit));
        }
        let mut updated = Ok(UpdateReport::default());
        let update = || {
            if let Some((generator, state)) = generated {
                let features: [_; 1 + Modality::ALL.len()] = std::array::from_fn(|space| {
                    outputs
                        .features
                        .get(space)
                        .unwrap_or(&outputs.features[0])
                        .view()
                });
                let features = &features[..outputs.features.len()];
                updated = generator.update(state, epoch, rows, features);
            }
        };
        self.model
            .backward_beside(cache, output_gradients, &mut self.gradients, update)?;
        Ok(updated?)
    }

    /// One optimiser step on the gradients of `accumulated` batches; returns their norm.
    fn step(&mut self, epoch: usize, batch: usize, accumulated: usize) -> Result<f64, TrainError> {
        if self.config.training.accumulation == Accumulation::Mean && accumulated > 1 {
            let scale = 1.0 / accumulated as f32;
            self.gradients
                .visit_mut(&mut Path::default(), &mut |_, mut gradient| {
                    gradient *= scale
                });
        }
        let norm = self.gradients.norm(&mut self.workspace.squares);
        let bound = self.config.training.clip_gradient_norm;
        if bound > 0.0 {
            scale_to_norm(&mut self.gradients, norm, bound);
        }
        let first = (batch - accumulated) * self.config.training.batch_size;
        let end = self
            .order
            .len()
            .min(batch * self.config.training.batch_size);
        let place = Place {
            run: self.run,
            ids: &self.data.train.id,
            epoch,
            batch,
            rows: &self.order[first..end],
        };
        place.require_finite(&"gradient norm", norm)?;
        let factor = self
            .schedule
            .map_or(1.0, |schedule| schedule.factor(self.optimizer.steps()));
        self.model
            .step(&mut self.optimizer, &self.gradients, factor)?;
        Ok(norm)
    }

    fn validate(&self, epoch: usize) -> Result<(f64, Report), TrainError> {
        let valid = &self.data.valid;
        let (model, preparation) = (&self.model, &self.data.preparation);
        let predict = || predict(model, preparation, valid);
        let predictions = awake::with_second_thread(predict)?.fused;
        let loss = predictions
            .iter()
            .zip(&valid.labels)
            .map(|(&found, &label)| f64::from((found - label).abs()))
            .sum::<f64>()
            / valid.len() as f64;
        let place = Place {
            run: self.run,
            ids: &self.data.train.id,
            epoch,
            batch: self.batch_count(),
            rows: &[],
        };
        place.require_finite(&"validation loss", loss)?;
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
}

/// What a value that diverges is reported with.
struct Place<'a> {
    run: RunId<'a>,
    /// Of all training rows.
    ids: &'a [String],
    epoch: usize,
    batch: usize,
    /// Those that the value comes from.
    rows: &'a [usize],
}

impl Place<'_> {
    fn require_finite(&self, term: &dyn Display, value: f64) -> Result<(), TrainError> {
        if value.is_finite() {
            return Ok(());
        }
        Err(self.diverged(term, value, f64::INFINITY))
    }

    fn diverged(&self, term: &dyn Display, value: f64, limit: f64) -> TrainError {
        TrainError::Diverged {
            run: self.run.name.to_owned(),
            term: term.to_string(),
            value,
            limit,
            epoch: self.epoch,
            batch: self.batch,
            ids: self.rows.iter().map(|&row| self.ids[row].clone()).collect(),
        }
    }
}

/// The inputs of a batch, one entry a modality; the first ones count.
type Inputs<'b> = ([Input<'b, f32>; Modality::ALL.len()], usize);

/// No rows.
fn none<'b>() -> Input<'b, f32> {
    let none = ArrayView3::from_shape((0, 0, 0), &[]).expect("no rows take no memory");
    Input {
        sequences: none.into(),
        lengths: &[],
    }
}

/// The features of a batch that has been gathered.
fn inputs(batch: &Batch) -> Inputs<'_> {
    let input = |index| batch.sequences.get(index).map_or(none(), Input::from);
    (std::array::from_fn(input), batch.sequences.len())
}

/// Rows of features in memory.
fn select<'b>(
    preparation: &[Preparation],
    split: &'b Split,
    rows: &'b [usize],
    lengths: &'b mut [Vec<usize>; Modality::ALL.len()],
) -> Result<Inputs<'b>, TrainError> {
    let mut inputs = [none(); Modality::ALL.len()];
    for ((input, lengths), one) in inputs.iter_mut().zip(lengths).zip(preparation) {
        let Sequences {
            values,
            lengths: all,
        } = split.feature(&one.features)?;
        let sequences = SequenceBatch::select(values.view(), rows)?;
        lengths.clear();
        lengths.extend(rows.iter().map(|&row| all[row]));
        *input = Input { sequences, lengths };
    }
    Ok((inputs, preparation.len()))
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
    let parts = rows
        .par_chunks(INFERENCE_BATCH)
        .map(|rows| {
            if split.file_features.is_empty() {
                let mut lengths = Default::default();
                let (inputs, count) = select(preparation, split, rows, &mut lengths)?;
                return model.infer(&inputs[..count]);
            }
            let batch = split.batch(&keys, rows)?;
            let (inputs, count) = inputs(&batch);
            model.infer(&inputs[..count])
        })
        .collect::<Result<Vec<_>, TrainError>>()?;
    for (rows, outputs) in rows.chunks(INFERENCE_BATCH).zip(parts) {
        for (position, &row) in rows.iter().enumerate() {
            fused[row] = outputs.fused[position];
            for (modality, prediction) in outputs.unimodal.iter().enumerate() {
                unimodal[[modality, row]] = prediction[position];
            }
        }
    }
    Ok(SplitPredictions { fused, unimodal })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recipe;
    use modalign_data::{GeneratedConfig, generate};
    use modalign_metrics::Convention;
    use std::hint::black_box;

    /// All batches of an epoch in which labels are generated, the small one at its end included.
    #[test]
    fn a_warm_step_allocates_nothing() {
        let counted = allocation_counter::measure(|| drop(black_box(vec![0_u8; 9])));
        assert_eq!(counted.count_total, 1, "nothing is counted");
        let generated = GeneratedConfig {
            train_rows: 200,
            valid_rows: 8,
            test_rows: 8,
            ..GeneratedConfig::default()
        };
        let dataset = generate(&generated).unwrap().dataset;
        let modalign = ExperimentConfig::default();
        let mut self_mm = ExperimentConfig::recipe(Recipe::SelfMm, Convention::Mosi);
        self_mm.objective.shared_information_weight = 1.0;
        for config in [modalign, self_mm] {
            let data = PreparedData::new(&config, &dataset).unwrap();
            let run = RunId {
                index: 0,
                runs: 1,
                name: "seed 1111",
                seed: 1111,
            };
            let steps = || {
                let mut trainer = Trainer::new(&config, &data, run, &()).unwrap();
                trainer.warm_up().unwrap();
                trainer.epoch().unwrap();
                trainer.epoch().unwrap();
                trainer.order = epoch_order(data.train.len(), &mut trainer.position.order);
                let order = trainer.order.clone();
                let batches = order.chunks(config.training.batch_size);
                let steps = || trainer.steps_in_memory(3, batches).unwrap();
                allocation_counter::measure(steps).count_total
            };
            // On the thread that counts.
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
            assert_eq!(pool.unwrap().install(steps), 0);
        }
    }
}
