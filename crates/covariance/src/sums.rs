//! Sums over entries, accumulated in `f64` so that their own rounding never shows.

use modalign_core::Scalar;
use modalign_linalg::vectorized;

/// Independent partial sums: several vector registers, so that none waits for its last addition.
const LANES: usize = 32;

pub(crate) fn sum_of_squares<A: Scalar>(x: &[A]) -> f64 {
    sum(x, x, |x, _| x.as_f64())
}

/// `Σ (x − y)²` over two slices of one length.
pub(crate) fn squared_distance<A: Scalar>(x: &[A], y: &[A]) -> f64 {
    debug_assert_eq!(x.len(), y.len());
    sum(x, y, |x, y| (x - y).as_f64())
}

/// `Σ f(x, y)²`
#[inline(always)]
fn sum<A: Scalar>(x: &[A], y: &[A], f: impl Fn(A, A) -> f64) -> f64 {
    vectorized(
        #[inline(always)]
        || {
            let (x_chunks, x_rest) = x.as_chunks::<LANES>();
            let (y_chunks, y_rest) = y.as_chunks::<LANES>();
            let mut sums = [0.0; LANES];
            for (x, y) in x_chunks.iter().zip(y_chunks) {
                for (sum, (&x, &y)) in sums.iter_mut().zip(x.iter().zip(y)) {
                    let term = f(x, y);
                    *sum += term * term;
                }
            }
            let rest = x_rest.iter().zip(y_rest);
            let rest: f64 = rest.map(|(&x, &y)| f(x, y).powi(2)).sum();
            let mut half = LANES / 2;
            while half > 0 {
                let (sums, others) = sums.split_at_mut(half);
                for (sum, other) in sums.iter_mut().zip(others) {
                    *sum += *other;
                }
                half /= 2;
            }
            sums[0] + rest
        },
    )
}
