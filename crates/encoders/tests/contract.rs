//! Configurations, errors and single precision.

#![allow(clippy::unwrap_used)]

use approx::assert_relative_eq;
use modalign_core::{Parameters, Stream, rng};
use modalign_encoders::{
    Encoder, EncoderConfig, EncoderError, LstmEncoderConfig, Modality, PooledConfig,
    ProjectionHead, RegressionHead, RegressionHeadConfig, Statistics,
};
use modalign_nn::NnError;
use ndarray::{Array2, Array3, array};
use rand::RngExt;

fn configs() -> [EncoderConfig; 4] {
    let pooled = |statistics| PooledConfig {
        statistics,
        ..PooledConfig::default()
    };
    [
        EncoderConfig::Identity {},
        EncoderConfig::Pooled(pooled(Statistics::Mean)),
        EncoderConfig::Pooled(pooled(Statistics::MeanStd)),
        EncoderConfig::Lstm(LstmEncoderConfig::default()),
    ]
}

fn encoder(config: &EncoderConfig) -> Encoder<f64> {
    Encoder::new(config, 3, &mut rng(1, Stream::Initialisation)).unwrap()
}

fn sequences() -> (Array3<f64>, [usize; 3]) {
    let mut rng = rng(1, Stream::Generation);
    let x = Array3::from_shape_simple_fn((3, 6, 3), || rng.random_range(-2.0..2.0));
    (x, [4, 1, 6])
}

#[test]
fn configurations_survive_json_and_refuse_unknown_keys() {
    for config in configs() {
        config.validate().unwrap();
        let json = serde_json::to_value(&config).unwrap();
        assert_eq!(
            serde_json::from_value::<EncoderConfig>(json.clone()).unwrap(),
            config
        );
        let mut typo = json;
        typo["hiden_size"] = 3.into();
        assert!(
            serde_json::from_value::<EncoderConfig>(typo.clone()).is_err(),
            "{typo}"
        );
    }
    assert!(serde_json::from_str::<EncoderConfig>(r#"{"kind": "gru"}"#).is_err());

    let default = RegressionHeadConfig::default();
    default.validate().unwrap();
    let json = serde_json::to_string(&default).unwrap();
    assert_eq!(
        serde_json::from_str::<RegressionHeadConfig>(&json).unwrap(),
        default
    );
    assert!(serde_json::from_str::<RegressionHeadConfig>(r#"{"hidden": 3}"#).is_err());
}

#[test]
fn every_field_has_its_range() {
    let lstm = LstmEncoderConfig::default();
    let pooled = PooledConfig::default();
    let head = RegressionHeadConfig::default();
    let encoder_of = |config| {
        let mut rng = rng(1, Stream::Initialisation);
        Encoder::<f32>::new(&config, 3, &mut rng).unwrap_err()
    };
    let head_of = |config| {
        let mut rng = rng(1, Stream::Initialisation);
        RegressionHead::<f32>::new(3, &config, &mut rng).unwrap_err()
    };
    let lstm_of = |config| encoder_of(EncoderConfig::Lstm(config));
    let pooled_of = |config| encoder_of(EncoderConfig::Pooled(config));
    for (error, expected) in [
        (
            lstm_of(LstmEncoderConfig {
                hidden_size: 0,
                ..lstm.clone()
            }),
            "hidden_size",
        ),
        (
            lstm_of(LstmEncoderConfig {
                output_size: 0,
                ..lstm.clone()
            }),
            "output_size",
        ),
        (
            lstm_of(LstmEncoderConfig {
                dropout: 1.0,
                ..lstm
            }),
            "dropout",
        ),
        (
            pooled_of(PooledConfig {
                output_size: 0,
                ..pooled.clone()
            }),
            "output_size",
        ),
        (
            pooled_of(PooledConfig {
                dropout: -0.1,
                ..pooled
            }),
            "dropout",
        ),
        (
            head_of(RegressionHeadConfig {
                hidden_size: 0,
                ..head.clone()
            }),
            "hidden_size",
        ),
        (
            head_of(RegressionHeadConfig {
                dropout: f64::NAN,
                ..head
            }),
            "dropout",
        ),
    ] {
        assert!(
            matches!(error, EncoderError::Config { parameter, .. } if parameter == expected),
            "{expected}: {error}"
        );
    }
}

#[test]
fn single_precision_follows_double() {
    let (x, lengths) = sequences();
    for config in configs() {
        let double = encoder(&config);
        let single = Encoder::<f32>::new(&config, 3, &mut rng(1, Stream::Initialisation)).unwrap();
        let noise = || rng(1, Stream::Dropout);
        let (y, cache) = double.forward(x.view(), &lengths, &mut noise()).unwrap();
        let mut grads = double.zeros_like();
        double
            .backward(cache, Array2::ones(y.dim()).view(), &mut grads)
            .unwrap();

        let narrow = x.mapv(|x| x as f32);
        let (found, cache) = single
            .forward(narrow.view(), &lengths, &mut noise())
            .unwrap();
        let mut found_grads = single.zeros_like();
        single
            .backward(cache, Array2::ones(y.dim()).view(), &mut found_grads)
            .unwrap();
        assert_relative_eq!(found.mapv(f64::from), y, epsilon = 1e-5);
        let grads = grads.named_views();
        for (index, (name, found)) in found_grads.named_views().into_iter().enumerate() {
            assert_eq!(name, grads[index].0);
            assert_relative_eq!(found.mapv(f64::from), grads[index].1, epsilon = 1e-4);
        }
    }
}

#[test]
fn identity_passes_vectors_and_means_on() {
    let identity = encoder(&EncoderConfig::Identity {});
    let vectors = array![[[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0]]];
    let y = identity.infer(vectors.view(), &[1, 1]).unwrap();
    assert_eq!(y, array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
    let sequence = array![[[1.0, 2.0, 3.0], [3.0, 6.0, 5.0], [f64::NAN, 0.0, 0.0]]];
    let y = identity.infer(sequence.view(), &[2]).unwrap();
    assert_eq!(y, array![[2.0, 4.0, 4.0]]);
    assert_eq!(identity.parameter_count(), 0);
}

#[test]
fn bad_input_is_refused() {
    let (x, lengths) = sequences();
    for config in configs() {
        let model = encoder(&config);
        let narrow = x.slice(ndarray::s![.., .., ..2]);
        assert!(matches!(
            model.infer(narrow, &lengths),
            Err(EncoderError::Shape(_) | EncoderError::Nn(NnError::Shape(_)))
        ));
        assert!(matches!(
            model.infer(x.view(), &[4, 7, 1]),
            Err(EncoderError::Length { row: 1, .. }
                | EncoderError::Nn(NnError::Length { row: 1, .. }))
        ));
        assert!(model.infer(x.view(), &[4, 1]).is_err());
        for other in configs() {
            let mut grads = encoder(&other).zeros_like();
            if std::mem::discriminant(&other) == std::mem::discriminant(&config) {
                continue;
            }
            let mut noise = rng(1, Stream::Dropout);
            let (y, cache) = model.forward(x.view(), &lengths, &mut noise).unwrap();
            assert_eq!(
                model.backward(cache, y.view(), &mut grads).unwrap_err(),
                EncoderError::Kind
            );
        }
    }
    let mut rng = rng(1, Stream::Initialisation);
    let head = ProjectionHead::<f64>::new(3, 2, &mut rng).unwrap();
    assert!(head.infer(Array2::zeros((4, 2)).view()).is_err());
    assert!(ProjectionHead::<f64>::new(3, 0, &mut rng).is_err());
}

#[test]
fn modalities_have_one_spelling() {
    for modality in Modality::ALL {
        let json = serde_json::to_string(&modality).unwrap();
        assert_eq!(json, format!("\"{modality}\""));
        assert_eq!(serde_json::from_str::<Modality>(&json).unwrap(), modality);
        assert_eq!(modality.name().parse(), Ok(modality));
    }
    assert_eq!(
        "Text".parse::<Modality>(),
        Err(EncoderError::UnknownModality {
            found: "Text".to_owned()
        })
    );
}
