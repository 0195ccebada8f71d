//! Everything that ends the program early, and with which exit code.

use std::io;
use std::path::{Path, PathBuf};

use modalign::data::DataError;
use modalign::metrics::MetricsError;
use modalign::train::TrainError;
use thiserror::Error;

use crate::report::plot::PlotError;
use crate::settings::SettingsError;

/// The exit code after Ctrl-C, as shells have it.
pub const INTERRUPTED: u8 = 130;

/// Why the program stopped.
#[derive(Debug, Error)]
pub enum CliError {
    /// The configuration.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The data file.
    #[error("{}", named(path, source))]
    DataFile {
        path: PathBuf,
        source: Box<DataError>,
    },
    /// Data that are in no file, or parts of them.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The training or a checkpoint.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The metrics.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// A line of standard input that cannot be scored.
    #[error("standard input, line {number}: {reason}")]
    Line { number: usize, reason: String },
    /// Something would be overwritten.
    #[error("{} exists already; name another one or remove it", path.display())]
    Exists { path: PathBuf },
    /// Not a place where a model is.
    #[error("{}: neither a checkpoint file nor a run folder with best.safetensors", path.display())]
    NoModel { path: PathBuf },
    /// A number of threads that cannot be.
    #[error("--threads {threads}: {reason}")]
    Threads { threads: usize, reason: String },
    /// Something that was to be written was not.
    #[error("{}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// Something that was to be read was not.
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// A training that cannot go on.
    #[error("{}: {reason}", path.display())]
    Resume { path: PathBuf, reason: String },
    /// A training that stopped because it was asked to.
    #[error(
        "interrupted, and every run is kept; go on with: modalign train --resume {}",
        path.display()
    )]
    Interrupted { path: PathBuf },
    /// A training that stopped for another reason, after a state was kept.
    #[error("{error}; what was done until then is kept in {}, go on with --resume", path.display())]
    Stopped { path: PathBuf, error: Box<CliError> },
    /// A training that diverged after its model had been better.
    #[error("{error}; its best model so far is {}", best.display())]
    Diverged {
        best: PathBuf,
        error: Box<TrainError>,
    },
    /// A gradient that is wrong.
    #[error(
        "the gradient in {parameter}: expected {numeric:e} by central differences, found \
         {analytic:e}, which is more than {allowed:e} away"
    )]
    Gradient {
        parameter: String,
        analytic: f64,
        numeric: f64,
        allowed: f64,
    },
    /// Ctrl-C cannot be listened for.
    #[error("Ctrl-C: {reason}")]
    Signal { reason: String },
    /// Standard output was closed before everything was said.
    #[error("standard output: {0}")]
    Output(#[source] io::Error),
    /// A plot of the report.
    #[error(transparent)]
    Plot(#[from] PlotError),
    /// A table or a list could not be put into its format.
    #[error("{what}: {reason}")]
    Format { what: &'static str, reason: String },
}

impl CliError {
    /// 2 for what the caller can mend, 130 for Ctrl-C, 1 for the rest, 0 where the reader of the output has seen
    /// enough.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Settings(_)
            | Self::DataFile { .. }
            | Self::Data(_)
            | Self::Metrics(_)
            | Self::Exists { .. }
            | Self::NoModel { .. }
            | Self::Read { .. }
            | Self::Resume { .. }
            | Self::Threads { .. }
            | Self::Line { .. } => 2,
            Self::Train(TrainError::Diverged { .. } | TrainError::Keep { .. }) => 1,
            Self::Interrupted { .. } => INTERRUPTED,
            Self::Train(_) => 2,
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Stopped { .. }
            | Self::Diverged { .. }
            | Self::Gradient { .. }
            | Self::Signal { .. } => 1,
            Self::Write { .. } | Self::Output(_) | Self::Plot(_) | Self::Format { .. } => 1,
        }
    }
}

/// The sentence with the file before it, where it does not begin with the file already.
fn named(path: &Path, source: &DataError) -> String {
    let (path, sentence) = (path.display().to_string(), source.to_string());
    if sentence.starts_with(&path) {
        sentence
    } else {
        format!("{path}: {sentence}")
    }
}
