//! Exponentially averaged covariances, for batches too small to estimate one.
//!
//! ```text
//! E_t = β E_{t−1} + (1 − β) C_t,   E_0 = 0
//! Ĉ_t = E_t / (1 − β^t)
//! ```
//!
//! `Ĉ_t` is a weighted mean of the covariances so far. Within a step the past `E_{t−1}` is a
//! constant, so the gradient reaches the features of the batch at hand through `C_t` alone:
//!
//! ```text
//! Ĉ_t = π E_{t−1} + α C_t          π = β / (1 − β^t),  α = (1 − β) / (1 − β^t)
//! dX = (2 α / ν) diag(w) (X − 1 mᵀ) Γ
//! ```

use modalign_core::Scalar;
use ndarray::Array2;
use serde::{Deserialize, Deserializer, Serialize, de::Error};

use crate::{Batch, CovarianceError, covariance};

/// The exponentially averaged covariance of one modality.
///
/// ```text
/// Ĉ_t = E_t / (1 − β^t),    E_t = β E_{t−1} + (1 − β) C_t
/// ```
///
/// A loss on a batch given with [`Batch::after`] compares `Ĉ_t`, this batch included, and leaves the
/// state as it was: it stays a pure function of batch and state. After the step, take the batch in
/// with [`update`](Self::update).
///
/// The variance of the estimate is that of about `(1 + β) / (1 − β)` batches. Its limit: features
/// move while training, and the past describes an older model.
///
/// # Examples
///
/// ```
/// use modalign_covariance::{Batch, RunningCovariance};
/// use ndarray::array;
///
/// let mut running = RunningCovariance::new(1, 0.75)?;
/// assert_eq!(running.covariance(), None);
/// running.update(array![[0.0], [2.0]].view(), 1)?; // variance 2
/// assert_eq!(running.covariance(), Some(array![[2.0]]));
/// running.update(array![[0.0], [4.0]].view(), 1)?; // variance 8
/// let expected: f64 = (0.75 * 2.0 + 8.0) / 1.75;
/// assert!((expected - running.covariance().unwrap()[[0, 0]]).abs() < 1e-12);
/// # Ok::<(), modalign_covariance::CovarianceError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound = "A: Scalar")]
pub struct RunningCovariance<A> {
    /// β, from 0 (no past) to below 1.
    #[serde(deserialize_with = "read_decay")]
    decay: f64,
    /// t, the batches taken in.
    steps: u64,
    /// E_t.
    sum: Array2<A>,
}

impl<A: Scalar> RunningCovariance<A> {
    /// The state before any batch, for `width` columns.
    ///
    /// # Errors
    ///
    /// [`CovarianceError::Config`] unless `0 ≤ decay < 1`, [`CovarianceError::TooLarge`].
    pub fn new(width: usize, decay: f64) -> Result<Self, CovarianceError> {
        check_decay(decay)?;
        if width > crate::MAX_SIDE {
            return Err(CovarianceError::TooLarge {
                side: width,
                limit: crate::MAX_SIDE,
            });
        }
        Ok(Self {
            decay,
            steps: 0,
            sum: Array2::zeros((width, width)),
        })
    }

    /// Takes in the covariance of a batch. Its own `running` is not looked at.
    ///
    /// # Errors
    ///
    /// As [`covariance`](crate::covariance()), and [`CovarianceError::RunningWidth`]; the state is
    /// unchanged then.
    pub fn update<'a>(
        &mut self,
        batch: impl Into<Batch<'a, A>>,
        ddof: usize,
    ) -> Result<(), CovarianceError> {
        let batch = Batch {
            running: None,
            ..batch.into()
        };
        self.check_width(0, batch.features.ncols())?;
        let covariance = covariance(batch, ddof)?;
        let (past, present) = (A::from_f64(self.decay), A::from_f64(1.0 - self.decay));
        self.sum.zip_mut_with(&covariance, |sum, &entry| {
            *sum = past * *sum + present * entry
        });
        self.steps += 1;
        Ok(())
    }

    /// `Ĉ_t`, or `None` before the first batch.
    pub fn covariance(&self) -> Option<Array2<A>> {
        let correction = A::from_f64(1.0 / self.correction(self.steps));
        (self.steps > 0).then(|| self.sum.mapv(|entry| entry * correction))
    }

    /// The number of batches taken in.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// `1 − β^t`.
    fn correction(&self, steps: u64) -> f64 {
        1.0 - self.decay.powf(steps as f64)
    }

    /// `E` and the weights π and α of the past and of the next batch.
    pub(crate) fn blend(&self) -> (&Array2<A>, f64, f64) {
        let correction = self.correction(self.steps + 1);
        (
            &self.sum,
            self.decay / correction,
            (1.0 - self.decay) / correction,
        )
    }

    pub(crate) fn check_width(
        &self,
        modality: usize,
        expected: usize,
    ) -> Result<(), CovarianceError> {
        let found = self.sum.ncols();
        if self.sum.nrows() == expected && found == expected {
            return Ok(());
        }
        Err(CovarianceError::RunningWidth {
            modality,
            expected,
            found,
        })
    }
}

fn check_decay(found: f64) -> Result<(), CovarianceError> {
    if (0.0..1.0).contains(&found) {
        return Ok(());
    }
    Err(CovarianceError::Config {
        field: "decay",
        expected: "at least 0 and below 1",
        found,
    })
}

fn read_decay<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let decay = f64::deserialize(deserializer)?;
    check_decay(decay).map_err(D::Error::custom)?;
    Ok(decay)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn the_state_survives_json_and_keeps_its_course() {
        let batches = [
            array![[0.0, 1.0], [2.0, 3.0]],
            array![[1.0, 5.0], [0.1, -2.0]],
        ];
        let mut whole = RunningCovariance::new(2, 0.9).unwrap();
        whole.update(batches[0].view(), 1).unwrap();
        let json = serde_json::to_string(&whole).unwrap();
        let mut resumed: RunningCovariance<f64> = serde_json::from_str(&json).unwrap();
        for running in [&mut whole, &mut resumed] {
            running.update(batches[1].view(), 1).unwrap();
        }
        assert_eq!(whole, resumed);
        let bad = json.replace("0.9", "1.5");
        assert!(serde_json::from_str::<RunningCovariance<f64>>(&bad).is_err());
    }

    #[test]
    fn bad_states_and_batches_are_refused() {
        for decay in [-0.1, 1.0, f64::NAN] {
            assert!(matches!(
                RunningCovariance::<f64>::new(2, decay),
                Err(CovarianceError::Config { field: "decay", .. })
            ));
        }
        let mut running = RunningCovariance::new(2, 0.5).unwrap();
        assert_eq!(
            running.update(array![[0.0], [1.0]].view(), 1),
            Err(CovarianceError::RunningWidth {
                modality: 0,
                expected: 1,
                found: 2
            })
        );
        assert!(
            running
                .update(array![[0.0, f64::NAN], [1.0, 0.0]].view(), 1)
                .is_err()
        );
        assert_eq!(running.steps(), 0);
    }
}
