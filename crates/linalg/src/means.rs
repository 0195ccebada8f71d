use ndarray::{ArrayBase, ArrayView1, Axis, Data, DataMut, Ix1, Ix2, LinalgScalar, s};

use crate::LinalgError;
use crate::error::check_length;

/// Mean of every column, optionally weighted.
///
/// ```text
/// m_d = Σ_n w_n x_nd / Σ_n w_n        x [N, D], w [N], m [D]
/// ```
///
/// Sums are formed in blocks, so the rounding error does not grow with the number of rows.
///
/// # Errors
///
/// [`LinalgError::Length`] if the operands do not fit, [`LinalgError::NoWeight`] if there is no row
/// or the weights add up to zero; `means` is unchanged.
///
/// # Examples
///
/// ```
/// use modalign_linalg::column_means;
/// use ndarray::{Array1, array};
///
/// let x = array![[1.0, 10.0], [2.0, 20.0], [6.0, 60.0]];
/// let mut means = Array1::zeros(2);
/// column_means(&x, None, &mut means)?;
/// assert_eq!(means, array![3.0, 30.0]);
/// column_means(&x, Some(array![1.0, 1.0, 0.0].view()), &mut means)?;
/// assert_eq!(means, array![1.5, 15.0]);
/// # Ok::<(), modalign_linalg::LinalgError>(())
/// ```
pub fn column_means<A: LinalgScalar>(
    x: &ArrayBase<impl Data<Elem = A>, Ix2>,
    weights: Option<ArrayView1<A>>,
    means: &mut ArrayBase<impl DataMut<Elem = A>, Ix1>,
) -> Result<(), LinalgError> {
    check_length("column_means", "means", means.len(), x.ncols())?;
    let one = ArrayView1::from(&[A::one()]).into_owned();
    let weights = match weights {
        Some(weights) => {
            check_length("column_means", "weights", weights.len(), x.nrows())?;
            weights
        }
        None => one.broadcast(x.nrows()).unwrap_or_else(|| one.view()),
    };
    let total = weighted_sum(weights, None);
    if total.is_zero() {
        return Err(LinalgError::NoWeight {
            operation: "column_means",
        });
    }
    for (mean, column) in means.iter_mut().zip(x.axis_iter(Axis(1))) {
        *mean = weighted_sum(column, Some(weights)) / total;
    }
    Ok(())
}

fn weighted_sum<A: LinalgScalar>(x: ArrayView1<A>, weights: Option<ArrayView1<A>>) -> A {
    if x.len() > 16 {
        let half = x.len() / 2;
        let (first, second) = (
            weights.map(|w| w.slice_move(s![..half])),
            weights.map(|w| w.slice_move(s![half..])),
        );
        return weighted_sum(x.slice_move(s![..half]), first)
            + weighted_sum(x.slice_move(s![half..]), second);
    }
    match weights {
        Some(weights) => x
            .iter()
            .zip(weights)
            .fold(A::zero(), |sum, (&x, &w)| sum + w * x),
        None => x.iter().fold(A::zero(), |sum, &x| sum + x),
    }
}
