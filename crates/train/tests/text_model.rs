//! Training on transcripts: what is tuned and what stays, caches, checkpoints and their errors.

#![allow(clippy::unwrap_used)]

mod keeper;

use std::path::Path;
use std::sync::Mutex;

use modalign_core::{Parameters, Stream, rng};
use modalign_data::{Dataset, Sequences, Split};
use modalign_encoders::{
    BertConfig, BertEncoder, Encoder, EncoderConfig, Modality, PooledConfig, Pooling, Statistics,
    TextTokenizer, TokenBatch,
};
use modalign_gradcheck::check_gradient;
use modalign_nn::TransformerConfig;
use modalign_train::{
    Checkpoint, Event, Experiment, ExperimentConfig, Input, Model, Objective, Observer, Predictor,
    Targets, TextModelConfig, TrainError, Tuning, run,
};
use ndarray::{Array1, Array2, Array3, ArrayD, array, s};
use rand::RngExt;

const WORDS: [&str; 9] = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "a",
];

fn bert() -> BertConfig {
    BertConfig {
        vocabulary_size: WORDS.len(),
        positions: 8,
        layers: 2,
        layer: TransformerConfig {
            hidden_size: 8,
            heads: 2,
            intermediate_size: 6,
            ..TransformerConfig::default()
        },
        ..BertConfig::default()
    }
}

/// A small encoder that nobody trained, as a Hugging Face folder.
fn pretrained(seed: u64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("vocab.txt"), WORDS.join("\n")).unwrap();
    let encoder = BertEncoder::<f32>::new(&bert(), &mut rng(seed, Stream::Initialisation)).unwrap();
    encoder.save(folder.path(), &bert()).unwrap();
    folder
}

fn split(rows: usize) -> Split {
    let texts = [
        "good film",
        "bad film",
        "a good good film",
        "a bad bad a bad film",
    ];
    let labels = [1.0, -1.0, 2.0, -2.0];
    Split {
        id: (0..rows).map(|row| row.to_string()).collect(),
        raw_text: Some((0..rows).map(|row| texts[row % 4].to_owned()).collect()),
        text_bert: None,
        features: [(
            "audio".to_owned(),
            Sequences::from_vectors(Array2::from_shape_fn((rows, 2), |(row, column)| {
                ((row * 3 + column) % 5) as f32
            })),
        )]
        .into_iter()
        .collect(),
        file_features: Default::default(),
        labels: Array1::from_shape_fn(rows, |row| labels[row % 4]),
        unimodal_labels: Default::default(),
    }
}

fn dataset() -> Dataset {
    Dataset {
        train: split(16),
        valid: split(8),
        test: split(8),
    }
}

fn config(folder: &Path, tuning: Tuning) -> ExperimentConfig {
    let mut config = ExperimentConfig::default().with_vectors(&[Modality::Audio]);
    config.data.modalities = vec![Modality::Text, Modality::Audio];
    config.seeds = vec![1];
    config.training.batch_size = 4;
    config.training.max_epochs = 3;
    config.training.warm_up = Some(0.25);
    config.text_model = Some(TextModelConfig {
        folder: folder.to_owned(),
        tuning,
        max_tokens: 6,
        learning_rate: 1e-2,
        ..TextModelConfig::default()
    });
    config
}

fn encoder(checkpoint: &Checkpoint) -> &BertEncoder<f32> {
    match &checkpoint.model().text.as_ref().unwrap().encoder {
        Encoder::Bert(encoder) => encoder,
        other => panic!("not a text model: {other:?}"),
    }
}

#[test]
fn what_is_tuned_moves_and_the_rest_stays() {
    let folder = pretrained(1);
    let before = BertEncoder::<f32>::load(folder.path(), Pooling::Mean).unwrap();
    for tuning in [Tuning::Full, Tuning::Last(1)] {
        let trained = run(&config(folder.path(), tuning), &dataset(), &()).unwrap();
        let after = encoder(&trained.models[0]);
        let pairs = before.named_views().into_iter().zip(after.named_views());
        for ((name, before), (_, after)) in pairs {
            // Of two layers the last; a key's bias has no gradient but rounding.
            let tuned = tuning == Tuning::Full || name.starts_with("layers.1.");
            if !tuned {
                assert_eq!(before, after, "{name}");
            } else if !name.ends_with("key.bias") {
                assert_ne!(before, after, "{name}");
            }
        }
        // A row of the word table that no text has: nothing but weight decay touches it.
        let unused = |encoder: &BertEncoder<f32>| encoder.embeddings.word.weight.row(4).to_owned();
        let (before, after) = (unused(&before), unused(after));
        for (before, after) in before.iter().zip(&after) {
            assert!(after.abs() <= before.abs() && (before - after).abs() < 0.02);
        }
    }
}

#[test]
fn a_tuned_run_interrupted_after_every_batch_ends_in_the_same_bits() {
    let folder = pretrained(1);
    let data = dataset();
    for tuning in [Tuning::Frozen, Tuning::Last(1), Tuning::Full] {
        let config = config(folder.path(), tuning);
        let undisturbed = run(&config, &data, &()).unwrap();
        let (resumed, interruptions) = keeper::run_batch_by_batch(&config, &data);
        assert_eq!(interruptions, 11);
        let views = |experiment: &Experiment| {
            let views = experiment.models[0].model().named_views();
            let owned = views
                .into_iter()
                .map(|(name, view)| (name, view.to_owned()));
            owned.collect::<Vec<_>>()
        };
        assert_eq!(views(&undisturbed), views(&resumed));
        assert_eq!(undisturbed.runs[0].history, resumed.runs[0].history);
    }
}

#[test]
fn a_tuned_run_needs_its_folder_no_more_and_exports_another() {
    let folder = pretrained(1);
    let data = dataset();
    let trained = run(&config(folder.path(), Tuning::Full), &data, &()).unwrap();
    let saved = tempfile::tempdir().unwrap();
    let file = saved.path().join("model.safetensors");
    trained.models[0].save(&file).unwrap();
    drop(folder);

    let loaded = Checkpoint::load(&file).unwrap();
    let exported = saved.path().join("text-encoder");
    assert!(loaded.save_text_encoder(&exported).unwrap());
    let bert = BertConfig::load(&exported, Pooling::Mean).unwrap();
    assert_eq!(
        bert,
        BertConfig {
            pooling: Pooling::Mean,
            ..self::bert()
        }
    );
    let again = BertEncoder::<f32>::load(&exported, Pooling::Mean).unwrap();
    assert_eq!(again.named_views(), encoder(&loaded).named_views());
    let tokens = TextTokenizer::load(&exported, &bert, 6).unwrap();
    let encoded = tokens.encode(&["a good film"]).unwrap().batch;
    assert_eq!(encoded.ids, array![[2, 8, 5, 7, 3]]);

    let predictions = Predictor::new(loaded).predict(&data.test).unwrap();
    assert_eq!(predictions, trained.runs[0].test_predictions);

    // The tokens of the file say the same as its transcripts.
    let mut split = data.test.clone();
    let batch = tokens
        .encode(split.raw_text.as_ref().unwrap())
        .unwrap()
        .batch;
    let mut stored = Array3::zeros((split.len(), 3, batch.ids.ncols()));
    stored
        .slice_mut(s![.., 0, ..])
        .assign(&batch.ids.mapv(i64::from));
    stored
        .slice_mut(s![.., 1, ..])
        .assign(&batch.mask.mapv(i64::from));
    split.raw_text = None;
    split.text_bert = Some(stored);
    let predictor = Predictor::new(Checkpoint::load(&file).unwrap());
    assert_eq!(predictor.predict(&split).unwrap(), predictions);
    split.text_bert = None;
    assert!(matches!(predictor.predict(&split), Err(TrainError::NoText)));
}

#[test]
fn frozen_vectors_are_computed_once_and_belong_to_one_encoder() {
    let (folder, other, cache) = (pretrained(1), pretrained(2), tempfile::tempdir().unwrap());
    let mut config = config(folder.path(), Tuning::Frozen);
    let plain = run(&config, &dataset(), &()).unwrap();
    let texts = config.text_model.as_mut().unwrap();
    texts.cache = Some(cache.path().join("vectors"));
    let first = run(&config, &dataset(), &()).unwrap();
    // Valid and test rows are the same here.
    let files = || {
        std::fs::read_dir(cache.path().join("vectors"))
            .unwrap()
            .count()
    };
    assert_eq!(files(), 2);
    let second = run(&config, &dataset(), &()).unwrap();
    assert_eq!(files(), 2);
    for run in [&first, &second] {
        assert_eq!(run.runs[0].test_predictions, plain.runs[0].test_predictions);
    }
    // Another encoder has vectors of its own.
    config.text_model.as_mut().unwrap().folder = other.path().to_owned();
    run(&config, &dataset(), &()).unwrap();
    assert_eq!(files(), 4);

    let file = cache.path().join("model.safetensors");
    first.models[0].save(&file).unwrap();
    assert!(
        !first.models[0]
            .save_text_encoder(cache.path().join("none"))
            .unwrap()
    );
    Checkpoint::load(&file).unwrap();
    let weights = "model.safetensors";
    std::fs::copy(other.path().join(weights), folder.path().join(weights)).unwrap();
    let error = Checkpoint::load(&file).unwrap_err().to_string();
    assert!(error.contains("another encoder"), "{error}");
}

#[test]
fn texts_that_are_too_long_are_counted() {
    struct Truncated(Mutex<Vec<(usize, usize)>>);
    impl Observer for Truncated {
        fn observe(&self, event: &Event<'_>) {
            if let Event::TextsTruncated { texts, rows } = event {
                self.0.lock().unwrap().push((*texts, *rows));
            }
        }
    }
    let folder = pretrained(1);
    let observer = Truncated(Mutex::default());
    run(
        &config(folder.path(), Tuning::Frozen),
        &dataset(),
        &observer,
    )
    .unwrap();
    // One text in four has 6 words, and two tokens frame it.
    assert_eq!(*observer.0.lock().unwrap(), [(6, 24)]);
}

#[test]
fn values_out_of_range_are_named() {
    type Change = fn(&mut TextModelConfig);
    let changes: [(&str, Change); 5] = [
        ("text_model.folder", |text| text.folder = "".into()),
        ("text_model.tuning.last", |text| {
            text.tuning = Tuning::Last(0)
        }),
        ("text_model.max_tokens", |text| text.max_tokens = 2),
        ("text_model.learning_rate", |text| text.learning_rate = 0.0),
        ("text_model.weight_decay", |text| text.weight_decay = -1.0),
    ];
    for (expected, change) in changes {
        let mut config = config(Path::new("folder"), Tuning::Full);
        config.validate().unwrap();
        change(config.text_model.as_mut().unwrap());
        let refused = config.validate();
        assert!(matches!(refused, Err(TrainError::Config { key, .. }) if key == expected));
    }
    let mut config = config(Path::new("folder"), Tuning::Full);
    config.training.warm_up = Some(1.0);
    assert!(config.validate().is_err());
}

#[test]
fn every_parameter_agrees_with_differences() {
    let mut config = config(Path::new("folder"), Tuning::Full);
    config.modalities.audio.encoder = EncoderConfig::Pooled(PooledConfig {
        statistics: Statistics::Mean,
        dropout: 0.2,
        output_size: 3,
    });
    config.objective.shared_width = 3;
    config.objective.shared_information_weight = 5.0;
    let draw = &mut rng(3, Stream::Generation);
    let mut text = BertEncoder::<f64>::new(&bert(), draw).unwrap();
    for (_, mut view) in text.named_views_mut() {
        view.mapv_inplace(|x| x + draw.random_range(-0.3..0.3));
    }
    let model = Model::with_text_encoder(&config, &[2, 2], Some(text), draw).unwrap();
    let batch = TokenBatch {
        ids: array![[2, 5, 7, 3], [2, 6, 3, 0], [2, 3, 0, 0]],
        mask: array![
            [true, true, true, true],
            [true, true, true, false],
            [true, true, false, false]
        ],
        token_types: Array2::zeros((3, 4)),
    };
    let (tokens, lengths) = batch.to_steps().unwrap();
    let tokens = tokens.mapv(f64::from);
    let audio = Array3::from_shape_simple_fn((3, 1, 2), || draw.random_range(-1.0..1.0));
    let inputs = [
        Input {
            sequences: tokens.view().into(),
            lengths: &lengths,
        },
        Input {
            sequences: audio.view().into(),
            lengths: &[1, 1, 1],
        },
    ];
    // Labels stay clear of the scores, where the absolute error has its kink.
    let targets = Targets {
        multimodal: array![5.0, -4.0, 6.0],
        unimodal: array![[5.0, -5.0, 4.0], [-4.0, 6.0, 5.0]],
        weights: array![[0.5, 0.2, 0.9], [0.3, 0.8, 0.1]],
    };
    let objective = || Objective::<f64>::new(&config).unwrap();
    let evaluate = |model: &Model<f64>| {
        let (outputs, cache) = model
            .forward(&inputs, &mut rng(7, Stream::Dropout))
            .unwrap();
        let (terms, gradients) = objective().evaluate(&outputs, &targets).unwrap();
        (terms.total, gradients, cache)
    };
    let (_, output_gradients, cache) = evaluate(&model);
    let mut grads = model.zeros_like();
    model
        .backward(cache, &output_gradients, &mut grads)
        .unwrap();
    let analytic = grads.named_views();
    let text_arrays = analytic
        .iter()
        .filter(|(name, _)| name.starts_with("text.encoder."))
        .count();
    assert_eq!(text_arrays, 5 + 2 * 16);
    for (index, (name, view)) in model.named_views().into_iter().enumerate() {
        let (value, gradient) = (view.to_owned(), analytic[index].1.to_owned());
        check_gradient(&name, &value, &gradient, |changed: &ArrayD<f64>| {
            let mut model = model.clone();
            model.named_views_mut()[index].1.assign(changed);
            evaluate(&model).0
        })
        .unwrap_or_else(|error| panic!("{error}"));
    }
}
