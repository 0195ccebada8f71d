//! The LSTM layer against PyTorch's on packed sequences.

#![allow(clippy::unwrap_used)]

use std::process::ExitCode;

use modalign_core::{Parameters, Stream, rng};
use modalign_nn::{Lstm, LstmConfig, LstmOutput, LstmState};
use modalign_oracle_tests::{Fixture, assert_close, run};
use ndarray::{Array3, Axis, Ix3, s};

const TOLERANCE: f64 = 1e-10;

fn main() -> ExitCode {
    let file = "oracle/lstm.npz";
    run(vec![
        ("one layer", file, |fixture| case(fixture, "uni")),
        ("audio sized", file, |fixture| case(fixture, "audio")),
        ("two layers", file, |fixture| case(fixture, "two_layer")),
        ("two directions", file, |fixture| case(fixture, "bidir")),
        ("two layers, two directions", file, |fixture| {
            case(fixture, "bidir_two_layer")
        }),
        ("one row, one step", file, |fixture| case(fixture, "one")),
        ("sixty steps", file, |fixture| case(fixture, "long")),
    ])
}

fn case(fixture: &Fixture, case: &str) {
    let array = |name: &str| fixture.array(&format!("{case}/{name}"));
    let cube = |name: &str| -> Array3<f64> { array(name).into_dimensionality::<Ix3>().unwrap() };
    let close = |name: &str, found: &Array3<f64>| {
        assert_close(&format!("{case}/{name}"), found, &array(name), TOLERANCE);
    };
    let x = cube("x");
    let lengths: Vec<usize> = array("len").iter().map(|&length| length as usize).collect();
    let initial = LstmState {
        h: cube("h0"),
        c: cube("c0"),
    };
    let dy = LstmOutput {
        output: cube("Gout"),
        state: LstmState {
            h: cube("Ghn"),
            c: cube("Gcn"),
        },
    };
    let bidirectional = fixture.contains(&format!("{case}/w/weight_hh_l0_reverse"));
    let config = LstmConfig {
        hidden_size: initial.h.len_of(Axis(2)),
        layers: initial.h.len_of(Axis(0)) / if bidirectional { 2 } else { 1 },
        bidirectional,
    };
    let mut lstm = Lstm::<f64>::new(
        x.len_of(Axis(2)),
        &config,
        &mut rng(1, Stream::Initialisation),
    )
    .unwrap();
    for (name, mut view) in lstm.named_views_mut() {
        view.assign(&array(&format!("w/{name}")));
    }

    let (output, cache) = lstm.forward(x.view(), &lengths, Some(&initial)).unwrap();
    close("out", &output.output);
    close("hn", &output.state.h);
    close("cn", &output.state.c);
    assert_eq!(
        output,
        lstm.infer(x.view(), &lengths, Some(&initial)).unwrap()
    );

    let mut grads = lstm.zeros_like();
    let dx = lstm.backward(cache, &dy, &mut grads).unwrap();
    let dinitial = dx.initial.unwrap();
    close("gx", &dx.x);
    close("gh0", &dinitial.h);
    close("gc0", &dinitial.c);
    let mut compared = 0;
    for (name, gradient) in grads.named_views() {
        let name = format!("{case}/g/{name}");
        assert_close(&name, &gradient, &fixture.array(&name), TOLERANCE);
        compared += 1;
    }
    let prefix = format!("{case}/g/");
    assert_eq!(
        compared,
        fixture
            .names()
            .filter(|name| name.starts_with(&prefix))
            .count()
    );

    // In f32, from the same weights, to its own rounding.
    let mut single = Lstm::<f32>::new(
        x.len_of(Axis(2)),
        &config,
        &mut rng(1, Stream::Initialisation),
    )
    .unwrap();
    for (name, mut view) in single.named_views_mut() {
        view.assign(&array(&format!("w/{name}")).mapv(|w| w as f32));
    }
    let narrow = |x: &Array3<f64>| x.mapv(|x| x as f32);
    let initial = LstmState {
        h: narrow(&initial.h),
        c: narrow(&initial.c),
    };
    let found = single
        .infer(narrow(&x).view(), &lengths, Some(&initial))
        .unwrap();
    assert_close("f32", &found.output.mapv(f64::from), &array("out"), 1e-5);
    for (row, &length) in lengths.iter().enumerate() {
        assert!(
            found
                .output
                .slice(s![row, length.., ..])
                .iter()
                .all(|&y| y == 0.0)
        );
    }
}
