//! Activation functions.
//!
//! ```text
//! ReLU(x) = max(x, 0)                 slope 1 above 0, else 0 (0 at 0)
//! tanh(x)                             slope 1 − tanh²(x)
//! GELU(x) = x Φ(x)                    slope Φ(x) + x φ(x), Φ and φ of the standard normal
//! ```

use modalign_core::{Scalar, check_shape};
use ndarray::{Array, Dimension, Zip};
use serde::{Deserialize, Serialize};

use crate::NnError;
use crate::lanes::{LANES, load, normal, store};
use crate::simd::vectorized;

/// A function applied to every entry.
///
/// ```
/// use modalign_nn::Activation;
/// use ndarray::array;
///
/// let (y, cache) = Activation::Relu.forward(array![-1.0, 2.0]);
/// assert_eq!(y, array![0.0, 2.0]);
/// assert_eq!(Activation::Relu.backward(cache, array![5.0, 5.0])?, array![0.0, 5.0]);
/// # Ok::<(), modalign_nn::NnError>(())
/// ```
///
/// # References
///
/// D. Hendrycks and K. Gimpel, "Gaussian Error Linear Units (GELUs)", 2016, arXiv 1606.08415.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// The hyperbolic tangent.
    Tanh,
    /// `x Φ(x)` with the exact error function, not its tanh approximation.
    Gelu,
}

/// What the backward pass of [`Activation`] needs: the output, or the input for
/// [`Gelu`](Activation::Gelu).
#[derive(Debug)]
pub struct ActivationCache<A, D: Dimension>(Array<A, D>);

impl Activation {
    /// `y`, of the shape of `x`, and the cache of its backward pass.
    pub fn forward<A: Scalar, D: Dimension>(
        self,
        x: Array<A, D>,
    ) -> (Array<A, D>, ActivationCache<A, D>) {
        match self {
            Self::Relu | Self::Tanh => {
                let y = self.infer(x);
                (y.clone(), ActivationCache(y))
            }
            Self::Gelu => (self.infer(x.clone()), ActivationCache(x)),
        }
    }

    /// As [`forward`](Self::forward), without a cache.
    pub fn infer<A: Scalar, D: Dimension>(self, mut x: Array<A, D>) -> Array<A, D> {
        match self {
            // Not `max`, which would turn NaN into 0.
            Self::Relu => x.mapv_inplace(|x| if x <= A::zero() { A::zero() } else { x }),
            Self::Tanh => x.mapv_inplace(A::tanh),
            Self::Gelu => match x.as_slice_memory_order_mut() {
                Some(slice) => vectorized(
                    #[inline(always)]
                    || slice.chunks_mut(LANES).for_each(gelu),
                ),
                None => x.iter_mut().for_each(|x| gelu(std::slice::from_mut(x))),
            },
        }
        x
    }

    /// `dx`, of the shape of `dy`.
    ///
    /// # Errors
    ///
    /// [`NnError::Shape`] if `dy` has another shape than the output had.
    pub fn backward<A: Scalar, D: Dimension>(
        self,
        cache: ActivationCache<A, D>,
        dy: Array<A, D>,
    ) -> Result<Array<A, D>, NnError> {
        self.backward_at(&cache.0, dy)
    }

    /// As [`backward`](Self::backward) from what the caller has kept: the output, or the input for
    /// [`Gelu`](Activation::Gelu).
    ///
    /// # Errors
    ///
    /// As [`backward`](Self::backward).
    pub fn backward_at<A: Scalar, D: Dimension>(
        self,
        kept: &Array<A, D>,
        mut dy: Array<A, D>,
    ) -> Result<Array<A, D>, NnError> {
        check_shape("activation backward", "dy", dy.shape(), kept.shape())?;
        if self == Self::Gelu {
            match (dy.as_slice_mut(), kept.as_slice()) {
                (Some(dy), Some(x)) => vectorized(
                    #[inline(always)]
                    || {
                        let chunks = dy.chunks_mut(LANES).zip(x.chunks(LANES));
                        chunks.for_each(|(dy, x)| gelu_backward(dy, x));
                    },
                ),
                _ => Zip::from(&mut dy).and(kept).for_each(|dy, x| {
                    gelu_backward(std::slice::from_mut(dy), std::slice::from_ref(x))
                }),
            }
            return Ok(dy);
        }
        let zip = Zip::from(&mut dy).and(kept);
        match self {
            Self::Relu => zip.for_each(|d, &y| {
                if y <= A::zero() {
                    *d = A::zero();
                }
            }),
            Self::Tanh => zip.for_each(|d, &y| *d *= A::one() - y * y),
            Self::Gelu => {}
        }
        Ok(dy)
    }
}

/// `x Φ(x)` for at most [`LANES`] numbers.
#[inline(always)]
fn gelu<A: Scalar>(x: &mut [A]) {
    let mut y = load(x);
    let (distribution, _) = normal(y);
    for (y, distribution) in y.iter_mut().zip(distribution) {
        *y *= distribution;
    }
    store(&y, x);
}

/// `dy (Φ(x) + x φ(x))` for at most [`LANES`] numbers.
#[inline(always)]
fn gelu_backward<A: Scalar>(dy: &mut [A], x: &[A]) {
    let (x, mut dx) = (load(x), load(dy));
    let (distribution, density) = normal(x);
    for lane in 0..LANES {
        dx[lane] *= distribution[lane] + x[lane] * density[lane];
    }
    store(&dx, dy);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_input, random, random_off_zero, rng};
    use approx::assert_relative_eq;
    use ndarray::array;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn gradients(
            activation in prop::sample::select(
                vec![Activation::Relu, Activation::Tanh, Activation::Gelu]),
            rows in 1_usize..4,
            columns in 1_usize..4,
            seed: u64,
        ) {
            let mut rng = rng(seed);
            let x = random_off_zero((rows, columns), &mut rng);
            let dy = random((rows, columns), &mut rng);
            let (y, cache) = activation.forward(x.clone());
            prop_assert_eq!(y, activation.infer(x.clone()));
            let dx = activation.backward(cache, dy.clone()).unwrap();
            check_input("dx", &x, &dx, &dy, |x| activation.infer(x.clone()));
        }
    }

    #[test]
    fn extreme_inputs() {
        let x = array![f64::NEG_INFINITY, -30.0, 0.0, 40.0, f64::NAN];
        let relu = Activation::Relu.infer(x.clone());
        assert_eq!(relu.slice(ndarray::s![..4]), array![0.0, 0.0, 0.0, 40.0]);
        assert!(relu[4].is_nan());
        let gelu = Activation::Gelu.infer(x.slice(ndarray::s![1..4]).to_owned());
        assert!(gelu[0] < 0.0 && gelu[0] > -1e-190);
        assert_eq!(gelu[2], 40.0);
        // At 0 the slope of ReLU is taken as 0.
        let (_, cache) = Activation::Relu.forward(array![0.0]);
        assert_eq!(
            Activation::Relu.backward(cache, array![1.0]).unwrap(),
            array![0.0]
        );
        let (_, cache) = Activation::Relu.forward(array![0.0]);
        assert!(Activation::Relu.backward(cache, array![1.0, 2.0]).is_err());
    }

    #[test]
    fn single_precision_follows_double() {
        let x = array![-3.0, -0.5, 0.25, 2.0];
        for activation in [Activation::Relu, Activation::Tanh, Activation::Gelu] {
            let (y, cache) = activation.forward(x.mapv(|x| x as f32));
            let dx = activation
                .backward(cache, array![1.0, 1.0, 1.0, 1.0])
                .unwrap();
            let (expected, cache) = activation.forward(x.clone());
            let expected_dx = activation
                .backward(cache, array![1.0, 1.0, 1.0, 1.0])
                .unwrap();
            assert_relative_eq!(y.mapv(f64::from), expected, max_relative = 1e-6);
            // 1 − y² near saturation has the rounding of 1, not of the slope.
            let dx = dx.mapv(f64::from);
            assert_relative_eq!(dx, expected_dx, max_relative = 1e-6, epsilon = 2e-7);
        }
    }
}
