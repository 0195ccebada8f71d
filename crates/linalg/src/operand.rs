use ndarray::{Array2, ArrayBase, ArrayView1, ArrayView2, Axis, Data, Ix1, Ix2, LinalgScalar};

use crate::LinalgError;
use crate::error::check_length;

/// A factor of a product: a matrix whose rows may be centred and weighted on the way in.
///
/// ```text
/// P = diag(w) (X − 1 mᵀ)        or its transpose, for X [N, D], m [D], w [N]
/// ```
///
/// `P` is never formed. The products read `X` once and subtract and scale while they arrange it for
/// the processor, so a centred product costs no more memory than a plain one. Any matrix or view
/// converts into an operand with neither centre nor weights.
///
/// ```
/// use modalign_linalg::{Operand, gemm};
/// use ndarray::{Array2, array};
///
/// let x = array![[1.0, 2.0], [3.0, 6.0]];
/// let y = array![[5.0], [1.0]];
/// let mean = array![2.0, 4.0];
/// let centered = Operand::from(&x).centered(&mean).t();
/// let mut product = Array2::zeros((2, 1));
/// gemm(1.0, centered, &y, 0.0, &mut product)?;
/// assert_eq!(product, array![[-4.0], [-8.0]]);
/// # Ok::<(), modalign_linalg::LinalgError>(())
/// ```
#[derive(Debug)]
pub struct Operand<'a, A> {
    pub(crate) matrix: ArrayView2<'a, A>,
    pub(crate) center: Option<ArrayView1<'a, A>>,
    pub(crate) weights: Option<ArrayView1<'a, A>>,
    pub(crate) transposed: bool,
}

impl<A> Clone for Operand<'_, A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for Operand<'_, A> {}

impl<'a, A, S: Data<Elem = A>> From<&'a ArrayBase<S, Ix2>> for Operand<'a, A> {
    fn from(matrix: &'a ArrayBase<S, Ix2>) -> Self {
        Self {
            matrix: matrix.view(),
            center: None,
            weights: None,
            transposed: false,
        }
    }
}

impl<'a, A> Operand<'a, A> {
    /// Subtracts `center [D]` from every row of the matrix.
    #[must_use]
    pub fn centered(self, center: &'a ArrayBase<impl Data<Elem = A>, Ix1>) -> Self {
        Self {
            center: Some(center.view()),
            ..self
        }
    }

    /// Multiplies row `n` of the matrix, after centring, by `weights[n]` (`weights [N]`).
    #[must_use]
    pub fn weighted(self, weights: &'a ArrayBase<impl Data<Elem = A>, Ix1>) -> Self {
        Self {
            weights: Some(weights.view()),
            ..self
        }
    }

    /// The transpose. Centre and weights stay with the rows of the matrix they were given for.
    #[must_use]
    pub fn t(self) -> Self {
        Self {
            transposed: !self.transposed,
            ..self
        }
    }

    /// Rows and columns as the product sees them.
    pub fn dim(&self) -> (usize, usize) {
        let (rows, columns) = self.matrix.dim();
        if self.transposed {
            (columns, rows)
        } else {
            (rows, columns)
        }
    }

    pub(crate) fn check(&self, operation: &'static str) -> Result<(), LinalgError> {
        if let Some(center) = &self.center {
            check_length(operation, "center", center.len(), self.matrix.ncols())?;
        }
        if let Some(weights) = &self.weights {
            check_length(operation, "weights", weights.len(), self.matrix.nrows())?;
        }
        Ok(())
    }
}

impl<A: LinalgScalar> Operand<'_, A> {
    pub(crate) fn to_matrix(self) -> Array2<A> {
        let mut matrix = self.matrix.to_owned();
        if let Some(center) = self.center {
            matrix.zip_mut_with(&center, |x, &m| *x = *x - m);
        }
        if let Some(weights) = self.weights {
            matrix.zip_mut_with(&weights.insert_axis(Axis(1)), |x, &w| *x = *x * w);
        }
        if self.transposed {
            matrix.reversed_axes()
        } else {
            matrix
        }
    }
}
