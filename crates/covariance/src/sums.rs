//! Sums over entries, accumulated in `f64` so that their own rounding never shows.

use modalign_core::Scalar;

/// Independent partial sums, so that the compiler can use vector instructions.
const LANES: usize = 8;

pub(crate) fn sum_of_squares<A: Scalar>(x: &[A]) -> f64 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for chunk in chunks {
        for (sum, &x) in sums.iter_mut().zip(chunk) {
            *sum += x.as_f64() * x.as_f64();
        }
    }
    let rest: f64 = rest.iter().map(|x| x.as_f64() * x.as_f64()).sum();
    sums.iter().sum::<f64>() + rest
}

/// `Σ (x − y)²` over two slices of one length.
pub(crate) fn squared_distance<A: Scalar>(x: &[A], y: &[A]) -> f64 {
    debug_assert_eq!(x.len(), y.len());
    let ((x_chunks, x_rest), (y_chunks, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (x, y) in x_chunks.iter().zip(y_chunks) {
        for (sum, (&x, &y)) in sums.iter_mut().zip(x.iter().zip(y)) {
            let difference = (x - y).as_f64();
            *sum += difference * difference;
        }
    }
    let rest: f64 = x_rest
        .iter()
        .zip(y_rest)
        .map(|(&x, &y)| (x - y).as_f64().powi(2))
        .sum();
    sums.iter().sum::<f64>() + rest
}
