//! Tutorial 3: train, look at the shared and private parts, predict.
//!
//! The generated data know what real data do not: the factors that all modalities share and those
//! that each has to itself. So one can ask a trained model what its representations tell about each.

use std::error::Error;

use modalign::data::{Factors, GeneratedConfig, generate};
use modalign::metrics::Metric;
use modalign::prelude::{Convention, ExperimentConfig, Predictor, Recipe, run};
use ndarray::{Array1, Array2, ArrayView1, Axis, concatenate};

fn main() -> Result<(), Box<dyn Error>> {
    let data = generate(&GeneratedConfig {
        train_rows: 600,
        ..GeneratedConfig::default()
    })?;

    // Train with the shared-information loss and without it, one seed each.
    let mut config = ExperimentConfig::recipe(Recipe::Modalign, Convention::Mosi);
    config.seeds = vec![1111];
    config.training.max_epochs = 12;
    let mut models = Vec::new();
    for weight in [config.objective.shared_information_weight, 0.0] {
        config.objective.shared_information_weight = weight;
        let mut experiment = run(&config, &data.dataset, &())?;
        let trained = &experiment.runs[0];
        let error = trained.test.get(Metric::Mae).unwrap_or(f64::NAN);
        println!(
            "shared-information weight {weight}: best epoch {}, test MAE {error:.3}",
            trained.best_epoch
        );
        models.push(Predictor::new(experiment.models.remove(0)));
    }

    // How well does a linear reading of each representation find the factors? R² on test rows.
    println!("\nmodality  of its encoder: shared  private | of its projection: shared  private");
    let model = &models[0];
    let train = model.representations(&data.dataset.train)?;
    let test = model.representations(&data.dataset.test)?;
    for (fitted, tested) in train.iter().zip(&test) {
        let modality = fitted.modality.to_string();
        let own = |factors: &Factors| factors.private[&modality].clone();
        let score = |x: &Array2<f32>, x_test: &Array2<f32>| {
            let shared = r_squared(x, &data.train.shared, x_test, &data.test.shared);
            let private = r_squared(x, &own(&data.train), x_test, &own(&data.test));
            format!("{shared:6.2}  {private:7.2}")
        };
        let encoded = score(&fitted.encoded, &tested.encoded);
        let (Some(projected), Some(projected_test)) = (&fitted.shared, &tested.shared) else {
            continue;
        };
        println!(
            "{modality:16}{encoded:>26} |{:>37}",
            score(projected, projected_test)
        );
    }

    // Predict, and see who pulled the score where.
    println!();
    for prediction in model.predict(&data.dataset.test)?.iter().take(3) {
        let pulls = prediction
            .pull
            .iter()
            .map(|(modality, pull)| format!("{modality} {pull:+.2}"));
        println!(
            "{}: label {:+.1}, fused {:+.2}, pulls {}",
            prediction.id,
            prediction.label,
            prediction.fused,
            pulls.collect::<Vec<_>>().join(", ")
        );
    }
    Ok(())
}

/// The part of the variance of the factors that ridge regression on the representation explains,
/// fitted on training rows and measured on test rows, a mean over factors.
fn r_squared(
    x: &Array2<f32>,
    factors: &Array2<f32>,
    x_test: &Array2<f32>,
    test: &Array2<f32>,
) -> f32 {
    let with_constant =
        |x: &Array2<f32>| concatenate![Axis(1), x.view(), Array2::ones((x.nrows(), 1))];
    let (x, x_test) = (with_constant(x), with_constant(x_test));
    let scores: Array1<f32> = factors
        .columns()
        .into_iter()
        .zip(test.columns())
        .map(|(factor, test)| {
            let residual = &test - &x_test.dot(&ridge(&x, factor));
            1.0 - residual.mapv(|e| e * e).mean().unwrap_or(0.0) / test.var(0.0)
        })
        .collect();
    scores.mean().unwrap_or(0.0)
}

/// Solves `(XᵀX + λI) w = Xᵀy` by conjugate gradients.
fn ridge(x: &Array2<f32>, y: ArrayView1<f32>) -> Array1<f32> {
    const LAMBDA: f32 = 1.0;
    let mut weights = Array1::zeros(x.ncols());
    let mut residual = x.t().dot(&y);
    let mut direction = residual.clone();
    for _ in 0..60 {
        let product = x.t().dot(&x.dot(&direction)) + LAMBDA * &direction;
        let before = residual.dot(&residual);
        let length = before / direction.dot(&product).max(f32::MIN_POSITIVE);
        weights.scaled_add(length, &direction);
        residual.scaled_add(-length, &product);
        direction =
            &residual + &(direction * (residual.dot(&residual) / before.max(f32::MIN_POSITIVE)));
    }
    weights
}
