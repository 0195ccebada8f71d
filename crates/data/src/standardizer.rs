use ndarray::{Array1, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::dataset::SPLIT;
use crate::{DataError, FileSequences, Sequences};

/// What errors call the features that are standardised.
const FEATURES: &str = "features";

/// Brings each feature column to mean 0 and standard deviation 1, with the statistics of the rows
/// it was fitted on.
///
/// ```text
/// y[n, t, d] = (x[n, t, d] - mean[d]) / scale[d]    for t < length[n];  padding stays 0
/// ```
///
/// Fit it on training rows alone, or validation and test figures are about rows that the model has
/// already met.
///
/// ```
/// use modalign_data::{Sequences, Standardizer};
/// use ndarray::array;
///
/// let mut train = Sequences::from_vectors(array![[1.0, 7.0], [3.0, 7.0]]);
/// let standardizer = Standardizer::fit(&train)?;
/// standardizer.apply(&mut train)?;
/// assert_eq!(train.values, array![[[-1.0, 0.0]], [[1.0, 0.0]]]);
/// # Ok::<(), modalign_data::DataError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standardizer {
    /// `[D]`, the mean over all steps that are not padding.
    pub mean: Array1<f32>,
    /// `[D]`, the standard deviation over the same steps (divided by their number); 1 for a
    /// constant column.
    pub scale: Array1<f32>,
    /// The largest absolute value after standardising, against outliers and sentinels; `None` (as
    /// fitted) does not clip. Positive.
    #[serde(default)]
    pub clip: Option<f32>,
}

impl Standardizer {
    /// Takes the statistics of these rows, in `f64`.
    ///
    /// A column is constant if it varies by less than `f32` can tell from its mean.
    ///
    /// # Errors
    ///
    /// [`DataError::NoRows`], [`DataError::Lengths`], [`DataError::Length`].
    pub fn fit(sequences: &Sequences) -> Result<Self, DataError> {
        sequences.check(SPLIT, FEATURES, 0..sequences.len())?;
        Self::fit_rows(&sequences.lengths, sequences.width(), |visit| {
            sequences.rows().for_each(visit);
            Ok(())
        })
    }

    /// As [`fit`](Self::fit), of features that stay in a file, which is read twice. The statistics
    /// are the same, bit for bit.
    ///
    /// # Errors
    ///
    /// [`DataError::NoRows`]; [`DataError::Io`] if the file cannot be read.
    pub fn fit_file(sequences: &FileSequences) -> Result<Self, DataError> {
        Self::fit_rows(sequences.lengths(), sequences.width(), |visit| {
            sequences.for_each_row(visit)
        })
    }

    /// `each_row` shows every row `[length, D]` in turn.
    fn fit_rows(
        lengths: &[usize],
        width: usize,
        each_row: impl Fn(&mut dyn FnMut(ArrayView2<f32>)) -> Result<(), DataError>,
    ) -> Result<Self, DataError> {
        let steps: usize = lengths.iter().sum();
        if steps == 0 {
            return Err(DataError::NoRows);
        }
        let average = |term: &dyn Fn(usize, f64) -> f64| {
            let mut sum = Array1::<f64>::zeros(width);
            each_row(&mut |row| {
                for step in row.outer_iter() {
                    for (column, (sum, &value)) in sum.iter_mut().zip(step).enumerate() {
                        *sum += term(column, f64::from(value));
                    }
                }
            })?;
            Ok::<_, DataError>(sum / steps as f64)
        };
        let mean = average(&|_, value| value)?;
        let variance = average(&|column, value| (value - mean[column]).powi(2))?;
        let scale = variance.iter().zip(&mean).map(|(variance, mean)| {
            let deviation = variance.sqrt();
            let resolution = f64::from(f32::EPSILON) * mean.abs();
            if deviation > resolution.max(f64::from(f32::MIN_POSITIVE)) {
                deviation as f32
            } else {
                1.0
            }
        });
        Ok(Self {
            scale: scale.collect(),
            mean: mean.mapv(|mean| mean as f32),
            clip: None,
        })
    }

    /// Standardises in place.
    ///
    /// # Errors
    ///
    /// [`DataError::Statistics`] for features of another width, [`DataError::Config`] if `clip` is
    /// not positive, [`DataError::Lengths`], [`DataError::Length`]; the features are then as they
    /// were.
    pub fn apply(&self, sequences: &mut Sequences) -> Result<(), DataError> {
        sequences.check(SPLIT, FEATURES, 0..sequences.len())?;
        for statistics in [&self.mean, &self.scale] {
            if statistics.len() != sequences.width() {
                return Err(DataError::Statistics {
                    expected: statistics.len(),
                    found: sequences.width(),
                });
            }
        }
        let bound = self.clip.unwrap_or(f32::INFINITY);
        if bound.is_nan() || bound <= 0.0 {
            return Err(DataError::Config {
                field: "clip",
                expected: "positive",
                found: bound.to_string(),
            });
        }
        for mut row in sequences.rows_mut() {
            for mut step in row.outer_iter_mut() {
                for ((value, mean), scale) in step.iter_mut().zip(&self.mean).zip(&self.scale) {
                    *value = ((*value - mean) / scale).clamp(-bound, bound);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;
    use ndarray::{Array3, array};
    use proptest::prelude::*;

    /// Two rows of 3 and 1 steps in 3 columns, the last one constant.
    fn sequences() -> Sequences {
        Sequences {
            values: array![
                [[1.0, -3.0, 0.1], [2.0, 5.0, 0.1], [4.0, 0.0, 0.1]],
                [[9.0, 2.0, 0.1], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
            ],
            lengths: vec![3, 1],
        }
    }

    fn small() -> crate::GeneratedConfig {
        let mut config = crate::GeneratedConfig::default();
        config.text.width = 2;
        config.vision.width = 2;
        config.valid_rows = 1;
        config.test_rows = 1;
        config
    }

    #[test]
    fn padding_counts_in_nothing_and_stays_zero() {
        let mut sequences = sequences();
        let standardizer = Standardizer::fit(&sequences).unwrap();
        assert_eq!(standardizer.mean, array![4.0, 1.0, 0.1]);
        assert_abs_diff_eq!(
            standardizer.scale,
            array![9.5_f32.sqrt(), 8.5_f32.sqrt(), 1.0],
            epsilon = 1e-6
        );
        standardizer.apply(&mut sequences).unwrap();
        assert_eq!(sequences.values[[0, 2, 0]], 0.0);
        assert_eq!(sequences.values[[1, 0, 2]], 0.0);
        let padding = sequences.values.slice(ndarray::s![1, 1.., ..]);
        assert!(padding.iter().all(|&value| value == 0.0));
        let again = Standardizer::fit(&sequences).unwrap();
        assert_abs_diff_eq!(again.mean, array![0.0, 0.0, 0.0], epsilon = 1e-6);
        assert_abs_diff_eq!(again.scale, array![1.0, 1.0, 1.0], epsilon = 1e-6);
    }

    #[test]
    fn clipping_bounds_both_sides() {
        let mut sequences = sequences();
        let mut standardizer = Standardizer::fit(&sequences).unwrap();
        standardizer.clip = Some(1.0);
        standardizer.apply(&mut sequences).unwrap();
        assert_eq!(sequences.values[[1, 0, 0]], 1.0);
        assert_eq!(sequences.values[[0, 0, 1]], -1.0);
        for bound in [0.0, -1.0, f32::NAN] {
            standardizer.clip = Some(bound);
            assert!(matches!(
                standardizer.apply(&mut sequences).unwrap_err(),
                DataError::Config { field: "clip", .. }
            ));
        }
    }

    #[test]
    fn a_large_mean_loses_no_variance() {
        let far = Sequences::from_vectors(array![[1.0e6], [1.0e6 + 1.0], [1.0e6 + 2.0]]);
        let standardizer = Standardizer::fit(&far).unwrap();
        assert_abs_diff_eq!(
            standardizer.scale[0],
            (2.0_f32 / 3.0).sqrt(),
            epsilon = 1e-6
        );
    }

    #[test]
    fn other_widths_and_no_rows_are_refused() {
        let standardizer = Standardizer::fit(&sequences()).unwrap();
        let mut other = Sequences::from_vectors(array![[1.0, 2.0]]);
        assert!(matches!(
            standardizer.apply(&mut other).unwrap_err(),
            DataError::Statistics {
                expected: 3,
                found: 2
            }
        ));
        let none = Sequences {
            values: Array3::zeros((0, 1, 2)),
            lengths: Vec::new(),
        };
        assert!(matches!(
            Standardizer::fit(&none).unwrap_err(),
            DataError::NoRows
        ));
    }

    #[test]
    fn it_survives_json() {
        let mut standardizer = Standardizer::fit(&sequences()).unwrap();
        standardizer.clip = Some(5.0);
        let json = serde_json::to_string(&standardizer).unwrap();
        assert_eq!(
            serde_json::from_str::<Standardizer>(&json).unwrap(),
            standardizer
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn statistics_are_those_of_a_plain_loop(
            rows in prop::collection::vec(prop::collection::vec(-50.0_f32..50.0, 1..5), 1..8)
        ) {
            let mut values = Array3::zeros((rows.len(), 5, 1));
            for (n, row) in rows.iter().enumerate() {
                for (t, &value) in row.iter().enumerate() {
                    values[[n, t, 0]] = value;
                }
            }
            let lengths = rows.iter().map(Vec::len).collect();
            let fitted = Standardizer::fit(&Sequences { values, lengths }).unwrap();
            let all: Vec<f64> = rows.concat().into_iter().map(f64::from).collect();
            let mean = all.iter().sum::<f64>() / all.len() as f64;
            let deviation =
                (all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / all.len() as f64).sqrt();
            prop_assert!((f64::from(fitted.mean[0]) - mean).abs() < 1e-5);
            if all.len() > 1 {
                prop_assert!((f64::from(fitted.scale[0]) - deviation).abs() < 1e-5);
            } else {
                prop_assert_eq!(fitted.scale[0], 1.0);
            }
        }

        #[test]
        fn rows_that_are_not_fitted_have_no_influence(
            rows in 4..12_usize,
            k in 2..5_usize,
            poison in -1e6_f32..1e6,
            seed: u64,
        ) {
            let config = crate::GeneratedConfig { train_rows: rows, seed, ..small() };
            let mut split = crate::generate(&config).unwrap().dataset.train;
            let fold = crate::folds(rows, k, seed).unwrap().swap_remove(0);
            let train: Vec<_> = (0..rows).filter(|row| !fold.contains(row)).collect();
            let fit = |split: &crate::Split| {
                Standardizer::fit(&split.select(&train).unwrap().features["audio"]).unwrap()
            };
            let before = fit(&split);
            let audio = &mut split.features["audio"].values;
            for row in fold {
                audio.index_axis_mut(ndarray::Axis(0), row).fill(poison);
            }
            prop_assert_eq!(fit(&split), before);
        }
    }
}
