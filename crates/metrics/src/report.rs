//! All metrics of one convention for one set of predictions.

use std::collections::BTreeMap;

use ndarray::{Array1, ArrayView1};
use serde::{Deserialize, Serialize};

use crate::error::check_numbers;
use crate::{
    Convention, Metric, MetricsError, accuracy, interval_class, mean_absolute_error,
    pearson_correlation, rounded_class, weighted_f1,
};

/// The values of some metrics, in MMSA's order, unrounded.
///
/// A value is `None` (JSON `null`) where the metric is not defined for these samples: the
/// correlation of constant predictions or labels, the `Non0` metrics when every label is 0, and an
/// error beyond the range of `f32`.
/// Read it with [`Report::get`] or by [`Report::iter`]; it is stored as one map from name to number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Report(BTreeMap<Metric, Option<f64>>);

impl Report {
    /// The value of a metric, or `None` if it is not defined for these samples or not part of the
    /// convention.
    pub fn get(&self, metric: Metric) -> Option<f64> {
        self.0.get(&metric).copied().flatten()
    }

    /// Every metric of the convention with its value, in MMSA's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Metric, Option<f64>)> {
        self.0.iter().map(|(&metric, &value)| (metric, value))
    }

    /// The values as MMSA prints them: 4 decimals, rounded as NumPy rounds, that is to the even
    /// digit where `10⁴ · value` is exactly half-way.
    pub fn rounded(&self) -> Self {
        let round = |value: f64| (value * 1e4).round_ties_even() / 1e4;
        let rounded = self
            .iter()
            .map(|(metric, value)| (metric, value.map(round)));
        Self(rounded.collect())
    }
}

/// Judges predicted intensities by the metrics of a data set, as the Python library MMSA does.
///
/// `predictions` and `labels` are `[N]`, in the unit of the labels, unclipped. They are compared in
/// `f32`, as there: a prediction of `0.1_f32` is not above the edge 0.1.
/// [`Metric::description`] says what is computed.
///
/// # Errors
///
/// [`MetricsError::Length`], [`MetricsError::Empty`] or [`MetricsError::NonFinite`].
///
/// ```
/// use modalign_metrics::{Convention, Metric, evaluate};
/// use ndarray::array;
///
/// let labels = array![-2.0, 0.0, 0.6, 3.0];
/// let predictions = array![-1.4, 0.2, -0.2, 3.4];
/// let report = evaluate(Convention::Mosi, predictions.view(), labels.view())?;
/// assert_eq!(report.get(Metric::Has0Acc2), Some(0.75));
/// assert_eq!(report.get(Metric::Non0Acc2), Some(2.0 / 3.0));
/// assert_eq!(report.get(Metric::MultAcc7), Some(0.5));
/// assert_eq!(report.rounded().get(Metric::Non0Acc2), Some(0.6667));
/// # Ok::<(), modalign_metrics::MetricsError>(())
/// ```
///
/// # References
///
/// H. Mao, Z. Yuan, H. Xu, W. Yu, Y. Liu, K. Gao, "M-SENA: An Integrated Platform for Multimodal
/// Sentiment Analysis", 2022 (MMSA is its library).
pub fn evaluate(
    convention: Convention,
    predictions: ArrayView1<f32>,
    labels: ArrayView1<f32>,
) -> Result<Report, MetricsError> {
    check_numbers(predictions, labels)?;
    match convention {
        Convention::Mosi | Convention::Mosei => seven_point(predictions, labels),
        Convention::Sims => five_bins(predictions, labels),
    }
}

/// MOSI and MOSEI.
fn seven_point(
    predictions: ArrayView1<f32>,
    labels: ArrayView1<f32>,
) -> Result<Report, MetricsError> {
    let accuracy_by = |class: &dyn Fn(f32) -> i32| {
        accuracy(
            predictions.map(|&x| class(x)).view(),
            labels.map(|&x| class(x)).view(),
        )
    };
    let (has0_predictions, has0_labels) =
        (predictions.map(|&x| x >= 0.0), labels.map(|&x| x >= 0.0));
    let (non0_predictions, non0_labels): (Vec<bool>, Vec<bool>) = predictions
        .iter()
        .zip(labels)
        .filter(|&(_, &label)| label != 0.0)
        .map(|(&prediction, &label)| (prediction > 0.0, label > 0.0))
        .unzip();
    let on_non0 =
        |score: fn(ArrayView1<bool>, ArrayView1<bool>) -> Result<f64, MetricsError>| match score(
            ArrayView1::from(&non0_predictions),
            ArrayView1::from(&non0_labels),
        ) {
            Err(MetricsError::Empty) => Ok(None),
            result => result.map(Some),
        };
    Ok(Report(BTreeMap::from([
        (
            Metric::Has0Acc2,
            Some(accuracy(has0_predictions.view(), has0_labels.view())?),
        ),
        (
            Metric::Has0F1Score,
            Some(weighted_f1(has0_predictions.view(), has0_labels.view())?),
        ),
        (Metric::Non0Acc2, on_non0(accuracy)?),
        (Metric::Non0F1Score, on_non0(weighted_f1)?),
        (
            Metric::MultAcc5,
            Some(accuracy_by(&|x| rounded_class(x, 2))?),
        ),
        (
            Metric::MultAcc7,
            Some(accuracy_by(&|x| rounded_class(x, 3))?),
        ),
        (
            Metric::Mae,
            Some(mean_absolute_error(predictions, labels)?.into())
                .filter(|error: &f64| error.is_finite()),
        ),
        (Metric::Corr, pearson_correlation(predictions, labels)?),
    ])))
}

/// SIMS.
fn five_bins(
    predictions: ArrayView1<f32>,
    labels: ArrayView1<f32>,
) -> Result<Report, MetricsError> {
    let clip = |values: ArrayView1<f32>| values.map(|x| x.clamp(-1.0, 1.0));
    let (predictions, labels) = (clip(predictions), clip(labels));
    let classes = |edges: &[f32]| -> [Array1<usize>; 2] {
        [&predictions, &labels].map(|values| values.map(|&x| interval_class(x, edges)))
    };
    let [two_predicted, two_labelled] = classes(&[0.0]);
    let [three_predicted, three_labelled] = classes(&[-0.1, 0.1]);
    let [five_predicted, five_labelled] = classes(&[-0.7, -0.1, 0.1, 0.7]);
    Ok(Report(BTreeMap::from([
        (
            Metric::MultAcc2,
            Some(accuracy(two_predicted.view(), two_labelled.view())?),
        ),
        (
            Metric::MultAcc3,
            Some(accuracy(three_predicted.view(), three_labelled.view())?),
        ),
        (
            Metric::MultAcc5,
            Some(accuracy(five_predicted.view(), five_labelled.view())?),
        ),
        (
            Metric::F1Score,
            Some(weighted_f1(two_predicted.view(), two_labelled.view())?),
        ),
        (
            Metric::Mae,
            Some(mean_absolute_error(predictions.view(), labels.view())?.into()),
        ),
        (
            Metric::Corr,
            pearson_correlation(predictions.view(), labels.view())?,
        ),
    ])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Input;
    use ndarray::array;

    fn report(convention: Convention, predictions: &[f32], labels: &[f32]) -> Report {
        evaluate(convention, predictions.into(), labels.into()).unwrap()
    }

    #[test]
    fn each_convention_reports_its_metrics_in_order() {
        for convention in [Convention::Mosi, Convention::Mosei, Convention::Sims] {
            let found = report(convention, &[0.1, 0.5], &[0.2, -0.5]);
            let metrics: Vec<_> = found.iter().map(|(metric, _)| metric).collect();
            assert_eq!(metrics, convention.metrics());
        }
    }

    #[test]
    fn zeros_follow_the_convention() {
        let mosi = report(Convention::Mosi, &[0.0, 0.0, -0.0], &[0.0, 1.0, -1.0]);
        assert_eq!(mosi.get(Metric::Has0Acc2), Some(2.0 / 3.0));
        // The first is dropped; a predicted zero is not positive.
        assert_eq!(mosi.get(Metric::Non0Acc2), Some(0.5));

        let sims = report(Convention::Sims, &[0.0, 0.0, -0.0], &[0.0, 1.0, -1.0]);
        assert_eq!(sims.get(Metric::MultAcc2), Some(2.0 / 3.0));
        assert_eq!(sims.get(Metric::MultAcc3), Some(1.0 / 3.0));
    }

    #[test]
    fn halves_round_to_the_even_class() {
        let halves = report(Convention::Mosei, &[0.5, 1.5, 2.5], &[0.0, 2.0, 2.0]);
        assert_eq!(halves.get(Metric::MultAcc7), Some(1.0));
        assert_eq!(halves.get(Metric::MultAcc5), Some(1.0));
    }

    #[test]
    fn only_sims_clips_before_the_error() {
        let predictions = [2.0, -0.5, 0.25];
        let labels = [1.0, -0.5, 0.25];
        let sims = report(Convention::Sims, &predictions, &labels);
        assert_eq!(sims.get(Metric::Mae), Some(0.0));
        assert_eq!(sims.get(Metric::Corr), Some(1.0));
        let mosi = report(Convention::Mosi, &predictions, &labels);
        assert_eq!(mosi.get(Metric::Mae), Some(f64::from(1.0_f32 / 3.0)));
    }

    #[test]
    fn bins_are_compared_in_f32() {
        // Widened to f64, 0.1_f32 and -0.7_f32 lie above the edges 0.1 and -0.7.
        let edges = [-0.7, -0.1, 0.1, 0.7];
        let inside = [-0.9, -0.5, 0.0, 0.5];
        let sims = report(Convention::Sims, &edges, &inside);
        assert_eq!(sims.get(Metric::MultAcc5), Some(1.0));
        assert_eq!(sims.get(Metric::MultAcc3), Some(1.0));
    }

    #[test]
    fn what_is_undefined_is_null() {
        let constant = report(Convention::Mosi, &[0.5, 0.5], &[0.0, 0.0]);
        assert_eq!(constant.get(Metric::Corr), None);
        assert_eq!(constant.get(Metric::Non0Acc2), None);
        assert_eq!(constant.get(Metric::Non0F1Score), None);
        assert_eq!(constant.get(Metric::Mae), Some(0.5));
        let diverged = report(Convention::Mosi, &[f32::MAX, f32::MIN], &[0.0, 0.0]);
        assert_eq!(diverged.get(Metric::Mae), None);
        let json = serde_json::to_string(&constant.rounded()).unwrap();
        assert_eq!(
            json,
            r#"{"Has0_acc_2":1.0,"Has0_F1_score":1.0,"Non0_acc_2":null,"Non0_F1_score":null,"#
                .to_owned()
                + r#""Mult_acc_5":1.0,"Mult_acc_7":1.0,"MAE":0.5,"Corr":null}"#
        );
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), constant);
    }

    #[test]
    fn a_report_is_read_back_bit_for_bit() {
        let found = report(Convention::Sims, &[0.3, -0.2, 0.7], &[0.1, -0.9, 0.2]);
        let json = serde_json::to_string(&found).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), found);
        assert!(serde_json::from_str::<Report>(r#"{"Mae":1.0}"#).is_err());
    }

    #[test]
    fn halves_are_rounded_to_the_even_digit() {
        let values = [0.03125, 0.09375, -0.03125, 0.12346];
        let metrics = [
            Metric::Has0Acc2,
            Metric::Non0Acc2,
            Metric::Mae,
            Metric::Corr,
        ];
        let unrounded = Report(metrics.into_iter().zip(values.map(Some)).collect());
        let rounded: Vec<_> = unrounded.rounded().iter().map(|(_, value)| value).collect();
        assert_eq!(rounded, [0.0312, 0.0938, -0.0312, 0.1235].map(Some));
    }

    #[test]
    fn bad_input_is_named() {
        let good = array![1.0, 2.0];
        let bad = array![1.0, f32::INFINITY];
        let found = evaluate(Convention::Sims, bad.view(), good.view());
        let expected = MetricsError::NonFinite {
            input: Input::Predictions,
            index: 1,
            value: f64::INFINITY,
        };
        assert_eq!(found.as_ref(), Err(&expected));
        assert_eq!(expected.to_string(), "predictions[1] is inf");
        let nan = array![f32::NAN, 0.0];
        let error = evaluate(Convention::Mosi, good.view(), nan.view()).unwrap_err();
        assert_eq!(error.to_string(), "labels[0] is NaN");
    }
}
