//! Variance floor: keeps the features of one modality from collapsing.
//!
//! ```text
//! v = (1/D) Σ_k max(0, γ − √(C_kk + ε))
//! dv/dC_kk = −1 / (2 D √(C_kk + ε))     where √(C_kk + ε) < γ, else 0
//! ```
//!
//! At the kink `√(C_kk + ε) = γ` the slope used is 0.

use std::slice;

use modalign_core::Scalar;
use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::distance::positive;
use crate::samples::{Sample, Samples};
use crate::{Batch, CovarianceError};

/// A penalty on columns whose standard deviation is below a floor.
///
/// ```text
/// v = (1/D) Σ_k max(0, floor − √(Var x_k + ε))
/// ```
///
/// Losses of covariances of degree two or four in the features can be lowered by shrinking them;
/// this term, added for each modality, takes that way out. It only reads variances, so it costs
/// O(N D). A constant column has gradient zero: it stays where it is, though its value is penalised.
///
/// # Examples
///
/// ```
/// use modalign_covariance::VarianceFloor;
/// use ndarray::array;
///
/// let x = array![[0.0, 0.0], [0.5, 4.0]]; // variances 0.125 and 8
/// let floor = VarianceFloor { floor: 1.0, epsilon: 0.125, ddof: 1 };
/// let (value, gradient) = floor.value_and_gradient(x.view())?;
/// assert_eq!(value, 0.25); // (1 − √0.25) / 2
/// assert_eq!(gradient, array![[0.25, 0.0], [-0.25, 0.0]]); // −1 / (2 · 2 · 0.5) · 2 (x − 0.25)
/// # Ok::<(), modalign_covariance::CovarianceError>(())
/// ```
///
/// # References
///
/// Adrien Bardes, Jean Ponce, Yann LeCun, "VICReg: Variance-Invariance-Covariance Regularization
/// for Self-Supervised Learning", 2022 (the variance term).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VarianceFloor {
    /// The standard deviation below which a column is penalised, above 0.
    pub floor: f64,
    /// ε, added to every variance, above 0: the slope is at most `1 / (2 √ε)`.
    pub epsilon: f64,
    /// Degrees of freedom taken off the divisor of a variance.
    pub ddof: usize,
}

impl Default for VarianceFloor {
    fn default() -> Self {
        Self {
            floor: 1.0,
            epsilon: 1e-4,
            ddof: 1,
        }
    }
}

impl VarianceFloor {
    /// Checks the ranges of the fields.
    ///
    /// # Errors
    ///
    /// [`CovarianceError::Config`] unless floor and ε are positive and finite.
    pub fn validate(&self) -> Result<(), CovarianceError> {
        positive("floor", self.floor)?;
        positive("epsilon", self.epsilon)
    }

    /// The penalty on `x [N, D]` and its gradient `[N, D]`.
    ///
    /// # Errors
    ///
    /// As [`covariance`](crate::covariance()), without a limit on D, and as
    /// [`validate`](Self::validate).
    pub fn value_and_gradient<'a, A: Scalar>(
        &self,
        x: impl Into<Batch<'a, A>>,
    ) -> Result<(A, Array2<A>), CovarianceError> {
        self.validate()?;
        let batch = x.into();
        let mut sample = Sample::new(0);
        sample.set(batch, self.ddof)?;
        let batches = |_| batch;
        let members = slice::from_ref(&sample);
        let samples = Samples {
            batches: &batches,
            members,
            ddof: self.ddof,
        };
        let mut variances = Vec::new();
        samples.variances(0, &mut variances);
        let width = samples.width() as f64;
        let mut value = 0.0;
        for entry in &mut variances {
            if !entry.is_finite() {
                return Err(CovarianceError::Overflow {
                    first: 0,
                    second: 0,
                });
            }
            let deviation = (entry.as_f64() + self.epsilon).sqrt();
            let missing = self.floor - deviation;
            *entry = if missing > 0.0 {
                value += missing / width;
                A::from_f64(-0.5 / (width * deviation))
            } else {
                A::zero()
            };
        }
        let mut gradient = Array2::zeros(batch.features.raw_dim());
        samples.add_variance_gradient(0, &variances, slice::from_mut(&mut gradient));
        Ok((A::from_f64(value), gradient))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use modalign_gradcheck::check_gradient;
    use ndarray::{Array, Array1, array};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn the_gradient_is_that_of_central_differences(
            (n, d) in (2..7_usize, 1..6_usize),
            ddof in 0..2_usize,
            floor in 0.1..2.0_f64,
            epsilon in 1e-3..1.0_f64,
            values in prop::collection::vec(-2.0..2.0, 64),
            weights in prop::option::of(prop::collection::vec(0.1..2.0, 7)),
        ) {
            let x = Array::from_shape_fn((n, d), |(i, j)| values[i * d + j]);
            let weights = weights.map(|weights| Array1::from(weights[..n].to_vec()));
            let penalty = VarianceFloor { floor, epsilon, ddof };
            let evaluate = |x: &Array2<f64>| {
                let batch = Batch { weights: weights.as_ref().map(|w| w.view()), ..x.view().into() };
                penalty.value_and_gradient(batch).unwrap()
            };
            let (_, gradient) = evaluate(&x);
            let near_kink = |variance: f64| ((variance + epsilon).sqrt() - floor).abs() < 1e-3;
            let batch = Batch { weights: weights.as_ref().map(|w| w.view()), ..x.view().into() };
            let variances = crate::covariance(batch, ddof).unwrap().diag().to_owned();
            prop_assume!(!variances.iter().any(|&variance| near_kink(variance)));
            check_gradient("x", &x, &gradient, |x| evaluate(x).0).unwrap();
        }
    }

    #[test]
    fn at_the_floor_and_for_constant_columns_the_gradient_is_zero() {
        let penalty = VarianceFloor {
            floor: 1.5,
            epsilon: 0.25,
            ddof: 1,
        };
        let (value, gradient) = penalty
            .value_and_gradient(array![[0.0], [2.0]].view())
            .unwrap();
        assert_eq!((value, gradient), (0.0, array![[0.0], [0.0]]));
        let (value, gradient) = penalty
            .value_and_gradient(array![[3.0], [3.0]].view())
            .unwrap();
        assert_eq!((value, gradient), (1.0, array![[0.0], [0.0]]));
    }

    #[test]
    fn settings_are_checked() {
        assert!(VarianceFloor::default().validate().is_ok());
        let json = serde_json::to_string(&VarianceFloor::default()).unwrap();
        assert_eq!(json, r#"{"floor":1.0,"epsilon":0.0001,"ddof":1}"#);
        assert_eq!(
            serde_json::from_str::<VarianceFloor>(&json).unwrap(),
            VarianceFloor::default()
        );
        assert!(serde_json::from_str::<VarianceFloor>(r#"{"flor":1.0}"#).is_err());
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(
                VarianceFloor {
                    floor: bad,
                    ..Default::default()
                }
                .validate()
                .is_err()
            );
            assert!(
                VarianceFloor {
                    epsilon: bad,
                    ..Default::default()
                }
                .validate()
                .is_err()
            );
        }
        let few = VarianceFloor::default().value_and_gradient(array![[1.0]].view());
        assert_eq!(
            few,
            Err(CovarianceError::TooFewRows {
                modality: 0,
                rows: 1,
                ddof: 1
            })
        );
    }
}
