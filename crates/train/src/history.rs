//! What happened in each epoch.

use std::fmt;

use modalign_encoders::Modality;
use modalign_labels::UpdateReport;
use modalign_metrics::Report;
use serde::{Deserialize, Serialize};

/// The terms of the loss of a batch, or their means over an epoch.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LossTerms {
    /// The sum that is minimised.
    pub total: f64,
    /// Mean absolute error of the fused prediction.
    pub multimodal: f64,
    /// The unimodal tasks, each as it enters the total.
    pub unimodal: Vec<(Modality, f64)>,
    /// The shared-information loss as it enters the total.
    pub shared_information: f64,
    /// The distance of each pair of modalities, before any weight.
    pub pairs: Vec<(Modality, Modality, f64)>,
}

/// What a number of [`LossTerms`] is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Term {
    Fused,
    Unimodal(Modality),
    Distance(Modality, Modality),
    SharedInformation,
    Total,
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fused => f.write_str("fused loss"),
            Self::Unimodal(modality) => write!(f, "{modality} loss"),
            Self::Distance(left, right) => write!(f, "{left}-{right} distance"),
            Self::SharedInformation => f.write_str("shared-information loss"),
            Self::Total => f.write_str("total loss"),
        }
    }
}

impl LossTerms {
    /// Each term with its name, the total last, so that the first that is not finite is the cause.
    pub(crate) fn named(&self) -> impl Iterator<Item = (Term, f64)> {
        let unimodal = self.unimodal.iter();
        let pairs = self.pairs.iter();
        std::iter::once((Term::Fused, self.multimodal))
            .chain(unimodal.map(|&(modality, value)| (Term::Unimodal(modality), value)))
            .chain(pairs.map(|&(left, right, value)| (Term::Distance(left, right), value)))
            .chain([
                (Term::SharedInformation, self.shared_information),
                (Term::Total, self.total),
            ])
    }

    /// Becomes an empty set in the memory it has.
    pub(crate) fn clear(&mut self) {
        let Self {
            total,
            multimodal,
            unimodal,
            shared_information,
            pairs,
        } = self;
        (*total, *multimodal, *shared_information) = (0.0, 0.0, 0.0);
        unimodal.clear();
        pairs.clear();
    }

    /// Adds another batch's terms, each times `weight`. An empty set takes the other's structure.
    pub(crate) fn accumulate(&mut self, other: &Self, weight: f64) {
        if self.unimodal.is_empty() {
            let zeros = other.unimodal.iter().map(|&(modality, _)| (modality, 0.0));
            self.unimodal.extend(zeros);
        }
        if self.pairs.is_empty() {
            let zeros = other.pairs.iter();
            self.pairs
                .extend(zeros.map(|&(left, right, _)| (left, right, 0.0)));
        }
        self.total += weight * other.total;
        self.multimodal += weight * other.multimodal;
        self.shared_information += weight * other.shared_information;
        for (sum, term) in self.unimodal.iter_mut().zip(&other.unimodal) {
            sum.1 += weight * term.1;
        }
        for (sum, term) in self.pairs.iter_mut().zip(&other.pairs) {
            sum.2 += weight * term.2;
        }
    }
}

/// One epoch of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Counted from 1.
    pub epoch: usize,
    /// Means over the rows of the epoch's batches.
    pub train: LossTerms,
    /// Mean norm of the gradient of a step, before clipping.
    pub gradient_norm: f64,
    /// What early stopping looks at: the mean absolute error on the validation split.
    pub valid_loss: f64,
    /// Every metric on the validation split.
    pub valid: Report,
    /// Whether this epoch has the lowest validation loss so far.
    pub is_best: bool,
    /// How far the generated labels have moved, one entry a modality.
    pub labels: Vec<LabelMovement>,
    /// What the label generator did in this epoch.
    pub label_updates: UpdateReport,
}

/// How far the generated labels of one modality are from the multimodal labels, over the training
/// rows, at the end of an epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelMovement {
    /// The modality.
    pub modality: Modality,
    /// Mean of y_s − y_m.
    pub mean_shift: f64,
    /// Mean of |y_s − y_m|.
    pub mean_absolute_shift: f64,
    /// Quantiles 0.05, 0.25, 0.5, 0.75 and 0.95 of y_s − y_m.
    pub quantiles: [f64; 5],
}
