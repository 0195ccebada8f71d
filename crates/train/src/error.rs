//! Everything that can stop an experiment.

use std::path::PathBuf;

use modalign_encoders::Modality;
use thiserror::Error;

/// Why an experiment could not be run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A value of the configuration is out of its range.
    #[error("configuration: {key} must be {expected}, found {found}")]
    Config {
        /// Its dotted key.
        key: String,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// A part of the configuration is refused by the crate that it belongs to.
    #[error("configuration, {key}: {source}")]
    Section {
        /// The dotted key of the part.
        key: String,
        /// What is wrong with it.
        source: Box<TrainError>,
    },
    /// A modality of the checkpoint has other features than the data.
    #[error(
        "{modality}: the model was trained on {expected} features a step, the data has {found}"
    )]
    Width {
        /// The modality.
        modality: Modality,
        /// What the model expects.
        expected: usize,
        /// What the data has.
        found: usize,
    },
    /// An utterance with features of more or fewer modalities than the model reads.
    #[error("the model reads {expected} modalities, the utterance has {found}")]
    Modalities {
        /// What the model reads.
        expected: usize,
        /// What the utterance has.
        found: usize,
    },
    /// Arrays that are to be one a modality.
    #[error("{what}: expected {expected}, one a modality, found {found}")]
    Count {
        /// The arrays.
        what: &'static str,
        /// The number of modalities.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// An utterance without a single step.
    #[error("{modality}: no steps, at least one is needed")]
    NoSteps {
        /// The modality.
        modality: Modality,
    },
    /// A feature of an utterance that is no finite number.
    #[error("{modality}, step {step}: feature {column} is {value}, expected a finite number")]
    Feature {
        /// The modality.
        modality: Modality,
        /// The step, from 0.
        step: usize,
        /// The feature, from 0.
        column: usize,
        /// What it is.
        value: f32,
    },
    /// A term of the loss or a gradient is no longer finite, or the loss has exploded.
    #[error(
        "{run}: the {term} is {value} in epoch {epoch}, batch {batch}, expected {}{}",
        bound(*limit),
        rows(ids)
    )]
    Diverged {
        /// The run.
        run: String,
        /// The term.
        term: String,
        /// What it became.
        value: f64,
        /// The most that it may be; infinite where any finite number is good.
        limit: f64,
        /// The epoch, from 1.
        epoch: usize,
        /// The batch within the epoch, from 1.
        batch: usize,
        /// The ids of the rows that it was computed from; none for the validation split.
        ids: Vec<String>,
    },
    /// A run was asked to stop, and its state is kept.
    #[error("{run}: interrupted in epoch {epoch} after {batches} batches")]
    Interrupted {
        /// The run.
        run: String,
        /// The epoch, from 1.
        epoch: usize,
        /// Batches done in it.
        batches: usize,
    },
    /// A kept state cannot be used.
    #[error("the kept state of {run}: {reason}")]
    State {
        /// The run.
        run: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A state could not be kept; the one before it is as it was.
    #[error("{}: the state of {run} cannot be kept: {source}", path.display())]
    Keep {
        /// The run.
        run: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A model that memory does not hold.
    #[error("the configuration makes a model of {parameters} parameters, more than memory holds")]
    Memory {
        /// The number of parameters.
        parameters: usize,
    },
    /// A score that is no finite number.
    #[error(
        "the {task} score is {value}, expected a finite number: the features are out of all \
         proportion to those of the training"
    )]
    Score {
        /// `fused` or a modality.
        task: String,
        /// What it is.
        value: f32,
    },
    /// A split has too few rows for what is asked.
    #[error("the {split} split has {found} rows, {expected} are needed {purpose}")]
    TooFewRows {
        /// The split.
        split: &'static str,
        /// How many rows are needed.
        expected: usize,
        /// How many there are.
        found: usize,
        /// For what.
        purpose: &'static str,
    },
    /// A training label that is too far from the neutral one for the label generator.
    #[error(
        "the label of training row {row} (id {id}) is {label}, outside {neutral} ± {limit}; \
         data.neutral_label and label_generator.label_limit say what labels there are"
    )]
    Label {
        /// The row, from 0.
        row: usize,
        /// Its id.
        id: String,
        /// Its label.
        label: f64,
        /// The neutral label of the configuration.
        neutral: f64,
        /// How far from it a label may be.
        limit: f64,
    },
    /// A text model has nothing to read.
    #[error("the data has neither raw_text nor text_bert, one of which the text model reads")]
    NoText,
    /// A checkpoint's metadata cannot be understood.
    #[error("{}: {reason}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The data.
    #[error(transparent)]
    Data(#[from] modalign_data::DataError),
    /// A layer.
    #[error(transparent)]
    Nn(#[from] modalign_nn::NnError),
    /// An encoder or a head.
    #[error(transparent)]
    Encoder(#[from] modalign_encoders::EncoderError),
    /// The fusion.
    #[error(transparent)]
    Fusion(#[from] modalign_fusion::FusionError),
    /// The shared-information loss.
    #[error(transparent)]
    Covariance(#[from] modalign_covariance::CovarianceError),
    /// The label generator.
    #[error(transparent)]
    Labels(#[from] modalign_labels::LabelError),
    /// The metrics.
    #[error(transparent)]
    Metrics(#[from] modalign_metrics::MetricsError),
    /// A stored file.
    #[error(transparent)]
    Store(#[from] modalign_core::StoreError),
}

/// Fails unless there is one of something a modality.
pub(crate) fn check_count(
    what: &'static str,
    found: usize,
    expected: usize,
) -> Result<(), TrainError> {
    if found == expected {
        return Ok(());
    }
    Err(TrainError::Count {
        what,
        expected,
        found,
    })
}

fn bound(limit: f64) -> String {
    match limit.is_finite() {
        true => format!("at most {limit}, far above the first batch"),
        false => "a finite number".to_owned(),
    }
}

/// The rows of a batch as the end of a sentence.
fn rows(ids: &[String]) -> String {
    if ids.is_empty() {
        return String::new();
    }
    format!(" (rows {})", ids.join(", "))
}
