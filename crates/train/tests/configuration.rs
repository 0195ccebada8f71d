//! Every recipe is valid and survives storage; every value out of range is refused by its key.

#![allow(clippy::unwrap_used)]

use modalign_metrics::Convention;
use modalign_train::{ExperimentConfig, Recipe, TrainError};

#[test]
fn recipes_are_valid_and_survive_json() {
    for recipe in [Recipe::Modalign, Recipe::SelfMm] {
        for convention in [Convention::Mosi, Convention::Mosei, Convention::Sims] {
            let config = ExperimentConfig::recipe(recipe, convention);
            config.validate().unwrap();
            let json = serde_json::to_string(&config).unwrap();
            let back: ExperimentConfig = serde_json::from_str(&json).unwrap();
            assert_eq!(back, config);
        }
    }
    assert_eq!(
        ExperimentConfig::default(),
        ExperimentConfig::recipe(Recipe::Modalign, Convention::Mosi)
    );
}

#[test]
fn a_typo_is_refused() {
    for json in [
        r#"{"sedes": [1]}"#,
        r#"{"training": {"batchsize": 3}}"#,
        r#"{"objective": {"pairs": {"audio_text": 1.0}}}"#,
    ] {
        assert!(
            serde_json::from_str::<ExperimentConfig>(json).is_err(),
            "{json}"
        );
    }
}

#[test]
fn every_value_out_of_range_is_refused_by_its_key() {
    type Change = fn(&mut ExperimentConfig);
    let changes: [(&str, Change); 21] = [
        ("seeds", |c| c.seeds.clear()),
        ("seeds", |c| c.seeds = vec![1, 1]),
        ("data.modalities", |c| c.data.modalities.clear()),
        ("data.modalities", |c| {
            c.data.modalities.push(c.data.modalities[0])
        }),
        ("data.neutral_label", |c| c.data.neutral_label = f32::NAN),
        ("data.clip", |c| c.data.clip = 0.0),
        ("modalities.text.features", |c| {
            c.modalities.text.features.clear()
        }),
        ("modalities.audio.learning_rate", |c| {
            c.modalities.audio.learning_rate = 0.0
        }),
        ("modalities.vision.weight_decay", |c| {
            c.modalities.vision.weight_decay = -1.0
        }),
        ("modalities.vision.modality_dropout", |c| {
            c.modalities.vision.modality_dropout = 1.0
        }),
        ("modalities.text.head", |c| {
            c.modalities.text.head.dropout = 1.0
        }),
        ("fusion", |c| c.fusion.hidden_size = 0),
        ("objective.unimodal_weight", |c| {
            c.objective.unimodal_weight = -1.0
        }),
        ("objective.shared_information_weight", |c| {
            c.objective.shared_information_weight = f64::INFINITY;
        }),
        ("objective.shared_width", |c| c.objective.shared_width = 0),
        ("objective.pairs", |c| {
            c.objective.pairs.text_audio = f64::NAN
        }),
        ("label_generator", |c| c.label_generator.epsilon = -1.0),
        ("heads.learning_rate", |c| c.heads.learning_rate = f64::NAN),
        ("training.batch_size", |c| c.training.batch_size = 0),
        ("training.patience", |c| c.training.patience = 0),
        ("training.clip_gradient_norm", |c| {
            c.training.clip_gradient_norm = -1.0
        }),
    ];
    for (expected, change) in changes {
        let mut config = ExperimentConfig::default();
        change(&mut config);
        let error = config.validate().unwrap_err();
        let key = match &error {
            TrainError::Config { key, .. } | TrainError::Section { key, .. } => key,
            other => panic!("{expected}: {other}"),
        };
        assert_eq!(key, expected, "{error}");
    }
}
