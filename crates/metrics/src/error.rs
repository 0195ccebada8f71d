//! What can be wrong with the numbers to be judged.

use std::fmt::{self, Display};

use modalign_core::Scalar;
use ndarray::ArrayView1;
use thiserror::Error;

/// Which of the two inputs of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// What the model said.
    Predictions,
    /// What the annotators said.
    Labels,
}

impl Display for Input {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Predictions => "predictions",
            Self::Labels => "labels",
        })
    }
}

/// Why a metric could not be computed.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// There is no sample.
    #[error("no samples to evaluate")]
    Empty,
    /// Predictions and labels do not pair up.
    #[error("{predictions} predictions for {labels} labels")]
    Length {
        /// The number of predictions.
        predictions: usize,
        /// The number of labels.
        labels: usize,
    },
    /// A value is infinite or not a number.
    #[error("{input}[{index}] is {value}")]
    NonFinite {
        /// The input it is in.
        input: Input,
        /// Its position, counted from 0.
        index: usize,
        /// The value.
        value: f64,
    },
    /// No metric has this name.
    #[error(
        "no metric is named {name:?}; the names are {}",
        crate::metric::names()
    )]
    UnknownMetric {
        /// The name asked for.
        name: String,
    },
    /// There is no report to summarise.
    #[error("no reports to summarise")]
    NoReports,
    /// A report has other metrics than the first.
    #[error("report {report} has other metrics than report 0")]
    MetricsDiffer {
        /// Its position among the reports, counted from 0.
        report: usize,
    },
}

/// That both inputs have one length and at least one sample.
pub(crate) fn check_lengths(predictions: usize, labels: usize) -> Result<(), MetricsError> {
    if predictions != labels {
        return Err(MetricsError::Length {
            predictions,
            labels,
        });
    }
    if labels == 0 {
        return Err(MetricsError::Empty);
    }
    Ok(())
}

/// That both inputs have one length, at least one sample and finite values only.
pub(crate) fn check_numbers<A: Scalar>(
    predictions: ArrayView1<A>,
    labels: ArrayView1<A>,
) -> Result<(), MetricsError> {
    check_lengths(predictions.len(), labels.len())?;
    for (input, values) in [(Input::Predictions, predictions), (Input::Labels, labels)] {
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(MetricsError::NonFinite {
                input,
                index,
                value: values[index].as_f64(),
            });
        }
    }
    Ok(())
}
