//! Products by a BLAS library, for the backend features.
//!
//! A factor that is centred, weighted or has no unit stride is formed in the workspace of the thread,
//! a pass of [`DEPTH`] at a time.

use cblas_sys::{
    CBLAS_LAYOUT, CBLAS_TRANSPOSE, CBLAS_UPLO, cblas_dgemm, cblas_dsyrk, cblas_sgemm, cblas_ssyrk,
};
use ndarray_linalg as _;

use crate::kernel::{Kernel, Level, Number, Source, Treatment};
use crate::multiply::Product;
use crate::workspace::with_workspace;

/// Depth of a pass over factors that have to be formed.
const DEPTH: usize = 512;

/// Multiply-adds below which forming the factors, the call and waking its threads cost more than a
/// library gains. The tests of this crate compare small products, and send them all to the library.
const WORTH_A_CALL: usize = if cfg!(test) { 1 } else { 1 << 26 };

/// A factor as BLAS knows it: rows of `leading` numbers, to be transposed or not.
#[derive(Clone, Copy)]
struct Factor<T> {
    from: *const T,
    transpose: CBLAS_TRANSPOSE,
    leading: i32,
}

/// The functions of one number type.
///
/// # Safety
///
/// As for the C functions: all rows named can be read, those of `c` written.
pub(crate) trait Blas: Sized {
    /// `C ← α A B + β C`, row-major, with the shape `(M, N, K)`.
    unsafe fn gemm(
        shape: (i32, i32, i32),
        alpha: Self,
        a: (CBLAS_TRANSPOSE, *const Self, i32),
        b: (CBLAS_TRANSPOSE, *const Self, i32),
        beta: Self,
        c: (*mut Self, i32),
    );
    /// The lower triangle of `C ← α A Aᵀ + β C`, row-major, with the shape `(M, K)`.
    unsafe fn syrk(
        shape: (i32, i32),
        alpha: Self,
        a: (CBLAS_TRANSPOSE, *const Self, i32),
        beta: Self,
        c: (*mut Self, i32),
    );
}

macro_rules! blas {
    ($number:ty, $gemm:ident, $syrk:ident) => {
        impl Blas for $number {
            unsafe fn gemm(
                (m, n, k): (i32, i32, i32),
                alpha: Self,
                a: (CBLAS_TRANSPOSE, *const Self, i32),
                b: (CBLAS_TRANSPOSE, *const Self, i32),
                beta: Self,
                c: (*mut Self, i32),
            ) {
                let layout = CBLAS_LAYOUT::CblasRowMajor;
                // SAFETY: the caller answers for the rows that shapes and leading dimensions name.
                unsafe {
                    $gemm(
                        layout, a.0, b.0, m, n, k, alpha, a.1, a.2, b.1, b.2, beta, c.0, c.1,
                    );
                }
            }

            unsafe fn syrk(
                (m, k): (i32, i32),
                alpha: Self,
                a: (CBLAS_TRANSPOSE, *const Self, i32),
                beta: Self,
                c: (*mut Self, i32),
            ) {
                let (layout, lower) = (CBLAS_LAYOUT::CblasRowMajor, CBLAS_UPLO::CblasLower);
                // SAFETY: the caller answers for the rows that shapes and leading dimensions name.
                unsafe { $syrk(layout, lower, a.0, m, k, alpha, a.1, a.2, beta, c.0, c.1) }
            }
        }
    };
}

blas!(f32, cblas_sgemm, cblas_ssyrk);
blas!(f64, cblas_dgemm, cblas_dsyrk);

/// The product; false, and nothing done, where BLAS does not define it or cannot address it, and
/// where the product is too small to be worth the call.
///
/// # Safety
///
/// The factors can be read and `C` written everywhere their extents and steps reach, and `C`
/// overlaps neither factor.
pub(crate) unsafe fn multiply<T: Number>(product: &Product<T>) -> bool {
    let Product {
        a,
        b,
        alpha,
        beta,
        c,
        c_row,
    } = product;
    let right = b.as_ref().unwrap_or(a);
    let (rows, columns, depth) = (a.rows, right.rows, a.depth);
    if rows == 0 || columns == 0 || depth == 0 || alpha.is_zero() {
        return false;
    }
    if rows.saturating_mul(columns).saturating_mul(depth) < WORTH_A_CALL {
        return false;
    }
    let leading = if rows == 1 { columns as isize } else { *c_row };
    let (Ok(m), Ok(n), Ok(_), Ok(leading)) = (
        i32::try_from(rows),
        i32::try_from(columns),
        i32::try_from(depth),
        i32::try_from(leading),
    ) else {
        return false;
    };
    if leading < n {
        return false;
    }
    let in_place = (as_it_lies(a), as_it_lies(right));
    let pass = match in_place {
        (Some(_), Some(_)) => depth,
        _ => DEPTH.min(depth),
    };
    let length = |in_place: Option<Factor<T>>, rows: usize| match in_place {
        Some(_) => 0,
        None => rows * pass,
    };
    let left_length = length(in_place.0, rows);
    let right_length = if b.is_some() {
        length(in_place.1, columns)
    } else {
        0
    };
    with_workspace(left_length + right_length, |workspace: *mut T| {
        for start in (0..depth).step_by(pass) {
            let deep = pass.min(depth - start);
            let beta = if start == 0 { *beta } else { T::one() };
            // SAFETY: the parts lie within the factors, and the workspace holds what is formed.
            unsafe {
                let part = |source: &Source<T>| source.part((0, source.rows), (start, deep));
                let left = placed(&part(a), workspace);
                if b.is_none() {
                    T::syrk(
                        (m, deep as i32),
                        *alpha,
                        left.call(false),
                        beta,
                        (*c, leading),
                    );
                    continue;
                }
                let right = placed(&part(right), workspace.add(left_length));
                let shape = (m, n, deep as i32);
                T::gemm(
                    shape,
                    *alpha,
                    left.call(false),
                    right.call(true),
                    beta,
                    (*c, leading),
                );
            }
        }
    });
    if b.is_none() {
        // SAFETY: `C` is square.
        unsafe { mirror(*c, *c_row, rows) };
    }
    true
}

impl<T> Factor<T> {
    /// The right factor is described by its transpose.
    fn call(self, right: bool) -> (CBLAS_TRANSPOSE, *const T, i32) {
        let transpose = match (self.transpose, right) {
            (CBLAS_TRANSPOSE::CblasNoTrans, true) => CBLAS_TRANSPOSE::CblasTrans,
            (_, true) => CBLAS_TRANSPOSE::CblasNoTrans,
            (transpose, false) => transpose,
        };
        (transpose, self.from, self.leading)
    }
}

/// The factor where it is, if BLAS can read it there.
fn as_it_lies<T: Number>(source: &Source<T>) -> Option<Factor<T>> {
    if !matches!(source.treatment, Treatment::Plain) {
        return None;
    }
    let rows = |transpose, step: isize, length: usize, count: usize| {
        // The distance between rows matters only if there are two.
        let leading = if count <= 1 { length as isize } else { step };
        let leading = i32::try_from(leading).ok()?;
        (leading as usize >= length && leading > 0).then_some(Factor {
            from: source.from,
            transpose,
            leading,
        })
    };
    if source.step == 1 {
        rows(
            CBLAS_TRANSPOSE::CblasNoTrans,
            source.row,
            source.depth,
            source.rows,
        )
    } else if source.row == 1 {
        rows(
            CBLAS_TRANSPOSE::CblasTrans,
            source.step,
            source.rows,
            source.depth,
        )
    } else {
        None
    }
}

/// The factor where it is or, formed, in the workspace.
///
/// # Safety
///
/// The source can be read, and the workspace has room for it.
unsafe fn placed<T: Number>(source: &Source<T>, workspace: *mut T) -> Factor<T> {
    // SAFETY: as the caller says; centres and weights have an entry for each `r` and `k` of the source.
    as_it_lies(source).unwrap_or_else(|| unsafe {
        match source.treatment {
            Treatment::Plain => form(source, workspace, |_, _, x| x),
            Treatment::CenterByRow { center, weights } => form(source, workspace, |r, k, x| {
                (x - center.at(r)) * weights.at(k)
            }),
            Treatment::CenterByDepth { center, weights } => form(source, workspace, |r, k, x| {
                (x - center.at(k)) * weights.at(r)
            }),
        }
    })
}

/// Writes the treated factor with the axis first that is contiguous in the source.
///
/// # Safety
///
/// The source can be read, and `to` has room for `rows * depth` numbers.
unsafe fn form<T: Number>(
    source: &Source<T>,
    to: *mut T,
    treat: impl Fn(usize, usize, T) -> T,
) -> Factor<T> {
    let &Source {
        from,
        row,
        step,
        rows,
        depth,
        ..
    } = source;
    // SAFETY: it is called for elements of the source.
    let at = |r: usize, k: usize| unsafe {
        treat(r, k, *from.offset(r as isize * row + k as isize * step))
    };
    let by_row = step.unsigned_abs() <= row.unsigned_abs();
    let (outer, inner) = if by_row { (rows, depth) } else { (depth, rows) };
    for i in 0..outer {
        for j in 0..inner {
            let x = if by_row { at(i, j) } else { at(j, i) };
            // SAFETY: `i < outer` and `j < inner`, and there is room for `outer * inner` numbers.
            unsafe { to.add(i * inner + j).write(x) };
        }
    }
    Factor {
        from: to,
        transpose: if by_row {
            CBLAS_TRANSPOSE::CblasNoTrans
        } else {
            CBLAS_TRANSPOSE::CblasTrans
        },
        leading: inner as i32,
    }
}

/// Copies what is below the diagonal to its place above.
///
/// # Safety
///
/// `C [rows, rows]` can be read and written.
unsafe fn mirror<T: Number>(c: *mut T, c_row: isize, rows: usize) {
    // SAFETY: the level was detected, and `C` is square.
    unsafe {
        match Level::detect() {
            Level::Avx512 => mirror_by::<T::Avx512>(c, c_row, rows),
            Level::Avx2 => mirror_by::<T::Avx2>(c, c_row, rows),
            Level::Baseline => mirror_by::<T::Baseline>(c, c_row, rows),
        }
    }
}

/// # Safety
///
/// As for [`mirror`], and the processor has the instruction set of `K`.
unsafe fn mirror_by<K: Kernel>(c: *mut K::Number, c_row: isize, rows: usize) {
    // SAFETY: the caller answers for the matrix and the instruction set; `i` and `j` are below `rows`.
    unsafe {
        K::mirror(c, c_row, 0..rows, None);
        // That leaves out the blocks on the diagonal.
        let at = |i: usize, j: usize| c.offset(i as isize * c_row).add(j);
        for i in 0..rows {
            for j in i - i % K::LANES..i {
                *at(j, i) = *at(i, j);
            }
        }
    }
}
