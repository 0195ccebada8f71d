//! The model, its objective and the scorer at drawn extents, some of which do not fit: an error where
//! they do not, a result of the right shape where they do, and no panic.

#![allow(clippy::unwrap_used)]

use modalign_core::{ChaCha8Rng, Parameters, Stream, rng};
use modalign_data::{GeneratedConfig, generate};
use modalign_encoders::{LstmEncoderConfig, RegressionHeadConfig};
use modalign_metrics::Convention;
use modalign_train::{
    ExperimentConfig, Input, Model, Objective, OutputGradients, Predictor, Recipe, Targets,
    TrainError, check_gradients, cross_validate, run,
};
use ndarray::{Array1, Array2, Array3};
use proptest::prelude::*;

/// Stands for the extent that fits.
const FITS: usize = 9;

fn drawn() -> impl Strategy<Value = usize> {
    prop_oneof![8 => Just(FITS), 1 => 0_usize..5]
}

fn fit(drawn: usize, fitting: usize) -> usize {
    if drawn == FITS { fitting } else { drawn }
}

fn seeded() -> ChaCha8Rng {
    rng(1, Stream::Initialisation)
}

fn judge<T>(what: &str, fits: bool, result: Result<T, TrainError>) -> Option<T> {
    match result {
        Ok(value) => {
            assert!(fits, "{what}: what does not fit was taken");
            Some(value)
        }
        Err(error) => {
            assert!(!fits, "{what}: {error}");
            None
        }
    }
}

fn config(shared_width: usize) -> ExperimentConfig {
    let mut config = ExperimentConfig::recipe(Recipe::Modalign, Convention::Mosi);
    config.objective.shared_width = shared_width;
    config.fusion = RegressionHeadConfig {
        hidden_size: 2,
        dropout: 0.0,
    };
    config.modalities.audio.encoder = modalign_encoders::EncoderConfig::Lstm(LstmEncoderConfig {
        hidden_size: 2,
        output_size: 2,
        ..LstmEncoderConfig::default()
    });
    config
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn model_and_objective(
        (rows, steps, width, shared) in (2_usize..4, 1_usize..4, 1_usize..4, 1_usize..3),
        (count, found_rows, found_width, lengths, longest) in (drawn(), drawn(), drawn(), drawn(), drawn()),
        (labels, targets, weights, target_rows) in (drawn(), drawn(), drawn(), drawn()),
        (dfused, dunimodal, dshared, dshared_width, other) in (drawn(), drawn(), drawn(), drawn(), drawn()),
    ) {
        let config = config(shared);
        let model = Model::<f64>::new(&config, &[width; 3], &mut seeded()).unwrap();
        for widths in [0, 1, 2, 4] {
            judge("widths", false, Model::<f64>::new(&config, &vec![width; widths], &mut seeded()));
        }
        // The first modality may not fit, the others do.
        let values = |modality: usize| {
            let shape = match modality {
                0 => (fit(found_rows, rows), steps, fit(found_width, width)),
                _ => (rows, steps, width),
            };
            Array3::<f64>::from_shape_fn(shape, |(i, j, k)| ((i + 2 * j + 3 * k + modality) % 5) as f64)
        };
        let values = [values(0), values(1), values(2), values(3)];
        let first: Vec<_> = (0..fit(lengths, rows)).map(|row| if row == 0 { fit(longest, steps) } else { steps }).collect();
        let others = vec![steps; rows];
        let inputs: Vec<_> = values
            .iter()
            .enumerate()
            .map(|(modality, values)| Input {
                sequences: values.view().into(),
                lengths: if modality == 0 { &first } else { &others },
            })
            .take(fit(count, 3))
            .collect();
        let fits = inputs.len() == 3
            && values[0].dim() == (rows, steps, width)
            && first.len() == rows
            && (1..=steps).contains(&first[0]);
        judge("infer", fits, model.infer(&inputs));
        let Some((outputs, cache)) = judge("forward", fits, model.forward(&inputs, &mut seeded())) else {
            return Ok(());
        };
        prop_assert_eq!(outputs.fused.len(), rows);

        let given = Targets {
            multimodal: Array1::ones(fit(labels, rows)),
            unimodal: Array2::ones((fit(targets, 3), fit(target_rows, rows))),
            weights: Array2::ones((fit(weights, 3), rows)),
        };
        let fits = given.multimodal.len() == rows
            && given.unimodal.dim() == (3, rows)
            && given.weights.dim() == (3, rows);
        let mut objective = Objective::<f64>::new(&config).unwrap();
        if let Some((_, gradients)) = judge("objective", fits, objective.evaluate(&outputs, &given)) {
            prop_assert_eq!(gradients.fused.len(), rows);
        }
        let mut fewer = outputs.clone();
        fewer.unimodal.pop();
        let zeros = Array2::zeros((3, rows));
        let given = Targets {
            multimodal: Array1::ones(rows),
            unimodal: zeros.clone(),
            weights: zeros,
        };
        judge("fewer outputs", false, objective.evaluate(&fewer, &given));

        let gradients = OutputGradients {
            fused: Array1::ones(fit(dfused, rows)),
            unimodal: vec![Array1::ones(rows); fit(dunimodal, 3)],
            shared: vec![Array2::ones((rows, fit(dshared_width, shared))); fit(dshared, 3)],
        };
        let other = Model::<f64>::new(&config, &[fit(other, width).max(1); 3], &mut seeded()).unwrap();
        let own = other.named_views().iter().map(|(_, view)| view.shape().to_vec()).eq(
            model.named_views().iter().map(|(_, view)| view.shape().to_vec()));
        let fits = gradients.fused.len() == rows
            && gradients.unimodal.len() == 3
            && gradients.shared.len() == 3
            && gradients.shared[0].ncols() == shared
            && own;
        judge("backward", fits, model.backward(cache, &gradients, &mut other.zeros_like()));
    }
}

/// Whatever of a data set does not fit, nothing is trained on it or scored.
#[test]
fn data_that_do_not_hold_together_are_refused() {
    let dataset = generate(&GeneratedConfig {
        train_rows: 12,
        valid_rows: 4,
        test_rows: 4,
        ..GeneratedConfig::default()
    })
    .unwrap()
    .dataset;
    let mut config = ExperimentConfig::recipe(Recipe::Modalign, Convention::Mosi);
    config.seeds = vec![1];
    config.training.max_epochs = 1;
    let trained = run(&config, &dataset, &()).unwrap();
    let predictor = Predictor::new(trained.models[0].clone());
    type Damage = fn(&mut modalign_data::Split);
    let damages: [Damage; 8] = [
        |split| drop(split.id.pop()),
        |split| split.labels = Array1::zeros(split.labels.len() + 1),
        |split| split.labels = Array1::zeros(0),
        |split| split.features["audio"].lengths[0] = 10_000,
        |split| split.features["audio"].lengths[1] = 0,
        |split| split.features["vision"].lengths.truncate(1),
        |split| split.features["text"].values = Array3::zeros((2, 1, 768)),
        |split| split.features["vision"].values = Array3::zeros((4, 0, 20)),
    ];
    for (index, damage) in damages.into_iter().enumerate() {
        for which in 0..3 {
            let mut data = dataset.clone();
            let split = [&mut data.train, &mut data.valid, &mut data.test]
                .into_iter()
                .nth(which)
                .unwrap();
            damage(split);
            let split = split.clone();
            assert!(
                run(&config, &data, &()).is_err(),
                "damage {index} of split {which}"
            );
            assert!(
                cross_validate(&config, &data, 3, &()).is_err(),
                "damage {index} of split {which}"
            );
            assert!(predictor.predict(&split).is_err(), "damage {index}");
            assert!(predictor.representations(&split).is_err(), "damage {index}");
            assert!(predictor.evaluate(&split).is_err(), "damage {index}");
            if which == 0 {
                assert!(check_gradients(&config, &data).is_err(), "damage {index}");
            }
        }
    }
    let mut scorer = predictor.scorer();
    for (modalities, steps, width) in [(2, 1, 768), (4, 1, 768), (3, 0, 768), (3, 1, 7)] {
        let features = Array2::zeros((steps, width));
        let utterance = vec![features.view(); modalities];
        assert!(scorer.score(&utterance).is_err());
    }
}
