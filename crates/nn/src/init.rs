//! Initial weights.

use modalign_core::Scalar;
use ndarray::{Array, Dimension, ShapeBuilder};
use rand::{Rng, RngExt};

/// Draws every entry uniformly from [−bound, bound).
///
/// The draws are made in `f64` and rounded, so that `f32` and `f64` layers of one seed agree.
pub(crate) fn uniform<A: Scalar, D: Dimension>(
    shape: impl ShapeBuilder<Dim = D>,
    bound: f64,
    rng: &mut impl Rng,
) -> Array<A, D> {
    Array::from_shape_simple_fn(shape, || {
        A::from_f64(bound * (2.0 * rng.random::<f64>() - 1.0))
    })
}
