//! The optimiser, clipping and the schedule against PyTorch.

#![allow(clippy::unwrap_used)]

use std::process::ExitCode;

use modalign_core::impl_parameters;
use modalign_nn::{
    LinearWarmup, Optimizer, OptimizerConfig, ParameterGroup, WeightDecay, clip_gradient_norm,
};
use modalign_oracle_tests::{Fixture, assert_close, run};
use ndarray::{Array1, Array2, ArrayD, Axis, Ix1, Ix2, arr0};

const TOLERANCE: f64 = 1e-10;

fn main() -> ExitCode {
    let file = "oracle/optim.npz";
    run(vec![
        ("Adam", file, |fixture| steps(fixture, "adam")),
        ("Adam with weight decay", file, |fixture| {
            steps(fixture, "adam_wd")
        }),
        ("Adam with other betas", file, |fixture| {
            steps(fixture, "adam_betas")
        }),
        ("AMSGrad", file, |fixture| steps(fixture, "adam_amsgrad")),
        ("AdamW", file, |fixture| steps(fixture, "adamw")),
        ("AdamW without weight decay", file, |fixture| {
            steps(fixture, "adamw_wd0")
        }),
        ("AdamW with strong weight decay", file, |fixture| {
            steps(fixture, "adamw_wd")
        }),
        ("Adam on zero gradients", file, zero_gradients),
        ("parameter groups", file, groups),
        ("gradient clipping", file, clip),
        ("linear warm-up", file, warmup),
    ])
}

fn hyper(fixture: &Fixture, case: &str) -> (OptimizerConfig, ParameterGroup) {
    let hyper = fixture.array(&format!("{case}/hyper"));
    let config = OptimizerConfig {
        beta1: hyper[1],
        beta2: hyper[2],
        epsilon: hyper[3],
        weight_decay_mode: if case.starts_with("adamw") {
            WeightDecay::Decoupled
        } else {
            WeightDecay::Coupled
        },
        amsgrad: hyper[5] != 0.0,
    };
    let group = ParameterGroup {
        learning_rate: hyper[0],
        weight_decay: hyper[4],
    };
    (config, group)
}

fn run_steps(fixture: &Fixture, case: &str, grads: ArrayD<f64>) {
    let (config, group) = hyper(fixture, case);
    let mut params = fixture.array("p0").into_dimensionality::<Ix2>().unwrap();
    let mut optimizer = Optimizer::new(&config, &params, vec![group], |_| 0).unwrap();
    let expected = fixture.array(&format!("{case}/p"));
    assert_eq!(grads.len_of(Axis(0)), expected.len_of(Axis(0)));
    for (index, grad) in grads.outer_iter().enumerate() {
        let grad: Array2<f64> = grad.to_owned().into_dimensionality().unwrap();
        optimizer.step(&mut params, &grad, 1.0).unwrap();
        let expected = expected.index_axis(Axis(0), index).to_owned();
        assert_close(
            &format!("{case}, step {index}"),
            &params,
            &expected,
            TOLERANCE,
        );
    }
}

fn steps(fixture: &Fixture, case: &str) {
    run_steps(fixture, case, fixture.array("grads"));
}

fn zero_gradients(fixture: &Fixture) {
    run_steps(
        fixture,
        "zero_grad_wd",
        ArrayD::zeros(fixture.array("grads").shape()),
    );
}

#[derive(Clone)]
struct Pair<A> {
    a: Array1<A>,
    b: Array1<A>,
}
impl_parameters!(Pair { a, b });

fn groups(fixture: &Fixture) {
    let vector = |array: ArrayD<f64>| array.into_dimensionality::<Ix1>().unwrap();
    let at = |name: &str, index| {
        fixture
            .array(&format!("groups/{name}"))
            .index_axis(Axis(0), index)
            .to_owned()
    };
    let config = OptimizerConfig {
        weight_decay_mode: WeightDecay::Coupled,
        ..OptimizerConfig::default()
    };
    let groups = vec![
        ParameterGroup {
            learning_rate: 1e-2,
            weight_decay: 0.0,
        },
        ParameterGroup {
            learning_rate: 1e-4,
            weight_decay: 0.01,
        },
    ];
    let mut params = Pair {
        a: vector(fixture.array("groups/a0")),
        b: vector(fixture.array("groups/b0")),
    };
    let group_of = |name: &str| usize::from(name == "b");
    let mut optimizer = Optimizer::new(&config, &params, groups, group_of).unwrap();
    for index in 0..6 {
        let grads = Pair {
            a: vector(at("ga", index)),
            b: vector(at("gb", index)),
        };
        optimizer.step(&mut params, &grads, 1.0).unwrap();
        assert_close("groups/a", &params.a, &at("a", index), TOLERANCE);
        assert_close("groups/b", &params.b, &at("b", index), TOLERANCE);
    }
}

fn clip(fixture: &Fixture) {
    let mut grads = vec![fixture.array("clip/in1"), fixture.array("clip/in2")];
    let norm = clip_gradient_norm(&mut grads, fixture.scalar("clip/max_norm"));
    assert_close(
        "total_norm",
        &arr0(norm),
        &fixture.array("clip/total_norm"),
        TOLERANCE,
    );
    assert_close("out1", &grads[0], &fixture.array("clip/out1"), TOLERANCE);
    assert_close("out2", &grads[1], &fixture.array("clip/out2"), TOLERANCE);
}

fn warmup(fixture: &Fixture) {
    let schedule = LinearWarmup {
        warmup_steps: 5,
        total_steps: 30,
    };
    let found: Array1<f64> = (0..30).map(|step| schedule.factor(step)).collect();
    assert_close(
        "sched_linear",
        &found,
        &fixture.array("sched_linear"),
        TOLERANCE,
    );
}
