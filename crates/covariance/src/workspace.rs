//! Memory that is kept from one call to the next.

use modalign_core::Scalar;
use ndarray::{Array2, ArrayView2, ArrayViewMut2};

use crate::CovarianceError;

/// The largest number of rows and columns of a square work matrix (a covariance, or the Gram matrix
/// of all rows): 16384, that is 2 GiB in `f64`. Larger ones are
/// [`CovarianceError::TooLarge`], so that a transposed argument does not take the process down.
pub const MAX_SIDE: usize = 16_384;

/// A matrix whose memory is reused: it grows to the largest shape asked for and stays there.
#[derive(Debug, Clone)]
pub(crate) struct Workspace<A> {
    entries: Vec<A>,
    shape: (usize, usize),
}

impl<A> Default for Workspace<A> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            shape: (0, 0),
        }
    }
}

impl<A: Scalar> Workspace<A> {
    /// Sets the shape. The content is unspecified afterwards.
    pub(crate) fn reshape(&mut self, rows: usize, columns: usize) -> Result<(), CovarianceError> {
        let side = rows.max(columns);
        let too_large = CovarianceError::TooLarge {
            side,
            limit: MAX_SIDE,
        };
        let Some(length) = rows.checked_mul(columns) else {
            return Err(too_large);
        };
        let missing = length.saturating_sub(self.entries.len());
        if missing > 0 {
            self.entries
                .try_reserve_exact(missing)
                .map_err(|_| too_large)?;
            self.entries.resize(length, A::zero());
        }
        self.shape = (rows, columns);
        Ok(())
    }

    /// As [`reshape`](Self::reshape), to a square of at most [`MAX_SIDE`] rows.
    pub(crate) fn reshape_square(&mut self, side: usize) -> Result<(), CovarianceError> {
        if side > MAX_SIDE {
            return Err(CovarianceError::TooLarge {
                side,
                limit: MAX_SIDE,
            });
        }
        self.reshape(side, side)
    }

    pub(crate) fn entries(&self) -> &[A] {
        &self.entries[..self.shape.0 * self.shape.1]
    }

    pub(crate) fn entries_mut(&mut self) -> &mut [A] {
        &mut self.entries[..self.shape.0 * self.shape.1]
    }

    pub(crate) fn into_array(self) -> Array2<A> {
        Array2::from_shape_vec(self.shape, self.entries)
            .expect("grown to this shape and no further")
    }

    pub(crate) fn view(&self) -> ArrayView2<'_, A> {
        ArrayView2::from_shape(self.shape, self.entries()).expect("as many entries as the shape")
    }

    pub(crate) fn view_mut(&mut self) -> ArrayViewMut2<'_, A> {
        let shape = self.shape;
        ArrayViewMut2::from_shape(shape, self.entries_mut()).expect("as many entries as the shape")
    }
}
