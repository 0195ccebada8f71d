//! Data sets and models by the names that the command line has for them.

use std::path::{Path, PathBuf};

use modalign::data::{self, Dataset, GeneratedConfig, ReadOptions, ReadReport, Split, generate};
use modalign::encoders::Modality;
use modalign::train::{Checkpoint, ExperimentConfig};

use crate::arguments::SplitName;
use crate::error::CliError;

/// The file of a run folder that `--model` takes.
pub const BEST_CHECKPOINT: &str = "best.safetensors";

/// A data set and what to call it.
#[derive(Debug)]
pub struct Input {
    /// The file's name without its folder, or `generated`.
    pub name: String,
    pub dataset: Dataset,
    /// What was found in the file; there is none for generated data.
    pub report: Option<ReadReport>,
}

impl Input {
    /// Reads what a configuration needs of a file, or generates the built-in data.
    pub fn load(file: Option<&Path>, config: &ExperimentConfig) -> Result<Self, CliError> {
        let Some(path) = file else {
            let dataset = generate(&GeneratedConfig::default())?.dataset;
            return Ok(Self {
                name: "generated".to_owned(),
                dataset,
                report: None,
            });
        };
        // A text model reads what every file is searched for anyway.
        let features = config
            .data
            .modalities
            .iter()
            .filter(|&&modality| modality != Modality::Text || config.text_model.is_none());
        let options = ReadOptions {
            features: Some(
                features
                    .map(|&modality| config.modality(modality).features.clone())
                    .collect(),
            ),
            non_finite: config.data.non_finite,
            label_column: config.data.label_column,
            in_file_above: config
                .data
                .in_file_above_mib
                .map(|mib| mib.saturating_mul(1 << 20)),
        };
        let (dataset, report) = read(path, &options)?;
        Ok(Self {
            name: file_name(path),
            dataset,
            report: Some(report),
        })
    }

    /// The name without the file's ending.
    pub fn stem(&self) -> &str {
        self.name
            .rsplit_once('.')
            .map_or(&self.name, |(stem, _)| stem)
    }

    /// The rows of one split, or of all.
    pub fn split(self, name: SplitName) -> Result<Split, CliError> {
        Ok(match name {
            SplitName::Train => self.dataset.train,
            SplitName::Valid => self.dataset.valid,
            SplitName::Test => self.dataset.test,
            SplitName::All => self.dataset.pool()?,
        })
    }

    /// One line on what was set to zero in the file, if anything was.
    pub fn warnings(&self) -> Vec<String> {
        let Some(report) = &self.report else {
            return Vec::new();
        };
        let mut lines = Vec::new();
        for (split, report) in &report.splits {
            for (key, feature) in &report.features {
                if feature.replaced() > 0 {
                    lines.push(format!(
                        "{split}/{key}: {} NaN, {} inf and {} -inf set to 0",
                        feature.nan, feature.positive_infinity, feature.negative_infinity
                    ));
                }
                if feature.empty_rows > 0 {
                    lines.push(format!(
                        "{split}/{key}: {} rows without content, taken as one step of zeros",
                        feature.empty_rows
                    ));
                }
            }
        }
        lines
    }
}

/// Reads a data file; what is wrong with it is said with its name.
pub fn read(path: &Path, options: &ReadOptions) -> Result<(Dataset, ReadReport), CliError> {
    data::read(path, options).map_err(|source| CliError::DataFile {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

/// A checkpoint from a file, or the best one of a run folder.
pub fn load_model(path: &Path) -> Result<Checkpoint, CliError> {
    let file = checkpoint_file(path)?;
    Ok(Checkpoint::load(file)?)
}

fn checkpoint_file(path: &Path) -> Result<PathBuf, CliError> {
    let inside = path.join(BEST_CHECKPOINT);
    if inside.is_file() {
        Ok(inside)
    } else if path.is_file() {
        Ok(path.to_owned())
    } else {
        Err(CliError::NoModel {
            path: path.to_owned(),
        })
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(
        || "data".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}
