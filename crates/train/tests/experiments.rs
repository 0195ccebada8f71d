//! Whole experiments on small generated data: determinism, learning, refusals.

#![allow(clippy::unwrap_used)]

mod keeper;

use keeper::run_batch_by_batch;
use modalign_core::Parameters;
use modalign_data::{Dataset, GeneratedConfig, ReadOptions, generate, read, write_npz};
use modalign_encoders::{EncoderConfig, LstmEncoderConfig, Modality};
use modalign_metrics::{Convention, Metric};
use modalign_train::{
    Checkpoint, Experiment, ExperimentConfig, Predictor, Recipe, TrainError, Variant,
    cross_validate, run,
};

fn data() -> Dataset {
    let config = GeneratedConfig {
        train_rows: 160,
        valid_rows: 48,
        test_rows: 48,
        ..GeneratedConfig::default()
    };
    generate(&config).unwrap().dataset
}

fn config(recipe: Recipe) -> ExperimentConfig {
    let mut config = ExperimentConfig::recipe(recipe, Convention::Mosi);
    config.seeds = vec![1111, 1112];
    config.training.max_epochs = 4;
    config
}

fn weights(experiment: &Experiment) -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    experiment
        .models
        .iter()
        .enumerate()
        .map(|(index, model)| {
            let path = folder.path().join(index.to_string());
            model.save(&path).unwrap();
            std::fs::read(path).unwrap()
        })
        .collect()
}

fn on_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap()
        .install(work)
}

/// One run, so that threads share its steps, with layers that are large enough to be shared out.
#[test]
fn threads_within_a_step_change_no_bit() {
    let mut generated = GeneratedConfig {
        train_rows: 72,
        valid_rows: 8,
        test_rows: 8,
        ..GeneratedConfig::default()
    };
    generated.text.width = 768;
    generated.audio.width = 30;
    generated.audio.steps = 60;
    let data = generate(&generated).unwrap().dataset;
    for recipe in [Recipe::Modalign, Recipe::SelfMm] {
        let mut config = config(recipe);
        config.seeds.truncate(1);
        config.objective.shared_information_weight = 1.0;
        config.training.batch_size = 32;
        config.training.accumulation_steps = 1;
        let runs =
            [1, 2, 3].map(|threads| on_threads(threads, || run(&config, &data, &()).unwrap()));
        for other in &runs[1..] {
            assert_eq!(weights(&runs[0]), weights(other), "{recipe:?}");
            assert_eq!(runs[0].runs[0].history, other.runs[0].history);
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let data = data();
    for recipe in [Recipe::Modalign, Recipe::SelfMm] {
        let config = config(recipe);
        let one = on_threads(1, || run(&config, &data, &()).unwrap());
        let two = on_threads(2, || run(&config, &data, &()).unwrap());
        assert_eq!(weights(&one), weights(&two), "{recipe:?}");
        for (one, two) in one.runs.iter().zip(&two.runs) {
            assert_eq!(one.history, two.history);
            assert_eq!(one.test_predictions, two.test_predictions);
        }
        assert_ne!(one.runs[0].history, one.runs[1].history, "seeds differ");
    }
}

/// The members of an archive as they are, not compressed.
fn uncompressed(bytes: &[u8]) -> Vec<u8> {
    use std::io::Cursor;
    use zip::write::SimpleFileOptions;
    use zip::{CompressionMethod, ZipArchive, ZipWriter};

    let mut archive = ZipArchive::new(Cursor::new(bytes)).unwrap();
    let mut copy = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).unwrap();
        copy.start_file(member.name().unwrap(), options).unwrap();
        std::io::copy(&mut member, &mut copy).unwrap();
    }
    copy.finish().unwrap().into_inner()
}

#[test]
fn features_that_stay_in_the_file_change_no_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.npz");
    write_npz(&path, &data()).unwrap();
    std::fs::write(&path, uncompressed(&std::fs::read(&path).unwrap())).unwrap();
    let read = |in_file_above| {
        let options = ReadOptions {
            in_file_above,
            ..ReadOptions::default()
        };
        read(&path, &options).unwrap().0
    };
    let memory = read(None);
    let sizes = memory.train.features.values().map(|one| one.values.len());
    // All but the smallest, in the training split.
    let file = read(sizes.min().map(|smallest| 4 * smallest as u64));
    assert_eq!(file.train.file_features.len(), 2);
    assert_eq!(file.train.features.len(), 1);
    let mut config = config(Recipe::Modalign);
    config.training.max_epochs = 2;
    let from_memory = run(&config, &memory, &()).unwrap();
    for threads in [1, 2] {
        let from_file = on_threads(threads, || run(&config, &file, &()).unwrap());
        assert_eq!(weights(&from_memory), weights(&from_file));
        for (one, two) in from_memory.runs.iter().zip(&from_file.runs) {
            assert_eq!(one.history, two.history);
            assert_eq!(one.test_predictions, two.test_predictions);
        }
        let representations = |data: &Dataset, from: &Experiment| {
            let predictor = Predictor::new(from.models[0].clone());
            predictor.representations(&data.test).unwrap()
        };
        assert_eq!(
            representations(&memory, &from_memory),
            representations(&file, &from_file)
        );
    }
}

#[test]
fn the_full_method_learns_what_a_constant_cannot() {
    let data = data();
    let mut config = config(Recipe::Modalign);
    config.training.max_epochs = 20;
    let experiment = run(&config, &data, &()).unwrap();
    let mean = data.train.labels.mean().unwrap();
    let constant = data
        .test
        .labels
        .mapv(|label| (label - mean).abs())
        .mean()
        .unwrap();
    for run in &experiment.runs {
        let error = run.test.get(Metric::Mae).unwrap();
        assert!(
            error < 0.9 * f64::from(constant),
            "{error} against {constant}"
        );
        let first = &run.history[0].train;
        let last = &run.history[run.history.len() - 1].train;
        assert!(last.multimodal < first.multimodal);
        assert_eq!(first.pairs.len(), 3);
    }
}

#[test]
fn unimodal_tasks_begin_in_the_third_epoch_of_the_published_recipe() {
    let experiment = run(&config(Recipe::SelfMm), &data(), &()).unwrap();
    for run in &experiment.runs {
        let task = |epoch: usize| -> f64 {
            run.history[epoch - 1]
                .train
                .unimodal
                .iter()
                .map(|(_, term)| term)
                .sum()
        };
        assert_eq!((task(1), task(2)), (0.0, 0.0));
        assert!(task(3) > 0.0);
    }
}

#[test]
fn the_checkpoint_holds_the_epoch_that_validation_chose() {
    let mut data = data();
    // What is learnt from the training rows is wrong of these, so that the last epoch is not the best.
    data.valid.labels.mapv_inplace(|label| -label);
    let mut config = config(Recipe::Modalign);
    config.training.max_epochs = 12;
    let experiment = run(&config, &data, &()).unwrap();
    for (result, model) in experiment.runs.iter().zip(&experiment.models) {
        assert!(result.best_epoch < result.history.len());
        let lowest = result
            .history
            .iter()
            .map(|record| record.valid_loss)
            .fold(f64::MAX, f64::min);
        let best = &result.history[result.best_epoch - 1];
        assert!(best.valid_loss <= lowest + 1e-6);
        let again = Predictor::new(model.clone()).evaluate(&data.valid).unwrap();
        assert_eq!(again, best.valid);
    }
}

#[test]
fn a_saved_model_predicts_the_same() {
    let data = data();
    let mut config = config(Recipe::Modalign);
    config.modalities.audio.encoder = EncoderConfig::Lstm(LstmEncoderConfig::default());
    let experiment = run(&config, &data, &()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("best.safetensors");
    experiment.models[0].save(&path).unwrap();
    let loaded = Checkpoint::load(&path).unwrap();
    assert_eq!(loaded.config(), &config);
    let predictions = Predictor::new(loaded).predict(&data.test).unwrap();
    assert_eq!(predictions, experiment.runs[0].test_predictions);
    let first = &predictions[0];
    assert_eq!(first.label, data.test.labels[0]);
    for ((_, pull), (_, score)) in first.pull.iter().zip(&first.unimodal) {
        assert!((pull - (score - first.fused)).abs() < 1e-5);
    }

    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert!(matches!(Checkpoint::load(&path), Err(TrainError::Store(_))));
}

#[test]
fn the_neutral_label_shifts_predictions_and_nothing_else() {
    let data = data();
    let mut shifted = data.clone();
    for split in [&mut shifted.train, &mut shifted.valid, &mut shifted.test] {
        split.labels += 4.0;
    }
    let mut config = config(Recipe::Modalign);
    config.training.max_epochs = 1;
    let plain = run(&config, &data, &()).unwrap();
    config.data.neutral_label = 4.0;
    let moved = run(&config, &shifted, &()).unwrap();
    for (plain, moved) in plain.runs[0]
        .test_predictions
        .iter()
        .zip(&moved.runs[0].test_predictions)
    {
        assert!((plain.fused + 4.0 - moved.fused).abs() < 1e-3);
    }
}

#[test]
fn variants_change_one_thing_each() {
    let data = data();
    let config = config(Recipe::Modalign);
    let full = run(&config, &data, &()).unwrap();
    let count =
        |experiment: &Experiment| -> usize { experiment.models[0].model().parameter_count() };
    for variant in Variant::ALL {
        let experiment = run(&variant.apply(&config), &data, &()).unwrap();
        let last = &experiment.runs[0].history[3];
        match variant {
            Variant::Full => assert_eq!(weights(&experiment), weights(&full)),
            Variant::TextOnly => {
                assert_eq!(experiment.models[0].model().branches().count(), 1);
                assert!(last.train.pairs.is_empty());
            }
            Variant::NoSharedInformation => {
                assert_eq!(last.train.shared_information, 0.0);
                assert!(count(&experiment) < count(&full), "no projections");
            }
            Variant::NoLabelGenerator => {
                assert!(last.labels.is_empty());
                assert!(last.train.unimodal.iter().all(|(_, term)| *term == 0.0));
            }
            other => panic!("{other:?} is not tested"),
        }
    }
}

#[test]
fn every_row_is_tested_once_in_a_cross_validation() {
    let data = data();
    let mut config = config(Recipe::Modalign);
    config.seeds = vec![1111];
    config.training.max_epochs = 1;
    let experiment = cross_validate(&config, &data, 4, &()).unwrap();
    assert_eq!(experiment.runs.len(), 4);
    let mut ids: Vec<_> = experiment
        .runs
        .iter()
        .flat_map(|run| {
            run.test_predictions
                .iter()
                .map(|prediction| prediction.id.clone())
        })
        .collect();
    ids.sort();
    let mut expected = data.pool().unwrap().id;
    expected.sort();
    assert_eq!(ids, expected);
    let error = cross_validate(&config, &data, 2, &()).unwrap_err();
    assert!(matches!(error, TrainError::Config { key, .. } if key == "folds"));
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_names_the_batch() {
    let mut data = data();
    data.train.labels[7] = f32::MAX;
    data.train.labels[8] = -f32::MAX;
    let mut config = config(Recipe::Modalign);
    config.objective.unimodal_weight = 0.0;
    let error = run(&config, &data, &()).unwrap_err();
    let TrainError::Diverged {
        run,
        epoch,
        batch,
        ids,
        ..
    } = error
    else {
        panic!("{error}");
    };
    assert!(run.starts_with("seed 111"));
    assert!(epoch >= 1 && batch >= 1);
    assert!(!ids.is_empty() && ids.iter().all(|id| data.train.id.contains(id)));
}

#[test]
fn a_run_interrupted_after_every_batch_ends_in_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.npz");
    write_npz(&path, &data()).unwrap();
    let in_file = ReadOptions {
        in_file_above: Some(0),
        ..ReadOptions::default()
    };
    let in_file = read(&path, &in_file).unwrap().0;
    assert_eq!(in_file.train.file_features.len(), 3);
    let mut lstm = config(Recipe::Modalign);
    lstm.modalities.audio.encoder = EncoderConfig::Lstm(LstmEncoderConfig::default());
    for (mut config, data) in [
        (config(Recipe::Modalign), in_file),
        // The gradients of several batches are added.
        (config(Recipe::SelfMm), data()),
        (lstm, data()),
    ] {
        config.seeds = vec![1111];
        config.training.max_epochs = 2;
        config.training.batch_size = 48;
        let undisturbed = run(&config, &data, &()).unwrap();
        let (resumed, interruptions) = run_batch_by_batch(&config, &data);
        // Of 160 rows four batches an epoch; after the last of all there is nothing to interrupt.
        assert_eq!(interruptions, 7);
        assert_eq!(weights(&undisturbed), weights(&resumed));
        assert_eq!(undisturbed.runs[0].history, resumed.runs[0].history);
        assert_eq!(
            undisturbed.runs[0].test_predictions,
            resumed.runs[0].test_predictions
        );
        assert_eq!(
            undisturbed.runs[0].final_labels,
            resumed.runs[0].final_labels
        );
    }
}

#[test]
fn a_loss_that_explodes_stops_the_run_though_it_is_a_number() {
    let mut config = config(Recipe::Modalign);
    config.seeds = vec![1111];
    config.heads.learning_rate = 1e4;
    let error = run(&config, &data(), &()).unwrap_err();
    let TrainError::Diverged {
        term,
        value,
        limit,
        epoch: 1,
        ids,
        ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!(term, "total loss");
    assert!(value.is_finite() && value > limit && *limit >= 1e6);
    assert!(!ids.is_empty());
    let sentence = error.to_string();
    assert!(sentence.contains("expected at most "), "{sentence}");
}

#[test]
fn a_checkpoint_with_any_bit_flipped_or_cut_anywhere_is_refused() {
    let mut config = config(Recipe::Modalign);
    config.seeds = vec![1];
    config.training.max_epochs = 1;
    config.fusion.hidden_size = 2;
    config.objective.shared_width = 2;
    config.data.modalities = vec![Modality::Audio, Modality::Vision];
    // A small file: each of its bytes costs one reading of it.
    for part in [&mut config.modalities.audio, &mut config.modalities.vision] {
        part.encoder = EncoderConfig::Identity {};
        part.head.hidden_size = 2;
    }
    let experiment = run(&config, &data(), &()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("best.safetensors");
    experiment.models[0].save(&path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    Checkpoint::load(&path).unwrap();
    let refused = |bytes: &[u8], what: &str| {
        std::fs::write(&path, bytes).unwrap();
        let error = Checkpoint::load(&path).expect_err(what).to_string();
        assert!(error.contains("best.safetensors: "), "{what}: {error}");
    };
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    assert!(header < whole.len());
    // Every byte of the header, and every array: none is shorter than one number.
    for at in (0..header).chain((header..whole.len()).step_by(4)) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        refused(&damaged, &format!("bit {} of byte {at}", at % 8));
    }
    for length in (0..whole.len()).step_by(61) {
        refused(&whole[..length], &format!("cut to {length} bytes"));
    }
}

#[test]
fn a_batch_of_one_row_is_refused_only_where_a_covariance_needs_more() {
    let mut config = config(Recipe::Modalign);
    config.training.batch_size = 1;
    let error = config.validate().unwrap_err();
    assert!(matches!(error, TrainError::Config { key, .. } if key == "training.batch_size"));
    config.objective.shared_information_weight = 0.0;
    config.validate().unwrap();

    // 160 rows in batches of 53 leave one over.
    config.training.batch_size = 53;
    config.objective.shared_information_weight = 1.0;
    config.training.max_epochs = 1;
    let mut data = data();
    assert!(run(&config, &data, &()).is_ok());

    data.train = data.train.select(&[7]).unwrap();
    let error = run(&config, &data, &()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the train split has 1 rows, 2 are needed for a covariance"
    );
    config.objective.shared_information_weight = 0.0;
    assert!(run(&config, &data, &()).is_ok());
}

#[test]
fn a_label_out_of_range_is_refused_with_its_row() {
    let mut data = data();
    data.train.labels[5] = 4.5;
    let mut config = config(Recipe::Modalign);
    let error = run(&config, &data, &()).unwrap_err().to_string();
    assert!(
        error.contains("training row 5 (id ") && error.contains("4.5, outside 0 ± 3"),
        "{error}"
    );
    config.data.neutral_label = 3.0;
    let error = run(&config, &data, &()).unwrap_err().to_string();
    assert!(error.contains("outside 3 ± 3"), "{error}");
}

#[test]
fn other_widths_are_refused_by_modality() {
    let data = data();
    let mut config = config(Recipe::Modalign);
    config.training.max_epochs = 1;
    let experiment = run(&config, &data, &()).unwrap();
    let mut other = data.test.clone();
    let text = other.features["text"].clone();
    other.features.insert("audio".to_owned(), text);
    let error = Predictor::new(experiment.models[0].clone())
        .predict(&other)
        .unwrap_err();
    assert!(matches!(
        error,
        TrainError::Width {
            modality: Modality::Audio,
            expected: 5,
            found: 768
        }
    ));
}
