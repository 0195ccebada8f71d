//! The generator against a twin that recomputes both centres of every space from all samples at
//! every step, over drawn options, batches, spaces and numbers of epochs; with what must hold
//! whatever the options: labels in range, the multimodal label untouched, every label counted once,
//! and a run that is saved and resumed at any step equal to one that is not, bit for bit.

use modalign_core::{Scalar, Store, Stream, rng};
use modalign_labels::{
    Class, Distance, LabelGenerator, LabelGeneratorConfig, LabelState, Momentum, Offset,
    UpdateReport,
};
use ndarray::{Array1, Array2};
use proptest::prelude::*;
use rand::RngExt;
use rand::seq::SliceRandom;

const EPOCHS: usize = 5;

/// The algorithm as one would write it first.
struct Twin {
    config: LabelGeneratorConfig,
    labels: Vec<Vec<f64>>,
    features: Vec<Vec<Vec<f64>>>,
    seen: Vec<bool>,
    /// By space, then class.
    centres: Vec<[Option<Vec<f64>>; 2]>,
    empty: Vec<[bool; 2]>,
}

impl Twin {
    fn new(config: LabelGeneratorConfig, labels: &[f64], widths: &[usize]) -> Self {
        let mut twin = Self {
            config,
            labels: vec![labels.to_vec(); widths.len()],
            features: widths
                .iter()
                .map(|&width| vec![vec![0.0; width]; labels.len()])
                .collect(),
            seen: vec![config.count_unseen; labels.len()],
            centres: vec![[None, None]; widths.len()],
            empty: vec![[true, true]; widths.len()],
        };
        twin.recompute_centres();
        twin
    }

    fn is_member(&self, class: usize, label: f64) -> bool {
        match class {
            0 if self.config.exclude_zero => label > 0.0,
            0 => label >= 0.0,
            _ => label < 0.0,
        }
    }

    fn recompute_centres(&mut self) {
        for space in 0..self.labels.len() {
            for class in 0..2 {
                let width = self.features[space][0].len();
                let mut mean = vec![0.0; width];
                let mut count = 0.0;
                for sample in 0..self.seen.len() {
                    if self.seen[sample] && self.is_member(class, self.labels[space][sample]) {
                        count += 1.0;
                        for (mean, feature) in mean.iter_mut().zip(&self.features[space][sample]) {
                            *mean += feature;
                        }
                    }
                }
                self.empty[space][class] = count == 0.0;
                if count == 0.0 {
                    continue;
                }
                let m = self.config.centre_momentum;
                let old = self.centres[space][class].take();
                let new = (0..width).map(|column| {
                    let mean = mean[column] / count;
                    match &old {
                        Some(old) if m > 0.0 => m * old[column] + (1.0 - m) * mean,
                        _ => mean,
                    }
                });
                self.centres[space][class] = Some(new.collect());
            }
        }
    }

    fn alpha(&self, space: usize, feature: &[f64]) -> Option<f64> {
        if self.empty[space] != [false, false] {
            return None;
        }
        let distance = |class: usize| {
            let centre = self.centres[space][class].as_ref().expect("not empty");
            let square: f64 = feature
                .iter()
                .zip(centre)
                .map(|(f, c)| (f - c) * (f - c))
                .sum();
            match self.config.distance {
                Distance::Euclidean => square.sqrt(),
                Distance::ScaledSquare => square / (feature.len() as f64).sqrt(),
            }
        };
        Some((distance(1) - distance(0)) / (distance(0) + self.config.epsilon))
    }

    fn step(&mut self, epoch: usize, batch: &[usize], features: &[Vec<Vec<f64>>]) {
        let config = self.config;
        let n = epoch as f64;
        let (old, new) = match config.momentum {
            Momentum::Epoch => ((n - 1.0) / (n + 1.0), 2.0 / (n + 1.0)),
            Momentum::Constant(weight) => (weight, 1.0 - weight),
        };
        for (row, &sample) in batch.iter().enumerate() {
            if epoch < config.start_epoch {
                break;
            }
            let y = self.labels[0][sample];
            for space in 1..self.labels.len() {
                let fused = self.alpha(0, &features[0][row]);
                let own = self.alpha(space, &features[space][row]);
                let (Some(fused), Some(own)) = (fused, own) else {
                    continue;
                };
                let small = fused.abs() < config.minimum_relative_distance;
                if small && config.offset != Offset::Difference {
                    continue;
                }
                let ratio = own * y / (fused + config.epsilon);
                let difference = y + own - fused;
                let candidate = match config.offset {
                    Offset::Ratio => ratio,
                    Offset::Difference => difference,
                    Offset::Average => (ratio + difference) / 2.0,
                };
                let candidate = candidate.max(-config.label_limit).min(config.label_limit);
                let label = &mut self.labels[space][sample];
                *label = old * *label + new * candidate;
            }
        }
        for (row, &sample) in batch.iter().enumerate() {
            self.seen[sample] = true;
            for (own, rows) in self.features.iter_mut().zip(features) {
                own[sample] = rows[row].clone();
            }
        }
        self.recompute_centres();
    }
}

fn config() -> impl Strategy<Value = LabelGeneratorConfig> {
    (
        prop_oneof![Just(Distance::Euclidean), Just(Distance::ScaledSquare)],
        prop_oneof![
            Just(Offset::Ratio),
            Just(Offset::Difference),
            Just(Offset::Average)
        ],
        prop_oneof![
            Just(Momentum::Epoch),
            (0.0..=1.0).prop_map(Momentum::Constant)
        ],
        1..4_usize,
        prop_oneof![Just(0.0), 0.01..0.99],
        any::<bool>(),
        any::<bool>(),
        prop_oneof![Just(1.0), Just(3.0)],
        prop_oneof![Just(0.0), Just(0.05)],
    )
        .prop_map(
            |(
                distance,
                offset,
                momentum,
                start_epoch,
                centre_momentum,
                exclude_zero,
                count_unseen,
                label_limit,
                minimum_relative_distance,
            )| LabelGeneratorConfig {
                distance,
                offset,
                momentum,
                start_epoch,
                centre_momentum,
                exclude_zero,
                count_unseen,
                label_limit,
                minimum_relative_distance,
                epsilon: 1e-8,
            },
        )
}

/// A training run without a model: features near the side of the label, drawn anew in each epoch.
#[derive(Debug, Clone)]
struct Run {
    labels: Vec<f64>,
    widths: Vec<usize>,
    batch: usize,
    seed: u64,
}

struct Step {
    epoch: usize,
    indices: Vec<usize>,
    /// By space, row and column.
    features: Vec<Vec<Vec<f64>>>,
}

impl Run {
    fn steps(&self) -> Vec<Step> {
        let mut rng = rng(self.seed, Stream::Generation);
        let mut steps = Vec::new();
        for epoch in 1..=EPOCHS {
            let mut order: Vec<usize> = (0..self.labels.len()).collect();
            order.shuffle(&mut rng);
            for indices in order.chunks(self.batch) {
                let mut feature = |width: usize, sample: usize| {
                    (0..width)
                        .map(|_| self.labels[sample] + rng.random_range(-1.5..1.5_f32) as f64)
                        .collect()
                };
                let features = self.widths.iter().map(|&width| {
                    indices
                        .iter()
                        .map(|&sample| feature(width, sample))
                        .collect()
                });
                steps.push(Step {
                    epoch,
                    features: features.collect(),
                    indices: indices.to_vec(),
                });
            }
        }
        steps
    }
}

fn run_of_a_model() -> impl Strategy<Value = Run> {
    let label = prop_oneof![1 => Just(0.0), 5 => -1.0..1.0_f64];
    (
        prop::collection::vec(label, 1..16),
        prop::collection::vec(1..5_usize, 2..5),
        1..9_usize,
        any::<u64>(),
    )
        .prop_map(|(labels, widths, batch, seed)| Run {
            // Exact in f32 too.
            labels: labels
                .iter()
                .map(|&label| f64::from(label as f32))
                .collect(),
            widths,
            batch,
            seed,
        })
}

fn array<A: Scalar>(rows: &[Vec<f64>]) -> Array2<A> {
    Array2::from_shape_fn((rows.len(), rows[0].len()), |(row, column)| {
        A::from_f64(rows[row][column])
    })
}

fn update<A: Scalar>(
    generator: &LabelGenerator,
    state: &mut LabelState<A>,
    step: &Step,
) -> UpdateReport {
    let arrays: Vec<Array2<A>> = step.features.iter().map(|rows| array(rows)).collect();
    let views: Vec<_> = arrays.iter().map(|array| array.view()).collect();
    generator
        .update(state, step.epoch, &step.indices, &views)
        .expect("a good batch")
}

fn initial<A: Scalar>(generator: &LabelGenerator, run: &Run) -> LabelState<A> {
    let labels: Array1<A> = run.labels.iter().map(|&label| A::from_f64(label)).collect();
    generator
        .initial_state(labels.view(), &run.widths)
        .expect("good labels")
}

fn stored<A: Scalar>(state: &LabelState<A>) -> Store {
    let mut store = Store::default();
    state.insert_into(&mut store, "labels");
    store
}

/// Interrupts at a step, goes through a file, resumes.
fn resumes_bit_for_bit<A: Scalar>(config: LabelGeneratorConfig, run: &Run, interruption: usize) {
    let generator = LabelGenerator::new(config).expect("valid");
    let steps = run.steps();
    let (before, after) = steps.split_at(interruption % steps.len());
    let mut state = initial::<A>(&generator, run);
    for step in before {
        update(&generator, &mut state, step);
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("labels.safetensors");
    stored(&state).save(&path).expect("saved");

    let mut resumed = initial::<A>(&generator, run);
    let store = Store::load(&path).expect("loaded");
    resumed.read_from(&store, "labels").expect("the same run");
    for step in after {
        let reports = [&mut state, &mut resumed].map(|state| update(&generator, state, step));
        assert_eq!(reports[0], reports[1]);
        assert_eq!(stored(&state), stored(&resumed));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_twin_agrees(config in config(), run in run_of_a_model()) {
        let generator = LabelGenerator::new(config).unwrap();
        let mut state = initial::<f64>(&generator, &run);
        let mut twin = Twin::new(config, &run.labels, &run.widths);
        for step in run.steps() {
            let report = update(&generator, &mut state, &step);
            twin.step(step.epoch, &step.indices, &step.features);

            let counted =
                report.updated + report.skipped_empty_class + report.skipped_vanishing_distance;
            let expected = step.indices.len() * (run.widths.len() - 1);
            prop_assert_eq!(counted, if step.epoch < config.start_epoch { 0 } else { expected });
            prop_assert!(report.clamped <= report.updated);

            for (space, labels) in state.labels().rows().into_iter().enumerate() {
                for (sample, &label) in labels.iter().enumerate() {
                    prop_assert!(label.abs() <= config.label_limit);
                    let expected = twin.labels[space][sample];
                    prop_assert!((label - expected).abs() < 1e-9, "{label} {expected}");
                }
                for (row, class) in [Class::Positive, Class::Negative].into_iter().enumerate() {
                    let centre = state.centre(space, class);
                    prop_assert_eq!(centre.is_none(), twin.empty[space][row]);
                    if let Some(centre) = centre {
                        let expected = twin.centres[space][row].as_ref().unwrap();
                        for (found, expected) in centre.iter().zip(expected) {
                            prop_assert!((found - expected).abs() < 1e-12);
                        }
                    }
                }
            }
            prop_assert_eq!(state.labels().row(0).to_vec(), run.labels.clone());
        }
    }

    #[test]
    fn an_f32_run_stays_in_range_and_near_the_f64_run(run in run_of_a_model()) {
        // By the difference of bounded distances, so that nothing amplifies the rounding.
        let config = LabelGeneratorConfig {
            offset: Offset::Difference,
            epsilon: 0.1,
            label_limit: 1.0,
            ..LabelGeneratorConfig::default()
        };
        let generator = LabelGenerator::new(config).unwrap();
        let mut single = initial::<f32>(&generator, &run);
        let mut double = initial::<f64>(&generator, &run);
        for step in run.steps() {
            update(&generator, &mut single, &step);
            update(&generator, &mut double, &step);
        }
        // A label that rounding has put on the other side of zero moves the centres.
        let near_zero = double.labels().iter().any(|&label| label != 0.0 && label.abs() < 1e-4);
        for (&single, &double) in single.labels().iter().zip(double.labels()) {
            prop_assert!(single.abs() <= 1.0);
            prop_assert!(near_zero || (f64::from(single) - double).abs() < 1e-4);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn an_interrupted_run_resumes_bit_for_bit(
        config in config(),
        run in run_of_a_model(),
        interruption in any::<prop::sample::Index>(),
    ) {
        let interruption = interruption.index(1000);
        resumes_bit_for_bit::<f32>(config, &run, interruption);
        resumes_bit_for_bit::<f64>(config, &run, interruption);
    }
}

#[test]
fn a_state_of_other_data_is_refused_and_changes_nothing() {
    let generator = LabelGenerator::new(LabelGeneratorConfig::default()).unwrap();
    let run = |labels: &[f64], widths: &[usize]| Run {
        labels: labels.to_vec(),
        widths: widths.to_vec(),
        batch: 2,
        seed: 1,
    };
    let saved = run(&[1.0, -0.5, 0.25], &[2, 1]);
    let mut state = initial::<f32>(&generator, &saved);
    for step in saved.steps() {
        update(&generator, &mut state, &step);
    }
    let store = stored(&state);

    let refused = |other: Run| {
        let mut state = initial::<f32>(&generator, &other);
        let before = stored(&state);
        let error = state.read_from(&store, "labels").unwrap_err();
        assert_eq!(stored(&state), before);
        error.to_string()
    };
    let labels = refused(run(&[1.0, -0.75, 0.25], &[2, 1]));
    assert_eq!(
        labels,
        "the stored label of sample 1 is -0.5, that of the data is -0.75"
    );
    let samples = refused(run(&[1.0, -0.5], &[2, 1]));
    assert!(
        samples.contains("labels has shape [2, 3], expected [2, 2]"),
        "{samples}"
    );
    let spaces = refused(run(&[1.0, -0.5, 0.25], &[2, 1, 1]));
    assert!(spaces.contains("[2, 3], expected [3, 3]"), "{spaces}");
    let widths = refused(run(&[1.0, -0.5, 0.25], &[2, 2]));
    assert!(
        widths.contains("features has shape [3, 1], expected [3, 2]"),
        "{widths}"
    );

    let mut wide = initial::<f64>(&generator, &saved);
    let error = wide.read_from(&store, "labels").unwrap_err().to_string();
    assert!(error.contains("labels.labels is stored as F32"), "{error}");
    let error = wide.read_from(&store, "other").unwrap_err().to_string();
    assert!(error.contains("no array named other.labels"), "{error}");
}
