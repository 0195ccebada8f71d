//! The norm of a whole gradient and its bound.

use modalign_core::{Parameters, Path, Scalar};
use modalign_linalg::vectorized;
use ndarray::ArrayViewD;

/// Keeps the divisor of the clipping factor off zero, as PyTorch's `clip_grad_norm_` does.
const NORM_EPSILON: f64 = 1e-6;

/// Sums of squares kept apart, so that the additions do not wait for each other.
const LANES: usize = 16;

/// The Euclidean norm of all gradients together, summed in `f64`.
///
/// ```
/// use modalign_nn::{Linear, global_norm};
/// use ndarray::array;
///
/// let grads = Linear { weight: array![[3.0_f32, 0.0]], bias: array![4.0] };
/// assert_eq!(global_norm(&grads), 5.0);
/// ```
pub fn global_norm<A: Scalar>(grads: &impl Parameters<A>) -> f64 {
    let mut sum = 0.0;
    sums_of_squares(grads, |square| sum += square);
    sum.sqrt()
}

/// Calls `visit` with the sum of squares of every array in turn, taken in `f64`: what
/// [`global_norm`] adds up, for a norm of parts that are worked on side by side.
pub fn sums_of_squares<A: Scalar>(grads: &impl Parameters<A>, mut visit: impl FnMut(f64)) {
    grads.visit(&mut Path::default(), &mut |_, view| {
        visit(sum_of_squares(view))
    });
}

/// Scales all gradients so that their common norm is at most `max_norm`, above 0, and returns the
/// norm they had.
///
/// ```text
/// g ← g · min(1, max_norm / (‖g‖ + 1e-6))
/// ```
///
/// A norm that is not finite leaves the gradients as they are, for the caller to see.
///
/// ```
/// use modalign_nn::{Linear, clip_gradient_norm, global_norm};
/// use ndarray::array;
///
/// let mut grads = Linear { weight: array![[3.0, 0.0]], bias: array![4.0] };
/// assert_eq!(clip_gradient_norm(&mut grads, 1.0), 5.0);
/// assert!((global_norm(&grads) - 1.0).abs() < 1e-6);
/// ```
///
/// # References
///
/// R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent neural networks",
/// 2013, arXiv 1211.5063.
pub fn clip_gradient_norm<A: Scalar>(grads: &mut impl Parameters<A>, max_norm: f64) -> f64 {
    let norm = global_norm(grads);
    scale_to_norm(grads, norm, max_norm);
    norm
}

/// The second half of [`clip_gradient_norm`], for gradients whose common `norm` is known.
pub fn scale_to_norm<A: Scalar>(grads: &mut impl Parameters<A>, norm: f64, max_norm: f64) {
    let factor = max_norm / (norm + NORM_EPSILON);
    if norm.is_finite() && factor < 1.0 {
        let factor = A::from_f64(factor);
        grads.visit_mut(&mut Path::default(), &mut |_, mut view| {
            view.mapv_inplace(|x| x * factor)
        });
    }
}

fn sum_of_squares<A: Scalar>(view: ArrayViewD<A>) -> f64 {
    let square = |x: A| x.as_f64() * x.as_f64();
    let Some(values) = view.as_slice_memory_order() else {
        return view.iter().map(|&x| square(x)).sum();
    };
    vectorized(
        #[inline(always)]
        || {
            let mut sums = [0.0; LANES];
            let (chunks, rest) = values.as_chunks::<LANES>();
            for chunk in chunks {
                for (sum, &x) in sums.iter_mut().zip(chunk) {
                    *sum += square(x);
                }
            }
            sums.into_iter().sum::<f64>() + rest.iter().map(|&x| square(x)).sum::<f64>()
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{random, rng};
    use approx::assert_relative_eq;
    use ndarray::{Array1, Array2};

    #[test]
    fn the_norm_agrees_with_a_plain_loop_in_any_layout() {
        for (rows, columns) in [(1, 1), (3, 5), (7, 31)] {
            let matrix: Array2<f64> = random((rows, columns), &mut rng(4));
            let plain = matrix.iter().map(|x| x * x).sum::<f64>().sqrt();
            assert_relative_eq!(global_norm(&matrix), plain, max_relative = 1e-14);
            let strided = vec![matrix.clone().reversed_axes(), Array2::zeros((0, 3))];
            assert_relative_eq!(global_norm(&strided), plain, max_relative = 1e-14);
        }
    }

    #[test]
    fn a_small_gradient_and_an_undefined_one_are_left_alone() {
        let mut grads = Array1::from(vec![0.3_f32, 0.4]);
        assert_relative_eq!(
            clip_gradient_norm(&mut grads, 1.0),
            0.5,
            max_relative = 1e-7
        );
        assert_eq!(grads, Array1::from(vec![0.3, 0.4]));
        let mut grads = Array1::from(vec![f32::INFINITY, 0.4]);
        assert_eq!(clip_gradient_norm(&mut grads, 1.0), f64::INFINITY);
        assert_eq!(grads[1], 0.4);
    }
}
