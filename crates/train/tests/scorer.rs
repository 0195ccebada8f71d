//! Single utterances: the same scores as a whole split, no allocation, refusals.

#![allow(clippy::unwrap_used)]

use std::hint::black_box;

use modalign_data::{Dataset, GeneratedConfig, Split, generate};
use modalign_encoders::{EncoderConfig, Modality, PooledConfig, Statistics};
use modalign_metrics::Convention;
use modalign_train::{ExperimentConfig, Predictor, Recipe, Scores, TrainError, run};
use ndarray::{Array2, ArrayView2, Axis, s};

fn data() -> Dataset {
    let config = GeneratedConfig {
        train_rows: 48,
        valid_rows: 16,
        test_rows: 24,
        ..GeneratedConfig::default()
    };
    generate(&config).unwrap().dataset
}

/// A model with an encoder of every kind for features, and labels around 2.
fn predictor(data: &mut Dataset, recipe: Recipe) -> Predictor {
    for split in [&mut data.train, &mut data.valid, &mut data.test] {
        split.labels += 2.0;
    }
    let mut config = ExperimentConfig::recipe(recipe, Convention::Mosi);
    config.seeds = vec![1111];
    config.data.neutral_label = 2.0;
    config.training.max_epochs = 1;
    if recipe == Recipe::Modalign {
        config.modalities.vision.encoder = EncoderConfig::Pooled(PooledConfig {
            statistics: Statistics::MeanStd,
            ..PooledConfig::default()
        });
    }
    let experiment = run(&config, data, &()).unwrap();
    Predictor::new(experiment.models[0].clone())
}

fn utterance(split: &Split, row: usize) -> [ArrayView2<'_, f32>; 3] {
    Modality::ALL.map(|modality| {
        let sequences = &split.features[modality.name()];
        let steps = s![..sequences.lengths[row], ..];
        sequences.values.index_axis(Axis(0), row).slice_move(steps)
    })
}

#[test]
fn scores_are_those_of_the_whole_split() {
    for recipe in [Recipe::Modalign, Recipe::SelfMm] {
        let mut data = data();
        let predictor = predictor(&mut data, recipe);
        let mut scorer = predictor.scorer();
        for (row, expected) in predictor.predict(&data.test).unwrap().iter().enumerate() {
            let found = scorer.score(&utterance(&data.test, row)).unwrap();
            let close = |found: f32, expected: f32| {
                assert!(
                    (found - expected).abs() < 1e-5,
                    "{found} against {expected}"
                );
            };
            close(found.fused, expected.fused);
            for (found, expected) in [
                (&found.unimodal, &expected.unimodal),
                (&found.pull, &expected.pull),
            ] {
                assert_eq!(found.len(), 3);
                for (found, expected) in found.iter().zip(expected) {
                    assert_eq!(found.0, expected.0);
                    close(found.1, expected.1);
                }
            }
        }
    }
}

#[test]
fn a_warm_scorer_allocates_nothing() {
    let counted = allocation_counter::measure(|| drop(black_box(vec![0_u8; 9])));
    assert_eq!(counted.count_total, 1, "nothing is counted");
    for recipe in [Recipe::Modalign, Recipe::SelfMm] {
        let mut data = data();
        let predictor = predictor(&mut data, recipe);
        let mut scorer = predictor.scorer();
        let rows: Vec<_> = (0..data.test.len())
            .map(|row| utterance(&data.test, row))
            .collect();
        for row in &rows {
            scorer.score(row).unwrap();
        }
        let counted = allocation_counter::measure(|| {
            for row in &rows {
                black_box(scorer.score(row).unwrap());
            }
        });
        assert_eq!(counted.count_total, 0, "{recipe:?}");
    }
}

#[test]
fn one_predictor_serves_several_threads() {
    let mut data = data();
    let predictor = predictor(&mut data, Recipe::SelfMm);
    let all = || -> Vec<Scores> {
        let mut scorer = predictor.scorer();
        (0..data.test.len())
            .map(|row| scorer.score(&utterance(&data.test, row)).unwrap().clone())
            .collect()
    };
    let expected = all();
    let found = std::thread::scope(|scope| {
        let threads = [(); 3].map(|()| scope.spawn(all));
        threads.map(|thread| thread.join().unwrap())
    });
    assert_eq!(found, [(); 3].map(|()| expected.clone()));
}

#[test]
fn features_that_do_not_fit_are_refused_and_leave_no_trace() {
    let mut data = data();
    let predictor = predictor(&mut data, Recipe::Modalign);
    let mut scorer = predictor.scorer();
    let good = utterance(&data.test, 0);
    let expected = scorer.score(&good).unwrap().clone();
    assert!(matches!(
        scorer.score(&good[..2]),
        Err(TrainError::Modalities {
            expected: 3,
            found: 2
        })
    ));
    let wide = Array2::zeros((2, 99));
    assert!(matches!(
        scorer.score(&[good[0], wide.view(), good[2]]),
        Err(TrainError::Width {
            modality: Modality::Audio,
            found: 99,
            ..
        })
    ));
    assert!(matches!(
        scorer.score(&[good[0], good[1], good[2].slice(s![..0, ..])]),
        Err(TrainError::NoSteps {
            modality: Modality::Vision
        })
    ));
    let mut bad = good[1].to_owned();
    bad[[0, 3]] = f32::NAN;
    assert!(matches!(
        scorer.score(&[good[0], bad.view(), good[2]]),
        Err(TrainError::Feature {
            modality: Modality::Audio,
            step: 0,
            column: 3,
            ..
        })
    ));
    assert_eq!(scorer.score(&good).unwrap(), &expected);
}
