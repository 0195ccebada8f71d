//! Losses of a scalar prediction.
//!
//! ```text
//! L = 1/N Σ_n w_n ρ(p_n − t_n),   dL/dp_n = w_n ρ'(p_n − t_n) / N
//!
//! L1          ρ(r) = |r|                                      ρ'(r) = sign(r), 0 at 0
//! squared     ρ(r) = r²                                       ρ'(r) = 2 r
//! Huber       ρ(r) = r²/2 if |r| <= δ, else δ (|r| − δ/2)     ρ'(r) = r clamped to ±δ
//! ```
//!
//! The mean is over the N rows, not over the sum of the weights. Weights are constants.

use modalign_core::{Scalar, check_shape};
use ndarray::{Array1, ArrayView1, ArrayViewMut1, Zip};

use crate::NnError;
use crate::error::check_config;

/// The weighted mean absolute error of `prediction [N]` and its gradient in the prediction.
///
/// ```text
/// L = 1/N Σ w |p − t|
/// ```
///
/// # Errors
///
/// [`NnError::Shape`] if the lengths differ, [`NnError::Empty`] without rows.
///
/// ```
/// use modalign_nn::weighted_l1;
/// use ndarray::array;
///
/// let (prediction, target, weight) = (array![1.0, 2.0], array![3.0, 2.0], array![0.5, 1.0]);
/// let (value, gradient) = weighted_l1(prediction.view(), target.view(), weight.view())?;
/// assert_eq!(value, 0.5);
/// assert_eq!(gradient, array![-0.25, 0.0]);
/// # Ok::<(), modalign_nn::NnError>(())
/// ```
pub fn weighted_l1<A: Scalar>(
    prediction: ArrayView1<A>,
    target: ArrayView1<A>,
    weight: ArrayView1<A>,
) -> Result<(A, Array1<A>), NnError> {
    let mut gradient = Array1::zeros(prediction.len());
    let value = weighted_l1_into(prediction, target, weight, gradient.view_mut())?;
    Ok((value, gradient))
}

/// As [`weighted_l1`], with the gradient written to `gradient [N]`.
///
/// # Errors
///
/// As [`weighted_l1`], also for a gradient of another length.
pub fn weighted_l1_into<A: Scalar>(
    prediction: ArrayView1<A>,
    target: ArrayView1<A>,
    weight: ArrayView1<A>,
    gradient: ArrayViewMut1<A>,
) -> Result<A, NnError> {
    let value = weighted_l1_value(prediction, target, weight)?;
    weighted_mean_gradient("weighted L1", prediction, target, weight, gradient, sign)?;
    Ok(value)
}

/// As [`weighted_l1`], the value alone.
///
/// # Errors
///
/// As [`weighted_l1`].
pub fn weighted_l1_value<A: Scalar>(
    prediction: ArrayView1<A>,
    target: ArrayView1<A>,
    weight: ArrayView1<A>,
) -> Result<A, NnError> {
    weighted_mean("weighted L1", prediction, target, weight, A::abs)
}

/// The weighted mean squared error of `prediction [N]` and its gradient in the prediction.
///
/// ```text
/// L = 1/N Σ w (p − t)²
/// ```
///
/// # Errors
///
/// [`NnError::Shape`] if the lengths differ, [`NnError::Empty`] without rows.
///
/// ```
/// use modalign_nn::weighted_squared_error;
/// use ndarray::array;
///
/// let (prediction, target, weight) = (array![1.0, 2.0], array![3.0, 2.0], array![0.5, 1.0]);
/// let (value, gradient) = weighted_squared_error(prediction.view(), target.view(), weight.view())?;
/// assert_eq!(value, 1.0);
/// assert_eq!(gradient, array![-1.0, 0.0]);
/// # Ok::<(), modalign_nn::NnError>(())
/// ```
pub fn weighted_squared_error<A: Scalar>(
    prediction: ArrayView1<A>,
    target: ArrayView1<A>,
    weight: ArrayView1<A>,
) -> Result<(A, Array1<A>), NnError> {
    let mut gradient = Array1::zeros(prediction.len());
    let value = weighted_squared_error_into(prediction, target, weight, gradient.view_mut())?;
    Ok((value, gradient))
}

/// As [`weighted_squared_error`], with the gradient written to `gradient [N]`.
///
/// # Errors
///
/// As [`weighted_squared_error`], also for a gradient of another length.
pub fn weighted_squared_error_into<A: Scalar>(
    prediction: ArrayView1<A>,
    target: ArrayView1<A>,
    weight: ArrayView1<A>,
    gradient: ArrayViewMut1<A>,
) -> Result<A, NnError> {
    let value = weighted_squared_error_value(prediction, target, weight)?;
    let operation = "weighted squared error";
    let slope = |residual| residual + residual;
    weighted_mean_gradient(operation, prediction, target, weight, gradient, slope)?;
    Ok(value)
}

/// As [`weighted_squared_error`], the value alone.
///
/// # Errors
///
/// As [`weighted_squared_error`].
pub fn weighted_squared_error_value<A: Scalar>(
    prediction: ArrayView1<A>,
    target: ArrayView1<A>,
    weight: ArrayView1<A>,
) -> Result<A, NnError> {
    weighted_mean(
        "weighted squared error",
        prediction,
        target,
        weight,
        |residual| residual * residual,
    )
}

/// The weighted mean Huber loss of `prediction [N]` and its gradient in the prediction: quadratic
/// up to a residual of `delta`, above 0, and linear beyond.
///
/// ```text
/// L = 1/N Σ w ρ(p − t),   ρ(r) = r²/2 if |r| <= δ, else δ (|r| − δ/2)
/// ```
///
/// # Errors
///
/// [`NnError::Config`] if `delta` is not above 0, [`NnError::Shape`] if the lengths differ,
/// [`NnError::Empty`] without rows.
///
/// ```
/// use modalign_nn::weighted_huber;
/// use ndarray::array;
///
/// let (prediction, target, weight) = (array![1.0, 2.5], array![4.0, 2.0], array![1.0, 1.0]);
/// let (value, gradient) = weighted_huber(prediction.view(), target.view(), weight.view(), 1.0)?;
/// assert_eq!(value, (2.5 + 0.125) / 2.0);
/// assert_eq!(gradient, array![-0.5, 0.25]);
/// # Ok::<(), modalign_nn::NnError>(())
/// ```
///
/// # References
///
/// P. J. Huber, "Robust Estimation of a Location Parameter", 1964.
pub fn weighted_huber<A: Scalar>(
    prediction: ArrayView1<A>,
    target: ArrayView1<A>,
    weight: ArrayView1<A>,
    delta: f64,
) -> Result<(A, Array1<A>), NnError> {
    let value = weighted_huber_value(prediction, target, weight, delta)?;
    let delta = A::from_f64(delta);
    let slope = |residual: A| {
        if residual.abs() > delta {
            delta * sign(residual)
        } else {
            residual
        }
    };
    let mut gradient = Array1::zeros(prediction.len());
    let view = gradient.view_mut();
    weighted_mean_gradient("weighted Huber", prediction, target, weight, view, slope)?;
    Ok((value, gradient))
}

/// As [`weighted_huber`], the value alone.
///
/// # Errors
///
/// As [`weighted_huber`].
pub fn weighted_huber_value<A: Scalar>(
    prediction: ArrayView1<A>,
    target: ArrayView1<A>,
    weight: ArrayView1<A>,
    delta: f64,
) -> Result<A, NnError> {
    let holds = delta > 0.0 && delta.is_finite();
    check_config(holds, "weighted Huber", "delta", "above 0", delta)?;
    let (delta, half) = (A::from_f64(delta), A::from_f64(0.5));
    weighted_mean("weighted Huber", prediction, target, weight, |residual| {
        let distance = residual.abs();
        if distance > delta {
            delta * (distance - half * delta)
        } else {
            half * residual * residual
        }
    })
}

/// −1, 0 or 1; NaN for NaN.
fn sign<A: Scalar>(x: A) -> A {
    if x == A::zero() {
        A::zero()
    } else {
        x.signum()
    }
}

fn weighted_mean<A: Scalar>(
    operation: &'static str,
    prediction: ArrayView1<A>,
    target: ArrayView1<A>,
    weight: ArrayView1<A>,
    penalty: impl Fn(A) -> A,
) -> Result<A, NnError> {
    check_shape(operation, "target", target.shape(), prediction.shape())?;
    check_shape(operation, "weight", weight.shape(), prediction.shape())?;
    if prediction.is_empty() {
        return Err(NnError::Empty { operation });
    }
    let sum = Zip::from(prediction)
        .and(target)
        .and(weight)
        .fold(A::zero(), |sum, &p, &t, &w| sum + w * penalty(p - t));
    Ok(sum / A::from_f64(prediction.len() as f64))
}

fn weighted_mean_gradient<A: Scalar>(
    operation: &'static str,
    prediction: ArrayView1<A>,
    target: ArrayView1<A>,
    weight: ArrayView1<A>,
    gradient: ArrayViewMut1<A>,
    slope: impl Fn(A) -> A,
) -> Result<(), NnError> {
    check_shape(operation, "gradient", gradient.shape(), prediction.shape())?;
    let rows = A::from_f64(prediction.len() as f64);
    Zip::from(gradient)
        .and(prediction)
        .and(target)
        .and(weight)
        .for_each(|gradient, &p, &t, &w| *gradient = w * slope(p - t) / rows);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{random, random_off_zero, rng};
    use approx::assert_relative_eq;
    use modalign_gradcheck::check_gradient;
    use ndarray::array;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn gradients(rows in 1_usize..7, delta in 0.1..2.0, seed: u64) {
            let mut rng = rng(seed);
            let target = random(rows, &mut rng);
            let weight = random(rows, &mut rng);
            // At δ the slope is continuous, so that only the kink of L1 at 0 needs distance.
            let prediction = &target + &random_off_zero(rows, &mut rng);
            let (t, w) = (target.view(), weight.view());

            let (value, gradient) = weighted_l1(prediction.view(), t, w).unwrap();
            prop_assert_eq!(value, weighted_l1_value(prediction.view(), t, w).unwrap());
            check_gradient("L1", &prediction, &gradient, |p| {
                weighted_l1_value(p.view(), t, w).unwrap()
            }).unwrap();

            let (value, gradient) = weighted_squared_error(prediction.view(), t, w).unwrap();
            prop_assert_eq!(value, weighted_squared_error_value(prediction.view(), t, w).unwrap());
            check_gradient("squared", &prediction, &gradient, |p| {
                weighted_squared_error_value(p.view(), t, w).unwrap()
            }).unwrap();

            let (value, gradient) = weighted_huber(prediction.view(), t, w, delta).unwrap();
            prop_assert_eq!(value, weighted_huber_value(prediction.view(), t, w, delta).unwrap());
            check_gradient("Huber", &prediction, &gradient, |p| {
                weighted_huber_value(p.view(), t, w, delta).unwrap()
            }).unwrap();
        }
    }

    #[test]
    fn a_large_huber_delta_is_half_the_squared_error() {
        let (p, t, w) = (
            array![0.3, -2.0, 5.0],
            array![1.0, 1.0, 1.0],
            array![1.0, 0.5, 2.0],
        );
        let huber = weighted_huber_value(p.view(), t.view(), w.view(), 1e3).unwrap();
        let squared = weighted_squared_error_value(p.view(), t.view(), w.view()).unwrap();
        assert_relative_eq!(2.0 * huber, squared, max_relative = 1e-15);
    }

    #[test]
    fn single_precision_and_undefined_predictions() {
        let (t, w) = (array![0.0_f32, 0.0], array![1.0_f32, 1.0]);
        let (value, gradient) =
            weighted_huber(array![3.0_f32, 0.5].view(), t.view(), w.view(), 1.0).unwrap();
        assert_eq!((value, gradient), (1.3125, array![0.5, 0.25]));
        let (value, gradient) =
            weighted_l1(array![f32::NAN, 1.0].view(), t.view(), w.view()).unwrap();
        assert!(value.is_nan() && gradient[0].is_nan());
        assert_eq!(gradient[1], 0.5);
    }

    #[test]
    fn bad_input_is_refused() {
        let (one, two) = (array![1.0], array![1.0, 2.0]);
        assert!(matches!(
            weighted_l1(one.view(), two.view(), one.view()),
            Err(NnError::Shape(error)) if error.operand == "target"
        ));
        assert!(matches!(
            weighted_l1(two.view(), two.view(), one.view()),
            Err(NnError::Shape(error)) if error.operand == "weight"
        ));
        let empty = Array1::<f64>::zeros(0);
        assert_eq!(
            weighted_squared_error(empty.view(), empty.view(), empty.view()),
            Err(NnError::Empty {
                operation: "weighted squared error"
            })
        );
        for delta in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(
                weighted_huber(one.view(), one.view(), one.view(), delta),
                Err(NnError::Config {
                    parameter: "delta",
                    ..
                })
            ));
        }
    }
}
