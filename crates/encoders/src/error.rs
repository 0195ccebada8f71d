//! What an encoder or a head refuses.

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

pub(crate) fn check_size(
    part: &'static str,
    parameter: &'static str,
    size: usize,
) -> Result<(), EncoderError> {
    check_config(size > 0, part, parameter, "at least 1", size as f64)
}
