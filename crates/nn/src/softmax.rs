//! Softmax over the last axis.
//!
//! ```text
//! y_j = exp(x_j − max x) / Σ_k exp(x_k − max x)
//! dx = y (dy − Σ_k dy_k y_k)
//! ```

use modalign_core::{Scalar, check_shape};
use ndarray::{Array2, ArrayView2, Zip};

use crate::NnError;

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
        let largest = row.fold(A::neg_infinity(), |largest, &x| largest.max(x));
        if largest == A::neg_infinity() && !row.iter().any(|x| x.is_nan()) {
            row.fill(A::zero());
            continue;
        }
        row.mapv_inplace(|x| (x - largest).exp());
        let sum = row.sum();
        row.mapv_inplace(|x| x / sum);
    }
    x
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
