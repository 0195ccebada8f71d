//! What an encoder or a head refuses.

use std::io;
use std::path::PathBuf;

use modalign_core::ShapeError;
use thiserror::Error;

/// Why an encoder or a head could not be built or applied.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum EncoderError {
    /// A value of a configuration is out of its range.
    #[error("{part}: {parameter} must be {expected}, found {found}")]
    Config {
        /// The encoder or head.
        part: &'static str,
        /// The field.
        parameter: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: f64,
    },
    /// No modality has this name.
    #[error("unknown modality {found:?}, expected text, audio or vision")]
    UnknownModality {
        /// The name given.
        found: String,
    },
    /// A sequence's length is 0 or more than the number of time steps.
    #[error("row {row} has length {found}, expected 1 to {steps}")]
    Length {
        /// The row of the batch.
        row: usize,
        /// The number of time steps T.
        steps: usize,
        /// Its length.
        found: usize,
    },
    /// A text of a batch has no token.
    #[error("text {row} has no token")]
    NoToken {
        /// The row of the batch.
        row: usize,
    },
    /// The tokeniser failed on a text.
    #[error("the tokenizer refused a text: {reason}")]
    Text {
        /// Its message.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("{}: {kind}, expected a file to read or a place to write", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// A file is not what it should be, or is cut off.
    #[error("{}: not a valid {format}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What it should be.
        format: &'static str,
        /// The reader's message.
        reason: String,
    },
    /// A pretrained model is of a form that this crate does not have.
    #[error("{}: {what} {found:?} is not supported", path.display())]
    Unsupported {
        /// The file that says so.
        path: PathBuf,
        /// The part of the form.
        what: &'static str,
        /// What it is.
        found: String,
    },
    /// A file of weights lacks an array.
    #[error("{}: no array named {name}", path.display())]
    MissingTensor {
        /// The file.
        path: PathBuf,
        /// The array's name.
        name: String,
    },
    /// A file of weights has an array that the model has no place for, or has it twice.
    #[error("{}: unexpected array {name}", path.display())]
    UnexpectedTensor {
        /// The file.
        path: PathBuf,
        /// The array's name.
        name: String,
    },
    /// A stored array has another shape than the configuration says.
    #[error("{}: {name} has shape {found:?}, the configuration says {expected:?}", path.display())]
    TensorShape {
        /// The file.
        path: PathBuf,
        /// The array's name.
        name: String,
        /// The shape by the configuration.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// A file of weights is too short for what the configuration says.
    #[error(
        "{}: {found} bytes, the configuration says {parameters} parameters of 2 bytes or more",
        path.display()
    )]
    TooShort {
        /// The file.
        path: PathBuf,
        /// The number of parameters by the configuration.
        parameters: usize,
        /// The length of the file in bytes.
        found: usize,
    },
    /// A tokeniser and a model do not belong together.
    #[error("{}: {found} tokens, the model has {expected}", path.display())]
    Vocabulary {
        /// The tokeniser's file.
        path: PathBuf,
        /// The rows of the model's token table.
        expected: usize,
        /// The tokens of the tokeniser.
        found: usize,
    },
    /// A vocabulary lacks a token that frames every text.
    #[error("{}: no token {token}", path.display())]
    SpecialToken {
        /// The vocabulary.
        path: PathBuf,
        /// The token.
        token: &'static str,
    },
    /// A cache or a gradient belongs to an encoder of another kind.
    #[error("encoder: the cache or the gradient belongs to another kind of encoder")]
    Kind,
    /// An array has the wrong shape.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// A layer refused.
    #[error(transparent)]
    Nn(#[from] modalign_nn::NnError),
}

pub(crate) fn check_config(
    holds: bool,
    part: &'static str,
    parameter: &'static str,
    expected: &'static str,
    found: f64,
) -> Result<(), EncoderError> {
    if holds {
        return Ok(());
    }
    Err(EncoderError::Config {
        part,
        parameter,
        expected,
        found,
    })
}

pub(crate) fn check_rate(
    part: &'static str,
    parameter: &'static str,
    rate: f64,
) -> Result<(), EncoderError> {
    check_config(
        (0.0..1.0).contains(&rate),
        part,
        parameter,
        "in [0, 1)",
        rate,
    )
}

/// No product of a few sizes up to this one overflows, in bytes neither.
const LARGEST_SIZE: usize = 1 << 24;

pub(crate) fn check_size(
    part: &'static str,
    parameter: &'static str,
    size: usize,
) -> Result<(), EncoderError> {
    check_config(
        (1..=LARGEST_SIZE).contains(&size),
        part,
        parameter,
        "at least 1 and at most 16777216",
        size as f64,
    )
}
