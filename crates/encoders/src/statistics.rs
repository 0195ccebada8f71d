//! From a sequence to one vector by statistics over its valid steps.
//!
//! ```text
//! mean[b, d] = 1/L_b Σ_{t < L_b} x[b, t, d]
//! std[b, d]  = √( 1/L_b Σ_{t < L_b} (x[b, t, d] − mean[b, d])² )
//! ```
//!
//! Nothing here is trained and inputs are data, so there is no backward pass.

use modalign_core::{Scalar, check_shape, resize};
use modalign_nn::SequenceBatch;
use ndarray::{Array2, ArrayView3, Axis, s};
use serde::{Deserialize, Serialize};

use crate::EncoderError;

/// Which statistics over time make up the vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Statistics {
    /// The mean: `D` numbers. A vector (T = 1) is passed on as it is.
    #[default]
    Mean,
    /// Mean and standard deviation (ddof 0): `2 D` numbers.
    MeanStd,
}

impl Statistics {
    /// The width of the result for `width` features a step.
    pub fn output_size(self, width: usize) -> usize {
        match self {
            Self::Mean => width,
            Self::MeanStd => width.saturating_mul(2),
        }
    }

    /// `[B, D]` or `[B, 2 D]` for `x [B, T, D]` with a length in 1..=T a row; steps beyond it are
    /// not read.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Shape`] if there is not one length a row, [`EncoderError::Length`] for a
    /// length that is 0 or beyond T.
    ///
    /// ```
    /// use modalign_encoders::Statistics;
    /// use ndarray::array;
    ///
    /// let x = array![[[1.0], [3.0], [99.0]]];
    /// let y = Statistics::MeanStd.apply(x.view(), &[2])?;
    /// assert_eq!(y, array![[2.0, 1.0]]);
    /// # Ok::<(), modalign_encoders::EncoderError>(())
    /// ```
    pub fn apply<A: Scalar>(
        self,
        x: ArrayView3<A>,
        lengths: &[usize],
    ) -> Result<Array2<A>, EncoderError> {
        let mut y = Array2::zeros((x.dim().0, self.output_size(x.dim().2)));
        self.apply_into(x.into(), lengths, &mut y)?;
        Ok(y)
    }

    /// As [`apply`](Self::apply), into `y`, which takes the shape of the result in the memory
    /// it has.
    pub(crate) fn apply_into<A: Scalar>(
        self,
        x: SequenceBatch<A>,
        lengths: &[usize],
        y: &mut Array2<A>,
    ) -> Result<(), EncoderError> {
        let (rows, steps, width) = x.dim();
        check_shape("statistics", "lengths", &[lengths.len()], &[rows])?;
        let shape = (rows, self.output_size(width));
        resize(y, shape);
        y.fill(A::zero());
        for (row, &length) in lengths.iter().enumerate() {
            if length == 0 || length > steps {
                return Err(EncoderError::Length {
                    row,
                    steps,
                    found: length,
                });
            }
            let valid = x.values().slice_move(s![x.row(row), ..length, ..]);
            let count = A::from_f64(length as f64);
            let mut target = y.row_mut(row);
            let (mut mean, mut deviation) = target.view_mut().split_at(Axis(0), width);
            for step in valid.rows() {
                mean += &step;
            }
            mean.mapv_inplace(|sum| sum / count);
            if self == Self::MeanStd {
                for step in valid.rows() {
                    for ((sum, &value), &mean) in deviation.iter_mut().zip(step).zip(&mean) {
                        *sum += (value - mean) * (value - mean);
                    }
                }
                deviation.mapv_inplace(|sum| (sum / count).sqrt());
            }
        }
        Ok(())
    }
}
