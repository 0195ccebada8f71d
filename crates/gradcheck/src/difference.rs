//! Central differences.

use ndarray::{Array, ArrayBase, Data, Dimension, IntoDimension, Zip, indices};

/// The step of the default check: near the cube root of the machine epsilon, where the truncation
/// error `step²·|f'''|/6` and the rounding error `ε·|f|/step` of a central difference are about
/// equal, some 1e-11 each for a function and a third derivative of order one.
pub const DEFAULT_STEP: f64 = 6e-6;

/// The gradient of a scalar function by central differences, at two calls of `f` an entry.
///
/// ```text
/// g_i = (f(x + h_i e_i) − f(x − h_i e_i)) / (2 h_i),   h_i = step · max(1, |x_i|)
/// ```
///
/// The divisor is the distance of the two points as rounded, so that the rounding of `x ± h` costs
/// nothing. Wherever `f` is not finite the result is not finite either.
///
/// ```
/// use modalign_gradcheck::{DEFAULT_STEP, numeric_gradient};
/// use ndarray::array;
///
/// let gradient = numeric_gradient(DEFAULT_STEP, &array![1.0, -2.0], |x| x.mapv(|x| x * x).sum());
/// assert!((gradient - array![2.0, -4.0]).iter().all(|error| error.abs() < 1e-9));
/// ```
pub fn numeric_gradient<D: Dimension>(
    step: f64,
    x: &Array<f64, D>,
    mut f: impl FnMut(&Array<f64, D>) -> f64,
) -> Array<f64, D> {
    let mut probe = x.clone();
    let mut gradient = Array::zeros(x.raw_dim());
    for index in indices(x.raw_dim()) {
        let index: D = index.into_dimension();
        let centre = x[index.clone()];
        let reach = step * centre.abs().max(1.0);
        let (above, below) = (centre + reach, centre - reach);
        probe[index.clone()] = above;
        let upper = f(&probe);
        probe[index.clone()] = below;
        let lower = f(&probe);
        probe[index.clone()] = centre;
        gradient[index] = (upper - lower) / (above - below);
    }
    gradient
}

/// The sum of `output · cotangent`: turns a function with an array output into a scalar one, whose
/// gradient is what a backward pass returns when it is given `cotangent` as the upstream gradient.
///
/// A random cotangent makes every output entry count differently; with ones alone, errors that
/// cancel in the sum stay hidden.
///
/// # Panics
///
/// If the shapes differ: the check would then test something else than it says.
///
/// ```
/// use modalign_gradcheck::contract;
/// use ndarray::array;
///
/// assert_eq!(contract(&array![1.0, 2.0], &array![3.0, -1.0]), 1.0);
/// ```
pub fn contract<D: Dimension>(
    output: &ArrayBase<impl Data<Elem = f64>, D>,
    cotangent: &ArrayBase<impl Data<Elem = f64>, D>,
) -> f64 {
    assert_eq!(
        output.shape(),
        cotangent.shape(),
        "the cotangent must have the shape of the output"
    );
    Zip::from(output)
        .and(cotangent)
        .fold(0.0, |sum, &output, &cotangent| sum + output * cotangent)
}
