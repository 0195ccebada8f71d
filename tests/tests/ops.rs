//! Layers and losses against PyTorch.

#![allow(clippy::unwrap_used)]

use std::process::ExitCode;

use modalign_core::Parameters;
use modalign_nn::{
    Activation, LayerNorm, Linear, softmax, softmax_backward, weighted_l1, weighted_l1_value,
};
use modalign_oracle_tests::{Fixture, assert_close, run};
use ndarray::{Array1, Array2, Ix1, Ix2, arr0};

const TOLERANCE: f64 = 1e-10;

fn vector(fixture: &Fixture, name: &str) -> Array1<f64> {
    fixture.array(name).into_dimensionality::<Ix1>().unwrap()
}

fn matrix(fixture: &Fixture, name: &str) -> Array2<f64> {
    fixture.array(name).into_dimensionality::<Ix2>().unwrap()
}

fn check<D: ndarray::Dimension>(fixture: &Fixture, name: &str, found: &ndarray::Array<f64, D>) {
    assert_close(name, found, &fixture.array(name), TOLERANCE);
}

fn main() -> ExitCode {
    let file = "oracle/ops.npz";
    run(vec![
        ("GELU", file, gelu),
        ("tanh of the absolute value", file, tanh_abs),
        ("layer norm", file, layer_norm),
        ("softmax", file, softmax_rows),
        ("linear", file, linear),
        ("weighted L1", file, l1),
    ])
}

fn gelu(fixture: &Fixture) {
    let x = vector(fixture, "gelu_x");
    let (y, cache) = Activation::Gelu.forward(x.clone());
    check(fixture, "gelu_y", &y);
    let slope = Activation::Gelu
        .backward(cache, Array1::ones(x.len()))
        .unwrap();
    check(fixture, "gelu_dy", &slope);
}

fn tanh_abs(fixture: &Fixture) {
    let x = vector(fixture, "tanh_abs_x");
    let (y, cache) = Activation::Tanh.forward(x.mapv(f64::abs));
    check(fixture, "tanh_abs_y", &y);
    let sign = x.mapv(|x| if x == 0.0 { 0.0 } else { x.signum() });
    let slope = Activation::Tanh.backward(cache, sign).unwrap();
    check(fixture, "tanh_abs_dy", &slope);
}

fn layer_norm(fixture: &Fixture) {
    let mut layer = LayerNorm::new(7, 1e-12).unwrap();
    layer.weight = vector(fixture, "ln_gamma");
    layer.bias = vector(fixture, "ln_beta");
    let mut grads = layer.zeros_like();
    let (y, cache) = layer.forward(matrix(fixture, "ln_x").view()).unwrap();
    let dx = layer
        .backward(cache, matrix(fixture, "ln_G").view(), &mut grads)
        .unwrap();
    check(fixture, "ln_y", &y);
    check(fixture, "ln_gx", &dx);
    check(fixture, "ln_ggamma", &grads.weight);
    check(fixture, "ln_gbeta", &grads.bias);
}

fn softmax_rows(fixture: &Fixture) {
    let y = softmax(matrix(fixture, "softmax_x"));
    check(fixture, "softmax_y", &y);
    let dx = softmax_backward(y.view(), matrix(fixture, "softmax_G").view()).unwrap();
    check(fixture, "softmax_gx", &dx);
}

fn linear(fixture: &Fixture) {
    let layer = Linear {
        weight: matrix(fixture, "linear_W"),
        bias: vector(fixture, "linear_b"),
    };
    let mut grads = layer.zeros_like();
    let (y, cache) = layer.forward(matrix(fixture, "linear_x").view()).unwrap();
    let dx = layer
        .backward(cache, matrix(fixture, "linear_G").view(), &mut grads)
        .unwrap();
    check(fixture, "linear_y", &y);
    check(fixture, "linear_gx", &dx);
    check(fixture, "linear_gW", &grads.weight);
    check(fixture, "linear_gb", &grads.bias);
}

fn l1(fixture: &Fixture) {
    let (p, t, w) = (
        vector(fixture, "l1_p"),
        vector(fixture, "l1_t"),
        vector(fixture, "l1_w"),
    );
    let (value, gradient) = weighted_l1(p.view(), t.view(), w.view()).unwrap();
    check(fixture, "l1_loss", &arr0(value));
    check(fixture, "l1_gp", &gradient);
    assert_eq!(
        value,
        weighted_l1_value(p.view(), t.view(), w.view()).unwrap()
    );
}
