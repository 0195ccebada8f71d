use std::ops::Range;
use std::slice;

use ndarray::{
    ArrayBase, ArrayView1, ArrayView2, ArrayViewMut1, Data, DataMut, Ix1, Ix2, LinalgScalar,
};

use crate::LinalgError;
use crate::error::check_length;
use crate::kernel::{Along, Kernel, Number};
use crate::threads::{for_each_task, in_pool, threads_for};
use crate::typed;
use crate::workspace::with_workspace;

/// Mean of every column, optionally weighted.
///
/// ```text
/// m_d = Σ_n w_n x_nd / Σ_n w_n        x [N, D], w [N], m [D]
/// ```
///
/// Sums are formed in `f64`, in blocks, so a mean of `f32` is off by little more than its own
/// rounding, whatever the number of rows.
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
    if let Some(weights) = &weights {
        check_length("column_means", "weights", weights.len(), x.nrows())?;
    }
    let (x, mut means) = (x.view(), means.view_mut());
    let typed = typed::column_means::<A, f32>(x, weights, &mut means)
        .or_else(|| typed::column_means::<A, f64>(x, weights, &mut means));
    if !typed.unwrap_or_else(|| generic_means(x, weights, means)) {
        return Err(LinalgError::NoWeight {
            operation: "column_means",
        });
    }
    Ok(())
}

fn generic_means<A: LinalgScalar>(
    x: ArrayView2<A>,
    weights: Option<ArrayView1<A>>,
    mut means: ArrayViewMut1<A>,
) -> bool {
    let weight = |row: usize| weights.map_or(A::one(), |weights| weights[row]);
    let total = (0..x.nrows()).fold(A::zero(), |sum, row| sum + weight(row));
    if total.is_zero() {
        return false;
    }
    for (mean, column) in means.iter_mut().zip(x.columns()) {
        let sum = column
            .indexed_iter()
            .fold(A::zero(), |sum, (row, &x)| sum + weight(row) * x);
        *mean = sum / total;
    }
    true
}

/// `x [rows, columns]` and the weights of its rows, as memory.
pub(crate) struct Samples<T> {
    pub from: *const T,
    pub row: isize,
    pub column: isize,
    pub rows: usize,
    pub columns: usize,
    pub weights: Along<T>,
}

// SAFETY: it is a view that is only read.
unsafe impl<T: Sync> Sync for Samples<T> {}

/// Where sums are kept, and where the means go.
struct Sums<T> {
    blocks: *mut f64,
    totals: *mut f64,
    means: *mut T,
    step: isize,
}

// SAFETY: each task writes the sums and means of its own columns.
unsafe impl<T: Send> Sync for Sums<T> {}

/// Rows added one by one; the sums of such blocks are added to the total.
const BLOCK: usize = 64;

/// Rows read together: enough streams to keep the memory busy.
const ROWS_AT_ONCE: usize = 8;

/// Columns handed out at a time.
const COLUMNS: usize = 256;

/// Elements that pay for waking other threads.
const WORTH_THREADS: usize = 1 << 19;

/// Writes the means `step` apart; false, and nothing written, if the rows have no weight.
///
/// # Safety
///
/// The processor has the instruction set of `K`; everything described can be read, and every mean
/// written.
pub(crate) unsafe fn write_means<K: Kernel>(
    x: &Samples<K::Number>,
    means: *mut K::Number,
    step: isize,
) -> bool {
    let one = Along {
        from: K::Number::ONE,
        step: 0,
    };
    let total = match x.weights.step {
        0 => x.rows as f64,
        // SAFETY: there is a weight a row.
        _ => unsafe { K::sum(x.weights.from, 1, x.rows, one) },
    };
    if total == 0.0 {
        return false;
    }
    let threads = threads_for(x.rows.saturating_mul(x.columns), WORTH_THREADS);
    with_workspace(2 * x.columns, |workspace: *mut f64| {
        let sums = Sums {
            blocks: workspace,
            // SAFETY: the workspace is twice as long.
            totals: unsafe { workspace.add(x.columns) },
            means,
            step,
        };
        let sums = &sums;
        in_pool(threads, || {
            // SAFETY: the columns are within the samples and no other task's; there is a mean for each.
            for_each_task(threads, x.columns.div_ceil(COLUMNS), |task, _| unsafe {
                let first = task * COLUMNS;
                let last = x.columns.min(first + COLUMNS);
                sum_columns::<K>(x, sums, first..last);
                for j in first..last {
                    let mean = *sums.totals.add(j) / total;
                    *sums.means.offset(j as isize * sums.step) = K::Number::from_f64(mean);
                }
            });
        });
    });
    true
}

/// # Safety
///
/// As for [`write_means`], and nobody else uses the sums of these columns.
unsafe fn sum_columns<K: Kernel>(
    x: &Samples<K::Number>,
    sums: &Sums<K::Number>,
    columns: Range<usize>,
) {
    // SAFETY: `blocks` and `totals` have an entry a column, and no two calls get the same columns;
    // rows and columns are within the samples.
    unsafe {
        let totals = slice::from_raw_parts_mut(sums.totals.add(columns.start), columns.len());
        let from = x.from.offset(columns.start as isize * x.column);
        if x.column != 1 {
            for (j, total) in totals.iter_mut().enumerate() {
                *total = K::sum(from.offset(j as isize * x.column), x.row, x.rows, x.weights);
            }
            return;
        }
        totals.fill(0.0);
        let block = slice::from_raw_parts_mut(sums.blocks.add(columns.start), columns.len());
        for start in (0..x.rows).step_by(BLOCK) {
            block.fill(0.0);
            let end = x.rows.min(start + BLOCK);
            for row in (start..end).step_by(ROWS_AT_ONCE) {
                K::add_rows(
                    from.offset(row as isize * x.row),
                    x.row,
                    (ROWS_AT_ONCE.min(end - row), columns.len()),
                    x.weights.skip(row),
                    block.as_mut_ptr(),
                );
            }
            for (total, block) in totals.iter_mut().zip(block.iter()) {
                *total += block;
            }
        }
    }
}
