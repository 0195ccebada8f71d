//! The whole model against PyTorch: forward, every loss term, every gradient, three Adam steps.

use std::process::ExitCode;

use modalign_core::{Parameters, Stream, rng};
use modalign_encoders::{EncoderConfig, LstmEncoderConfig, RegressionHeadConfig};
use modalign_metrics::Convention;
use modalign_nn::{Optimizer, OptimizerConfig, ParameterGroup, WeightDecay};
use modalign_oracle_tests::{Fixture, assert_close, run};
use modalign_train::{ExperimentConfig, Input, Model, Objective, Recipe, Targets};
use ndarray::{Array1, Array3, Axis, Ix1, Ix2, Ix3, stack};

const TOLERANCE: f64 = 1e-10;

fn main() -> ExitCode {
    let file = "oracle/model_step.npz";
    run(vec![
        ("forward and losses", file, forward_and_losses),
        ("gradients of every parameter", file, gradients),
        ("three Adam steps", file, adam_steps),
    ])
}

/// The reference's name of a parameter.
fn reference_name(name: &str) -> String {
    let (part, rest) = name.split_once('.').expect("every name has a part");
    let tag = part.chars().next().expect("no part is empty");
    if let Some(rest) = rest.strip_prefix("encoder.lstm.") {
        format!("{part}.rnn.{rest}")
    } else if let Some(rest) = rest.strip_prefix("encoder.linear.") {
        format!("{part}.out.{rest}")
    } else if let Some(rest) = rest.strip_prefix("head.") {
        format!("h{tag}.{rest}")
    } else if let Some(rest) = rest.strip_prefix("projection.linear.") {
        format!("c{tag}.{rest}")
    } else {
        name.to_owned()
    }
}

fn config(fixture: &Fixture) -> ExperimentConfig {
    let mut config = ExperimentConfig::recipe(Recipe::SelfMm, Convention::Mosi);
    let weights = fixture.array("wcov");
    config.objective.shared_information_weight = 1.0;
    config.objective.shared_width = 4;
    config.objective.pairs.text_audio = weights[0];
    config.objective.pairs.text_vision = weights[1];
    config.objective.pairs.audio_vision = weights[2];
    let head = |hidden_size| RegressionHeadConfig {
        hidden_size,
        dropout: 0.0,
    };
    let lstm = |hidden_size, output_size| {
        EncoderConfig::Lstm(LstmEncoderConfig {
            hidden_size,
            dropout: 0.0,
            output_size,
        })
    };
    config.fusion = head(8);
    config.modalities.text.encoder = EncoderConfig::Identity {};
    config.modalities.text.head = head(6);
    config.modalities.audio.encoder = lstm(4, 3);
    config.modalities.audio.head = head(4);
    config.modalities.vision.encoder = lstm(5, 5);
    config.modalities.vision.head = head(5);
    config
}

struct Batch {
    values: [Array3<f64>; 3],
    lengths: [Vec<usize>; 3],
    targets: Targets<f64>,
}

impl Batch {
    fn new(fixture: &Fixture) -> Self {
        let text = fixture
            .array("text")
            .into_dimensionality::<Ix2>()
            .expect("[B, D]");
        let three = |name| {
            fixture
                .array(name)
                .into_dimensionality::<Ix3>()
                .expect("[B, T, D]")
        };
        let lengths = |name| {
            fixture
                .array(name)
                .iter()
                .map(|&length| length as usize)
                .collect::<Vec<_>>()
        };
        let label = |name| {
            fixture
                .array(name)
                .into_dimensionality::<Ix1>()
                .expect("[B]")
        };
        let multimodal = label("t_M");
        let labels = ["t_T", "t_A", "t_V"].map(label);
        let unimodal = stack(Axis(0), &labels.each_ref().map(|one| one.view())).expect("one size");
        let weights = (&unimodal - &multimodal).mapv(|shift| shift.abs().tanh());
        Self {
            lengths: [
                vec![1; text.nrows()],
                lengths("len_audio"),
                lengths("len_vision"),
            ],
            values: [text.insert_axis(Axis(1)), three("audio"), three("vision")],
            targets: Targets {
                multimodal,
                unimodal,
                weights,
            },
        }
    }

    fn inputs(&self) -> Vec<Input<'_, f64>> {
        self.values
            .iter()
            .zip(&self.lengths)
            .map(|(values, lengths)| Input {
                sequences: values.view().into(),
                lengths,
            })
            .collect()
    }
}

fn model(fixture: &Fixture, config: &ExperimentConfig) -> Model<f64> {
    let mut model =
        Model::new(config, &[10, 3, 4], &mut rng(0, Stream::Initialisation)).expect("a model");
    for (name, mut view) in model.named_views_mut() {
        view.assign(&fixture.array(&format!("w0/{}", reference_name(&name))));
    }
    model
}

fn forward_and_losses(fixture: &Fixture) {
    let config = config(fixture);
    let batch = Batch::new(fixture);
    let model = model(fixture, &config);
    let mut noise = rng(0, Stream::Dropout);
    let (outputs, _) = model
        .forward(&batch.inputs(), &mut noise)
        .expect("a forward pass");
    assert_close("y_M", &outputs.fused, &fixture.array("y_M"), TOLERANCE);
    assert_close(
        "feat_M",
        &outputs.features[0],
        &fixture.array("feat_M"),
        TOLERANCE,
    );
    for (index, tag) in ["T", "A", "V"].into_iter().enumerate() {
        let (score, feature) = (format!("y_{tag}"), format!("feat_{tag}"));
        assert_close(
            &score,
            &outputs.unimodal[index],
            &fixture.array(&score),
            TOLERANCE,
        );
        assert_close(
            &feature,
            &outputs.features[index + 1],
            &fixture.array(&feature),
            TOLERANCE,
        );
    }
    let mut objective = Objective::new(&config).expect("an objective");
    let (terms, _) = objective
        .evaluate(&outputs, &batch.targets)
        .expect("a loss");
    let close = |what: &str, found: f64| {
        assert_close(
            what,
            &Array1::from_elem(1, found),
            &fixture
                .array(what)
                .into_shape_with_order(vec![1])
                .expect("a scalar"),
            TOLERANCE,
        );
    };
    close("loss", terms.total);
    close("task_M", terms.multimodal);
    for ((_, term), tag) in terms.unimodal.iter().zip(["T", "A", "V"]) {
        close(&format!("task_{tag}"), *term);
    }
    for ((left, right, distance), pair) in terms.pairs.iter().zip(["TA", "TV", "AV"]) {
        assert!(left < right);
        close(&format!("cov_{pair}"), *distance);
    }
    let inferred = model.infer(&batch.inputs()).expect("an inference");
    assert_close(
        "inferred y_M",
        &inferred.fused,
        &fixture.array("y_M"),
        TOLERANCE,
    );
}

fn gradients(fixture: &Fixture) {
    let config = config(fixture);
    let batch = Batch::new(fixture);
    let model = model(fixture, &config);
    let mut grads = model.zeros_like();
    step_gradients(&config, &batch, &model, &mut grads);
    let mut compared = 0;
    for (name, gradient) in grads.named_views() {
        let reference = format!("g/{}", reference_name(&name));
        assert_close(&name, &gradient, &fixture.array(&reference), TOLERANCE);
        compared += 1;
    }
    let expected = fixture
        .names()
        .filter(|name| name.starts_with("g/"))
        .count();
    assert_eq!(
        compared, expected,
        "every gradient of the reference is compared"
    );
}

fn step_gradients(
    config: &ExperimentConfig,
    batch: &Batch,
    model: &Model<f64>,
    grads: &mut Model<f64>,
) -> f64 {
    let mut noise = rng(0, Stream::Dropout);
    let (outputs, cache) = model
        .forward(&batch.inputs(), &mut noise)
        .expect("a forward pass");
    let mut objective = Objective::new(config).expect("an objective");
    let (terms, gradients) = objective
        .evaluate(&outputs, &batch.targets)
        .expect("a loss");
    model
        .backward(cache, &gradients, grads)
        .expect("a backward pass");
    terms.total
}

fn adam_steps(fixture: &Fixture) {
    let config = config(fixture);
    let batch = Batch::new(fixture);
    let mut model = model(fixture, &config);
    let group = ParameterGroup {
        learning_rate: 1e-2,
        weight_decay: 0.0,
    };
    let adam = OptimizerConfig {
        weight_decay_mode: WeightDecay::Coupled,
        ..OptimizerConfig::default()
    };
    let mut optimizer = Optimizer::new(&adam, &model, vec![group], |_| 0).expect("an optimiser");
    let mut losses = Vec::new();
    let mut grads = model.zeros_like();
    for _ in 0..3 {
        grads.set_zero();
        losses.push(step_gradients(&config, &batch, &model, &mut grads));
        optimizer.step(&mut model, &grads, 1.0).expect("a step");
    }
    losses.push(step_gradients(
        &config,
        &batch,
        &model,
        &mut grads.zeros_like(),
    ));
    let losses = Array1::from(losses);
    assert_close(
        "loss_steps",
        &losses,
        &fixture.array("loss_steps"),
        TOLERANCE,
    );
    for (name, weight) in model.named_views() {
        let reference = format!("w3/{}", reference_name(&name));
        assert_close(&name, &weight, &fixture.array(&reference), TOLERANCE);
    }
}
