//! Softmax over the last axis.
//!
//! ```text
//! y_j = exp(x_j − max x) / Σ_k exp(x_k − max x)
//! dx = y (dy − Σ_k dy_k y_k)
//! ```

use modalign_core::{Scalar, check_shape};
use modalign_linalg::vectorized;
use ndarray::{Array2, ArrayView1, ArrayView2, Zip};

use crate::NnError;
use crate::lanes::{LANES, exponentials, sum_of};

/// Turns every row of `x [B, D]` into probabilities.
///
/// Rows may hold −∞ (masked entries, probability 0); a row of nothing else becomes zeros.
///
/// ```
/// use modalign_nn::softmax;
/// use ndarray::array;
///
/// let y = softmax(array![[1000.0, 1000.0], [0.0, f64::NEG_INFINITY]]);
/// assert_eq!(y, array![[0.5, 0.5], [1.0, 0.0]]);
/// ```
pub fn softmax<A: Scalar>(mut x: Array2<A>) -> Array2<A> {
    for mut row in x.rows_mut() {
        match row.as_slice_mut() {
            Some(row) => softmax_rows(row, row.len()),
            None => {
                let mut entries = row.to_vec();
                softmax_rows(&mut entries, row.len());
                row.assign(&ArrayView1::from(&entries));
            }
        }
    }
    x
}

/// As [`softmax`], for rows of `width` entries that follow each other.
pub(crate) fn softmax_rows<A: Scalar>(x: &mut [A], width: usize) {
    vectorized(
        #[inline(always)]
        || {
            for row in x.chunks_mut(width.max(1)) {
                softmax_row(row);
            }
        },
    );
}

#[inline(always)]
fn softmax_row<A: Scalar>(row: &mut [A]) {
    let mut largest = [A::neg_infinity(); LANES];
    // Comparisons and not `max`, which vector instructions do not have in this form. NaN is left out
    // and comes back through the exponentials.
    let larger = |largest: &mut A, &x: &A| *largest = if x > *largest { x } else { *largest };
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        largest
            .iter_mut()
            .zip(chunk)
            .for_each(|(largest, x)| larger(largest, x));
    }
    largest
        .iter_mut()
        .zip(rest)
        .for_each(|(largest, x)| larger(largest, x));
    let [mut top, others @ ..] = largest;
    others.iter().for_each(|x| larger(&mut top, x));
    if top == A::neg_infinity() && !row.iter().any(|x| x.is_nan()) {
        row.fill(A::zero());
        return;
    }
    row.iter_mut().for_each(|x| *x -= top);
    exponentials(row);
    let factor = sum_of(row, row, |x, _| x).recip();
    row.iter_mut().for_each(|x| *x *= factor);
}

/// The gradient `dx [B, D]` in the input of [`softmax`], from its output `y [B, D]` and `dy`.
///
/// # Errors
///
/// [`NnError::Shape`] if `dy` has another shape than `y`.
///
/// ```
/// use modalign_nn::softmax_backward;
/// use ndarray::array;
///
/// let dx = softmax_backward(array![[0.5, 0.5]].view(), array![[1.0, 0.0]].view())?;
/// assert_eq!(dx, array![[0.25, -0.25]]);
/// # Ok::<(), modalign_nn::NnError>(())
/// ```
pub fn softmax_backward<A: Scalar>(
    y: ArrayView2<A>,
    dy: ArrayView2<A>,
) -> Result<Array2<A>, NnError> {
    check_shape("softmax backward", "dy", dy.shape(), y.shape())?;
    let mut dx = dy.to_owned();
    for (mut d, y) in dx.rows_mut().into_iter().zip(y.rows()) {
        let mean = Zip::from(&d)
            .and(&y)
            .fold(A::zero(), |sum, &d, &y| sum + d * y);
        Zip::from(&mut d)
            .and(&y)
            .for_each(|d, &y| *d = y * (*d - mean));
    }
    Ok(dx)
}

/// `y ← y (dy − Σ_k dy_k y_k)` for rows of `width` entries that follow each other: the gradient of
/// [`softmax_rows`] in the place of its output.
pub(crate) fn softmax_backward_rows<A: Scalar>(y: &mut [A], dy: &[A], width: usize) {
    vectorized(
        #[inline(always)]
        || {
            let rows = y.chunks_mut(width.max(1)).zip(dy.chunks(width.max(1)));
            for (y, dy) in rows {
                let mean = sum_of(y, dy, |y, dy| y * dy);
                y.iter_mut().zip(dy).for_each(|(y, &dy)| *y *= dy - mean);
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_input, random, rng};
    use approx::assert_relative_eq;
    use ndarray::array;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn gradients(rows in 1_usize..4, columns in 1_usize..6, seed: u64) {
            let mut rng = rng(seed);
            let x = random((rows, columns), &mut rng);
            let dy = random((rows, columns), &mut rng);
            let dx = softmax_backward(softmax(x.clone()).view(), dy.view()).unwrap();
            check_input("dx", &x, &dx, &dy, |x| softmax(x.clone()));
        }
    }

    #[test]
    fn rows_in_place_are_those_of_matrices() {
        let x = random((4, 37), &mut rng(5));
        let dy = random((4, 37), &mut rng(6));
        let y = softmax(x.clone());
        let mut rows = x.into_raw_vec_and_offset().0;
        softmax_rows(&mut rows, 37);
        assert_eq!(rows, y.as_slice().unwrap());
        let dx = softmax_backward(y.view(), dy.view()).unwrap();
        softmax_backward_rows(&mut rows, dy.as_slice().unwrap(), 37);
        for (found, expected) in rows.iter().zip(&dx) {
            assert!((found - expected).abs() < 1e-15, "{found} {expected}");
        }
        let columns = random((5, 3), &mut rng(7)).reversed_axes();
        assert_eq!(
            softmax(columns.clone()),
            softmax(columns.as_standard_layout().to_owned())
        );
    }

    #[test]
    fn masked_and_undefined_rows() {
        let infinity = f32::INFINITY;
        let y = softmax(array![
            [-infinity, -infinity],
            [f32::NAN, 0.0],
            [f32::NAN, -infinity]
        ]);
        assert_eq!(y.row(0), array![0.0, 0.0]);
        assert!(y.row(1).iter().all(|y| y.is_nan()));
        assert!(y.row(2).iter().all(|y| y.is_nan()));
    }

    #[test]
    fn single_precision_follows_double() {
        let x = random((3, 5), &mut rng(3));
        let single = softmax(x.mapv(|x| x as f32)).mapv(f64::from);
        assert_relative_eq!(single, softmax(x), max_relative = 1e-6);
    }
}
