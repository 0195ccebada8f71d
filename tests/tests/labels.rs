//! The label generator against the published programs (and the paper's formulas), step by step.

use std::process::ExitCode;

use modalign_labels::{
    Class, Distance, LabelGenerator, LabelGeneratorConfig, LabelState, UpdateReport,
};
use modalign_oracle_tests::{Fixture, assert_close, run};
use ndarray::{Array, Array1, Array2, ArrayD, Axis, Dimension, s};

const TOLERANCE: f64 = 1e-10;
const SPACES: [&str; 4] = ["fusion", "text", "audio", "vision"];
const BATCH: usize = 8;

fn array<D: Dimension>(fixture: &Fixture, name: &str) -> Array<f64, D> {
    fixture
        .array(name)
        .into_dimensionality()
        .expect("the documented number of axes")
}

fn at(array: &ArrayD<f64>, epoch: usize, step: usize) -> ArrayD<f64> {
    array
        .index_axis(Axis(0), epoch)
        .index_axis(Axis(0), step)
        .to_owned()
}

/// Loss weights, relative distances, new labels, centres and labels at every step of five epochs.
fn follow(fixture: &Fixture, variant: &str, config: LabelGeneratorConfig) {
    let labels: Array1<f64> = array(fixture, "y");
    let order: Array2<f64> = array(fixture, "order");
    let features = SPACES.map(|space| array::<ndarray::Ix3>(fixture, &format!("feat_{space}")));
    let expected = |name: &str| fixture.array(&format!("{variant}/{name}"));
    let [weights, distances, new, after] = ["W", "rel", "new", "labels"].map(expected);
    let centres = [("pos", Class::Positive), ("neg", Class::Negative)].map(|(name, class)| {
        (
            class,
            SPACES.map(|space| expected(&format!("{name}_{space}"))),
        )
    });

    let generator = LabelGenerator::new(config).expect("valid");
    let widths = features.each_ref().map(|features| features.len_of(Axis(2)));
    let mut state = generator
        .initial_state(labels.view(), &widths)
        .expect("good labels");
    for epoch in 0..order.nrows() {
        for (step, batch) in order.row(epoch).exact_chunks(BATCH).into_iter().enumerate() {
            let what =
                |quantity: &str| format!("{variant}: {quantity}, epoch {epoch}, step {step}");
            let indices: Vec<usize> = batch.iter().map(|&index| index as usize).collect();
            let rows = features
                .each_ref()
                .map(|features| features.slice(s![epoch, .., ..]).select(Axis(0), &indices));

            let found = state.loss_weights(&indices).expect("in range");
            assert_close(
                &what("weights"),
                &found,
                &at(&weights, epoch, step),
                TOLERANCE,
            );

            let old = state.targets(&indices).expect("in range");
            if epoch > 0 {
                let found = Array2::from_shape_fn((SPACES.len(), BATCH), |(space, row)| {
                    let feature = rows[space].row(row);
                    let found = generator.relative_distance(&state, space, feature);
                    found.expect("the right width").expect("no class is empty")
                });
                assert_close(
                    &what("distances"),
                    &found,
                    &at(&distances, epoch, step),
                    TOLERANCE,
                );
            }

            let views = rows.each_ref().map(|rows| rows.view());
            let report = generator.update(&mut state, epoch + 1, &indices, &views);
            let report = report.expect("a good batch");
            if epoch > 0 {
                assert_eq!(report.updated, 3 * BATCH);
                // The label before it was averaged with the old one.
                let [keep, take] = config.momentum.weights(epoch + 1);
                let current = state.targets(&indices).expect("in range");
                let found = (current - keep * &old).slice_move(s![1.., ..]) / take;
                assert_close(
                    &what("new labels"),
                    &found,
                    &at(&new, epoch, step),
                    TOLERANCE,
                );
            } else {
                assert_eq!(report, UpdateReport::default());
            }
            for (class, centres) in &centres {
                for (space, expected) in centres.iter().enumerate() {
                    let found = state.centre(space, *class).expect("no class is empty");
                    assert_close(
                        &what("centre"),
                        &found,
                        &at(expected, epoch, step),
                        TOLERANCE,
                    );
                }
            }
        }
        let expected = after.index_axis(Axis(0), epoch).to_owned();
        assert_close(
            &format!("{variant}: labels"),
            &state.labels(),
            &expected,
            TOLERANCE,
        );
    }
}

fn self_mm(fixture: &Fixture) {
    follow(fixture, "ge0", LabelGeneratorConfig::self_mm());
}

fn mmsa(fixture: &Fixture) {
    follow(fixture, "gt0", LabelGeneratorConfig::mmsa());
}

/// Squared and scaled distances, and no clamp.
fn paper(fixture: &Fixture) {
    let config = LabelGeneratorConfig {
        distance: Distance::ScaledSquare,
        label_limit: f64::MAX,
        ..LabelGeneratorConfig::mmsa()
    };
    follow(fixture, "paper", config);
}

/// Where the published code has centres, and soon labels, that are not a number, there is no centre
/// and the labels stay as they are.
fn an_empty_class(fixture: &Fixture) {
    let labels: Array1<f64> = array(fixture, "empty/labels");
    let features: Array2<f64> = array(fixture, "empty/feat_fusion");
    let generator = LabelGenerator::new(LabelGeneratorConfig::self_mm()).expect("valid");
    let widths = [features.ncols(); 2];
    let mut state: LabelState<f64> = generator
        .initial_state(labels.view(), &widths)
        .expect("good labels");
    let indices: Vec<usize> = (0..labels.len()).collect();
    let views = [features.view(), features.view()];
    generator
        .update(&mut state, 1, &indices, &views)
        .expect("a good batch");

    for (name, class) in [("pos", Class::Positive), ("neg", Class::Negative)] {
        let expected = fixture.array(&format!("empty/{name}_fusion"));
        match state.centre(0, class) {
            Some(centre) => assert_close(name, &centre, &expected, TOLERANCE),
            None => assert!(expected.iter().all(|x| x.is_nan()), "{name}: {expected}"),
        }
    }
    let report = generator
        .update(&mut state, 2, &indices, &views)
        .expect("a good batch");
    assert_eq!(
        (report.skipped_empty_class, report.updated),
        (labels.len(), 0)
    );
    assert_eq!(state.labels().row(1), labels);
}

fn main() -> ExitCode {
    let file = "oracle/ulgm.npz";
    run(vec![
        ("Self-MM", file, self_mm),
        ("MMSA", file, mmsa),
        ("the paper's formulas", file, paper),
        ("an empty class", file, an_empty_class),
    ])
}
