//! The files of a run folder. Equal experiments give equal bytes: nothing here knows the time, the
//! machine or where the folder is.

use std::collections::BTreeMap;

use modalign::metrics::{Metric, Summary};
use modalign::train::{EpochRecord, Experiment, RunResult};
use serde::Serialize;

use crate::error::CliError;
use crate::folder::RunFolder;
use crate::input::BEST_CHECKPOINT;
use crate::outcome::{BASELINE, Outcome, SELECTION};
use crate::{keys, report};

/// What the log is called, the one file that differs between equal runs.
pub const LOG: &str = "train.log";
/// What the report is called.
pub const REPORT: &str = "report.html";
/// What the configuration is called.
pub const CONFIG: &str = "config.toml";

/// Where the tuned text encoder of the best run is, for `transformers` and others.
pub const TEXT_ENCODER: &str = "text-encoder";

/// Where the model of each run is.
pub const CHECKPOINTS: &str = "checkpoints";
/// What the metrics are called, written last.
pub const METRICS: &str = "metrics.json";

/// Writes everything but the configuration and the log, which are there already.
pub fn write(folder: &RunFolder, outcome: &Outcome<'_>) -> Result<(), CliError> {
    let experiment = outcome.experiment;
    folder.write("history.csv", &history(experiment)?)?;
    folder.write("predictions.csv", &predictions(experiment)?)?;
    folder.make_folder(CHECKPOINTS)?;
    for (run, model) in experiment.runs.iter().zip(&experiment.models) {
        model.save(folder.file(&checkpoint_name(&run.name)))?;
    }
    let best = &experiment.models[experiment.best_run()];
    best.save(folder.file(BEST_CHECKPOINT))?;
    best.save_text_encoder(folder.file(TEXT_ENCODER))?;
    let report = report::page(outcome, &keys::to_toml(outcome.config))?;
    folder.write(REPORT, report.as_bytes())?;
    folder.write(METRICS, &metrics(outcome)?)
}

/// `seed 1111` as `seed-1111`, `fold 3, seed 1111` as `fold-3-seed-1111`.
pub fn file_name(run: &str) -> String {
    run.replace(", ", "-").replace(' ', "-")
}

/// Where the model of a run is, within the run folder.
pub fn checkpoint_name(run: &str) -> String {
    format!("{CHECKPOINTS}/{}.safetensors", file_name(run))
}

#[derive(Serialize)]
struct Metrics<'a> {
    test: &'a BTreeMap<Metric, Summary>,
    valid: &'a BTreeMap<Metric, Summary>,
    best_constant: &'a BTreeMap<Metric, Summary>,
    selection: &'a str,
    best_constant_is: &'a str,
    data: &'a str,
    convention: modalign::metrics::Convention,
    /// In the order of every `per_seed`.
    runs: Vec<Run<'a>>,
    best_run: &'a str,
}

#[derive(Serialize)]
struct Run<'a> {
    name: &'a str,
    seed: u64,
    fold: Option<usize>,
    best_epoch: usize,
    epochs: usize,
}

impl<'a> From<&'a RunResult> for Run<'a> {
    fn from(run: &'a RunResult) -> Self {
        Self {
            name: &run.name,
            seed: run.seed,
            fold: run.fold.map(|fold| fold + 1),
            best_epoch: run.best_epoch,
            epochs: run.history.len(),
        }
    }
}

fn metrics(outcome: &Outcome<'_>) -> Result<Vec<u8>, CliError> {
    to_json(&Metrics {
        test: &outcome.test,
        valid: &outcome.valid,
        best_constant: &outcome.baseline,
        selection: SELECTION,
        best_constant_is: BASELINE,
        data: outcome.data,
        convention: outcome.convention(),
        runs: outcome.experiment.runs.iter().map(Run::from).collect(),
        best_run: &outcome.best_run().name,
    })
}

pub fn to_json(value: &impl Serialize) -> Result<Vec<u8>, CliError> {
    let failed = |error: serde_json::Error| CliError::Format {
        what: "metrics.json",
        reason: error.to_string(),
    };
    let mut json = serde_json::to_vec_pretty(value).map_err(failed)?;
    json.push(b'\n');
    Ok(json)
}

/// Rows of text with a header.
pub fn csv(
    header: &[String],
    rows: impl IntoIterator<Item = Vec<String>>,
) -> Result<Vec<u8>, CliError> {
    let failed = |reason: String| CliError::Format {
        what: "comma-separated values",
        reason,
    };
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer
        .write_record(header)
        .map_err(|error| failed(error.to_string()))?;
    for row in rows {
        writer
            .write_record(row)
            .map_err(|error| failed(error.to_string()))?;
    }
    writer
        .into_inner()
        .map_err(|error| failed(error.to_string()))
}

fn optional(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

/// One row an epoch of a run: named cells, the names being those of every row.
fn cells(run: &RunResult, record: &EpochRecord) -> Vec<(String, String)> {
    let mut cells = vec![
        ("run".to_owned(), run.name.clone()),
        ("epoch".to_owned(), record.epoch.to_string()),
        (
            "is_best".to_owned(),
            (record.epoch == run.best_epoch).to_string(),
        ),
        ("loss".to_owned(), record.train.total.to_string()),
        ("loss_fused".to_owned(), record.train.multimodal.to_string()),
    ];
    for (modality, value) in &record.train.unimodal {
        cells.push((format!("loss_{modality}"), value.to_string()));
    }
    let shared = record.train.shared_information.to_string();
    cells.push(("loss_shared_information".to_owned(), shared));
    for (left, right, value) in &record.train.pairs {
        cells.push((format!("distance_{left}_{right}"), value.to_string()));
    }
    cells.push(("gradient_norm".to_owned(), record.gradient_norm.to_string()));
    cells.push(("valid_loss".to_owned(), record.valid_loss.to_string()));
    for (metric, value) in record.valid.iter() {
        cells.push((format!("valid_{metric}"), optional(value)));
    }
    for label in &record.labels {
        let name = |what: &str| format!("labels_{}_{what}", label.modality);
        cells.push((name("mean_shift"), label.mean_shift.to_string()));
        cells.push((
            name("mean_absolute_shift"),
            label.mean_absolute_shift.to_string(),
        ));
        for (quantile, value) in ["q05", "q25", "q50", "q75", "q95"]
            .iter()
            .zip(label.quantiles)
        {
            cells.push((name(quantile), value.to_string()));
        }
    }
    if !record.labels.is_empty() {
        let updates = record.label_updates;
        for (name, count) in [
            ("labels_updated", updates.updated),
            ("labels_skipped_empty_class", updates.skipped_empty_class),
            (
                "labels_skipped_vanishing_distance",
                updates.skipped_vanishing_distance,
            ),
            ("labels_clamped", updates.clamped),
        ] {
            cells.push((name.to_owned(), count.to_string()));
        }
    }
    cells
}

fn history(experiment: &Experiment) -> Result<Vec<u8>, CliError> {
    let mut rows = experiment
        .runs
        .iter()
        .flat_map(|run| run.history.iter().map(move |record| cells(run, record)))
        .peekable();
    let header: Vec<_> = rows
        .peek()
        .into_iter()
        .flatten()
        .map(|(name, _)| name.clone())
        .collect();
    csv(
        &header,
        rows.map(|row| row.into_iter().map(|(_, value)| value).collect()),
    )
}

fn predictions(experiment: &Experiment) -> Result<Vec<u8>, CliError> {
    let mut rows = experiment
        .runs
        .iter()
        .flat_map(|run| {
            run.test_predictions.iter().map(move |prediction| {
                let mut cells = vec![
                    ("run".to_owned(), run.name.clone()),
                    ("id".to_owned(), prediction.id.clone()),
                    ("label".to_owned(), prediction.label.to_string()),
                    ("fused".to_owned(), prediction.fused.to_string()),
                ];
                for (modality, score) in &prediction.unimodal {
                    cells.push((modality.to_string(), score.to_string()));
                }
                for (modality, pull) in &prediction.pull {
                    cells.push((format!("pull_{modality}"), pull.to_string()));
                }
                cells
            })
        })
        .peekable();
    let header: Vec<String> = rows
        .peek()
        .into_iter()
        .flatten()
        .map(|(name, _)| name.clone())
        .collect();
    csv(
        &header,
        rows.map(|row| row.into_iter().map(|(_, value)| value).collect()),
    )
}
