//! The input of what reads sequences.

use ndarray::ArrayView3;

use crate::NnError;

/// The sequences of a batch, where they lie: all of an array, or rows of it in any order, which are not
/// copied.
///
/// ```
/// use modalign_core::{Stream, rng};
/// use modalign_nn::{Lstm, LstmConfig, SequenceBatch};
/// use ndarray::{Array3, Axis};
///
/// let lstm = Lstm::<f32>::new(3, &LstmConfig::default(), &mut rng(1, Stream::Initialisation))?;
/// let x = Array3::from_shape_fn((4, 5, 3), |(row, step, _)| (row + step) as f32);
/// let batch = SequenceBatch::select(x.view(), &[3, 0])?;
/// assert_eq!(batch.dim(), (2, 5, 3));
/// let copied = x.select(Axis(0), &[3, 0]);
/// let h = lstm.infer_final(batch, &[5, 2])?;
/// assert_eq!(h, lstm.infer_final(copied.view(), &[5, 2])?);
/// # Ok::<(), modalign_nn::NnError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct SequenceBatch<'a, A> {
    values: ArrayView3<'a, A>,
    rows: Option<&'a [usize]>,
}

impl<'a, A> SequenceBatch<'a, A> {
    /// Some rows of `values [N, T, D]`.
    ///
    /// # Errors
    ///
    /// [`NnError::Row`] for a row that is not there.
    pub fn select(values: ArrayView3<'a, A>, rows: &'a [usize]) -> Result<Self, NnError> {
        let count = values.dim().0;
        match rows.iter().find(|&&row| row >= count) {
            Some(&found) => Err(NnError::Row { found, rows: count }),
            None => Ok(Self {
                values,
                rows: Some(rows),
            }),
        }
    }

    /// B, T and D.
    pub fn dim(&self) -> (usize, usize, usize) {
        let (rows, steps, width) = self.values.dim();
        (self.rows.map_or(rows, <[usize]>::len), steps, width)
    }

    /// The same for a shorter time.
    pub fn view(&self) -> SequenceBatch<'_, A> {
        SequenceBatch {
            values: self.values.view(),
            rows: self.rows,
        }
    }

    /// The array that holds the sequences, `[N, T, D]`.
    pub fn values(&self) -> ArrayView3<'a, A> {
        self.values
    }

    /// Which row of [`values`](Self::values) a row of the batch is.
    ///
    /// # Panics
    ///
    /// If the batch has no such row.
    pub fn row(&self, row: usize) -> usize {
        self.rows.map_or(row, |rows| rows[row])
    }
}

impl<'a, A> From<ArrayView3<'a, A>> for SequenceBatch<'a, A> {
    fn from(values: ArrayView3<'a, A>) -> Self {
        Self { values, rows: None }
    }
}
