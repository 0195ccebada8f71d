use indexmap::IndexMap;
use ndarray::Array1;
use serde::{Deserialize, Serialize};

/// What was found in a data file, for a person to look at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReadReport {
    /// How the file is written.
    pub format: Format,
    /// What was read, by `train`, `valid` and `test`.
    pub splits: IndexMap<String, SplitReport>,
    /// The 13 borders of the 12 histogram bins of [`LabelReport::histogram`], the same for all
    /// splits. A label on a border belongs to the bin above it, except the last one.
    pub label_borders: Vec<f32>,
    /// Splits of the file that were not read.
    pub ignored_splits: Vec<String>,
    /// Arrays of the three splits that were not read, as `split/key`.
    pub ignored_arrays: Vec<String>,
}

/// How a data file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Format {
    /// A numpy archive.
    Npz,
    /// A Python pickle of numpy arrays.
    Pickle,
}

/// What was read of one split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitReport {
    /// N.
    pub rows: usize,
    /// By feature key.
    pub features: IndexMap<String, FeatureReport>,
    /// The label of the whole sample.
    pub labels: LabelReport,
    /// The tokens, if they are there.
    pub text_bert: Option<TokenReport>,
}

/// What was read of `text_bert`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenReport {
    /// The shape in the file.
    pub shape: Vec<usize>,
    /// Whether it was stored as `[N, L, 3]` and has been turned into `[N, 3, L]`.
    pub turned: bool,
}

/// What was read of one feature.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FeatureReport {
    /// The shape in the file.
    pub shape: Vec<usize>,
    /// The element type in the file, in numpy's notation.
    pub dtype: String,
    /// Where the lengths are from.
    pub length_source: LengthSource,
    /// The shortest length.
    pub min_length: usize,
    /// The mean length.
    pub mean_length: f64,
    /// The longest length.
    pub max_length: usize,
    /// Rows of length 0 or without a non-zero step, which were given length 1.
    pub empty_rows: usize,
    /// Steps beyond their row's length that were not zero, and have been set to zero.
    pub cleared_steps: usize,
    /// Values that were NaN, and have been set to zero.
    pub nan: usize,
    /// Values that were `inf` (or too large for `f32`), and have been set to zero.
    pub positive_infinity: usize,
    /// Values that were `-inf` (or too large for `f32`), and have been set to zero.
    pub negative_infinity: usize,
}

impl FeatureReport {
    /// How many values were not finite and have been set to zero.
    pub fn replaced(&self) -> usize {
        self.nan + self.positive_infinity + self.negative_infinity
    }
}

/// Where the lengths of a feature are from, see [`ReadOptions`](crate::ReadOptions).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LengthSource {
    /// The array `<key>_lengths`.
    Given,
    /// There is one vector a row.
    Vector,
    /// The number of tokens in `text_bert`, and no less than the content for audio and vision.
    TokenMask,
    /// The last step that is not all zero.
    #[default]
    Content,
}

/// The labels of one split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelReport {
    /// Labels below 0.
    pub negative: usize,
    /// Labels that are exactly 0.
    pub neutral: usize,
    /// Labels above 0.
    pub positive: usize,
    /// The smallest label.
    pub min: f32,
    /// The mean label.
    pub mean: f64,
    /// The largest label.
    pub max: f32,
    /// How many labels fall between each two of [`ReadReport::label_borders`].
    pub histogram: Vec<usize>,
}

const BINS: usize = 12;

/// Equal bins from one whole number to another: half a unit each for labels that fill `[-3, 3]`.
pub(crate) fn label_borders<'a>(labels: impl IntoIterator<Item = &'a f32>) -> Vec<f32> {
    let (min, max) = range(labels);
    let (low, high) = (min.floor(), max.ceil());
    let high = if high > low { high } else { low + 1.0 };
    (0..=BINS)
        .map(|border| low + (high - low) * (border as f32 / BINS as f32))
        .collect()
}

impl LabelReport {
    pub(crate) fn new(labels: &Array1<f32>, borders: &[f32]) -> Self {
        let (min, max) = range(labels);
        let mut histogram = vec![0; BINS];
        for label in labels {
            let bin = borders.partition_point(|border| border <= label);
            histogram[bin.clamp(1, BINS) - 1] += 1;
        }
        let count = |class: fn(f32) -> bool| labels.iter().filter(|&&label| class(label)).count();
        Self {
            negative: count(|label| label < 0.0),
            neutral: count(|label| label == 0.0),
            positive: count(|label| label > 0.0),
            min,
            mean: labels.iter().map(|&label| f64::from(label)).sum::<f64>() / labels.len() as f64,
            max,
            histogram,
        }
    }
}

fn range<'a>(labels: impl IntoIterator<Item = &'a f32>) -> (f32, f32) {
    labels
        .into_iter()
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(min, max), &label| {
            (min.min(label), max.max(label))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn bins_are_half_a_unit_and_closed_below() {
        let labels = array![-3.0, -2.75, -0.5, 0.0, 0.0, 2.4, 2.5, 3.0];
        let borders = label_borders(&labels);
        assert_eq!(borders[..3], [-3.0, -2.5, -2.0]);
        assert_eq!(borders[12], 3.0);
        let report = LabelReport::new(&labels, &borders);
        assert_eq!(report.histogram, [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 1, 2]);
        assert_eq!(
            (report.negative, report.neutral, report.positive),
            (3, 2, 3)
        );
        assert_eq!((report.min, report.max), (-3.0, 3.0));
        assert!((report.mean - 0.20625).abs() < 1e-7);
    }

    #[test]
    fn equal_labels_have_a_bin() {
        let labels = array![2.0, 2.0];
        let report = LabelReport::new(&labels, &label_borders(&labels));
        assert_eq!(report.histogram[0], 2);
    }
}
