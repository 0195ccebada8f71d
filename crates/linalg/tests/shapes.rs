//! Every function at drawn extents, some of which do not fit: an error where they do not, and what was
//! to be written is as it was; a result where they do.

#![allow(clippy::unwrap_used)]

use modalign_linalg::{LinalgError, Operand, column_means, gemm, scatter, syrk};
use ndarray::{Array1, Array2};
use proptest::prelude::*;

/// Stands for the extent that fits.
const FITS: usize = 9;

fn drawn() -> impl Strategy<Value = usize> {
    prop_oneof![4 => Just(FITS), 1 => 0_usize..5]
}

fn fit(drawn: usize, fitting: usize) -> usize {
    if drawn == FITS { fitting } else { drawn }
}

fn matrix(rows: usize, columns: usize) -> Array2<f32> {
    Array2::from_shape_fn((rows, columns), |(i, j)| (i + 2 * j) as f32)
}

fn judge(what: &str, fits: bool, result: Result<(), LinalgError>) {
    assert_eq!(result.is_ok(), fits, "{what}: {result:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn products(
        (m, k, n) in (0_usize..4, 0_usize..4, 0_usize..4),
        (inner, rows, columns) in (drawn(), drawn(), drawn()),
        (center, weights) in (drawn(), drawn()),
        (left, right) in (any::<bool>(), any::<bool>()),
    ) {
        let (inner, rows, columns) = (fit(inner, k), fit(rows, m), fit(columns, n));
        let a = if left { matrix(k, m) } else { matrix(m, k) };
        let b = if right { matrix(n, inner) } else { matrix(inner, n) };
        let center = Array1::ones(fit(center, a.ncols()));
        let weights = Array1::ones(fit(weights, a.nrows()));
        let own = (center.len(), weights.len()) == (a.ncols(), a.nrows());
        let a = Operand::from(&a).centered(&center).weighted(&weights);
        let b = Operand::from(&b);
        let (a, b) = (if left { a.t() } else { a }, if right { b.t() } else { b });
        let before = matrix(rows, columns);
        let mut c = before.clone();
        let fits = own && inner == k && (rows, columns) == (m, n);
        judge("gemm", fits, gemm(1.0, a, b, 1.0, &mut c));
        prop_assert!(fits || c == before);
        let mut c = before.clone();
        let fits = own && (rows, columns) == (m, m);
        judge("syrk", fits, syrk(1.0, a, 1.0, &mut c));
        prop_assert!(fits || c == before);
    }

    #[test]
    fn moments(
        (n, d) in (0_usize..4, 0_usize..4),
        (means, weights, rows, columns) in (drawn(), drawn(), drawn(), drawn()),
    ) {
        let x = matrix(n, d);
        let before = Array1::from_elem(fit(means, d), 7.0);
        let weights = Array1::ones(fit(weights, n));
        let mut means = before.clone();
        let fits = means.len() == d && weights.len() == n && n > 0;
        judge("column_means", fits, column_means(&x, Some(weights.view()), &mut means));
        prop_assert!(fits || means == before);
        let (mut means, mut c) = (before.clone(), matrix(fit(rows, d), fit(columns, d)));
        let unchanged = c.clone();
        let fits = means.len() == d && c.dim() == (d, d) && n > 0;
        judge("scatter", fits, scatter(1.0, &x, &mut means, &mut c));
        prop_assert!(fits || (means == before && c == unchanged));
    }
}

#[cfg(any(feature = "eigh", feature = "blas"))]
proptest! {
    #[test]
    fn eigenvalues(rows in 0_usize..4, columns in 0_usize..4) {
        let found = modalign_linalg::eigh(&Array2::<f64>::ones((rows, columns)));
        prop_assert_eq!(found.is_ok(), rows == columns, "{:?}", found);
    }
}
