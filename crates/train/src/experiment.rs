//! Several runs: seeds, folds and the variants of an ablation.

use modalign_data::{Dataset, folds};
use modalign_encoders::Modality;
use std::collections::BTreeMap;

use modalign_metrics::{Metric, Report, Summary, summarise};
use modalign_nn::release_memory;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::prepared::PreparedData;
use crate::trainer::{RunId, TrainedRun, Trainer};
use crate::{
    Checkpoint, EpochRecord, Event, ExperimentConfig, Observer, Prediction, Predictor, TrainError,
};

/// One run: one seed, on the given splits or on one fold.
#[derive(Debug, Clone, Serialize)]
pub struct RunResult {
    /// Such as `seed 1111` or `fold 3, seed 1111`.
    pub name: String,
    /// Its seed.
    pub seed: u64,
    /// Its fold, from 0, in a cross-validation.
    pub fold: Option<usize>,
    /// Every epoch.
    pub history: Vec<EpochRecord>,
    /// The epoch whose parameters were kept: the lowest validation loss.
    pub best_epoch: usize,
    /// Validation metrics of that epoch.
    pub valid: Report,
    /// Test metrics, computed once, after training.
    pub test: Report,
    /// The test rows.
    pub test_predictions: Vec<Prediction>,
    /// Multimodal labels of the training rows, relative to neutral.
    pub train_labels: Vec<f32>,
    /// Generated labels of the training rows at the end, one entry a modality; empty without the
    /// generator.
    pub final_labels: Vec<(Modality, Vec<f32>)>,
}

/// All runs of an experiment with their models.
#[derive(Debug, Clone)]
pub struct Experiment {
    /// In the order of folds, then seeds.
    pub runs: Vec<RunResult>,
    /// The model of each run.
    pub models: Vec<Checkpoint>,
}

impl Experiment {
    /// Mean and population standard deviation of the test metrics over the runs.
    pub fn test_summary(&self) -> Result<BTreeMap<Metric, Summary>, TrainError> {
        self.summary(|run| &run.test)
    }

    /// Mean and population standard deviation of the validation metrics over the runs.
    pub fn valid_summary(&self) -> Result<BTreeMap<Metric, Summary>, TrainError> {
        self.summary(|run| &run.valid)
    }

    fn summary(
        &self,
        of: impl Fn(&RunResult) -> &Report,
    ) -> Result<BTreeMap<Metric, Summary>, TrainError> {
        let reports: Vec<_> = self.runs.iter().map(|run| of(run).clone()).collect();
        Ok(summarise(&reports)?)
    }

    /// The run with the lowest validation loss; the first of several.
    pub fn best_run(&self) -> usize {
        let loss = |run: &RunResult| run.history[run.best_epoch - 1].valid_loss;
        (0..self.runs.len())
            .min_by(|&left, &right| loss(&self.runs[left]).total_cmp(&loss(&self.runs[right])))
            .unwrap_or(0)
    }
}

/// Trains one model a seed and tests each once.
///
/// Runs go in parallel on the current rayon pool; the result does not depend on its size.
///
/// # Errors
///
/// An invalid configuration, data that does not fit it, or a run that diverged.
pub fn run(
    config: &ExperimentConfig,
    dataset: &Dataset,
    observer: &dyn Observer,
) -> Result<Experiment, TrainError> {
    config.validate()?;
    let runs = config.seeds.len();
    let results = seeds(
        config,
        dataset,
        Part {
            fold: None,
            first_run: 0,
            runs,
        },
        observer,
    )?;
    Ok(collect(vec![results]))
}

/// Trains and tests one model a fold and seed on all rows of the data set, its splits pooled.
///
/// Fold k is tested by models trained on the others, of which the next one, k + 1, is held back for
/// validation. The folds are drawn with the first seed.
///
/// # Errors
///
/// As [`run`]; [`TrainError::Config`] for fewer than 3 folds (test, validation, training).
pub fn cross_validate(
    config: &ExperimentConfig,
    dataset: &Dataset,
    fold_count: usize,
    observer: &dyn Observer,
) -> Result<Experiment, TrainError> {
    config.validate()?;
    if fold_count < 3 {
        return Err(TrainError::Config {
            key: "folds".to_owned(),
            expected: "at least 3: one to test, one to validate, the others to train",
            found: fold_count.to_string(),
        });
    }
    let pool = dataset.pool()?;
    let rows = folds(pool.len(), fold_count, config.seeds[0])?;
    let runs = fold_count * config.seeds.len();
    let results = (0..fold_count)
        .into_par_iter()
        .map(|fold| {
            let valid = (fold + 1) % fold_count;
            let mut train: Vec<usize> = (0..fold_count)
                .filter(|&other| other != fold && other != valid)
                .flat_map(|other| rows[other].iter().copied())
                .collect();
            train.sort_unstable();
            let dataset = Dataset {
                train: pool.select(&train)?,
                valid: pool.select(&rows[valid])?,
                test: pool.select(&rows[fold])?,
            };
            let first_run = fold * config.seeds.len();
            seeds(
                config,
                &dataset,
                Part {
                    fold: Some(fold),
                    first_run,
                    runs,
                },
                observer,
            )
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(collect(results))
}

/// Where the runs of one data set stand among all runs.
#[derive(Clone, Copy)]
struct Part {
    fold: Option<usize>,
    first_run: usize,
    runs: usize,
}

fn seeds(
    config: &ExperimentConfig,
    dataset: &Dataset,
    part: Part,
    observer: &dyn Observer,
) -> Result<Vec<(RunResult, Checkpoint)>, TrainError> {
    for (split, rows, purpose) in [
        ("valid", dataset.valid.len(), "to choose the epoch"),
        ("test", dataset.test.len(), "to test the model"),
    ] {
        if rows == 0 {
            return Err(TrainError::TooFewRows {
                split,
                expected: 1,
                found: 0,
                purpose,
            });
        }
    }
    let data = PreparedData::new(config, dataset)?;
    if data.truncated > 0 {
        observer.observe(&Event::TextsTruncated {
            texts: data.truncated,
            rows: data.train.len() + data.valid.len(),
        });
    }
    let results = config
        .seeds
        .par_iter()
        .enumerate()
        .map(|(index, &seed)| {
            let name = match part.fold {
                Some(fold) => format!("fold {}, seed {seed}", fold + 1),
                None => format!("seed {seed}"),
            };
            let run = RunId {
                index: part.first_run + index,
                runs: part.runs,
                name: &name,
                seed,
            };
            let checkpoint = |model| Checkpoint {
                config: config.clone(),
                seed,
                preparation: data.preparation.clone(),
                model,
            };
            let mut trainer = Trainer::new(config, &data, run, observer)?;
            let trained = trainer.train();
            if let (Err(TrainError::Diverged { .. }), Some(keeper), Some(best)) =
                (&trained, observer.keeper(), trainer.best_model())
            {
                keeper.rescue(&name, &checkpoint(best.clone()))?;
            }
            let TrainedRun {
                model,
                history,
                best_epoch,
                valid,
                labels,
            } = trained?;
            let checkpoint = checkpoint(model);
            let predictor = Predictor::new(checkpoint);
            let test_predictions = predictor.predict(&dataset.test)?;
            let test = predictor.evaluate(&dataset.test)?;
            let final_labels = config
                .modalities_in_use()
                .zip(labels.rows())
                .map(|(modality, row)| (modality, row.to_vec()))
                .collect();
            let result = RunResult {
                name,
                seed,
                fold: part.fold,
                history,
                best_epoch,
                valid,
                test,
                test_predictions,
                train_labels: data.train.labels.to_vec(),
                final_labels,
            };
            Ok((result, predictor.into_checkpoint()))
        })
        .collect();
    release_memory();
    results
}

fn collect(parts: Vec<Vec<(RunResult, Checkpoint)>>) -> Experiment {
    let (runs, models) = parts.into_iter().flatten().unzip();
    Experiment { runs, models }
}

/// A baseline that differs from the full method in one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Variant {
    /// The configuration as it is.
    Full,
    /// Text alone.
    TextOnly,
    /// Without the shared-information loss.
    NoSharedInformation,
    /// Without generated labels: the unimodal tasks are off.
    NoLabelGenerator,
}

impl Variant {
    /// Every variant, the full method first.
    pub const ALL: [Self; 4] = [
        Self::Full,
        Self::TextOnly,
        Self::NoSharedInformation,
        Self::NoLabelGenerator,
    ];

    /// What a table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::TextOnly => "text only",
            Self::NoSharedInformation => "no shared information",
            Self::NoLabelGenerator => "no label generator",
        }
    }

    /// The configuration of this variant.
    #[must_use]
    pub fn apply(self, config: &ExperimentConfig) -> ExperimentConfig {
        let mut config = config.clone();
        match self {
            Self::Full => {}
            Self::TextOnly => config.data.modalities = vec![Modality::Text],
            Self::NoSharedInformation => config.objective.shared_information_weight = 0.0,
            Self::NoLabelGenerator => config.objective.unimodal_weight = 0.0,
        }
        config
    }
}
