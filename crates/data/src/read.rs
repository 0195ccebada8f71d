use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use indexmap::{IndexMap, IndexSet};
use ndarray::{Array1, Array2, Array3, ArrayD, ArrayView2, ArrayViewMut2, Axis, Ix1, Ix2, Ix3, s};
use serde::{Deserialize, Serialize};

use crate::array::{Header, Kind, Values};
use crate::file_sequences::{FileArray, FileSequences};
use crate::npz::Npz;
use crate::pickle::Pickle;
use crate::report::{
    FeatureReport, Format, LabelReport, LengthSource, ReadReport, SplitReport, TokenReport,
    label_borders,
};
use crate::source::{Headers, SPLITS, Source};
use crate::{DataError, Dataset, Sequences, Split};

const LABELS: &str = "regression_labels";
const UNIMODAL_LABELS: &str = "regression_labels_";
const LENGTHS: &str = "_lengths";

/// What to read of a data file.
///
/// A file holds the splits `train`, `valid` and `test`, and each split arrays with N rows:
///
/// | key | needed | shape | meaning |
/// | --- | --- | --- | --- |
/// | `regression_labels` | yes | `[N]`, `[N, 1]` or `[N, columns]` | the label |
/// | `regression_labels_<m>` | no | as above | the label of one modality, `T`, `A` or `V` |
/// | `id`, `raw_text` | no | `[N]` | names and transcripts |
/// | `text_bert` | no | `[N, 3, L]` | token ids, mask, segments |
/// | a feature | no | `[N, T, D]` or `[N, D]` | `text`, `audio`, `vision` and others |
/// | `<feature>_lengths` | no | `[N]` | number of steps, `0..=T` |
///
/// What one split has, all three must have. `text_bert` of shape `[N, L, 3]` is turned, and the
/// report says so.
///
/// **Lengths.** The length of a row is, by the first rule that applies:
/// 1. what `<feature>_lengths` says;
/// 2. 1, if the feature is a vector a row, `[N, D]`;
/// 3. the number of tokens in the mask of `text_bert`, if T is its L: text (keys that start so), and
///    audio and vision that are aligned with it, though never less than rule 4 gives these two;
/// 4. the position of the last step that is not all zero, from 1.
///
/// A row of length 0 has nothing in it; it gets length 1, one step of zeros, and is counted in the
/// report. Steps beyond the length that are not zero are set to zero, and counted too.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReadOptions {
    /// The features to read, in this order. `None` is every array of floats with two or three axes
    /// whose key does not end in `labels` or `_lengths`: text, audio, vision, then the others.
    pub features: Option<Vec<String>>,
    /// What to do about features that are not finite.
    pub non_finite: NonFinite,
    /// Which column of labels with several columns to read, from 0.
    pub label_column: Option<usize>,
    /// Features of a split that would take more bytes of memory than this stay in the file, as
    /// [`Split::file_features`]; all are read into memory if absent. They are looked through once.
    /// In an archive they must not be compressed (`numpy.savez` does not), and the checksum of such
    /// an array is not compared.
    pub in_file_above: Option<u64>,
}

/// What to do about features that are NaN, `inf` or `-inf`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NonFinite {
    /// Set them to 0 and count them in the report. The corpora of the field have such values:
    /// logarithms of silence, and frames without a face.
    #[default]
    Replace,
    /// Refuse the file.
    Refuse,
}

/// Reads a data set from an `.npz` archive with keys `<split>/<name>`, or from a pickle of a
/// dictionary of splits as MMSA distributes them. The content of the file says which it is.
///
/// A pickle is read by a closed interpreter that can build numbers, text, lists, dictionaries and
/// numpy arrays and nothing else; no code of the file runs. Both formats give the same data set for
/// the same data.
///
/// # Errors
///
/// Any [`DataError`] that names a file, a split or an array.
///
/// ```
/// use modalign_data::{ReadOptions, read};
///
/// let error = read("unaligned_50.pkl", &ReadOptions::default()).unwrap_err();
/// assert!(error.to_string().starts_with("unaligned_50.pkl: "));
/// ```
pub fn read(
    path: impl AsRef<Path>,
    options: &ReadOptions,
) -> Result<(Dataset, ReadReport), DataError> {
    let path = path.as_ref();
    let io_error = |source| DataError::Io {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(io_error)?;
    let mut start = Vec::new();
    (&mut file)
        .take(16)
        .read_to_end(&mut start)
        .map_err(io_error)?;
    file.rewind().map_err(io_error)?;
    match start[..] {
        [b'P', b'K', ..] => {
            let mut source = Npz::open(file, path)?;
            assemble(&mut source, Format::Npz, path, options)
        }
        // Protocols 2 and above say so; below, a dictionary starts with a mark or as an empty one.
        [0x80, ..] | [b'(', b'd', ..] | [b'}', ..] => {
            let mut source = Pickle::open(file, path)?;
            assemble(&mut source, Format::Pickle, path, options)
        }
        _ => Err(DataError::Format {
            path: path.to_owned(),
            found: describe(&start),
        }),
    }
}

/// What a file is that is no data file, for those that are often met in its place.
fn describe(start: &[u8]) -> String {
    let known: [(&[u8], &str); 7] = [
        (
            b"version https://",
            "it is a Git LFS pointer, the file behind it was not downloaded",
        ),
        (b"<!", "it is a web page"),
        (b"<html", "it is a web page"),
        (b"\x93NUMPY", "it is a single .npy array"),
        (b"\x89HDF", "it is an HDF5 file"),
        (b"\x1f\x8b", "it is gzip-compressed, decompress it first"),
        (b"Rar!", "it is a RAR archive, extract it first"),
    ];
    if start.is_empty() {
        return "it is empty".to_owned();
    }
    match known.iter().find(|(magic, _)| start.starts_with(magic)) {
        Some((_, what)) => (*what).to_owned(),
        None => format!("it starts with \"{}\"", start.escape_ascii()),
    }
}

/// Builds the data set from the arrays of a file, whatever its format.
fn assemble(
    source: &mut dyn Source,
    format: Format,
    path: &Path,
    options: &ReadOptions,
) -> Result<(Dataset, ReadReport), DataError> {
    let headers = source.headers().clone();
    for split in SPLITS {
        if !headers.contains_key(split) {
            return Err(DataError::MissingSplit {
                path: path.to_owned(),
                split,
                present: headers.keys().cloned().collect(),
            });
        }
    }
    let features = feature_keys(&headers, options);
    let read_keys = keys_to_read(&headers, &features);
    for split in SPLITS {
        if let Some(key) = read_keys
            .iter()
            .find(|&key| !headers[split].contains_key(key))
        {
            return Err(DataError::MissingKey {
                split: split.to_owned(),
                key: key.clone(),
                present: headers[split].keys().cloned().collect(),
            });
        }
    }
    let ignored_arrays = SPLITS.into_iter().flat_map(|split| {
        let keys = headers[split]
            .keys()
            .filter(|&key| !read_keys.contains(key));
        keys.map(move |key| format!("{split}/{key}"))
    });
    let ignored_arrays = ignored_arrays
        .chain(source.strays().iter().cloned())
        .collect();

    let mut read_split = |name| {
        let mut reader = SplitReader {
            source: &mut *source,
            path,
            options,
            name,
            headers: &headers[name],
        };
        reader.split(&features)
    };
    let (train, train_parts) = read_split(SPLITS[0])?;
    let (valid, valid_parts) = read_split(SPLITS[1])?;
    let (test, test_parts) = read_split(SPLITS[2])?;
    let dataset = Dataset { train, valid, test };
    let splits = [&dataset.train, &dataset.valid, &dataset.test];
    for (name, split) in SPLITS.into_iter().zip(splits) {
        for key in &features {
            let widths = [&dataset.train, split].map(|split| split.extent(key).map(|[_, d]| d));
            if let [Some(expected), Some(found)] = widths
                && found != expected
            {
                return Err(DataError::Width {
                    split: name.to_owned(),
                    key: key.clone(),
                    expected,
                    found,
                });
            }
        }
    }
    let label_borders = label_borders(splits.into_iter().flat_map(|split| &split.labels));
    let parts = [train_parts, valid_parts, test_parts];
    let split_reports = SPLITS.into_iter().zip(splits).zip(parts);
    let split_reports = split_reports.map(|((name, split), (features, text_bert))| {
        let report = SplitReport {
            rows: split.len(),
            features,
            labels: LabelReport::new(&split.labels, &label_borders),
            text_bert,
        };
        (name.to_owned(), report)
    });
    let report = ReadReport {
        format,
        splits: split_reports.collect(),
        label_borders: label_borders.clone(),
        ignored_splits: headers
            .keys()
            .filter(|split| !SPLITS.contains(&split.as_str()))
            .cloned()
            .collect(),
        ignored_arrays,
    };
    Ok((dataset, report))
}

/// The features to read: as asked for, or all there are.
fn feature_keys(headers: &Headers, options: &ReadOptions) -> IndexSet<String> {
    if let Some(features) = &options.features {
        return features.iter().cloned().collect();
    }
    let is_feature = |key: &str, header: &Header| {
        header.dtype.kind() == Some(Kind::Float)
            && matches!(header.shape.len(), 2 | 3)
            && !key.ends_with("labels")
            && !key.starts_with(UNIMODAL_LABELS)
            && !key.ends_with(LENGTHS)
            && key != "text_bert"
    };
    let rank = |key: &str| {
        let modalities = ["text", "audio", "vision"];
        modalities
            .iter()
            .position(|&modality| key.starts_with(modality))
            .unwrap_or(3)
    };
    let mut keys: Vec<_> = SPLITS
        .iter()
        .flat_map(|&split| &headers[split])
        .filter(|(key, header)| is_feature(key, header))
        .map(|(key, _)| key.clone())
        .collect();
    keys.sort_by(|left, right| (rank(left), left).cmp(&(rank(right), right)));
    keys.into_iter().collect()
}

/// All arrays to read, each of which every split must have.
fn keys_to_read(headers: &Headers, features: &IndexSet<String>) -> IndexSet<String> {
    let is_read = |key: &str| {
        matches!(key, "id" | "raw_text" | "text_bert")
            || key.starts_with(UNIMODAL_LABELS)
            || key
                .strip_suffix(LENGTHS)
                .is_some_and(|key| features.contains(key))
    };
    let optional = SPLITS.iter().flat_map(|&split| headers[split].keys());
    let optional = optional.filter(|key| is_read(key)).cloned();
    std::iter::once(LABELS.to_owned())
        .chain(features.iter().cloned())
        .chain(optional)
        .collect()
}

struct SplitReader<'a> {
    source: &'a mut dyn Source,
    path: &'a Path,
    options: &'a ReadOptions,
    name: &'static str,
    headers: &'a IndexMap<String, Header>,
}

type SplitParts = (IndexMap<String, FeatureReport>, Option<TokenReport>);

impl SplitReader<'_> {
    fn split(&mut self, features: &IndexSet<String>) -> Result<(Split, SplitParts), DataError> {
        let labels = self.labels(LABELS)?;
        let rows = labels.len();
        if rows == 0 {
            return Err(DataError::EmptySplit {
                split: self.name.to_owned(),
            });
        }
        let id = match self.texts("id", rows)? {
            Some(id) => id,
            None => (0..rows)
                .map(|row| format!("{}_{row}", self.name))
                .collect(),
        };
        self.check_labels(LABELS, &labels, &id)?;
        let mut unimodal_labels = IndexMap::new();
        for key in self.headers.keys() {
            if let Some(modality) = key.strip_prefix(UNIMODAL_LABELS) {
                let labels = self.labels(key)?;
                self.check_rows(key, labels.len(), rows)?;
                self.check_labels(key, &labels, &id)?;
                unimodal_labels.insert(modality.to_owned(), labels);
            }
        }
        unimodal_labels.sort_keys();
        let raw_text = self.texts("raw_text", rows)?;
        let (text_bert, token_report) = self.tokens(rows)?.unzip();
        let mut sequences = IndexMap::new();
        let mut file_features = IndexMap::new();
        let mut reports = IndexMap::new();
        for key in features {
            let tokens = text_bert.as_ref();
            let report = if self.stays_in_file(key) {
                let (feature, report) = self.file_feature(key, rows, tokens)?;
                file_features.insert(key.clone(), feature);
                report
            } else {
                let (feature, report) = self.feature(key, rows, tokens)?;
                sequences.insert(key.clone(), feature);
                report
            };
            reports.insert(key.clone(), report);
        }
        let split = Split {
            id,
            raw_text,
            text_bert,
            features: sequences,
            file_features,
            labels,
            unimodal_labels,
        };
        Ok((split, (reports, token_report)))
    }

    fn values(&mut self, key: &str) -> Result<Values, DataError> {
        let values = self.source.read(self.name, key, &self.headers[key]);
        values.map_err(|source| DataError::Array {
            path: self.path.to_owned(),
            split: self.name.to_owned(),
            key: key.to_owned(),
            source,
        })
    }

    fn floats(&mut self, key: &str) -> Result<ArrayD<f32>, DataError> {
        match self.values(key)? {
            Values::Floats(values) => Ok(values),
            Values::Ints(values) => Ok(values.mapv(|value| value as f32)),
            Values::Texts(_) => Err(self.kind(key, "numbers")),
        }
    }

    fn integers(&mut self, key: &str) -> Result<ArrayD<i64>, DataError> {
        match self.values(key)? {
            Values::Ints(values) => Ok(values),
            Values::Floats(values) => {
                let broken = values
                    .indexed_iter()
                    .find(|(_, value)| value.fract() != 0.0);
                if let Some((index, &value)) = broken {
                    return Err(DataError::NotInteger {
                        split: self.name.to_owned(),
                        key: key.to_owned(),
                        row: index[0],
                        value,
                    });
                }
                Ok(values.mapv(|value| value as i64))
            }
            Values::Texts(_) => Err(self.kind(key, "integers")),
        }
    }

    /// `[N]` or `[N, 1]`, if it is there.
    fn texts(&mut self, key: &str, rows: usize) -> Result<Option<Vec<String>>, DataError> {
        if !self.headers.contains_key(key) {
            return Ok(None);
        }
        let texts = match self.values(key)? {
            Values::Texts(texts) => self.column(key, texts)?,
            Values::Ints(numbers) => self.column(key, numbers.mapv(|number| number.to_string()))?,
            Values::Floats(_) => return Err(self.kind(key, "text")),
        };
        self.check_rows(key, texts.len(), rows)?;
        Ok(Some(texts.to_vec()))
    }

    fn column<T: Clone>(&self, key: &str, values: ArrayD<T>) -> Result<Array1<T>, DataError> {
        let shape = values.shape().to_vec();
        let flat = match shape[..] {
            [_, 1] => values.index_axis_move(Axis(1), 0),
            _ => values,
        };
        flat.into_dimensionality::<Ix1>()
            .map_err(|_| self.shape(key, "[N] or [N, 1]", &shape))
    }

    fn labels(&mut self, key: &str) -> Result<Array1<f32>, DataError> {
        let values = self.floats(key)?;
        let shape = values.shape().to_vec();
        let expected = "[N], [N, 1] or [N, columns]";
        let table = match shape[..] {
            [_] => values.insert_axis(Axis(1)),
            _ => values,
        };
        let table = table
            .into_dimensionality::<Ix2>()
            .map_err(|_| self.shape(key, expected, &shape))?;
        let column = self.options.label_column;
        match (column, table.ncols()) {
            (None, 1) => Ok(table.column(0).to_owned()),
            (Some(column), columns) if column < columns => Ok(table.column(column).to_owned()),
            (_, columns) => Err(DataError::LabelColumn {
                split: self.name.to_owned(),
                key: key.to_owned(),
                columns,
                column,
            }),
        }
    }

    fn tokens(&mut self, rows: usize) -> Result<Option<(Array3<i64>, TokenReport)>, DataError> {
        const KEY: &str = "text_bert";
        if !self.headers.contains_key(KEY) {
            return Ok(None);
        }
        let tokens = self.integers(KEY)?;
        let shape = tokens.shape().to_vec();
        let wrong = || self.shape(KEY, "[N, 3, L]", &shape);
        let mut tokens = tokens.into_dimensionality::<Ix3>().map_err(|_| wrong())?;
        let turned = match shape[1..] {
            [3, length] if length > 0 => false,
            [length, 3] if length > 0 => true,
            _ => return Err(wrong()),
        };
        if turned {
            tokens.swap_axes(1, 2);
            tokens = tokens.as_standard_layout().into_owned();
        }
        self.check_rows(KEY, tokens.len_of(Axis(0)), rows)?;
        let mask = tokens.index_axis(Axis(1), 1);
        if let Some(((row, _), &value)) = mask.indexed_iter().find(|&(_, &m)| m != 0 && m != 1) {
            return Err(DataError::Mask {
                split: self.name.to_owned(),
                row,
                value,
            });
        }
        Ok(Some((tokens, TokenReport { shape, turned })))
    }

    fn feature(
        &mut self,
        key: &str,
        rows: usize,
        tokens: Option<&Array3<i64>>,
    ) -> Result<(Sequences, FeatureReport), DataError> {
        let values = self.floats(key)?;
        let shape = values.shape().to_vec();
        let values = match shape[..] {
            [_, _] => values.insert_axis(Axis(1)),
            _ => values,
        };
        let mut values = values
            .into_dimensionality::<Ix3>()
            .ok()
            .filter(|values| values.len_of(Axis(1)) > 0 && values.len_of(Axis(2)) > 0)
            .ok_or_else(|| self.shape(key, "[N, T, D] or [N, D]", &shape))?;
        let extent = [values.len_of(Axis(0)), values.len_of(Axis(1))];
        self.check_rows(key, extent[0], rows)?;
        let source = self.length_source(key, extent, &shape, tokens)?;
        let mut report = self.new_report(key, &source);
        let lengths: Vec<_> = values
            .outer_iter_mut()
            .enumerate()
            .map(|(row, values)| source.clean(row, values, &mut report))
            .collect();
        self.finish_report(key, shape, &lengths, &mut report)?;
        Ok((Sequences { values, lengths }, report))
    }

    fn stays_in_file(&self, key: &str) -> bool {
        let count = self.headers[key].count().unwrap_or(usize::MAX) as u64;
        let bytes = count.saturating_mul(size_of::<f32>() as u64);
        self.options
            .in_file_above
            .is_some_and(|bound| bytes > bound)
    }

    fn file_feature(
        &mut self,
        key: &str,
        rows: usize,
        tokens: Option<&Array3<i64>>,
    ) -> Result<(FileSequences, FeatureReport), DataError> {
        let header = &self.headers[key];
        let shape = header.shape.clone();
        let (found, steps, width) = match shape[..] {
            [rows, width] if width > 0 => (rows, 1, width),
            [rows, steps, width] if steps > 0 && width > 0 => (rows, steps, width),
            _ => return Err(self.shape(key, "[N, T, D] or [N, D]", &shape)),
        };
        self.check_rows(key, found, rows)?;
        let located = self
            .source
            .locate(self.name, key, header)
            .map_err(|source| DataError::Array {
                path: self.path.to_owned(),
                split: self.name.to_owned(),
                key: key.to_owned(),
                source,
            })?;
        let Some((start, format)) = located else {
            return Err(DataError::NotInPlace {
                path: self.path.to_owned(),
                split: self.name.to_owned(),
                key: key.to_owned(),
            });
        };
        let array = FileArray::open(self.path, start, format, [steps, width])?;
        let source = self.length_source(key, [rows, steps], &shape, tokens)?;
        let mut report = self.new_report(key, &source);
        let mut values = Array2::zeros((steps, width));
        let (mut bytes, mut lengths) = (Vec::new(), Vec::with_capacity(rows));
        for row in 0..rows {
            let target = values.as_slice_mut().expect("a new array is contiguous");
            array.read(row, &mut bytes, target)?;
            lengths.push(source.clean(row, values.view_mut(), &mut report));
        }
        self.finish_report(key, shape, &lengths, &mut report)?;
        Ok((FileSequences::new(array, lengths), report))
    }

    /// By the rules of [`ReadOptions`].
    fn length_source<'t>(
        &mut self,
        key: &str,
        [rows, steps]: [usize; 2],
        shape: &[usize],
        tokens: Option<&'t Array3<i64>>,
    ) -> Result<Lengths<'t>, DataError> {
        let lengths_key = format!("{key}{LENGTHS}");
        if self.headers.contains_key(&lengths_key) {
            let lengths = self.lengths(&lengths_key, key, rows, steps)?;
            return Ok(Lengths::Given(lengths));
        }
        Ok(match tokens {
            _ if shape.len() == 2 => Lengths::Vector,
            Some(tokens) if tokens.len_of(Axis(2)) == steps => Lengths::Tokens {
                tokens,
                at_least_content: !key.starts_with("text"),
            },
            _ => Lengths::Content,
        })
    }

    fn new_report(&self, key: &str, lengths: &Lengths) -> FeatureReport {
        FeatureReport {
            dtype: self.headers[key].dtype.to_string(),
            length_source: match lengths {
                Lengths::Given(_) => LengthSource::Given,
                Lengths::Vector => LengthSource::Vector,
                Lengths::Tokens { .. } => LengthSource::TokenMask,
                Lengths::Content => LengthSource::Content,
            },
            ..FeatureReport::default()
        }
    }

    fn finish_report(
        &self,
        key: &str,
        shape: Vec<usize>,
        lengths: &[usize],
        report: &mut FeatureReport,
    ) -> Result<(), DataError> {
        if self.options.non_finite == NonFinite::Refuse && report.replaced() > 0 {
            return Err(DataError::NonFinite {
                split: self.name.to_owned(),
                key: key.to_owned(),
                nan: report.nan,
                positive_infinity: report.positive_infinity,
                negative_infinity: report.negative_infinity,
            });
        }
        report.shape = shape;
        report.min_length = lengths.iter().copied().min().unwrap_or_default();
        report.mean_length = lengths.iter().sum::<usize>() as f64 / lengths.len() as f64;
        report.max_length = lengths.iter().copied().max().unwrap_or_default();
        Ok(())
    }

    fn lengths(
        &mut self,
        lengths_key: &str,
        key: &str,
        rows: usize,
        steps: usize,
    ) -> Result<Vec<usize>, DataError> {
        let lengths = self.integers(lengths_key)?;
        let lengths = self.column(lengths_key, lengths)?;
        self.check_rows(lengths_key, lengths.len(), rows)?;
        let checked = lengths.into_iter().enumerate().map(|(row, length)| {
            let fits = usize::try_from(length)
                .ok()
                .filter(|&length| length <= steps);
            fits.ok_or_else(|| DataError::Length {
                split: self.name.to_owned(),
                key: key.to_owned(),
                row,
                length,
                steps,
            })
        });
        checked.collect()
    }

    fn check_rows(&self, key: &str, found: usize, expected: usize) -> Result<(), DataError> {
        if found == expected {
            return Ok(());
        }
        Err(DataError::RowCount {
            split: self.name.to_owned(),
            key: key.to_owned(),
            expected,
            found,
        })
    }

    fn check_labels(
        &self,
        key: &str,
        labels: &Array1<f32>,
        id: &[String],
    ) -> Result<(), DataError> {
        let broken = labels
            .iter()
            .zip(id)
            .enumerate()
            .find(|(_, (label, _))| !label.is_finite());
        match broken {
            None => Ok(()),
            Some((row, (&value, id))) => Err(DataError::Label {
                split: self.name.to_owned(),
                key: key.to_owned(),
                row,
                id: id.clone(),
                value,
            }),
        }
    }

    fn shape(&self, key: &str, expected: &'static str, found: &[usize]) -> DataError {
        DataError::Shape {
            split: self.name.to_owned(),
            key: key.to_owned(),
            expected,
            found: found.to_vec(),
        }
    }

    fn kind(&self, key: &str, expected: &'static str) -> DataError {
        DataError::Kind {
            split: self.name.to_owned(),
            key: key.to_owned(),
            expected,
            found: self.headers[key].dtype.to_string(),
        }
    }
}

/// Where the lengths of a feature come from.
enum Lengths<'a> {
    Given(Vec<usize>),
    Vector,
    Tokens {
        tokens: &'a Array3<i64>,
        at_least_content: bool,
    },
    Content,
}

impl Lengths<'_> {
    /// Sets what is not finite and what lies beyond the length of one row `[T, D]` to zero and
    /// returns the length.
    fn clean(
        &self,
        row: usize,
        mut values: ArrayViewMut2<f32>,
        report: &mut FeatureReport,
    ) -> usize {
        for value in values.iter_mut().filter(|value| !value.is_finite()) {
            match *value {
                f32::INFINITY => report.positive_infinity += 1,
                f32::NEG_INFINITY => report.negative_infinity += 1,
                _ => report.nan += 1,
            }
            *value = 0.0;
        }
        let mut length = match self {
            Self::Given(lengths) => lengths[row],
            Self::Vector => 1,
            Self::Tokens {
                tokens,
                at_least_content,
            } => {
                let count = tokens.slice(s![row, 1, ..]).sum() as usize;
                if *at_least_content {
                    count.max(content_length(&values.view()))
                } else {
                    count
                }
            }
            Self::Content => content_length(&values.view()),
        };
        if length == 0 {
            report.empty_rows += 1;
            length = 1;
        }
        for mut step in values.slice_mut(s![length.., ..]).outer_iter_mut() {
            if step.iter().any(|&value| value != 0.0) {
                report.cleared_steps += 1;
            }
            step.fill(0.0);
        }
        length
    }
}

fn content_length(row: &ArrayView2<f32>) -> usize {
    let mut steps = row.outer_iter();
    let last = steps.rposition(|step| step.iter().any(|&value| value != 0.0));
    last.map_or(0, |last| last + 1)
}
