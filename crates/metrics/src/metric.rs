//! The metrics, and which of them a data set is judged by.

use std::fmt::{self, Display};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::MetricsError;

/// The data set whose conventions apply. MOSI and MOSEI share theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Convention {
    /// CMU-MOSI: intensities from −3 to 3.
    Mosi,
    /// CMU-MOSEI: intensities from −3 to 3.
    Mosei,
    /// CH-SIMS: intensities from −1 to 1.
    Sims,
}

impl Convention {
    /// The metrics of this convention, in the order in which MMSA prints them.
    pub fn metrics(self) -> &'static [Metric] {
        match self {
            Self::Mosi | Self::Mosei => &[
                Metric::Has0Acc2,
                Metric::Has0F1Score,
                Metric::Non0Acc2,
                Metric::Non0F1Score,
                Metric::MultAcc5,
                Metric::MultAcc7,
                Metric::Mae,
                Metric::Corr,
            ],
            Self::Sims => &[
                Metric::MultAcc2,
                Metric::MultAcc3,
                Metric::MultAcc5,
                Metric::F1Score,
                Metric::Mae,
                Metric::Corr,
            ],
        }
    }
}

/// A metric, under the name that MMSA gives it. The order is that in which MMSA prints them.
///
/// Accuracies and F1 scores go from 0 to 1, the correlation from −1 to 1; the error has the unit of
/// the labels. [`Metric::description`] says what each one means.
///
/// ```
/// use modalign_metrics::Metric;
///
/// assert_eq!(Metric::Mae.name(), "MAE");
/// assert_eq!("Non0_acc_2".parse(), Ok(Metric::Non0Acc2));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum Metric {
    /// `Has0_acc_2`: two classes, negative and non-negative, all samples.
    Has0Acc2,
    /// `Has0_F1_score`: weighted F1 of these classes.
    Has0F1Score,
    /// `Non0_acc_2`: two classes, negative and positive, without the samples labelled 0.
    Non0Acc2,
    /// `Non0_F1_score`: weighted F1 of these classes.
    Non0F1Score,
    /// `Mult_acc_2`: two classes, non-positive and positive.
    MultAcc2,
    /// `Mult_acc_3`: three classes.
    MultAcc3,
    /// `Mult_acc_5`: five classes, which differ between the conventions.
    MultAcc5,
    /// `Mult_acc_7`: seven classes.
    MultAcc7,
    /// `F1_score`: weighted F1 of the two classes of `Mult_acc_2`.
    F1Score,
    /// `MAE`: the mean absolute error.
    Mae,
    /// `Corr`: the Pearson correlation.
    Corr,
}

impl Metric {
    /// Every metric of any convention, in order.
    pub const ALL: [Self; 11] = [
        Self::Has0Acc2,
        Self::Has0F1Score,
        Self::Non0Acc2,
        Self::Non0F1Score,
        Self::MultAcc2,
        Self::MultAcc3,
        Self::MultAcc5,
        Self::MultAcc7,
        Self::F1Score,
        Self::Mae,
        Self::Corr,
    ];

    /// MMSA's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Has0Acc2 => "Has0_acc_2",
            Self::Has0F1Score => "Has0_F1_score",
            Self::Non0Acc2 => "Non0_acc_2",
            Self::Non0F1Score => "Non0_F1_score",
            Self::MultAcc2 => "Mult_acc_2",
            Self::MultAcc3 => "Mult_acc_3",
            Self::MultAcc5 => "Mult_acc_5",
            Self::MultAcc7 => "Mult_acc_7",
            Self::F1Score => "F1_score",
            Self::Mae => "MAE",
            Self::Corr => "Corr",
        }
    }

    /// Whether a larger value is better: true for all but the error.
    pub fn higher_is_better(self) -> bool {
        self != Self::Mae
    }

    /// What the metric means under a convention, in words for the foot of a table, or `None` if the
    /// convention does not have it.
    ///
    /// ```
    /// use modalign_metrics::{Convention, Metric};
    ///
    /// let zero = Metric::MultAcc2.description(Convention::Sims).unwrap();
    /// assert!(zero.contains("zero counts as negative"));
    /// assert_eq!(Metric::MultAcc2.description(Convention::Mosi), None);
    /// ```
    pub fn description(self, convention: Convention) -> Option<&'static str> {
        use Convention::{Mosei, Mosi, Sims};
        Some(match (self, convention) {
            (Self::Has0Acc2, Mosi | Mosei) => {
                "accuracy on two classes, negative (below 0) and non-negative (0 and above), over \
                 all samples: zero counts as positive, in the prediction and in the label"
            }
            (Self::Has0F1Score, Mosi | Mosei) => {
                "F1 on the two classes of Has0_acc_2, weighted by the class counts of the labels"
            }
            (Self::Non0Acc2, Mosi | Mosei) => {
                "accuracy on two classes, positive (above 0) and not, over the samples whose label \
                 is not exactly 0: a predicted zero counts as negative"
            }
            (Self::Non0F1Score, Mosi | Mosei) => {
                "F1 on the two classes of Non0_acc_2, weighted by the class counts of the labels"
            }
            (Self::MultAcc5, Mosi | Mosei) => {
                "accuracy on five classes: prediction and label clipped to [-2, 2] and rounded to \
                 the nearest integer, halves to the even one"
            }
            (Self::MultAcc7, Mosi | Mosei) => {
                "accuracy on seven classes: prediction and label clipped to [-3, 3] and rounded to \
                 the nearest integer, halves to the even one"
            }
            (Self::Mae, Mosi | Mosei) => {
                "mean absolute error of the unclipped prediction, in units of the label"
            }
            (Self::Corr, Mosi | Mosei) => {
                "Pearson correlation of the unclipped prediction with the label"
            }
            (Self::MultAcc2, Sims) => {
                "accuracy on two classes, up to 0 and above 0: zero counts as negative, in the \
                 prediction and in the label"
            }
            (Self::MultAcc3, Sims) => "accuracy on three classes: up to -0.1, up to 0.1, above 0.1",
            (Self::MultAcc5, Sims) => {
                "accuracy on five classes: up to -0.7, up to -0.1, up to 0.1, up to 0.7, above 0.7"
            }
            (Self::F1Score, Sims) => {
                "F1 on the two classes of Mult_acc_2, weighted by the class counts of the labels"
            }
            (Self::Mae, Sims) => {
                "mean absolute error after prediction and label are clipped to [-1, 1]"
            }
            (Self::Corr, Sims) => {
                "Pearson correlation after prediction and label are clipped to [-1, 1]"
            }
            _ => return None,
        })
    }
}

impl Display for Metric {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl From<Metric> for &'static str {
    fn from(metric: Metric) -> Self {
        metric.name()
    }
}

impl FromStr for Metric {
    type Err = MetricsError;

    /// Finds a metric by MMSA's name.
    fn from_str(name: &str) -> Result<Self, MetricsError> {
        let found = Self::ALL.into_iter().find(|metric| metric.name() == name);
        found.ok_or_else(|| MetricsError::UnknownMetric {
            name: name.to_owned(),
        })
    }
}

impl TryFrom<String> for Metric {
    type Error = MetricsError;

    fn try_from(name: String) -> Result<Self, MetricsError> {
        name.parse()
    }
}

/// All names, for the error about one that is not among them.
pub(crate) fn names() -> String {
    Metric::ALL.map(Metric::name).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONVENTIONS: [Convention; 3] = [Convention::Mosi, Convention::Mosei, Convention::Sims];

    #[test]
    fn names_are_unique_and_found_again() {
        assert!(Metric::ALL.is_sorted_by(|a, b| a < b));
        for metric in Metric::ALL {
            assert_eq!(metric.name().parse(), Ok(metric));
            let json = serde_json::to_string(&metric).unwrap();
            assert_eq!(json, format!("{:?}", metric.name()));
            assert_eq!(serde_json::from_str::<Metric>(&json).unwrap(), metric);
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let error = "mae".parse::<Metric>().unwrap_err().to_string();
        assert!(
            error.contains("\"mae\"") && error.contains("MAE"),
            "{error}"
        );
        assert!(serde_json::from_str::<Metric>("\"mae\"").is_err());
    }

    #[test]
    fn a_convention_describes_its_own_metrics_and_no_other() {
        for convention in CONVENTIONS {
            assert!(convention.metrics().is_sorted());
            for metric in Metric::ALL {
                let described = metric.description(convention).is_some();
                assert_eq!(
                    described,
                    convention.metrics().contains(&metric),
                    "{metric}"
                );
            }
        }
    }

    #[test]
    fn conventions_are_written_in_lower_case() {
        let json = serde_json::to_string(&CONVENTIONS).unwrap();
        assert_eq!(json, r#"["mosi","mosei","sims"]"#);
        assert_eq!(
            serde_json::from_str::<[Convention; 3]>(&json).unwrap(),
            CONVENTIONS
        );
    }
}
