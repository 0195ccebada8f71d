use std::any::Any;

use ndarray::{Array1, Array2, ArrayBase, Data, Ix2, LinalgScalar};

use crate::LinalgError;
use crate::error::check_shape;

/// Eigenvalues and eigenvectors of a symmetric matrix.
///
/// ```text
/// S = V diag(λ) Vᵀ,   Vᵀ V = I,   λ_1 ≤ λ_2 ≤ … ≤ λ_D
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SymmetricEigen<A> {
    /// `λ [D]`, ascending.
    pub values: Array1<A>,
    /// `V [D, D]`: column `i` belongs to value `i`. Its sign is arbitrary, and so are the columns of
    /// a repeated value within the space that they span.
    pub vectors: Array2<A>,
}

/// Eigendecomposition of a symmetric matrix `S [D, D]` of `f32` or `f64`.
///
/// Only the lower triangle is read. Repeated and zero values are no special case: values are off by
/// a small multiple of the machine precision times the largest one, which for the small ones may be
/// more than they are, and the vectors are orthonormal to the same multiple.
///
/// # Errors
///
/// - [`LinalgError::Shape`] if the matrix is not square.
/// - [`LinalgError::NotFinite`] if the lower triangle contains NaN or an infinity.
/// - [`LinalgError::NoConvergence`] if the iteration does not end, which no known matrix causes.
/// - [`LinalgError::ElementType`] for other types than `f32` and `f64`.
///
/// # Examples
///
/// ```
/// use modalign_linalg::eigh;
/// use ndarray::array;
///
/// let eigen = eigh(&array![[2.0_f64, 1.0], [1.0, 2.0]])?;
/// assert!((eigen.values[0] - 1.0).abs() < 1e-14);
/// assert!((eigen.values[1] - 3.0).abs() < 1e-14);
/// let (x, y) = (eigen.vectors[[0, 1]], eigen.vectors[[1, 1]]);
/// assert!((x * y - 0.5).abs() < 1e-14);
/// # Ok::<(), modalign_linalg::LinalgError>(())
/// ```
pub fn eigh<A: LinalgScalar>(
    matrix: &ArrayBase<impl Data<Elem = A>, Ix2>,
) -> Result<SymmetricEigen<A>, LinalgError> {
    let d = matrix.nrows();
    check_shape("eigh", "matrix", matrix.dim(), (d, d))?;
    if matrix.is_empty() {
        return Ok(SymmetricEigen {
            values: Array1::zeros(0),
            vectors: Array2::zeros((0, 0)),
        });
    }
    // Row-major, as the libraries below are told.
    let matrix: Box<dyn Any> = Box::new(matrix.as_standard_layout().into_owned());
    let eigen: Box<dyn Any> = if let Some(matrix) = matrix.downcast_ref::<Array2<f32>>() {
        Box::new(decompose(matrix)?)
    } else if let Some(matrix) = matrix.downcast_ref::<Array2<f64>>() {
        Box::new(decompose(matrix)?)
    } else {
        return Err(LinalgError::ElementType { operation: "eigh" });
    };
    match eigen.downcast() {
        Ok(eigen) => Ok(*eigen),
        Err(_) => unreachable!("the result has the type of the matrix"),
    }
}

#[cfg(feature = "blas")]
fn decompose<T>(matrix: &Array2<T>) -> Result<SymmetricEigen<T>, LinalgError>
where
    T: num_traits::Float,
    Array2<T>: ndarray_linalg::Eigh<EigVal = Array1<T>, EigVec = Array2<T>>,
{
    check_finite(matrix)?;
    // LAPACK knows columns: to it this is the transpose, with the lower triangle as the upper one.
    ndarray_linalg::Eigh::eigh(&matrix.t().to_owned(), ndarray_linalg::UPLO::Upper)
        .map(|(values, vectors)| SymmetricEigen { values, vectors })
        .map_err(|_| LinalgError::NoConvergence { operation: "eigh" })
}

#[cfg(not(feature = "blas"))]
fn decompose<T>(matrix: &Array2<T>) -> Result<SymmetricEigen<T>, LinalgError>
where
    T: num_traits::Float + faer::traits::RealField,
{
    use faer::diag::DiagMut;
    use faer::dyn_stack::{MemBuffer, MemStack};
    use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
    use faer::{MatMut, MatRef, Par};
    use ndarray::ShapeBuilder;

    check_finite(matrix)?;
    let d = matrix.nrows();
    let (mut values, mut vectors) = (Array1::zeros(d), Array2::zeros((d, d).f()));
    let (Some(from), Some(to), Some(diagonal)) = (
        matrix.as_slice(),
        vectors.as_slice_memory_order_mut(),
        values.as_slice_mut(),
    ) else {
        unreachable!("new arrays are contiguous")
    };
    // One thread: the result must not depend on how many there are.
    let (par, parameters) = (Par::Seq, faer::prelude::default());
    let scratch = self_adjoint_evd_scratch::<T>(d, ComputeEigenvectors::Yes, par, parameters);
    self_adjoint_evd(
        MatRef::from_row_major_slice(from, d, d),
        DiagMut::from_slice_mut(diagonal),
        Some(MatMut::from_column_major_slice_mut(to, d, d)),
        par,
        MemStack::new(&mut MemBuffer::new(scratch)),
        parameters,
    )
    .map_err(|_| LinalgError::NoConvergence { operation: "eigh" })?;
    Ok(SymmetricEigen { values, vectors })
}

fn check_finite<T: num_traits::Float>(matrix: &Array2<T>) -> Result<(), LinalgError> {
    let bad = matrix
        .indexed_iter()
        .find(|&((row, column), x)| column <= row && !x.is_finite());
    match bad {
        Some(((row, column), _)) => Err(LinalgError::NotFinite {
            operation: "eigh",
            index: [row, column],
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use approx::assert_abs_diff_eq;
    use ndarray::{Axis, array};
    use num_traits::{Float, NumCast};
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;

    /// Spectra and structures that eigensolvers stumble over.
    #[derive(Debug, Clone, Copy)]
    enum Kind {
        Full,
        /// As a covariance of few samples: most values are zero.
        LowRank,
        /// Every row and column the same.
        Constant,
        /// Two values, each many times.
        Repeated,
        /// From 1 down to 1e-15.
        Graded,
        Diagonal,
        AntiDiagonal,
        /// Some features constant: rows and columns of zeros.
        ZeroRows,
        Zero,
    }

    const KINDS: [Kind; 9] = [
        Kind::Full,
        Kind::LowRank,
        Kind::Constant,
        Kind::Repeated,
        Kind::Graded,
        Kind::Diagonal,
        Kind::AntiDiagonal,
        Kind::ZeroRows,
        Kind::Zero,
    ];

    fn symmetric(kind: Kind, d: usize, seed: u64) -> Array2<f64> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut samples =
            |rows| Array2::from_shape_simple_fn((rows, d), || rng.random_range(-1.0..1.0_f64));
        match kind {
            Kind::Full => {
                let x = samples(d);
                &x + &x.t()
            }
            Kind::LowRank => {
                let x = samples(d / 4 + 1);
                x.t().dot(&x)
            }
            Kind::Constant => Array2::ones((d, d)),
            Kind::Repeated => {
                // Two values in the basis of a reflection.
                let v = samples(1);
                let reflection = Array2::eye(d) - 2.0 * v.t().dot(&v) / v.map(|x| x * x).sum();
                let values = Array1::from_shape_fn(d, |i| if i % 3 == 0 { 2.0 } else { 1.0 });
                (&reflection * &values).dot(&reflection.t())
            }
            Kind::Graded => {
                let mut x = samples(d);
                for (i, mut row) in x.axis_iter_mut(Axis(0)).enumerate() {
                    row *= 10_f64.powi(-(i as i32 % 16));
                }
                x.t().dot(&x)
            }
            Kind::Diagonal => Array2::from_diag(&samples(1).row(0)),
            Kind::AntiDiagonal => {
                Array2::from_shape_fn((d, d), |(i, j)| if i + j + 1 == d { 1.0 } else { 0.0 })
            }
            Kind::ZeroRows => {
                let mut x = samples(d);
                for mut column in x.axis_iter_mut(Axis(1)).step_by(3) {
                    column.fill(0.0);
                }
                x.t().dot(&x)
            }
            Kind::Zero => Array2::zeros((d, d)),
        }
    }

    fn check<T: Float + LinalgScalar>(matrix: &Array2<f64>) {
        let d = matrix.nrows();
        let cast = |x: f64| <T as NumCast>::from(x).expect("a float");
        let wide = |x: T| x.to_f64().expect("a float");
        let matrix = matrix.mapv(cast);
        let mut poisoned = matrix.clone();
        for i in 0..d {
            for j in i + 1..d {
                poisoned[[i, j]] = T::nan();
            }
        }
        let SymmetricEigen { values, vectors } = eigh(&poisoned).expect("finite and square");
        let (values, vectors) = (values.mapv(wide), vectors.mapv(wide));
        let largest = values.fold(f64::MIN_POSITIVE, |largest, x| largest.max(x.abs()));
        let epsilon = 8.0 * (d as f64 + 2.0) * wide(T::epsilon());

        assert!(values.windows(2).into_iter().all(|pair| pair[0] <= pair[1]));
        let product = vectors.t().dot(&vectors);
        assert_abs_diff_eq!(product, Array2::eye(d), epsilon = epsilon);
        let lower = Array2::from_shape_fn((d, d), |(i, j)| matrix[[i.max(j), i.min(j)]]);
        let restored = (&vectors * &values).dot(&vectors.t());
        let (restored, lower) = (restored / largest, lower.mapv(wide) / largest);
        assert_abs_diff_eq!(restored, lower, epsilon = epsilon);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_matrix_is_restored(
            kind in prop::sample::select(KINDS.to_vec()),
            d in prop_oneof![0..6_usize, 6..70_usize],
            exponent in prop::sample::select(vec![-25, 0, 25]),
            seed: u64,
        ) {
            let matrix = symmetric(kind, d, seed) * 10_f64.powi(exponent);
            check::<f32>(&matrix);
            check::<f64>(&matrix);
        }
    }

    #[test]
    fn bad_matrices_are_errors() {
        let operation = "eigh";
        let found = eigh(&Array2::<f32>::zeros((2, 3)));
        let shape = LinalgError::Shape {
            operation,
            operand: "matrix",
            expected: [2, 2],
            found: [2, 3],
        };
        assert_eq!(found, Err(shape));
        let index = [1, 0];
        let found = eigh(&array![[1.0, 0.0], [f64::INFINITY, 1.0]]);
        assert_eq!(found, Err(LinalgError::NotFinite { operation, index }));
        let found = eigh(&array![[1_i32]]);
        assert_eq!(found, Err(LinalgError::ElementType { operation }));
    }
}
