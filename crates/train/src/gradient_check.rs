//! The gradient of the objective against differences, on somebody's own data and configuration.
//!
//! ```text
//! ⟨∇L, d⟩  against  ( L(θ + h d) − L(θ − h d) ) / 2h,   d a random direction of length 1 in one array
//! ```
//!
//! In f64, with the noise of dropout held fixed, on the first batch of the first seed. Generated
//! labels start as the labels themselves, which would switch the unimodal tasks off; they count fully
//! here.

use modalign_core::{Parameters, Stream, rng};
use modalign_data::{Dataset, epoch_order};
use modalign_encoders::{BertEncoder, Modality};
use ndarray::{Array2, Array3, ArrayD};
use rand::{Rng, RngExt};

use crate::model::{Input, Model};
use crate::objective::{Objective, Targets};
use crate::prepared::PreparedData;
use crate::text_model::Tuning;
use crate::{ExperimentConfig, TrainError};

/// Steps of the differences. The smaller one counts where a kink lies within the larger.
const STEPS: [f64; 2] = [1e-5, 1e-6];

/// Difference allowed however small the derivatives are, and as a part of the larger of the two.
const ALLOWED: [f64; 2] = [1e-7, 1e-4];

/// The derivative of the loss along one direction in one array of the model.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedGradient {
    /// The dotted name of the array.
    pub parameter: String,
    /// The number of its entries.
    pub entries: usize,
    /// By the backward pass.
    pub analytic: f64,
    /// By central differences.
    pub numeric: f64,
}

impl CheckedGradient {
    /// The largest difference that rounding and curvature explain.
    pub fn allowed(&self) -> f64 {
        ALLOWED[0] + ALLOWED[1] * self.analytic.abs().max(self.numeric.abs())
    }

    /// Whether both agree.
    pub fn agrees(&self) -> bool {
        (self.analytic - self.numeric).abs() <= self.allowed()
    }
}

/// Compares the gradient in every array of the model of the first seed with central differences,
/// before any training.
///
/// # Errors
///
/// An invalid configuration, data that does not fit it, or a loss that is not finite.
pub fn check_gradients(
    config: &ExperimentConfig,
    dataset: &Dataset,
) -> Result<Vec<CheckedGradient>, TrainError> {
    config.validate()?;
    let data = PreparedData::new(config, dataset)?;
    // `validate` wants a seed.
    let seed = config.seeds[0];
    let widths: Vec<_> = data.preparation.iter().map(|one| one.width).collect();
    let text = match &config.text_model {
        Some(text)
            if text.tuning != Tuning::Frozen && data.preparation[0].modality == Modality::Text =>
        {
            Some(BertEncoder::<f64>::load(&text.folder, text.pooling)?)
        }
        _ => None,
    };
    let initialisation = &mut rng(seed, Stream::Initialisation);
    let model = Model::<f64>::with_text_encoder(config, &widths, text, initialisation)?;

    let mut order = epoch_order(data.train.len(), &mut rng(seed, Stream::Order));
    order.truncate(config.training.batch_size);
    let batch = data.train.batch(&data.keys(), &order)?;
    let sequences: Vec<(Array3<f64>, Vec<usize>)> = batch
        .sequences
        .into_iter()
        .map(|one| (one.values.mapv(f64::from), one.lengths))
        .collect();
    let inputs: Vec<_> = sequences
        .iter()
        .map(|(values, lengths)| Input {
            sequences: values.view().into(),
            lengths,
        })
        .collect();
    let labels = batch.labels.mapv(f64::from);
    let shape = (inputs.len(), labels.len());
    let targets = Targets {
        unimodal: Array2::from_shape_fn(shape, |(_, row)| labels[row]),
        weights: Array2::ones(shape),
        multimodal: labels,
    };

    let noise = || rng(seed, Stream::Dropout);
    let mut objective = Objective::new(config)?;
    let (outputs, cache) = model.forward(&inputs, &mut noise())?;
    let (_, output_gradients) = objective.evaluate(&outputs, &targets)?;
    let mut gradients = model.zeros_like();
    model.backward(cache, &output_gradients, &mut gradients)?;
    compare(
        &model,
        &gradients,
        &mut rng(seed, Stream::Generation),
        |model| {
            let (outputs, _) = model.forward(&inputs, &mut noise())?;
            Ok(objective.evaluate(&outputs, &targets)?.0.total)
        },
    )
}

/// One direction an array.
fn compare(
    model: &Model<f64>,
    gradients: &Model<f64>,
    rng: &mut impl Rng,
    mut loss: impl FnMut(&Model<f64>) -> Result<f64, TrainError>,
) -> Result<Vec<CheckedGradient>, TrainError> {
    let gradients = gradients.named_views();
    let mut moved = model.clone();
    let mut checked = Vec::with_capacity(gradients.len());
    for (index, (parameter, gradient)) in gradients.into_iter().enumerate() {
        let mut direction =
            ArrayD::from_shape_simple_fn(gradient.raw_dim(), || rng.random_range(-1.0..1.0));
        let length = direction.iter().map(|x: &f64| x * x).sum::<f64>().sqrt();
        direction.mapv_inplace(|x| x / length);
        let mut at = |step: f64| {
            moved.clone_from(model);
            moved.named_views_mut()[index]
                .1
                .scaled_add(step, &direction);
            loss(&moved)
        };
        let mut one = CheckedGradient {
            parameter,
            entries: gradient.len(),
            analytic: (&gradient * &direction).sum(),
            numeric: f64::NAN,
        };
        for step in STEPS {
            if !one.agrees() {
                one.numeric = (at(step)? - at(-step)?) / (2.0 * step);
            }
        }
        checked.push(one);
    }
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use modalign_data::{GeneratedConfig, generate};

    fn dataset() -> Dataset {
        let mut config = GeneratedConfig {
            train_rows: 24,
            valid_rows: 8,
            test_rows: 8,
            ..GeneratedConfig::default()
        };
        config.text.width = 5;
        config.audio.steps = 4;
        config.vision.steps = 3;
        generate(&config).unwrap().dataset
    }

    fn config() -> ExperimentConfig {
        let mut config = ExperimentConfig::default();
        config.training.batch_size = 8;
        config.fusion.hidden_size = 6;
        config.objective.shared_width = 4;
        config
    }

    #[test]
    fn every_array_of_the_default_configuration_agrees() {
        let checked = check_gradients(&config(), &dataset()).unwrap();
        assert!(checked.len() > 30);
        for one in &checked {
            assert!(one.agrees(), "{one:?}");
        }
        // The loss does depend on them.
        let alive = checked.iter().filter(|one| one.analytic.abs() > 1e-6);
        assert!(alive.count() * 10 > checked.len() * 9);
    }

    #[test]
    fn a_gradient_off_by_one_per_cent_is_seen() {
        let rng = || rng(3, Stream::Initialisation);
        let widths = [5, 5, 5];
        let model = Model::<f64>::new(&config(), &widths, &mut rng()).unwrap();
        // Half the sum of squares, whose gradient is the model itself.
        let loss = |model: &Model<f64>| {
            let views = model.named_views();
            let squares = views.iter().flat_map(|(_, view)| view).map(|x| x * x);
            Ok(squares.sum::<f64>() / 2.0)
        };
        let agreeing = |gradients: &Model<f64>| {
            let checked = compare(&model, gradients, &mut rng(), loss).unwrap();
            (
                checked.iter().filter(|one| one.agrees()).count(),
                checked.len(),
            )
        };
        let (right, all) = agreeing(&model);
        assert_eq!(right, all);
        let mut wrong = model.clone();
        for (_, mut view) in wrong.named_views_mut() {
            view *= 1.01;
        }
        assert_eq!(agreeing(&wrong).0, 0);
    }
}
