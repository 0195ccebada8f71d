use modalign_linalg::LinalgError;
use thiserror::Error;

/// Input for which the covariance of a modality, or a loss on it, is not defined.
///
/// Modalities are counted from 0, in the order in which they were given; a function of one matrix
/// calls it modality 0.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum CovarianceError {
    /// The number of modalities is not that of the weights.
    #[error("expected {expected} modalities, found {found} in {argument}")]
    Modalities {
        /// The argument that holds one array a modality.
        argument: &'static str,
        /// The number of modalities of the weights.
        expected: usize,
        /// The number of arrays given.
        found: usize,
    },
    /// Not more rows than degrees of freedom are taken off, so that the divisor is not positive.
    /// Rows of weight 0 do not count.
    #[error("modality {modality} has {rows} rows, more than ddof = {ddof} are needed")]
    TooFewRows {
        /// The modality.
        modality: usize,
        /// Its rows.
        rows: usize,
        /// The degrees of freedom taken off.
        ddof: usize,
    },
    /// There are not as many row weights as rows.
    #[error("modality {modality} has {expected} rows and {found} row weights")]
    RowWeights {
        /// The modality.
        modality: usize,
        /// Its rows.
        expected: usize,
        /// The weights given.
        found: usize,
    },
    /// A row weight is negative, NaN or infinite.
    #[error("the weight of row {row} of modality {modality} is {found}, expected 0 or above")]
    RowWeight {
        /// The modality.
        modality: usize,
        /// The row.
        row: usize,
        /// Its weight.
        found: f64,
    },
    /// A matrix without columns.
    #[error("modality {modality} has no columns")]
    NoColumns {
        /// The modality.
        modality: usize,
    },
    /// Two modalities that are compared have different widths.
    #[error(
        "modality {first} has {} columns, modality {second} has {}: a pair needs one width",
        widths[0], widths[1]
    )]
    Width {
        /// One modality of the pair.
        first: usize,
        /// The other.
        second: usize,
        /// Their numbers of columns.
        widths: [usize; 2],
    },
    /// Two modalities whose rows are matched have different numbers of them.
    #[error(
        "modality {first} has {} rows, modality {second} has {}: their rows are matched",
        rows[0], rows[1]
    )]
    Rows {
        /// One modality of the pair.
        first: usize,
        /// The other.
        second: usize,
        /// Their numbers of rows.
        rows: [usize; 2],
    },
    /// The array for a gradient does not have the shape of its features.
    #[error("the gradient of modality {modality} has shape {found:?}, expected {expected:?}")]
    GradientShape {
        /// The modality.
        modality: usize,
        /// The shape of its features.
        expected: [usize; 2],
        /// The shape given.
        found: [usize; 2],
    },
    /// A feature is NaN or infinite.
    #[error("modality {modality}, row {row}, column {column} is not finite")]
    NonFinite {
        /// The modality.
        modality: usize,
        /// The row of the first such entry.
        row: usize,
        /// Its column.
        column: usize,
    },
    /// The features are finite, but their sums or covariances leave the range of the number type.
    #[error("the covariances of modalities {first} and {second} leave the range of the numbers")]
    Overflow {
        /// One modality of the pair, or the only one.
        first: usize,
        /// The other, or the same.
        second: usize,
    },
    /// A square matrix of the work space would be larger than [`MAX_SIDE`](crate::MAX_SIDE) allows,
    /// or than there is memory for.
    #[error("a {side} x {side} matrix is needed, the limit is {limit} or the memory at hand")]
    TooLarge {
        /// Rows and columns of the matrix.
        side: usize,
        /// The largest number of rows and columns allowed.
        limit: usize,
    },
    /// A weight names a modality that is not there, or pairs a modality with itself.
    #[error("({first}, {second}) is no pair of {modalities} modalities")]
    NoPair {
        /// The first modality named.
        first: usize,
        /// The second modality named.
        second: usize,
        /// The number of modalities.
        modalities: usize,
    },
    /// A pair was given two weights.
    #[error("the pair ({first}, {second}) has two weights")]
    RepeatedPair {
        /// The first modality of the pair.
        first: usize,
        /// The second.
        second: usize,
    },
    /// A row of the weight matrix is not as long as there are rows.
    #[error("row {row} of the weights has {found} entries, expected {expected}")]
    WeightRow {
        /// The row.
        row: usize,
        /// The number of rows.
        expected: usize,
        /// The entries of this row.
        found: usize,
    },
    /// The weights of (first, second) and (second, first) differ.
    #[error("the weights of ({first}, {second}) and ({second}, {first}) differ")]
    Asymmetric {
        /// The first modality.
        first: usize,
        /// The second.
        second: usize,
    },
    /// A weight is NaN or infinite.
    #[error("the weight of ({first}, {second}) is not finite")]
    WeightNonFinite {
        /// The first modality.
        first: usize,
        /// The second.
        second: usize,
    },
    /// A running covariance is of another width than the features.
    #[error("modality {modality} has {expected} columns, its running covariance {found}")]
    RunningWidth {
        /// The modality.
        modality: usize,
        /// The columns of its features.
        expected: usize,
        /// The columns of the running covariance.
        found: usize,
    },
    /// A block, or another stream, is of another width than the stream.
    #[error("the stream has {expected} columns, the block {found}")]
    StreamWidth {
        /// The columns of the stream.
        expected: usize,
        /// The columns of what was to be added.
        found: usize,
    },
    /// Two settings, or a setting and a batch, that do not go together.
    #[error("{setting} is not defined with {with}")]
    Incompatible {
        /// The setting.
        setting: &'static str,
        /// What it meets.
        with: &'static str,
    },
    /// A setting is out of its range.
    #[error("{field} is {found}, expected {expected}")]
    Config {
        /// The field of the configuration.
        field: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        found: f64,
    },
    /// A file cannot be read.
    #[cfg(feature = "npy")]
    #[error("{}: {message}", path.display())]
    Read {
        /// The file.
        path: std::path::PathBuf,
        /// The kind of the error.
        kind: std::io::ErrorKind,
        /// What the system or the reader says.
        message: String,
    },
    /// A `.npy` file holds something else than a matrix of the numbers asked for.
    #[cfg(feature = "npy")]
    #[error("{}: expected {expected}, found {found}", path.display())]
    Npy {
        /// The file.
        path: std::path::PathBuf,
        /// What was asked for.
        expected: String,
        /// What it holds.
        found: String,
    },
    /// A product failed.
    #[error(transparent)]
    Linalg(#[from] LinalgError),
}
