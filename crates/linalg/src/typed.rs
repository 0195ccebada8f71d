//! From arrays of any element type to kernels for `f32` and `f64`: types are compared, views become
//! memory.

use std::any::TypeId;
use std::ptr::NonNull;

use ndarray::{ArrayView1, ArrayView2, ArrayViewMut1, ArrayViewMut2, CowArray, Ix1};

use crate::Operand;
use crate::kernel::{Along, Level, Number, Source, Treatment};
use crate::means;
use crate::multiply::{Product, multiply};

/// The product, if `A` is `T`. `None` for `b` means the transpose of `a`.
pub(crate) fn product<A: Copy + 'static, T: Number>(
    alpha: A,
    a: Operand<A>,
    b: Option<Operand<A>>,
    beta: A,
    c: &mut ArrayViewMut2<A>,
) -> bool {
    let (Some(alpha), Some(beta)) = (same::<A, T>(alpha), same::<A, T>(beta)) else {
        return false;
    };
    let a = Vectors::of(&a);
    let b = b.map(|b| b.t());
    let b = b.as_ref().map(Vectors::of);
    let (a, b): (Source<T>, Option<Source<T>>) = (a.source(), b.as_ref().map(Vectors::source));
    let (rows, columns) = c.dim();
    let &[row, column] = c.strides() else {
        unreachable!("a matrix has two strides")
    };
    let target = c.as_mut_ptr().cast::<T>();
    let product = Product {
        alpha,
        a,
        b,
        beta,
        c: target,
        c_row: row,
    };
    if columns <= 1 || column == 1 {
        run(&product);
    } else if rows <= 1 || row == 1 {
        // Cᵀ = Bᵀ Aᵀ
        let (a, b) = match b {
            Some(b) => (b, Some(a)),
            None => (a, None),
        };
        run(&Product {
            a,
            b,
            c_row: column,
            ..product
        });
    } else {
        let mut dense = vec![T::zero(); rows * columns];
        run(&Product {
            beta: T::zero(),
            c: dense.as_mut_ptr(),
            c_row: columns as isize,
            ..product
        });
        for (i, dense) in dense.chunks_exact(columns).enumerate() {
            for (j, &new) in dense.iter().enumerate() {
                // SAFETY: `(i, j)` is an index of `C`, whose elements are of type `T`.
                unsafe {
                    let old = target.offset(i as isize * row + j as isize * column);
                    *old = if beta.is_zero() {
                        new
                    } else {
                        beta * *old + new
                    };
                }
            }
        }
    }
    true
}

/// The means of the columns, if `A` is `T`; false within if the rows have no weight.
pub(crate) fn column_means<A: Copy + 'static, T: Number>(
    x: ArrayView2<A>,
    weights: Option<ArrayView1<A>>,
    means: &mut ArrayViewMut1<A>,
) -> Option<bool> {
    if TypeId::of::<A>() != TypeId::of::<T>() {
        return None;
    }
    let weights = weights.as_ref().map(|vector| vector.as_standard_layout());
    let &[row, column] = x.strides() else {
        unreachable!("a matrix has two strides")
    };
    let (rows, columns) = x.dim();
    let samples = means::Samples {
        from: x.as_ptr().cast::<T>(),
        row,
        column: if columns <= 1 { 1 } else { column },
        rows,
        columns,
        weights: along(weights.as_ref(), T::ONE),
    };
    let &[step] = means.strides() else {
        unreachable!("a vector has one stride")
    };
    let to = means.as_mut_ptr().cast::<T>();
    // SAFETY: `A` is `T`, so the pointers reach the elements of the views; the level was detected.
    Some(unsafe {
        match Level::detect() {
            Level::Avx512 => means::write_means::<T::Avx512>(&samples, to, step),
            Level::Avx2 => means::write_means::<T::Avx2>(&samples, to, step),
            Level::Baseline => means::write_means::<T::Baseline>(&samples, to, step),
        }
    })
}

/// Means and scatter in one read of the samples, from centres near the means; see
/// [`scatter`](crate::scatter()). False if that cannot be done or has lost digits; what was written
/// is of no use then.
pub(crate) fn scatter<A: Copy + 'static, T: Number>(
    alpha: A,
    x: ArrayView2<A>,
    means: &mut [A],
    c: &mut ArrayViewMut2<A>,
) -> bool {
    if cfg!(feature = "blas") {
        return false;
    }
    let &[row, column] = c.strides() else {
        unreachable!("a matrix has two strides")
    };
    let alpha = match same::<A, T>(alpha) {
        Some(alpha) if alpha > T::zero() => alpha,
        _ => return false,
    };
    // The result is symmetric, so either of its axes may be the fast one.
    let c_row = match (row, column) {
        (row, 1) => row,
        (1, column) => column,
        _ => return false,
    };
    let centers = means.as_mut_ptr().cast::<T>();
    let mut a = Vectors::of(&Operand::from(&x).t()).source();
    a.treatment = Treatment::CenterByRow {
        center: Along {
            from: centers,
            step: 1,
        },
        weights: Along {
            from: T::ONE,
            step: 0,
        },
    };
    let product = Product {
        alpha,
        a,
        b: None,
        beta: T::zero(),
        c: c.as_mut_ptr().cast(),
        c_row,
    };
    let centers = NonNull::new(centers);
    // SAFETY: the level was detected; the pointers were made from live views and slices of fitting
    // sizes, and the centres are written when nothing reads them any more.
    unsafe {
        match Level::detect() {
            Level::Avx512 => multiply::<T::Avx512>(&product, centers),
            Level::Avx2 => multiply::<T::Avx2>(&product, centers),
            Level::Baseline => multiply::<T::Baseline>(&product, centers),
        }
    }
}

fn run<T: Number>(product: &Product<T>) {
    #[cfg(feature = "blas")]
    {
        #[cfg(test)]
        let wanted = crate::tests::Setting::held().is_none_or(|setting| setting.level.is_none());
        #[cfg(not(test))]
        let wanted = true;
        // SAFETY: sources and target were made from live views.
        if wanted && unsafe { crate::blas::multiply(product) } {
            return;
        }
    }
    // SAFETY: the level was detected; sources and target were made from live views.
    unsafe {
        match Level::detect() {
            Level::Avx512 => multiply::<T::Avx512>(product, None),
            Level::Avx2 => multiply::<T::Avx2>(product, None),
            Level::Baseline => multiply::<T::Baseline>(product, None),
        };
    }
}

fn same<A: Copy + 'static, T: Copy + 'static>(x: A) -> Option<T> {
    // SAFETY: the types are the same.
    (TypeId::of::<A>() == TypeId::of::<T>()).then(|| unsafe { std::mem::transmute_copy(&x) })
}

/// An operand whose centre and weights lie in consecutive memory.
struct Vectors<'a, 'b, A> {
    operand: &'a Operand<'b, A>,
    center: Option<CowArray<'a, A, Ix1>>,
    weights: Option<CowArray<'a, A, Ix1>>,
}

impl<'a, 'b, A: Copy> Vectors<'a, 'b, A> {
    fn of(operand: &'a Operand<'b, A>) -> Self {
        Self {
            operand,
            center: operand
                .center
                .as_ref()
                .map(|vector| vector.as_standard_layout()),
            weights: operand
                .weights
                .as_ref()
                .map(|vector| vector.as_standard_layout()),
        }
    }

    /// `T` must be `A`.
    fn source<T: Number>(&self) -> Source<T> {
        let matrix = &self.operand.matrix;
        let &[row, column] = matrix.strides() else {
            unreachable!("a matrix has two strides")
        };
        // The stride of an axis with one entry is arbitrary; 1 opens the paths for unit strides.
        let (rows, columns) = matrix.dim();
        let row = if rows <= 1 { 1 } else { row };
        let column = if columns <= 1 { 1 } else { column };
        let from = matrix.as_ptr().cast();
        let center = along(self.center.as_ref(), T::ZERO);
        let weights = along(self.weights.as_ref(), T::ONE);
        let plain = self.center.is_none() && self.weights.is_none();
        if self.operand.transposed {
            Source {
                from,
                row: column,
                step: row,
                rows: columns,
                depth: rows,
                treatment: if plain {
                    Treatment::Plain
                } else {
                    Treatment::CenterByRow { center, weights }
                },
            }
        } else {
            Source {
                from,
                row,
                step: column,
                rows,
                depth: columns,
                treatment: if plain {
                    Treatment::Plain
                } else {
                    Treatment::CenterByDepth { center, weights }
                },
            }
        }
    }
}

fn along<A, T: Number>(vector: Option<&CowArray<A, Ix1>>, absent: &'static T) -> Along<T> {
    match vector {
        Some(vector) => Along {
            from: vector.as_ptr().cast(),
            step: 1,
        },
        None => Along {
            from: absent,
            step: 0,
        },
    }
}
