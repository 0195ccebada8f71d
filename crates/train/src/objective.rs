//! The loss of one batch and its gradient in everything the model puts out.
//!
//! ```text
//! L = mean t(ŷ_m, y_m) + u Σ_s mean( tanh|y_s − y_m| · t(ŷ_s, y_s) ) + λ Σ_{i<j} w_ij · l(S_i, S_j)
//! ```
//!
//! The generated labels y_s are constants here: no gradient flows through them or their weights.

use modalign_core::Scalar;
use modalign_covariance::SharedInformation;
use modalign_encoders::Modality;
use modalign_nn::{NnError, weighted_l1, weighted_squared_error};
use ndarray::{Array1, Array2, ArrayView1};

use crate::config::TaskLoss;
use crate::model::{OutputGradients, Outputs};
use crate::{ExperimentConfig, LossTerms, TrainError};

/// What a batch is compared with.
#[derive(Debug, Clone)]
pub struct Targets<A> {
    /// Multimodal labels `[B]`.
    pub multimodal: Array1<A>,
    /// Generated labels `[M, B]`.
    pub unimodal: Array2<A>,
    /// Their weights tanh|y_s − y_m|, `[M, B]`.
    pub weights: Array2<A>,
}

impl<A: Scalar> Targets<A> {
    /// Without generated labels: the unimodal tasks have weight 0.
    pub fn multimodal_only(multimodal: Array1<A>, modalities: usize) -> Self {
        let zeros = Array2::zeros((modalities, multimodal.len()));
        Self {
            multimodal,
            unimodal: zeros.clone(),
            weights: zeros,
        }
    }
}

/// The objective with its workspaces.
#[derive(Debug)]
pub struct Objective<A> {
    modalities: Vec<Modality>,
    task_loss: TaskLoss,
    unimodal_weight: f64,
    shared_information_weight: f64,
    minimum_rows: usize,
    shared_information: Option<SharedInformation<A>>,
}

impl<A: Scalar> Objective<A> {
    /// Allocates nothing yet.
    ///
    /// # Errors
    ///
    /// Those of the pair weights and of the shared-information loss.
    pub fn new(config: &ExperimentConfig) -> Result<Self, TrainError> {
        let shared_information = config
            .uses_shared_information()
            .then(|| -> Result<_, TrainError> {
                let loss = config.objective.shared_information;
                Ok(SharedInformation::new(loss, config.pair_weights()?)?)
            })
            .transpose()?;
        Ok(Self {
            modalities: config.modalities_in_use().collect(),
            task_loss: config.objective.task_loss,
            unimodal_weight: config.objective.unimodal_weight,
            shared_information_weight: config.objective.shared_information_weight,
            minimum_rows: config.objective.shared_information.ddof + 1,
            shared_information,
        })
    }

    /// The loss of a batch and its gradient in the outputs.
    ///
    /// A batch with too few rows for a covariance (the last one of an epoch may have a single row)
    /// goes without the shared-information term.
    ///
    /// # Errors
    ///
    /// Those of the terms: shapes that do not fit, or values that are not finite.
    pub fn evaluate(
        &mut self,
        outputs: &Outputs<A>,
        targets: &Targets<A>,
    ) -> Result<(LossTerms, OutputGradients<A>), TrainError> {
        let rows = outputs.fused.len();
        let ones = Array1::ones(rows);
        let (multimodal, fused) =
            self.compare(outputs.fused.view(), targets.multimodal.view(), ones.view())?;
        let mut terms = LossTerms {
            total: multimodal.as_f64(),
            multimodal: multimodal.as_f64(),
            ..LossTerms::default()
        };

        let mut unimodal = Vec::with_capacity(self.modalities.len());
        let unimodal_weight = A::from_f64(self.unimodal_weight);
        for (index, prediction) in outputs.unimodal.iter().enumerate() {
            let weights = targets
                .weights
                .row(index)
                .mapv(|weight| weight * unimodal_weight);
            let (value, gradient) = self.compare(
                prediction.view(),
                targets.unimodal.row(index),
                weights.view(),
            )?;
            terms.total += value.as_f64();
            terms
                .unimodal
                .push((self.modalities[index], value.as_f64()));
            unimodal.push(gradient);
        }

        let mut shared: Vec<_> = outputs
            .shared
            .iter()
            .map(|one| Array2::zeros(one.raw_dim()))
            .collect();
        if let Some(loss) = &mut self.shared_information
            && rows >= self.minimum_rows
        {
            let features: Vec<_> = outputs.shared.iter().map(|one| one.view()).collect();
            let value = loss.value_and_gradient(&features, &mut shared)?;
            let weight = A::from_f64(self.shared_information_weight);
            for gradient in &mut shared {
                *gradient *= weight;
            }
            terms.shared_information = (weight * value.total).as_f64();
            terms.total += terms.shared_information;
            terms.pairs = value
                .pairs
                .iter()
                .map(|pair| {
                    let (left, right) = (self.modalities[pair.first], self.modalities[pair.second]);
                    (left, right, pair.distance.as_f64())
                })
                .collect();
        }
        Ok((
            terms,
            OutputGradients {
                fused,
                unimodal,
                shared,
            },
        ))
    }

    fn compare(
        &self,
        scores: ArrayView1<A>,
        labels: ArrayView1<A>,
        weights: ArrayView1<A>,
    ) -> Result<(A, Array1<A>), NnError> {
        match self.task_loss {
            TaskLoss::Absolute => weighted_l1(scores, labels, weights),
            TaskLoss::Squared => weighted_squared_error(scores, labels, weights),
        }
    }
}
