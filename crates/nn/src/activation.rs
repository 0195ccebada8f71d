//! Activation functions.
//!
//! ```text
//! ReLU(x) = max(x, 0)                 slope 1 above 0, else 0 (0 at 0)
//! tanh(x)                             slope 1 − tanh²(x)
//! GELU(x) = x Φ(x)                    slope Φ(x) + x φ(x), Φ and φ of the standard normal
//! ```

use modalign_core::{Scalar, check_shape};
use modalign_linalg::vectorized;
use ndarray::{Array, Array2, ArrayView1, Dimension, Ix2, Zip};
use serde::{Deserialize, Serialize};

use crate::NnError;
use crate::lanes::{LANES, load, normal, store};
use crate::parts::{ROWS, entries_mut, for_each_part};
use crate::pool::{keep, matrix};

/// Entries that a thread takes at a time.
const PART: usize = 1 << 13;

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

/// What the backward pass of [`Activation`] needs: the output, or the slope for
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
            Self::Gelu => {
                let (mut y, mut x) = (x.clone(), x);
                let length = x.len();
                match (y.as_slice_memory_order_mut(), x.as_slice_memory_order_mut()) {
                    (Some(y), Some(x)) => {
                        let parts = y.chunks_mut(PART).zip(x.chunks_mut(PART)).collect();
                        for_each_part(length, parts, |(y, x): (&mut [A], &mut [A])| {
                            vectorized(
                                #[inline(always)]
                                || {
                                    gelus_with_slopes(y, x);
                                },
                            );
                        });
                    }
                    _ => Zip::from(&mut y).and(&mut x).for_each(|y, x| {
                        gelu_with_slope(std::slice::from_mut(y), std::slice::from_mut(x))
                    }),
                }
                (y, ActivationCache(x))
            }
        }
    }

    /// As [`forward`](Self::forward), of `x + bias` in every row; `x` has standard layout.
    pub(crate) fn forward_biased<A: Scalar>(
        self,
        mut x: Array2<A>,
        bias: &[A],
    ) -> (Array2<A>, ActivationCache<A, Ix2>) {
        if self != Self::Gelu {
            x += &ArrayView1::from(bias);
            return self.forward(x);
        }
        let width = x.ncols();
        let mut y = matrix(x.dim());
        let parts: Vec<_> = entries_mut(&mut y)
            .chunks_mut(ROWS * width)
            .zip(entries_mut(&mut x).chunks_mut(ROWS * width))
            .collect();
        for_each_part(parts.len() * ROWS * width, parts, |(y, x)| {
            vectorized(
                #[inline(always)]
                || {
                    let rows = y.chunks_exact_mut(width).zip(x.chunks_exact_mut(width));
                    for (y, x) in rows {
                        add(x, bias);
                        y.copy_from_slice(x);
                        gelus_with_slopes(y, x);
                    }
                },
            );
        });
        (y, ActivationCache(x))
    }

    /// As [`forward_biased`](Self::forward_biased), without a cache.
    pub(crate) fn infer_biased<A: Scalar>(self, mut x: Array2<A>, bias: &[A]) -> Array2<A> {
        if self != Self::Gelu {
            x += &ArrayView1::from(bias);
            return self.infer(x);
        }
        let width = x.ncols();
        let parts: Vec<_> = entries_mut(&mut x).chunks_mut(ROWS * width).collect();
        for_each_part(parts.len() * ROWS * width, parts, |x| {
            vectorized(
                #[inline(always)]
                || {
                    for x in x.chunks_exact_mut(width) {
                        add(x, bias);
                        gelus(x);
                    }
                },
            );
        });
        x
    }

    /// As [`forward`](Self::forward), without a cache.
    pub fn infer<A: Scalar, D: Dimension>(self, mut x: Array<A, D>) -> Array<A, D> {
        match self {
            // Not `max`, which would turn NaN into 0.
            Self::Relu => x.mapv_inplace(|x| if x <= A::zero() { A::zero() } else { x }),
            Self::Tanh => x.mapv_inplace(A::tanh),
            Self::Gelu => match x.as_slice_memory_order_mut() {
                Some(slice) => {
                    let length = slice.len();
                    for_each_part(length, slice.chunks_mut(PART).collect(), |x| {
                        vectorized(
                            #[inline(always)]
                            || gelus(x),
                        );
                    });
                }
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
        let dx = self.backward_at(&cache.0, dy)?;
        keep(cache.0.into_raw_vec_and_offset().0);
        Ok(dx)
    }

    /// As [`backward`](Self::backward) from what the caller has kept: the output, or the slope for
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
        let in_parts = match (dy.as_slice_mut(), kept.as_slice()) {
            (Some(dy), Some(slope)) if self == Self::Gelu => {
                let parts = dy.chunks_mut(PART).zip(slope.chunks(PART)).collect();
                for_each_part(slope.len(), parts, |(dy, slope): (&mut [A], &[A])| {
                    let pairs = dy.iter_mut().zip(slope);
                    pairs.for_each(|(dy, &slope)| *dy *= slope);
                });
                true
            }
            _ => false,
        };
        if in_parts {
            return Ok(dy);
        }
        let zip = Zip::from(&mut dy).and(kept);
        match self {
            // Written in any case, so that the compiler can do without a branch.
            Self::Relu => zip.for_each(|d, &y| *d = if y <= A::zero() { A::zero() } else { *d }),
            Self::Tanh => zip.for_each(|d, &y| *d *= A::one() - y * y),
            Self::Gelu => zip.for_each(|d, &slope| *d *= slope),
        }
        Ok(dy)
    }
}

// Loops and not `for_each`, which the compiler may leave out of line and so without the instructions
// of the caller.

#[inline(always)]
fn gelus<A: Scalar>(x: &mut [A]) {
    for x in x.chunks_mut(LANES) {
        gelu(x);
    }
}

#[inline(always)]
fn gelus_with_slopes<A: Scalar>(y: &mut [A], x: &mut [A]) {
    for (y, x) in y.chunks_mut(LANES).zip(x.chunks_mut(LANES)) {
        gelu_with_slope(y, x);
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

/// `x Φ(x)` in `y`, and the slope `Φ(x) + x φ(x)` in the place of `x`, for at most [`LANES`] numbers.
#[inline(always)]
fn gelu_with_slope<A: Scalar>(y: &mut [A], x: &mut [A]) {
    let mut value = load(x);
    let (mut slope, density) = normal(value);
    for lane in 0..LANES {
        let x = value[lane];
        value[lane] *= slope[lane];
        slope[lane] += x * density[lane];
    }
    store(&value, y);
    store(&slope, x);
}

#[inline(always)]
fn add<A: Scalar>(x: &mut [A], bias: &[A]) {
    x.iter_mut().zip(bias).for_each(|(x, &bias)| *x += bias);
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
