//! A finished experiment, summarised for tables, files and the report.

use std::collections::BTreeMap;

use modalign::metrics::{Convention, Metric, MetricsError, Report, Summary, evaluate, summarise};
use modalign::train::{Experiment, ExperimentConfig, RunResult};
use ndarray::{Array1, ArrayView1};

/// How the tested models were chosen.
pub const SELECTION: &str = "chosen by validation MAE; the test split was read once";

/// What the baseline is.
pub const BASELINE: &str = "best constant: the most that any constant prediction could reach on \
                            these rows, metric by metric (the median for MAE, the majority class \
                            for accuracies)";

/// An experiment with its summaries.
#[derive(Debug)]
pub struct Outcome<'a> {
    pub config: &'a ExperimentConfig,
    /// Name of the data.
    pub data: &'a str,
    pub experiment: &'a Experiment,
    pub valid: BTreeMap<Metric, Summary>,
    pub test: BTreeMap<Metric, Summary>,
    /// The most that constant predictions could reach on the test rows.
    pub baseline: BTreeMap<Metric, Summary>,
}

impl<'a> Outcome<'a> {
    pub fn new(
        config: &'a ExperimentConfig,
        data: &'a str,
        experiment: &'a Experiment,
    ) -> Result<Self, MetricsError> {
        let reports = |part: fn(&RunResult) -> &Report| -> Vec<Report> {
            experiment
                .runs
                .iter()
                .map(|run| part(run).clone())
                .collect()
        };
        let valid = summarise(&reports(|run| &run.valid))?;
        let test = summarise(&reports(|run| &run.test))?;
        let baseline = baseline(config, &experiment.runs)?;
        Ok(Self {
            config,
            data,
            experiment,
            valid,
            test,
            baseline,
        })
    }

    pub fn convention(&self) -> Convention {
        self.config.data.convention
    }

    /// The metrics of the convention, in the order of tables.
    pub fn metrics(&self) -> &'static [Metric] {
        self.convention().metrics()
    }

    pub fn best_run(&self) -> &RunResult {
        &self.experiment.runs[self.experiment.best_run()]
    }

    /// What the deviations are over.
    pub fn spread(&self) -> String {
        let seeds: Vec<_> = self.config.seeds.iter().map(u64::to_string).collect();
        let seeds = match &seeds[..] {
            [one] => format!("seed {one}"),
            many => format!("{} seeds ({})", many.len(), many.join(", ")),
        };
        let folds = self.experiment.runs.iter().filter_map(|run| run.fold).max();
        match (folds, self.experiment.runs.len()) {
            (Some(last), _) => {
                format!(
                    "mean ± population standard deviation over {} folds, {seeds}",
                    last + 1
                )
            }
            (None, 1) => format!("one run, {seeds}"),
            (None, _) => format!("mean ± population standard deviation over {seeds}"),
        }
    }
}

/// The best constant predictions for each distinct set of test rows.
fn baseline(
    config: &ExperimentConfig,
    runs: &[RunResult],
) -> Result<BTreeMap<Metric, Summary>, MetricsError> {
    let convention = config.data.convention;
    let mut folds = Vec::new();
    let mut reports = Vec::new();
    for run in runs {
        if folds.contains(&run.fold) {
            continue;
        }
        folds.push(run.fold);
        let labels: Array1<f32> = run
            .test_predictions
            .iter()
            .map(|prediction| prediction.label - config.data.neutral_label)
            .collect();
        reports.push(best_constants(convention, labels.view())?);
    }
    Ok(convention
        .metrics()
        .iter()
        .map(|&metric| {
            let values = reports.iter().map(|report| report.get(&metric).copied());
            (metric, Summary::of(values.collect()))
        })
        .collect())
}

/// How many quantiles of the labels are tried as constant predictions, apart from the lowest: the
/// middle one is the median, and a class with a hundredth of the rows has one.
const QUANTILES: usize = 100;

/// For each metric that a constant prediction has at all, the best value of any.
pub fn best_constants(
    convention: Convention,
    labels: ArrayView1<f32>,
) -> Result<BTreeMap<Metric, f64>, MetricsError> {
    let mut sorted = labels.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    let last = sorted.len().saturating_sub(1);
    let mut candidates: Vec<f32> = (0..=QUANTILES)
        .filter_map(|q| sorted.get(q * last / QUANTILES).copied())
        .collect();
    candidates.dedup();

    let mut best: BTreeMap<Metric, f64> = BTreeMap::new();
    for candidate in candidates {
        let constant = Array1::from_elem(labels.len(), candidate);
        for (metric, value) in evaluate(convention, constant.view(), labels)?.iter() {
            let Some(value) = value else { continue };
            let entry = best.entry(metric).or_insert(value);
            *entry = if metric.higher_is_better() {
                entry.max(value)
            } else {
                entry.min(value)
            };
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn the_best_constant_is_the_median_or_the_majority() {
        let labels = array![-2.0, -1.0, -1.0, 0.0, 0.6, 1.0, 3.0];
        let best = best_constants(Convention::Mosi, labels.view()).unwrap();
        // The median is 0.
        assert!((best[&Metric::Mae] - 8.6 / 7.0).abs() < 1e-6);
        // Four of seven are not negative; of those that are not 0, three are positive.
        assert_eq!(best[&Metric::Has0Acc2], 4.0 / 7.0);
        assert_eq!(best[&Metric::Non0Acc2], 0.5);
        // Rounded, 0.6 is 1 as 1.0 is, and -1 comes twice too.
        assert_eq!(best[&Metric::MultAcc7], 2.0 / 7.0);
        assert!(!best.contains_key(&Metric::Corr));
    }
}
