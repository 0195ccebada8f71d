use ndarray::{ArrayBase, ArrayViewMut1, Data, DataMut, Ix1, Ix2, LinalgScalar, s};

use crate::error::{check_length, check_shape};
use crate::{LinalgError, Operand, column_means, syrk, typed};

/// Entries from which a second read of the samples costs more than the guess.
const WORTH_ONE_READ: usize = 1 << 16;

/// Rows, at most, from which the means are guessed.
const GUESSED_FROM: usize = 64;

/// Column means and the scaled scatter matrix about them.
///
/// ```text
/// m = (1/N) Σ_n x_n
/// C ← α Σ_n (x_n − m)(x_n − m)ᵀ        X [N, D], m [D], C [D, D]
/// ```
///
/// The same as [`column_means`] and [`syrk`] of the centred samples, up to rounding. Samples that do
/// not stay in the cache are read once: they are centred on a guess `s`, the mean of a few rows, and
/// what the guess is off is taken from the result.
///
/// ```text
/// Σ_n (x_n − m)(x_n − m)ᵀ = Σ_n (x_n − s)(x_n − s)ᵀ − N (m − s)(m − s)ᵀ
/// ```
///
/// The guess of a column may be off by the column's standard deviation. If one is worse, as in data
/// that the few rows say little about, the samples are read again, so that no digits are lost.
///
/// # Errors
///
/// [`LinalgError::Shape`] or [`LinalgError::Length`] if the operands do not fit,
/// [`LinalgError::NoWeight`] if there is no row; nothing is written then.
///
/// # Examples
///
/// ```
/// use modalign_linalg::scatter;
/// use ndarray::{Array1, Array2, array};
///
/// let x = array![[1.0, 0.0], [2.0, 1.0], [3.0, 5.0]];
/// let (mut mean, mut covariance) = (Array1::zeros(2), Array2::zeros((2, 2)));
/// scatter(0.5, &x, &mut mean, &mut covariance)?;
/// assert_eq!(mean, array![2.0, 2.0]);
/// assert_eq!(covariance, array![[1.0, 2.5], [2.5, 7.0]]);
/// # Ok::<(), modalign_linalg::LinalgError>(())
/// ```
pub fn scatter<A: LinalgScalar>(
    alpha: A,
    x: &ArrayBase<impl Data<Elem = A>, Ix2>,
    means: &mut ArrayBase<impl DataMut<Elem = A>, Ix1>,
    c: &mut ArrayBase<impl DataMut<Elem = A>, Ix2>,
) -> Result<(), LinalgError> {
    let (rows, columns) = x.dim();
    check_length("scatter", "means", means.len(), columns)?;
    check_shape("scatter", "c", c.dim(), (columns, columns))?;
    if x.len() >= WORTH_ONE_READ && rows >= 2 * GUESSED_FROM && one_read(alpha, x, means, c)? {
        return Ok(());
    }
    column_means(x, None, means)?;
    syrk(alpha, Operand::from(x).centered(means).t(), A::zero(), c)
}

/// False if that cannot be done or has lost digits; what was written is of no use then.
pub(crate) fn one_read<A: LinalgScalar>(
    alpha: A,
    x: &ArrayBase<impl Data<Elem = A>, Ix2>,
    means: &mut ArrayBase<impl DataMut<Elem = A>, Ix1>,
    c: &mut ArrayBase<impl DataMut<Elem = A>, Ix2>,
) -> Result<bool, LinalgError> {
    let Some(means) = means.as_slice_mut() else {
        return Ok(false);
    };
    let step = x.nrows().div_ceil(GUESSED_FROM).max(1);
    let guess = x.slice(s![..;step, ..]);
    column_means(&guess, None, &mut ArrayViewMut1::from(&mut *means))?;
    let (x, mut c) = (x.view(), c.view_mut());
    Ok(typed::scatter::<A, f32>(alpha, x, means, &mut c)
        || typed::scatter::<A, f64>(alpha, x, means, &mut c))
}
