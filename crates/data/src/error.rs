use std::io;
use std::path::PathBuf;

use thiserror::Error;
use zip::result::ZipError;

use crate::pickle::PickleError;

/// Everything that can be wrong with data, files and requests.
///
/// Splits and arrays are named as in the file: split `train`, key `audio`.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataError {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is neither of the two formats.
    #[error(
        "{}: not an .npz archive and not a pickle: {found}",
        path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// What its first bytes are.
        found: String,
    },
    /// The archive is damaged, cut off, encrypted or compressed in a way that numpy does not use.
    #[error("{}: {source}; expected a whole zip archive", path.display())]
    Zip {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ZipError,
    },
    /// The pickle is damaged, cut off, or asks for something else than data.
    #[error("{}: at byte {offset}: {source}", path.display())]
    Pickle {
        /// The file.
        path: PathBuf,
        /// Where in the file the instruction starts.
        offset: u64,
        /// What is wrong there.
        source: PickleError,
    },
    /// One array of the file cannot be read.
    #[error("{}: {split}/{key}: {source}", path.display())]
    Array {
        /// The file.
        path: PathBuf,
        /// The split.
        split: String,
        /// The array.
        key: String,
        /// What is wrong with it.
        source: ArrayError,
    },
    /// One of the splits `train`, `valid` and `test` is not there.
    #[error("{}: no split {split}; there are {}", path.display(), listed(present))]
    MissingSplit {
        /// The file.
        path: PathBuf,
        /// The split that is needed.
        split: &'static str,
        /// The splits that are there.
        present: Vec<String>,
    },
    /// An array that is needed is not there. What one split has, all three must have.
    #[error("split {split} has no {key}; it has {}", listed(present))]
    MissingKey {
        /// The split.
        split: String,
        /// The array that is needed.
        key: String,
        /// The arrays that are there.
        present: Vec<String>,
    },
    /// A split without rows.
    #[error("split {split} has no rows, expected at least one")]
    EmptySplit {
        /// The split.
        split: String,
    },
    /// An array has a shape that its key cannot have.
    #[error("{split}/{key} has shape {found:?}, expected {expected}")]
    Shape {
        /// The split.
        split: String,
        /// The array.
        key: String,
        /// The shapes that are read.
        expected: &'static str,
        /// The shape that is there.
        found: Vec<usize>,
    },
    /// An array has elements of a kind that its key cannot have.
    #[error("{split}/{key} is stored as {found}, expected {expected}")]
    Kind {
        /// The split.
        split: String,
        /// The array.
        key: String,
        /// The kind that is read.
        expected: &'static str,
        /// The element type in numpy's notation.
        found: String,
    },
    /// Two arrays of a split differ in their number of rows.
    #[error("{split}/{key} has {found} rows, {split}/regression_labels has {expected}")]
    RowCount {
        /// The split.
        split: String,
        /// The array.
        key: String,
        /// The number of labels.
        expected: usize,
        /// The number of rows of the array.
        found: usize,
    },
    /// A feature has not one length a row.
    #[error("{split}/{key} has {found} lengths, expected {expected}, one a row")]
    Lengths {
        /// The split.
        split: String,
        /// The feature.
        key: String,
        /// The number of rows.
        expected: usize,
        /// The number of lengths.
        found: usize,
    },
    /// A feature differs in its width between splits.
    #[error("{split}/{key} has width {found}, train/{key} has {expected}")]
    Width {
        /// The split.
        split: String,
        /// The array.
        key: String,
        /// The width of the train split.
        expected: usize,
        /// The width of this split.
        found: usize,
    },
    /// A sequence is said to be longer than it is, or to have a negative length.
    #[error("{split}/{key}: row {row} has length {length}, but there are {steps} steps")]
    Length {
        /// The split.
        split: String,
        /// The feature.
        key: String,
        /// The row, from 0.
        row: usize,
        /// The length in the file.
        length: i64,
        /// The number of steps, T.
        steps: usize,
    },
    /// A number that must be an integer (a length or a token) is not.
    #[error("{split}/{key}: row {row} has {value}, expected an integer")]
    NotInteger {
        /// The split.
        split: String,
        /// The array.
        key: String,
        /// The row, from 0.
        row: usize,
        /// What is there.
        value: f32,
    },
    /// A token mask has another value than 0 and 1: the three planes may be in another order.
    #[error("{split}/text_bert: row {row} has {value} in its mask (plane 1 of 3), expected 0 or 1")]
    Mask {
        /// The split.
        split: String,
        /// The row, from 0.
        row: usize,
        /// What is there.
        value: i64,
    },
    /// A label is NaN or infinite.
    #[error("{split}/{key}: row {row} (id {id}) is {value}, expected a finite number")]
    Label {
        /// The split.
        split: String,
        /// The label array.
        key: String,
        /// The row, from 0.
        row: usize,
        /// The row's id.
        id: String,
        /// What is there.
        value: f32,
    },
    /// The labels have several columns and none is chosen, or the chosen one is not there.
    #[error("{split}/{key} has {columns} columns; label_column is {}", chosen(*column))]
    LabelColumn {
        /// The split.
        split: String,
        /// The label array.
        key: String,
        /// The number of columns there.
        columns: usize,
        /// The column asked for.
        column: Option<usize>,
    },
    /// A feature has values that are not finite, and they are to be refused.
    #[error(
        "{split}/{key} has values that are not finite: {nan} NaN, {positive_infinity} inf, \
         {negative_infinity} -inf"
    )]
    NonFinite {
        /// The split.
        split: String,
        /// The feature.
        key: String,
        /// How many are NaN.
        nan: usize,
        /// How many are `inf`.
        positive_infinity: usize,
        /// How many are `-inf`.
        negative_infinity: usize,
    },
    /// A feature was asked for that the split does not have.
    #[error("no feature {key}; there are {}", listed(present))]
    UnknownFeature {
        /// The feature asked for.
        key: String,
        /// The features that are there.
        present: Vec<String>,
    },
    /// A row was asked for that is not there.
    #[error("row {row} of {rows}")]
    Row {
        /// The row asked for, from 0.
        row: usize,
        /// The number of rows.
        rows: usize,
    },
    /// A batch, or statistics, of no rows.
    #[error("no rows")]
    NoRows,
    /// Rows cannot be dealt into so many folds.
    #[error("{rows} rows cannot be split into {folds} folds; 2 to {rows} are possible")]
    Folds {
        /// The number of rows.
        rows: usize,
        /// The number of folds asked for.
        folds: usize,
    },
    /// A feature is to stay in the file but does not lie there as it is.
    #[error(
        "{}: {split}/{key} cannot stay in the file, for it is compressed, not in C order or not of \
         floats; numpy.savez and modalign convert write it as needed",
        path.display()
    )]
    NotInPlace {
        /// The file.
        path: PathBuf,
        /// The split.
        split: String,
        /// The array.
        key: String,
    },
    /// Statistics of one width meet features of another.
    #[error("features have width {found}, the statistics have {expected}")]
    Statistics {
        /// The width of the statistics.
        expected: usize,
        /// The width of the features.
        found: usize,
    },
    /// A configuration value is out of its range.
    #[error("{field} is {found}, expected {expected}")]
    Config {
        /// The field.
        field: &'static str,
        /// Its range.
        expected: &'static str,
        /// What it is.
        found: String,
    },
}

/// What can be wrong with one stored array.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ArrayError {
    /// The stored bytes cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The archive refuses the member.
    #[error("{0}")]
    Zip(#[from] ZipError),
    /// The header has no sense in it.
    #[error("not a .npy array: {0}")]
    Header(String),
    /// The array is shorter than its header says.
    #[error("cut off after {found} of {expected} elements")]
    Truncated {
        /// The number of elements by the header.
        expected: usize,
        /// The number of whole elements there.
        found: usize,
    },
    /// The array is longer than its header says.
    #[error("more bytes than the {expected} elements of its header")]
    TooLong {
        /// The number of elements by the header.
        expected: usize,
    },
    /// The arrays of the file take memory out of all proportion to its size: 256 times that of an
    /// archive, 32 times that of a pickle, and more than 16 MiB.
    #[error(
        "with it the arrays take {found} bytes of memory, for a file of this size at most {limit} \
         are expected"
    )]
    TooMuch {
        /// The most bytes that a file of this size may take.
        limit: u64,
        /// The bytes of this array and of those read before it.
        found: u64,
    },
    /// Elements that are neither numbers nor strings.
    #[error("elements of type {0} are not read")]
    Dtype(String),
    /// A string that is not UTF-8, or not Unicode at all.
    #[error("row {row} is not valid text")]
    Text {
        /// The element, from 0.
        row: usize,
    },
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

fn chosen(column: Option<usize>) -> String {
    column.map_or_else(|| "not set".to_owned(), |column| column.to_string())
}
