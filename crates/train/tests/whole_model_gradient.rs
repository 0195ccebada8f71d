//! The gradient of the whole objective in every named parameter, against central differences, at
//! drawn shapes, encoders, weights and dropout rates.

#![allow(clippy::unwrap_used)]

use modalign_core::{Parameters, Stream, rng};
use modalign_encoders::{
    EncoderConfig, LstmEncoderConfig, Modality, PooledConfig, RegressionHeadConfig, Statistics,
};
use modalign_gradcheck::check_gradient;
use modalign_metrics::Convention;
use modalign_train::{ExperimentConfig, Input, Model, Objective, Recipe, Targets, TaskLoss};
use ndarray::{Array1, Array2, Array3, ArrayD};
use proptest::prelude::*;
use rand::RngExt;

#[derive(Debug, Clone)]
struct Case {
    encoder: usize,
    rows: usize,
    steps: usize,
    width: usize,
    shared_width: usize,
    modalities: usize,
    dropout: f64,
    unimodal_weight: f64,
    shared_weight: f64,
    pair: f64,
    squared: bool,
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    (
        (0_usize..3, 2_usize..5, 1_usize..4, 1_usize..4),
        (1_usize..4, 1_usize..4),
        prop_oneof![Just(0.0), 0.1..0.6],
        prop_oneof![Just(0.0), 0.2..2.0],
        prop_oneof![Just(0.0), 0.5..20.0],
        (-2.0..2.0, prop::bool::ANY),
        0_u64..1000,
    )
        .prop_map(
            |(
                sizes,
                (shared_width, modalities),
                dropout,
                unimodal,
                shared,
                (pair, squared),
                seed,
            )| {
                let (encoder, rows, steps, width) = sizes;
                Case {
                    encoder,
                    rows,
                    steps,
                    width,
                    shared_width,
                    modalities,
                    dropout,
                    unimodal_weight: unimodal,
                    shared_weight: shared,
                    pair,
                    squared,
                    seed,
                }
            },
        )
}

fn config(case: &Case) -> ExperimentConfig {
    let mut config = ExperimentConfig::recipe(Recipe::Modalign, Convention::Mosi);
    config.data.modalities = Modality::ALL[..case.modalities].to_vec();
    config.objective.unimodal_weight = case.unimodal_weight;
    config.objective.shared_information_weight = case.shared_weight;
    config.objective.shared_width = case.shared_width;
    config.objective.pairs.text_vision = case.pair;
    if case.squared {
        config.objective.task_loss = TaskLoss::Squared;
    }
    let head = RegressionHeadConfig {
        hidden_size: 3,
        dropout: case.dropout,
    };
    config.fusion = head.clone();
    let encoder = match case.encoder {
        0 => EncoderConfig::Identity {},
        1 => EncoderConfig::Pooled(PooledConfig {
            statistics: Statistics::MeanStd,
            dropout: case.dropout,
            output_size: 3,
        }),
        _ => EncoderConfig::Lstm(LstmEncoderConfig {
            hidden_size: 2,
            dropout: case.dropout,
            output_size: 3,
        }),
    };
    let modalities = &mut config.modalities;
    for modality in [
        &mut modalities.text,
        &mut modalities.audio,
        &mut modalities.vision,
    ] {
        modality.encoder = encoder.clone();
        modality.head = head.clone();
        modality.modality_dropout = case.dropout;
    }
    config.validate().expect("a drawn configuration is valid");
    config
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_parameter_agrees_with_differences(case in cases()) {
        let config = config(&case);
        let mut draw = rng(case.seed, Stream::Generation);
        let inputs: Vec<(Array3<f64>, Vec<usize>)> = (0..case.modalities)
            .map(|_| {
                let shape = (case.rows, case.steps, case.width);
                let values = Array3::from_shape_simple_fn(shape, || draw.random_range(-1.5..1.5));
                let lengths = (0..case.rows).map(|_| draw.random_range(1..=case.steps)).collect();
                (values, lengths)
            })
            .collect();
        let inputs: Vec<_> = inputs
            .iter()
            .map(|(values, lengths)| Input { sequences: values.view().into(), lengths })
            .collect();
        // Labels stay clear of the scores, where the absolute error has its kink.
        let labels = |draw: &mut modalign_core::ChaCha8Rng| {
            let size: f64 = draw.random_range(4.0..6.0);
            if draw.random_bool(0.5) { size } else { -size }
        };
        let multimodal = Array1::from_shape_simple_fn(case.rows, || labels(&mut draw));
        let shape = (case.modalities, case.rows);
        let unimodal = Array2::from_shape_simple_fn(shape, || labels(&mut draw));
        let weights = (&unimodal - &multimodal).mapv(|shift| shift.abs().tanh());
        let targets = Targets { multimodal, unimodal, weights };

        let widths = vec![case.width; case.modalities];
        let model =
            Model::<f64>::new(&config, &widths, &mut rng(case.seed, Stream::Initialisation))
                .unwrap();
        let noise = || rng(case.seed, Stream::Dropout);
        let loss = |model: &Model<f64>| {
            let (outputs, _) = model.forward(&inputs, &mut noise()).unwrap();
            Objective::new(&config).unwrap().evaluate(&outputs, &targets).unwrap().0.total
        };

        let (outputs, cache) = model.forward(&inputs, &mut noise()).unwrap();
        // A ReLU within a difference step of its kink has no single slope.
        prop_assume!(outputs.features.iter().flatten().all(|&f| f == 0.0 || f > 1e-3));
        let mut objective = Objective::new(&config).unwrap();
        let (terms, gradients) = objective.evaluate(&outputs, &targets).unwrap();
        prop_assert_eq!(terms.total, loss(&model));
        let mut grads = model.zeros_like();
        model.backward(cache, &gradients, &mut grads).unwrap();

        let analytic = grads.named_views();
        for (index, (name, view)) in model.named_views().into_iter().enumerate() {
            prop_assert_eq!(&analytic[index].0, &name);
            let (value, gradient) = (view.to_owned(), analytic[index].1.to_owned());
            let checked = check_gradient(&name, &value, &gradient, |changed: &ArrayD<f64>| {
                let mut model = model.clone();
                model.named_views_mut()[index].1.assign(changed);
                loss(&model)
            });
            if let Err(error) = checked {
                return Err(TestCaseError::fail(error.to_string()));
            }
        }
    }
}
