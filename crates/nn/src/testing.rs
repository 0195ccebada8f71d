//! What the gradient tests of every layer share.

use modalign_core::{ChaCha8Rng, Parameters, Stream};
use modalign_gradcheck::{check_gradient, contract};
use ndarray::{Array, ArrayD, Dimension, ShapeBuilder};
use rand::{Rng, RngExt};

pub(crate) fn rng(seed: u64) -> ChaCha8Rng {
    modalign_core::rng(seed, Stream::Initialisation)
}

/// Entries in ±1.5.
pub(crate) fn random<D: Dimension>(
    shape: impl ShapeBuilder<Dim = D>,
    rng: &mut impl Rng,
) -> Array<f64, D> {
    Array::from_shape_simple_fn(shape, || 3.0 * rng.random::<f64>() - 1.5)
}

/// Entries in ±1.5 that keep a distance from 0, where a ReLU has its kink.
pub(crate) fn random_off_zero<D: Dimension>(
    shape: impl ShapeBuilder<Dim = D>,
    rng: &mut impl Rng,
) -> Array<f64, D> {
    random(shape, rng).mapv(|x| x + 0.05_f64.copysign(x))
}

/// Compares the input gradient of a layer with central differences.
pub(crate) fn check_input<D: Dimension, E: Dimension>(
    name: &str,
    x: &Array<f64, D>,
    dx: &Array<f64, D>,
    dy: &Array<f64, E>,
    mut forward: impl FnMut(&Array<f64, D>) -> Array<f64, E>,
) {
    let check = check_gradient(name, x, dx, |x| contract(&forward(x), dy));
    assert!(check.is_ok(), "{}", check.unwrap_err());
}

/// Compares the gradient of every parameter with central differences.
pub(crate) fn check_parameters<P: Parameters<f64>, E: Dimension>(
    layer: &P,
    grads: &P,
    dy: &Array<f64, E>,
    mut forward: impl FnMut(&P) -> Array<f64, E>,
) {
    for ((name, value), (_, grad)) in layer.named_views().into_iter().zip(grads.named_views()) {
        let value: ArrayD<f64> = value.to_owned();
        check_input(&name, &value, &grad.to_owned(), dy, |value| {
            let mut probe = layer.clone();
            for (other, mut view) in probe.named_views_mut() {
                if other == name {
                    view.assign(value);
                }
            }
            forward(&probe)
        });
    }
}

/// Two backward passes into one gradient must give exactly twice the gradient of one.
pub(crate) fn assert_additive<P: Parameters<f64>>(
    layer: &P,
    once: &P,
    mut backward: impl FnMut(&mut P),
) {
    let mut twice = layer.zeros_like();
    backward(&mut twice);
    backward(&mut twice);
    for ((name, once), (_, twice)) in once.named_views().into_iter().zip(twice.named_views()) {
        let error = (&twice - &once.mapv(|x| 2.0 * x))
            .iter()
            .fold(0.0_f64, |worst, x| worst.max(x.abs()));
        assert!(error <= 1e-12, "{name}: {error:e}");
    }
}
