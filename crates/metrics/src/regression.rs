//! Metrics of the predicted intensity itself.

use modalign_core::Scalar;
use ndarray::ArrayView1;

use crate::MetricsError;
use crate::error::check_numbers;

/// The mean absolute error.
///
/// ```text
/// MAE = 1/N Σ |p_n − y_n|
/// ```
///
/// `predictions` and `labels` are `[N]`. The sum is taken in `A` itself and in NumPy's order
/// (blocks of 128 with eight running sums, halves above that), so that a result in `f32` has the
/// very bits of `numpy.mean(numpy.abs(p - y))`.
///
/// # Errors
///
/// [`MetricsError::Length`], [`MetricsError::Empty`] or [`MetricsError::NonFinite`].
///
/// ```
/// use modalign_metrics::mean_absolute_error;
/// use ndarray::array;
///
/// let error = mean_absolute_error(array![1.0, -2.0].view(), array![0.5, -1.0].view())?;
/// assert_eq!(error, 0.75);
/// # Ok::<(), modalign_metrics::MetricsError>(())
/// ```
pub fn mean_absolute_error<A: Scalar>(
    predictions: ArrayView1<A>,
    labels: ArrayView1<A>,
) -> Result<A, MetricsError> {
    check_numbers(predictions, labels)?;
    let errors: Vec<A> = predictions
        .iter()
        .zip(labels)
        .map(|(&prediction, &label)| (prediction - label).abs())
        .collect();
    Ok(pairwise_sum(&errors) / A::from_f64(errors.len() as f64))
}

/// NumPy's summation order.
fn pairwise_sum<A: Scalar>(values: &[A]) -> A {
    const LANES: usize = 8;
    const BLOCK: usize = 128;
    if values.len() > BLOCK {
        let half = values.len() / 2;
        let (left, right) = values.split_at(half - half % LANES);
        return pairwise_sum(left) + pairwise_sum(right);
    }
    let (groups, rest) = values.as_chunks::<LANES>();
    let head = groups.split_first().map_or(A::zero(), |(first, groups)| {
        let mut sums = *first;
        for group in groups {
            for (sum, &value) in sums.iter_mut().zip(group) {
                *sum += value;
            }
        }
        let [a, b, c, d, e, f, g, h] = sums;
        ((a + b) + (c + d)) + ((e + f) + (g + h))
    });
    rest.iter().fold(head, |sum, &value| sum + value)
}

/// The Pearson correlation, from −1 to 1, or `None` where it is not defined: with constant
/// predictions, constant labels, or a single sample.
///
/// ```text
/// r = Σ (p_n − p̄)(y_n − ȳ) / sqrt(Σ (p_n − p̄)² · Σ (y_n − ȳ)²)
/// ```
///
/// `predictions` and `labels` are `[N]`. Computed in `f64`, as `numpy.corrcoef` does, whose result
/// in the undefined cases is NaN (or, when the mean of equal numbers is not that number after
/// rounding, a meaningless value).
///
/// # Errors
///
/// [`MetricsError::Length`], [`MetricsError::Empty`] or [`MetricsError::NonFinite`].
///
/// ```
/// use modalign_metrics::pearson_correlation;
/// use ndarray::array;
///
/// let labels = array![1.0, 2.0, 3.0];
/// let opposite = pearson_correlation(array![2.0, 0.0, -2.0].view(), labels.view())?;
/// assert_eq!(opposite, Some(-1.0));
/// let constant = pearson_correlation(array![0.1, 0.1, 0.1].view(), labels.view())?;
/// assert_eq!(constant, None);
/// # Ok::<(), modalign_metrics::MetricsError>(())
/// ```
///
/// # References
///
/// K. Pearson, "Note on regression and inheritance in the case of two parents", 1895.
pub fn pearson_correlation<A: Scalar>(
    predictions: ArrayView1<A>,
    labels: ArrayView1<A>,
) -> Result<Option<f64>, MetricsError> {
    check_numbers(predictions, labels)?;
    let (Some(p), Some(y)) = (deviations(predictions), deviations(labels)) else {
        return Ok(None);
    };
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let correlation = product(&p, &y) / (product(&p, &p) * product(&y, &y)).sqrt();
    Ok(Some(correlation.clamp(-1.0, 1.0)))
}

/// The deviations from the mean in units of the largest one (the correlation has no unit, and so
/// no square can overflow or vanish), or `None` if all values are equal.
fn deviations<A: Scalar>(values: ArrayView1<A>) -> Option<Vec<f64>> {
    if values.iter().all(|&value| value == values[0]) {
        return None;
    }
    let count = values.len() as f64;
    let mean = values
        .iter()
        .map(|&value| value.as_f64() / count)
        .sum::<f64>();
    let largest = values.iter().fold(0.0_f64, |largest, &value| {
        largest.max((value.as_f64() - mean).abs())
    });
    let scaled = |&value: &A| (value.as_f64() - mean) / largest;
    Some(values.iter().map(scaled).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Input;
    use ndarray::{Array1, array};
    use proptest::prelude::*;

    /// `numpy.sum` of the float32 numbers `(k * 37 % 101) / 7` for `k` below the length, by NumPy
    /// 2.4.6, as bits.
    const NUMPY_SUMS: [(usize, u32); 6] = [
        (0, 0x00000000),
        (7, 0x421b6db7),
        (8, 0x423c0000),
        (128, 0x4461c000),
        (200, 0x44b2bb6e),
        (4659, 0x4701f224),
    ];

    #[test]
    fn the_sum_has_the_bits_of_numpy() {
        for (length, bits) in NUMPY_SUMS {
            let values: Vec<f32> = (0..length).map(|k| (k * 37 % 101) as f32 / 7.0).collect();
            assert_eq!(pairwise_sum(&values).to_bits(), bits, "{length}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_error_is_the_naive_mean(pairs in prop::collection::vec((-3.0..3.0_f64, -3.0..3.0_f64), 1..400)) {
            let (p, y): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
            let naive = pairs.iter().map(|(p, y)| (p - y).abs()).sum::<f64>() / pairs.len() as f64;
            let found = mean_absolute_error(Array1::from(p).view(), Array1::from(y).view()).unwrap();
            prop_assert!((found - naive).abs() < 1e-12);
        }

        #[test]
        fn the_correlation_ignores_scale_and_shift(
            pairs in prop::collection::vec((-3.0..3.0_f64, -3.0..3.0_f64), 3..40),
            scale in 1e-3..1e3_f64,
            shift in -10.0..10.0_f64,
        ) {
            let (p, y): (Array1<f64>, Array1<f64>) =
                (pairs.iter().map(|pair| pair.0).collect(), pairs.iter().map(|pair| pair.1).collect());
            let correlation = |p: &Array1<f64>| pearson_correlation(p.view(), y.view()).unwrap().unwrap();
            let plain = correlation(&p);
            prop_assert!((-1.0..=1.0).contains(&plain));
            prop_assert!((correlation(&(&p * scale + shift)) - plain).abs() < 1e-9);
            prop_assert!((correlation(&(&p * -scale + shift)) + plain).abs() < 1e-9);
        }
    }

    #[test]
    fn the_correlation_of_a_worked_example() {
        // Deviations (−1.5, −0.5, 0.5, 1.5) and (−1, 1, −1, 1): 2 / sqrt(5 · 4).
        let p = array![1.0_f32, 2.0, 3.0, 4.0];
        let y = array![0.0_f32, 2.0, 0.0, 2.0];
        let found = pearson_correlation(p.view(), y.view()).unwrap().unwrap();
        assert!((found - 2.0 / 20.0_f64.sqrt()).abs() < 1e-15);
    }

    #[test]
    fn the_correlation_of_extreme_numbers_is_finite() {
        for unit in [1e-200, 1e200] {
            let p = array![1.0, 2.0, 3.0] * unit;
            let found = pearson_correlation(p.view(), array![1.0, 2.0, 3.0].view()).unwrap();
            assert!((found.unwrap() - 1.0).abs() < 1e-12, "{unit}");
        }
    }

    #[test]
    fn the_correlation_of_constants_is_undefined_although_their_mean_is_rounded() {
        let constant = Array1::from_elem(7, 0.1_f64);
        let labels: Array1<f64> = (0..7).map(f64::from).collect();
        assert_eq!(
            pearson_correlation(constant.view(), labels.view()),
            Ok(None)
        );
        assert_eq!(
            pearson_correlation(labels.view(), constant.view()),
            Ok(None)
        );
        let single = array![1.0];
        assert_eq!(pearson_correlation(single.view(), single.view()), Ok(None));
    }

    #[test]
    fn bad_input_is_named() {
        let good = array![1.0, 2.0];
        let bad = array![1.0, f64::NEG_INFINITY];
        let empty = Array1::<f64>::zeros(0);
        for metric in [
            |p: &Array1<f64>, y: &Array1<f64>| mean_absolute_error(p.view(), y.view()).map(Some),
            |p: &Array1<f64>, y: &Array1<f64>| pearson_correlation(p.view(), y.view()),
        ] {
            let expected = MetricsError::NonFinite {
                input: Input::Labels,
                index: 1,
                value: f64::NEG_INFINITY,
            };
            assert_eq!(metric(&good, &bad), Err(expected));
            assert_eq!(metric(&empty, &empty), Err(MetricsError::Empty));
            let expected = MetricsError::Length {
                predictions: 2,
                labels: 0,
            };
            assert_eq!(metric(&good, &empty), Err(expected));
        }
    }
}
