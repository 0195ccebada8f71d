//! Moments of any number of rows in one pass.
//!
//! ```text
//! V, m, S       the weight, mean and scatter Σ w (x − m)(x − m)ᵀ of the rows so far
//! v, m', S'     those of a block, or of another pass
//! δ = m' − m
//! V ← V + v,   m ← m + (v / (V + v)) δ,   S ← S + S' + (V v / (V + v)) δ δᵀ
//! ```
//!
//! Within a block the scatter is computed in the type of the features; between
//! blocks everything is `f64`, so the error does not grow with the number of blocks in practice.

use modalign_core::Scalar;
use ndarray::Array2;
use serde::{Deserialize, Serialize, Serializer};

use crate::covariance::check_finite;
use crate::samples::Sample;
use crate::{Batch, CovarianceError, MAX_SIDE, workspace::Workspace};

/// Mean and covariance of rows that arrive in blocks, in O(D²) memory.
///
/// Blocks of one pass may be spread over threads or processes and [`merge`](Self::merge)d; the state
/// is plain data. Every order of blocks and merges gives the same result to rounding. A block should
/// have at least about D rows, for a block costs a pass over D² entries.
///
/// # Examples
///
/// ```
/// use modalign_covariance::{StreamingMoments, covariance};
/// use ndarray::{Axis, array};
///
/// let x = array![[1.0, 0.0], [2.0, 1.0], [3.0, 5.0], [0.0, 2.0], [4.0, 2.0]];
/// let mut moments = StreamingMoments::new(2)?;
/// moments.extend(x.axis_chunks_iter(Axis(0), 2))?;
/// assert_eq!(moments.means(), [2.0, 2.0]);
/// assert_eq!(moments.covariance(1)?, covariance(x.view(), 1)?);
/// # Ok::<(), modalign_covariance::CovarianceError>(())
/// ```
///
/// # References
///
/// Tony F. Chan, Gene H. Golub, Randall J. LeVeque, "Updating Formulae and a Pairwise Algorithm for
/// Computing Sample Variances", 1979.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "State", bound = "A: Scalar")]
pub struct StreamingMoments<A> {
    state: State,
    sample: Sample<A>,
    covariance: Workspace<A>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    rows: u64,
    /// V, and the sum of squared weights for the divisor.
    weight: f64,
    squared_weight: f64,
    means: Vec<f64>,
    scatter: Array2<f64>,
}

impl State {
    /// Adds a part, of which `scale · scatter` is the scatter.
    fn add<A: Scalar>(&mut self, part: Part<A>) {
        let weight = self.weight + part.weight;
        let width = self.means.len();
        let (shift, spread) = (part.weight / weight, self.weight * part.weight / weight);
        let delta: Vec<f64> = part
            .means
            .iter()
            .zip(&self.means)
            .map(|(new, old)| new.as_f64() - old)
            .collect();
        let rows = self
            .scatter
            .rows_mut()
            .into_iter()
            .zip(part.scatter.chunks(width));
        for ((mut row, part_row), row_delta) in rows.zip(&delta) {
            let entries = row.iter_mut().zip(part_row).zip(&delta);
            for ((sum, entry), delta) in entries {
                *sum += part.scale * entry.as_f64() + spread * row_delta * delta;
            }
        }
        for (mean, delta) in self.means.iter_mut().zip(&delta) {
            *mean += shift * delta;
        }
        self.weight = weight;
        self.squared_weight += part.squared_weight;
        self.rows += part.rows;
    }
}

/// The moments of a block or of another stream.
struct Part<'a, A> {
    rows: u64,
    weight: f64,
    squared_weight: f64,
    means: &'a [A],
    scatter: &'a [A],
    scale: f64,
}

impl<A: Scalar> StreamingMoments<A> {
    /// No rows yet, of `width` columns.
    ///
    /// # Errors
    ///
    /// [`CovarianceError::NoColumns`], [`CovarianceError::TooLarge`].
    pub fn new(width: usize) -> Result<Self, CovarianceError> {
        let means = vec![0.0; width];
        let side = if width > MAX_SIDE { 0 } else { width };
        let scatter = Array2::zeros((side, side));
        State {
            rows: 0,
            weight: 0.0,
            squared_weight: 0.0,
            means,
            scatter,
        }
        .try_into()
    }

    /// Takes in a block of rows, which may have weights. Its `running` is not looked at.
    ///
    /// A block without rows, or whose rows all have weight 0, changes nothing.
    ///
    /// # Errors
    ///
    /// As [`covariance`](crate::covariance()), with rows counted from the start of the block, and
    /// [`CovarianceError::StreamWidth`]; the moments are unchanged then.
    pub fn push<'a>(&mut self, block: impl Into<Batch<'a, A>>) -> Result<(), CovarianceError> {
        let batch = Batch {
            running: None,
            ..block.into()
        };
        self.check_width(batch.features.ncols())?;
        let covariance = &mut self.covariance;
        match self.sample.set_with_covariance(batch, 0, covariance) {
            Err(CovarianceError::TooFewRows { .. }) => return Ok(()),
            set => set?,
        }
        check_finite(&batch, covariance)?;
        let (weight, squared_weight) = self.sample.total_weights();
        self.state.add(Part {
            rows: self.sample.counted() as u64,
            weight,
            squared_weight,
            means: self.sample.means(),
            scatter: self.covariance.entries(),
            // The divisor for ddof = 0.
            scale: weight,
        });
        Ok(())
    }

    /// Takes in one block after the other.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push), at the first block that is refused; those before it are taken in.
    pub fn extend<'a, B: Into<Batch<'a, A>>>(
        &mut self,
        blocks: impl IntoIterator<Item = B>,
    ) -> Result<(), CovarianceError> {
        blocks.into_iter().try_for_each(|block| self.push(block))
    }

    /// Takes in the rows of another stream, as if they had come here.
    ///
    /// # Errors
    ///
    /// [`CovarianceError::StreamWidth`].
    pub fn merge(&mut self, other: &Self) -> Result<(), CovarianceError> {
        let State {
            rows,
            weight,
            squared_weight,
            ref means,
            ref scatter,
        } = other.state;
        self.check_width(means.len())?;
        if let Some(scatter) = scatter.as_slice()
            && rows > 0
        {
            self.state.add(Part {
                rows,
                weight,
                squared_weight,
                means,
                scatter,
                scale: 1.0,
            });
        }
        Ok(())
    }

    /// The rows taken in, without those of weight 0.
    pub fn rows(&self) -> u64 {
        self.state.rows
    }

    /// The column means; zeros before the first row.
    pub fn means(&self) -> &[f64] {
        &self.state.means
    }

    /// The covariance of all rows so far, `[D, D]`.
    ///
    /// # Errors
    ///
    /// [`CovarianceError::TooFewRows`] unless more than `ddof` rows came,
    /// [`CovarianceError::Overflow`].
    pub fn covariance(&self, ddof: usize) -> Result<Array2<A>, CovarianceError> {
        let State {
            rows,
            weight,
            squared_weight,
            ref scatter,
            ..
        } = self.state;
        let divisor = weight - ddof as f64 * squared_weight / weight;
        if rows <= ddof as u64 || divisor <= 0.0 {
            let rows = usize::try_from(rows).unwrap_or(usize::MAX);
            return Err(CovarianceError::TooFewRows {
                modality: 0,
                rows,
                ddof,
            });
        }
        let covariance = scatter.mapv(|entry| A::from_f64(entry / divisor));
        if covariance.iter().all(|entry| entry.is_finite()) {
            Ok(covariance)
        } else {
            Err(CovarianceError::Overflow {
                first: 0,
                second: 0,
            })
        }
    }

    fn check_width(&self, found: usize) -> Result<(), CovarianceError> {
        let expected = self.state.means.len();
        if found == expected {
            return Ok(());
        }
        Err(CovarianceError::StreamWidth { expected, found })
    }
}

impl<A: Scalar> TryFrom<State> for StreamingMoments<A> {
    type Error = CovarianceError;

    fn try_from(state: State) -> Result<Self, CovarianceError> {
        let width = state.means.len();
        if width == 0 {
            return Err(CovarianceError::NoColumns { modality: 0 });
        }
        if width > MAX_SIDE {
            return Err(CovarianceError::TooLarge {
                side: width,
                limit: MAX_SIDE,
            });
        }
        if state.scatter.dim() != (width, width) {
            let found = state.scatter.ncols();
            return Err(CovarianceError::StreamWidth {
                expected: width,
                found,
            });
        }
        Ok(Self {
            state,
            sample: Sample::new(0),
            covariance: Workspace::default(),
        })
    }
}

impl<A> Serialize for StreamingMoments<A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.state.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::covariance;
    use approx::{assert_abs_diff_eq, assert_relative_eq};
    use ndarray::{Array, Array1, Axis, array, s};
    use proptest::prelude::*;

    fn rows(n: usize, d: usize, offset: f64) -> Array2<f64> {
        Array::from_shape_fn((n, d), |(i, j)| {
            offset + ((i * 37 + j * 101 + i * i * j) % 53) as f64 / 10.0
        })
    }

    fn collect(x: &Array2<f64>, block: usize) -> StreamingMoments<f64> {
        let mut moments = StreamingMoments::new(x.ncols()).unwrap();
        moments.extend(x.axis_chunks_iter(Axis(0), block)).unwrap();
        moments
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn blocks_of_any_size_and_merges_in_any_order_give_the_two_pass_result(
            (n, d) in (3..60_usize, 1..7_usize),
            sizes in prop::collection::vec(1..20_usize, 3),
            cuts in prop::collection::vec(0.0..1.0_f64, 2),
            order in Just([0, 1, 2]).prop_shuffle(),
            offset in prop_oneof![Just(0.0), Just(1e6)],
        ) {
            let x = rows(n, d, offset);
            let expected = covariance(x.view(), 1).unwrap();
            let tolerance = if offset > 0.0 { 1e-9 } else { 1e-11 };
            let one_pass = collect(&x, sizes[0]);
            assert_abs_diff_eq!(one_pass.covariance(1).unwrap(), expected, epsilon = tolerance);
            prop_assert_eq!(one_pass.rows(), n as u64);

            let mut cuts: Vec<_> = cuts.iter().map(|cut| (cut * n as f64) as usize).collect();
            cuts.sort_unstable();
            let bounds = [0, cuts[0], cuts[1], n];
            let parts = [0, 1, 2].map(|part| {
                let part_rows = x.slice(s![bounds[part]..bounds[part + 1], ..]).to_owned();
                collect(&part_rows, sizes[part])
            });
            let mut merged = StreamingMoments::new(d).unwrap();
            for part in order {
                merged.merge(&parts[part]).unwrap();
            }
            assert_abs_diff_eq!(merged.covariance(1).unwrap(), expected, epsilon = tolerance);
            let means = Array1::from(merged.means().to_vec());
            assert_relative_eq!(means, x.mean_axis(Axis(0)).unwrap(), max_relative = 1e-14);
        }

        #[test]
        fn row_weights_count_as_in_one_batch(
            (n, d, block) in (3..30_usize, 1..5_usize, 1..9_usize),
            weights in prop::collection::vec(prop_oneof![Just(0.0), 0.1..3.0_f64], 30),
            ddof in 0..2_usize,
        ) {
            let x = rows(n, d, 0.0);
            let weights = Array1::from(weights[..n].to_vec());
            prop_assume!(weights.iter().filter(|&&weight| weight > 0.0).count() > ddof);
            let batch = Batch::from(x.view()).weighted(weights.view());
            let expected = covariance(batch, ddof).unwrap();
            let mut moments = StreamingMoments::new(d).unwrap();
            let chunks = x.axis_chunks_iter(Axis(0), block);
            for (x, weights) in chunks.zip(weights.axis_chunks_iter(Axis(0), block)) {
                moments.push(Batch::from(x).weighted(weights)).unwrap();
            }
            assert_abs_diff_eq!(moments.covariance(ddof).unwrap(), expected, epsilon = 1e-11);
        }
    }

    #[test]
    fn single_precision_does_not_drift_over_many_blocks() {
        // 200 000 rows, means far from zero; sums in f32 would lose all digits of the variance.
        let block = |index: usize| {
            Array::from_shape_fn((100, 2), |(i, j)| {
                300.0 + (((index * 100 + i) * (7 + 6 * j)) % 11) as f32 / 11.0
            })
        };
        let mut moments = StreamingMoments::<f32>::new(2).unwrap();
        let mut wide = StreamingMoments::<f64>::new(2).unwrap();
        for index in 0..2000 {
            moments.push(block(index).view()).unwrap();
            wide.push(block(index).mapv(f64::from).view()).unwrap();
        }
        let (found, expected) = (moments.covariance(1).unwrap(), wide.covariance(1).unwrap());
        assert_abs_diff_eq!(found.mapv(f64::from), expected, epsilon = 1e-7);
        assert!(expected[[0, 0]] > 0.05);
    }

    #[test]
    fn the_state_survives_json() {
        let x = rows(20, 3, 0.0);
        let moments = collect(&x.slice(s![..12, ..]).to_owned(), 5);
        let json = serde_json::to_string(&moments).unwrap();
        let mut resumed: StreamingMoments<f64> = serde_json::from_str(&json).unwrap();
        resumed.push(x.slice(s![12.., ..])).unwrap();
        let mut whole = moments.clone();
        whole.push(x.slice(s![12.., ..])).unwrap();
        assert_eq!(resumed.covariance(1), whole.covariance(1));
        let cut = json.replacen("\"means\":[", "\"means\":[0.0,", 1);
        assert!(serde_json::from_str::<StreamingMoments<f64>>(&cut).is_err());
    }

    #[test]
    fn what_does_not_fit_is_refused_and_changes_nothing() {
        let mut moments = StreamingMoments::new(2).unwrap();
        moments.push(array![[1.0, 2.0], [3.0, 5.0]].view()).unwrap();
        let before = moments.covariance(1).unwrap();
        assert_eq!(
            moments.push(array![[1.0]].view()),
            Err(CovarianceError::StreamWidth {
                expected: 2,
                found: 1
            })
        );
        assert_eq!(
            moments.push(array![[1.0, f64::NAN]].view()),
            Err(CovarianceError::NonFinite {
                modality: 0,
                row: 0,
                column: 1
            })
        );
        let other = StreamingMoments::new(3).unwrap();
        assert_eq!(
            moments.merge(&other),
            Err(CovarianceError::StreamWidth {
                expected: 2,
                found: 3
            })
        );
        moments.push(Array2::zeros((0, 2)).view()).unwrap();
        moments.merge(&StreamingMoments::new(2).unwrap()).unwrap();
        assert_eq!(moments.covariance(1).unwrap(), before);
        assert_eq!(
            moments.covariance(2),
            Err(CovarianceError::TooFewRows {
                modality: 0,
                rows: 2,
                ddof: 2
            })
        );
        let empty = StreamingMoments::<f32>::new(1).unwrap();
        let none = CovarianceError::TooFewRows {
            modality: 0,
            rows: 0,
            ddof: 0,
        };
        assert_eq!(empty.covariance(0), Err(none));
        assert!(StreamingMoments::<f32>::new(0).is_err());
        let too_large = CovarianceError::TooLarge {
            side: MAX_SIDE + 1,
            limit: MAX_SIDE,
        };
        assert_eq!(
            StreamingMoments::<f32>::new(MAX_SIDE + 1).err(),
            Some(too_large)
        );
    }
}
