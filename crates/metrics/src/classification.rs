//! Metrics of the class that an intensity falls into.

use std::collections::BTreeMap;

use modalign_core::Scalar;
use ndarray::ArrayView1;

use crate::MetricsError;
use crate::error::check_lengths;

/// The class of an intensity on an integer scale from `−limit` to `limit`: clipped to the scale,
/// then rounded, halves to the even neighbour (as `numpy.round` does).
///
/// ```
/// use modalign_metrics::rounded_class;
///
/// assert_eq!([0.5, 1.5, -2.5, 3.7].map(|x: f32| rounded_class(x, 3)), [0, 2, -2, 3]);
/// ```
pub fn rounded_class<A: Scalar>(value: A, limit: u8) -> i32 {
    let limit = f64::from(limit);
    value.as_f64().clamp(-limit, limit).round_ties_even() as i32
}

/// The interval a value falls into: the number of `edges` below it. Intervals include their right
/// edge, `edges` ascend.
///
/// ```
/// use modalign_metrics::interval_class;
///
/// let classes = [-0.5, -0.1, 0.0, 0.1, 0.2].map(|x: f32| interval_class(x, &[-0.1, 0.1]));
/// assert_eq!(classes, [0, 0, 1, 1, 2]);
/// ```
pub fn interval_class<A: Scalar>(value: A, edges: &[A]) -> usize {
    edges.partition_point(|&edge| edge < value)
}

/// The share of samples whose class is right, from 0 to 1.
///
/// `predictions` and `labels` are `[N]`, of any type that can be compared.
///
/// # Errors
///
/// [`MetricsError::Length`] or [`MetricsError::Empty`].
///
/// ```
/// use modalign_metrics::accuracy;
/// use ndarray::array;
///
/// assert_eq!(accuracy(array![0, 1, 2, 1].view(), array![0, 1, 1, 1].view())?, 0.75);
/// # Ok::<(), modalign_metrics::MetricsError>(())
/// ```
pub fn accuracy<T: PartialEq>(
    predictions: ArrayView1<T>,
    labels: ArrayView1<T>,
) -> Result<f64, MetricsError> {
    check_lengths(predictions.len(), labels.len())?;
    let pairs = predictions.iter().zip(labels);
    let right = pairs
        .filter(|(prediction, label)| prediction == label)
        .count();
    Ok(right as f64 / labels.len() as f64)
}

/// The F1 score of each class, weighted by how many labels are of that class, from 0 to 1.
///
/// ```text
/// F1_c = 2 TP_c / (predicted_c + labelled_c),   F1 = Σ_c labelled_c F1_c / N
/// ```
///
/// `predictions` and `labels` are `[N]`, of any type that can be ordered. The same as
/// `sklearn.metrics.f1_score(labels, predictions, average="weighted")`; note that swapping the
/// arguments changes the result.
///
/// # Errors
///
/// [`MetricsError::Length`] or [`MetricsError::Empty`].
///
/// ```
/// use modalign_metrics::weighted_f1;
/// use ndarray::array;
///
/// let labels = array![true, true, true, false];
/// let predictions = array![true, true, false, false];
/// let score = weighted_f1(predictions.view(), labels.view())?;
/// assert!((score - (3.0 * 0.8 + 1.0 * 2.0 / 3.0) / 4.0).abs() < 1e-15);
/// # Ok::<(), modalign_metrics::MetricsError>(())
/// ```
///
/// # References
///
/// C. J. van Rijsbergen, "Information Retrieval", 1979.
pub fn weighted_f1<T: Ord>(
    predictions: ArrayView1<T>,
    labels: ArrayView1<T>,
) -> Result<f64, MetricsError> {
    #[derive(Default)]
    struct Counts {
        right: usize,
        predicted: usize,
        labelled: usize,
    }

    check_lengths(predictions.len(), labels.len())?;
    let mut classes = BTreeMap::<&T, Counts>::new();
    for (prediction, label) in predictions.iter().zip(labels.iter()) {
        classes.entry(prediction).or_default().predicted += 1;
        let counts = classes.entry(label).or_default();
        counts.labelled += 1;
        counts.right += usize::from(prediction == label);
    }
    let weighted = |counts: &Counts| {
        let score = 2.0 * counts.right as f64 / (counts.predicted + counts.labelled) as f64;
        counts.labelled as f64 * score
    };
    Ok(classes.values().map(weighted).sum::<f64>() / labels.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array1, array};
    use proptest::prelude::*;

    /// From the definitions of precision and recall, one class at a time.
    fn naive_f1(predictions: &[u8], labels: &[u8]) -> f64 {
        let count = |condition: &dyn Fn(u8, u8) -> bool| {
            let pairs = predictions.iter().zip(labels);
            pairs.filter(|&(&p, &y)| condition(p, y)).count() as f64
        };
        let mut total = 0.0;
        for class in 0..=u8::MAX {
            let right = count(&|p, y| p == class && y == class);
            let labelled = count(&|_, y| y == class);
            if right > 0.0 {
                let precision = right / count(&|p, _| p == class);
                let recall = right / labelled;
                total += labelled * 2.0 * precision * recall / (precision + recall);
            }
        }
        total / labels.len() as f64
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn weighted_f1_is_the_naive_one(pairs in prop::collection::vec((0..4_u8, 0..5_u8), 1..60)) {
            let (p, y): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
            let naive = naive_f1(&p, &y);
            let found = weighted_f1(Array1::from(p).view(), Array1::from(y).view()).unwrap();
            prop_assert!((found - naive).abs() < 1e-12, "{found} {naive}");
        }
    }

    #[test]
    fn an_interval_includes_its_right_edge_in_f32() {
        let edges = [-0.7_f32, -0.1, 0.1, 0.7];
        let next = |x: f32| f32::from_bits(x.to_bits() + 1);
        assert_eq!(interval_class(0.1, &edges), 2);
        assert_eq!(interval_class(next(0.1), &edges), 3);
        assert_eq!(interval_class(-0.7, &edges), 0);
        // One step towards zero.
        assert_eq!(
            interval_class(f32::from_bits((-0.7_f32).to_bits() - 1), &edges),
            1
        );
        assert_eq!(interval_class(0.5, &[]), 0);
    }

    #[test]
    fn both_zeros_are_one_class() {
        assert_eq!(rounded_class(-0.4_f32, 3), rounded_class(0.4_f32, 3));
        assert_eq!(
            interval_class(-0.0_f32, &[0.0]),
            interval_class(0.0_f32, &[0.0])
        );
    }

    #[test]
    fn lengths_are_checked() {
        let one = array![1];
        let none = Array1::<i32>::zeros(0);
        assert_eq!(accuracy(none.view(), none.view()), Err(MetricsError::Empty));
        assert_eq!(
            weighted_f1(none.view(), none.view()),
            Err(MetricsError::Empty)
        );
        let expected = MetricsError::Length {
            predictions: 0,
            labels: 1,
        };
        assert_eq!(accuracy(none.view(), one.view()), Err(expected.clone()));
        assert_eq!(weighted_f1(none.view(), one.view()), Err(expected));
    }
}
