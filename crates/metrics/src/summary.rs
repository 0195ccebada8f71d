//! Mean and spread over seeds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Metric, MetricsError, Report};

/// The value of one metric under several seeds.
///
/// ```text
/// mean = 1/S Σ v_s,   std = sqrt(1/S Σ (v_s − mean)²)
/// ```
///
/// The standard deviation is that of the population (divisor S), as published tables of this field
/// have it. Both are `None` (JSON `null`) if any of the values is, or if there is none.
///
/// ```
/// use modalign_metrics::Summary;
///
/// let summary = Summary::of(vec![Some(0.5), Some(1.5)]);
/// assert_eq!((summary.mean, summary.std), (Some(1.0), Some(0.5)));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// The mean.
    pub mean: Option<f64>,
    /// The population standard deviation.
    pub std: Option<f64>,
    /// The values, in the order in which they were given.
    pub per_seed: Vec<Option<f64>>,
}

impl Summary {
    /// The summary of some values.
    pub fn of(per_seed: Vec<Option<f64>>) -> Self {
        let values: Option<Vec<f64>> = per_seed.iter().copied().collect();
        let moments = values.filter(|values| !values.is_empty()).map(|values| {
            let average = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
            let mean = average(&values);
            let squares: Vec<f64> = values.iter().map(|value| (value - mean).powi(2)).collect();
            (mean, average(&squares).sqrt())
        });
        Self {
            mean: moments.map(|(mean, _)| mean),
            std: moments.map(|(_, std)| std),
            per_seed,
        }
    }
}

/// Summarises, metric by metric, the reports of several runs that differ in their seed.
///
/// The values are not rounded before they are averaged. MMSA averages what it has rounded to 4
/// decimals: for its numbers, pass [`Report::rounded`] reports.
///
/// # Errors
///
/// [`MetricsError::NoReports`], or [`MetricsError::MetricsDiffer`] if the reports do not have the
/// same metrics.
///
/// ```
/// use modalign_metrics::{Convention, Metric, evaluate, summarise};
/// use ndarray::array;
///
/// let labels = array![-1.0, 2.0];
/// let seeds = [array![-0.5, 1.0], array![-0.5, 2.0]];
/// let reports = seeds
///     .iter()
///     .map(|predictions| evaluate(Convention::Mosi, predictions.view(), labels.view()))
///     .collect::<Result<Vec<_>, _>>()?;
/// let summary = summarise(&reports)?;
/// assert_eq!(summary[&Metric::Mae].mean, Some(0.5));
/// assert_eq!(summary[&Metric::Mae].per_seed, [Some(0.75), Some(0.25)]);
/// # Ok::<(), modalign_metrics::MetricsError>(())
/// ```
pub fn summarise(reports: &[Report]) -> Result<BTreeMap<Metric, Summary>, MetricsError> {
    let first = reports.first().ok_or(MetricsError::NoReports)?;
    let metrics = |report: &Report| report.iter().map(|(metric, _)| metric).collect::<Vec<_>>();
    let expected = metrics(first);
    if let Some(report) = reports
        .iter()
        .position(|report| metrics(report) != expected)
    {
        return Err(MetricsError::MetricsDiffer { report });
    }
    let summary = |metric| {
        let per_seed = reports.iter().map(|report| report.get(metric)).collect();
        (metric, Summary::of(per_seed))
    };
    Ok(expected.into_iter().map(summary).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Convention, evaluate};
    use ndarray::array;

    fn report(convention: Convention, predictions: [f32; 2]) -> Report {
        evaluate(convention, predictions[..].into(), array![0.0, 1.0].view()).unwrap()
    }

    #[test]
    fn the_summary_has_its_place_in_json() {
        let reports =
            [[0.0, 1.0], [0.5, 1.0]].map(|predictions| report(Convention::Sims, predictions));
        let summary = summarise(&reports).unwrap();
        let json = serde_json::to_value(&summary).unwrap();
        let expected = serde_json::json!({"mean": 0.125, "std": 0.125, "per_seed": [0.0, 0.25]});
        assert_eq!(json["MAE"], expected);
        let read: BTreeMap<Metric, Summary> = serde_json::from_value(json).unwrap();
        assert_eq!(read, summary);
    }

    #[test]
    fn an_undefined_value_leaves_the_mean_undefined() {
        let reports =
            [[0.0, 1.0], [0.5, 0.5]].map(|predictions| report(Convention::Sims, predictions));
        let summary = summarise(&reports).unwrap();
        let correlation = &summary[&Metric::Corr];
        assert_eq!(correlation.per_seed, [Some(1.0), None]);
        assert_eq!((correlation.mean, correlation.std), (None, None));
        assert_eq!(Summary::of(Vec::new()).mean, None);
    }

    #[test]
    fn a_single_seed_has_no_spread() {
        let summary = Summary::of(vec![Some(0.1)]);
        assert_eq!((summary.mean, summary.std), (Some(0.1), Some(0.0)));
    }

    #[test]
    fn reports_of_different_metrics_are_refused() {
        let sims = report(Convention::Sims, [0.0, 1.0]);
        let mosi = report(Convention::Mosi, [0.0, 1.0]);
        let found = summarise(&[sims.clone(), sims, mosi]);
        assert_eq!(found, Err(MetricsError::MetricsDiffer { report: 2 }));
        assert_eq!(summarise(&[]), Err(MetricsError::NoReports));
    }
}
