//! The loss of one batch and its gradient in everything the model puts out.
//!
//! ```text
//! L = mean t(ŷ_m, y_m) + u Σ_s mean( tanh|y_s − y_m| · t(ŷ_s, y_s) ) + λ Σ_{i<j} w_ij · l(S_i, S_j)
//! ```
//!
//! The generated labels y_s are constants here: no gradient flows through them or their weights.

use modalign_core::{Scalar, assign, check_shape, resize};
use modalign_covariance::SharedInformation;
use modalign_encoders::Modality;
use modalign_nn::{NnError, weighted_l1_into, weighted_squared_error_into};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2};

use crate::config::TaskLoss;
use crate::error::check_count;
use crate::model::{OutputGradients, Outputs};
use crate::{ExperimentConfig, LossTerms, TrainError};

/// What a batch is compared with.
#[derive(Debug, Clone, Default)]
pub struct Targets<A> {
    /// Multimodal labels `[B]`.
    pub multimodal: Array1<A>,
    /// Generated labels `[M, B]`.
    pub unimodal: Array2<A>,
    /// Their weights tanh|y_s − y_m|, `[M, B]`.
    pub weights: Array2<A>,
}

impl<A: Scalar> Targets<A> {
    /// Leaves the unimodal tasks out: their weights become 0.
    pub(crate) fn set_multimodal_only(&mut self, modalities: usize) {
        let shape = (modalities, self.multimodal.len());
        for zeros in [&mut self.unimodal, &mut self.weights] {
            resize(zeros, shape);
            zeros.fill(A::zero());
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
    row_weights: Array1<A>,
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
            row_weights: Array1::default(0),
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
        let (mut terms, mut gradients) = (LossTerms::default(), OutputGradients::default());
        self.evaluate_into(outputs, targets, &mut terms, &mut gradients)?;
        Ok((terms, gradients))
    }

    /// As [`evaluate`](Self::evaluate), into terms and gradients whose memory is used again. Nothing
    /// is allocated once a batch as large has been seen.
    ///
    /// # Errors
    ///
    /// As [`evaluate`](Self::evaluate).
    pub fn evaluate_into(
        &mut self,
        outputs: &Outputs<A>,
        targets: &Targets<A>,
        terms: &mut LossTerms,
        gradients: &mut OutputGradients<A>,
    ) -> Result<(), TrainError> {
        let OutputGradients {
            fused,
            unimodal,
            shared,
        } = gradients;
        let rows = outputs.fused.len();
        let modalities = self.modalities.len();
        check_count("outputs.unimodal", outputs.unimodal.len(), modalities)?;
        for (operand, found) in [
            ("targets.unimodal", &targets.unimodal),
            ("targets.weights", &targets.weights),
        ] {
            check_shape("objective", operand, found.shape(), &[modalities, rows])
                .map_err(NnError::from)?;
        }
        resize(&mut self.row_weights, rows);
        self.row_weights.fill(A::one());
        let multimodal = &targets.multimodal;
        let multimodal = self.compare(&outputs.fused, multimodal.view(), fused)?;
        terms.multimodal = multimodal.as_f64();
        terms.total = multimodal.as_f64();

        terms.unimodal.clear();
        unimodal.resize_with(outputs.unimodal.len(), Default::default);
        let unimodal_weight = A::from_f64(self.unimodal_weight);
        for (index, (prediction, gradient)) in outputs.unimodal.iter().zip(unimodal).enumerate() {
            assign(&mut self.row_weights, targets.weights.row(index));
            self.row_weights *= unimodal_weight;
            let value = self.compare(prediction, targets.unimodal.row(index), gradient)?;
            terms.total += value.as_f64();
            let modality = self.modalities[index];
            terms.unimodal.push((modality, value.as_f64()));
        }

        shared.resize_with(outputs.shared.len(), Default::default);
        for (gradient, features) in shared.iter_mut().zip(&outputs.shared) {
            resize(gradient, features.raw_dim());
            gradient.fill(A::zero());
        }
        terms.shared_information = 0.0;
        terms.pairs.clear();
        if let Some(loss) = &mut self.shared_information
            && rows >= self.minimum_rows
        {
            let none = ArrayView2::from_shape((0, 0), &[]).expect("no rows take no memory");
            let features: [_; Modality::ALL.len()] = std::array::from_fn(|index| {
                outputs.shared.get(index).map_or(none, |one| one.view())
            });
            let value = loss.value_and_gradient(&features[..outputs.shared.len()], shared)?;
            let weight = A::from_f64(self.shared_information_weight);
            for gradient in shared {
                *gradient *= weight;
            }
            terms.shared_information = (weight * value.total).as_f64();
            terms.total += terms.shared_information;
            terms.pairs.extend(value.pairs.iter().map(|pair| {
                let (left, right) = (self.modalities[pair.first], self.modalities[pair.second]);
                (left, right, pair.distance.as_f64())
            }));
        }
        Ok(())
    }

    /// One task, its rows weighted with `row_weights`.
    fn compare(
        &self,
        scores: &Array1<A>,
        labels: ArrayView1<A>,
        gradient: &mut Array1<A>,
    ) -> Result<A, NnError> {
        resize(gradient, scores.len());
        let (scores, weights) = (scores.view(), self.row_weights.view());
        let gradient = gradient.view_mut();
        match self.task_loss {
            TaskLoss::Absolute => weighted_l1_into(scores, labels, weights, gradient),
            TaskLoss::Squared => weighted_squared_error_into(scores, labels, weights, gradient),
        }
    }
}
