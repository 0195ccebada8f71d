//! What can go wrong around generated labels.

use modalign_core::{ShapeError, StoreError};
use thiserror::Error;

/// Why labels could not be generated, saved or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LabelError {
    /// A field of the configuration is out of its range.
    #[error("{field} is {value}, expected {expected}")]
    Config {
        /// The field.
        field: &'static str,
        /// Its value.
        value: f64,
        /// The values it may have.
        expected: &'static str,
    },
    /// There is no sample.
    #[error("no samples to generate labels for")]
    NoSamples,
    /// There is no modality beside the fused space.
    #[error("{found} feature spaces: the fused one and at least one modality are needed")]
    TooFewSpaces {
        /// The number of widths given.
        found: usize,
    },
    /// A feature space has no columns.
    #[error("feature space {space} has width 0")]
    ZeroWidth {
        /// The space: 0 is the fused one.
        space: usize,
    },
    /// A multimodal label is not a number of the label range.
    #[error("the label of sample {index} is {value}, outside ±{limit}")]
    LabelOutOfRange {
        /// The sample.
        index: usize,
        /// Its label.
        value: f64,
        /// The label limit of the configuration.
        limit: f64,
    },
    /// Epochs are numbered from 1.
    #[error("epoch 0: epochs are numbered from 1")]
    EpochZero,
    /// The batch does not have one feature array for each space.
    #[error("{found} feature arrays for {expected} feature spaces")]
    SpaceCount {
        /// The number of spaces of the state.
        expected: usize,
        /// The number given.
        found: usize,
    },
    /// An array has the wrong shape.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// A batch names a sample that does not exist.
    #[error("sample {index} of {samples}")]
    IndexOutOfRange {
        /// The index given.
        index: usize,
        /// The number of samples.
        samples: usize,
    },
    /// A batch names a sample twice, so that it has no single new feature.
    #[error("sample {index} occurs twice in one batch")]
    DuplicateIndex {
        /// The sample.
        index: usize,
    },
    /// A feature is infinite, not a number, or beyond the range of `f32`.
    #[error("feature {column} of sample {index} in feature space {space} is {value}")]
    UnusableFeature {
        /// The space: 0 is the fused one.
        space: usize,
        /// The sample.
        index: usize,
        /// The column.
        column: usize,
        /// The value.
        value: f64,
    },
    /// A stored state belongs to other multimodal labels.
    #[error("the stored label of sample {index} is {found}, that of the data is {expected}")]
    OtherLabels {
        /// The first sample that differs.
        index: usize,
        /// Its label in the data.
        expected: f64,
        /// Its label in the store.
        found: f64,
    },
    /// A stored array could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}
