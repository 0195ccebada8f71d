//! The error of every layer, loss and optimiser.

use modalign_core::ShapeError;
use modalign_linalg::LinalgError;
use thiserror::Error;

/// Why a layer, a loss or an optimiser refused its input.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum NnError {
    /// An array does not have the shape its function needs.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// Two factors of a matrix product do not fit.
    #[error(transparent)]
    Product(#[from] LinalgError),
    /// A hyper-parameter is out of its range.
    #[error("{operation}: {parameter} must be {expected}, found {found}")]
    Config {
        /// The layer, loss or optimiser.
        operation: &'static str,
        /// The hyper-parameter.
        parameter: &'static str,
        /// The values allowed.
        expected: &'static str,
        /// The value given.
        found: f64,
    },
    /// A mean over no values was asked for.
    #[error("{operation}: no rows")]
    Empty {
        /// The function that was called.
        operation: &'static str,
    },
    /// A sequence is said to be longer than the array that holds it.
    #[error("{operation}: row {row} has length {found}, the batch has {steps} time steps")]
    Length {
        /// The layer that was called.
        operation: &'static str,
        /// The row of the batch.
        row: usize,
        /// Its length as given.
        found: usize,
        /// The time steps of the batch.
        steps: usize,
    },
    /// A batch was to have a row that its array does not have.
    #[error("sequence batch: row {found} of {rows}")]
    Row {
        /// The row that was asked for.
        found: usize,
        /// The rows of the array.
        rows: usize,
    },
    /// An index has no row in its table.
    #[error("{operation}: entry {entry} is {found}, the table has {rows} rows")]
    Index {
        /// The layer that was called.
        operation: &'static str,
        /// The position of the index in what was given.
        entry: usize,
        /// The index.
        found: u32,
        /// The rows of the table.
        rows: usize,
    },
    /// A parameter was put into a group that does not exist.
    #[error("optimizer: {parameter} is in group {group}, there are {groups} groups")]
    Group {
        /// The dotted name of the parameter.
        parameter: String,
        /// The group it was given.
        group: usize,
        /// The number of groups.
        groups: usize,
    },
    /// The parameters of a step are not those the optimiser was made for.
    #[error("optimizer: expected {expected:?} next, found {found:?}")]
    Parameter {
        /// The name and shape that come next, absent if there are no more.
        expected: Option<(String, Vec<usize>)>,
        /// The name and shape that were found, absent if there are no more.
        found: Option<(String, Vec<usize>)>,
    },
}

/// No product of a few sizes up to this one overflows, in bytes neither.
const LARGEST_SIZE: usize = 1 << 24;

/// Fails unless a size is one that an array can have.
pub(crate) fn check_size(
    operation: &'static str,
    parameter: &'static str,
    size: usize,
) -> Result<(), NnError> {
    check_config(
        (1..=LARGEST_SIZE).contains(&size),
        operation,
        parameter,
        "at least 1 and at most 16777216",
        size as f64,
    )
}

/// Fails unless a hyper-parameter is in its range.
pub(crate) fn check_config(
    holds: bool,
    operation: &'static str,
    parameter: &'static str,
    expected: &'static str,
    found: f64,
) -> Result<(), NnError> {
    if holds {
        return Ok(());
    }
    Err(NnError::Config {
        operation,
        parameter,
        expected,
        found,
    })
}
