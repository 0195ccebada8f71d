//! Every function at drawn extents, some of which do not fit: an error where they do not, a result of
//! the right shape where they do, and no panic.

#![allow(clippy::unwrap_used)]

use modalign_covariance::{
    Batch, CovarianceError, Distance, PairWeights, RunningCovariance, SharedInformation,
    SharedInformationConfig, StreamingMoments, VarianceFloor, coral, covariance,
    off_diagonal_penalty,
};
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

fn matrix(rows: usize, columns: usize) -> Array2<f64> {
    Array2::from_shape_fn((rows, columns), |(i, j)| {
        ((3 * i + 5 * j + i * j) % 7) as f64
    })
}

/// Whether a call was right to succeed or fail.
fn judge<T>(what: &str, fits: bool, result: Result<T, CovarianceError>) -> Option<T> {
    match result {
        Ok(value) => {
            assert!(fits, "{what}: what does not fit was taken");
            Some(value)
        }
        Err(error) => {
            assert!(!fits, "{what}: {error}");
            None
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn one_matrix(
        (n, d, ddof) in (0_usize..5, 0_usize..4, 0_usize..3),
        (weights, running) in (drawn(), drawn()),
    ) {
        let x = matrix(n, d);
        let weights = Array1::ones(fit(weights, n));
        let batch = Batch::from(x.view()).weighted(weights.view());
        let fits = n > ddof && d > 0 && weights.len() == n;
        if let Some(c) = judge("covariance", fits, covariance(batch, ddof)) {
            prop_assert_eq!(c.dim(), (d, d));
        }
        if let Some((_, gradient)) = judge("penalty", fits, off_diagonal_penalty(batch, ddof)) {
            prop_assert_eq!(gradient.dim(), (n, d));
        }
        let floor = VarianceFloor::default().value_and_gradient(batch);
        if let Some((_, gradient)) = judge("floor", n > 1 && d > 0 && weights.len() == n, floor) {
            prop_assert_eq!(gradient.dim(), (n, d));
        }

        let width = fit(running, d);
        let mut running = RunningCovariance::<f64>::new(width, 0.5).unwrap();
        let before = running.clone();
        let taken = judge("running", fits && width == d, running.update(batch, ddof));
        prop_assert!(taken.is_some() || running == before);

        let Some(mut stream) = judge("stream", width > 0, StreamingMoments::<f64>::new(width)) else {
            return Ok(());
        };
        // A block of no rows changes nothing, but it is one of the stream.
        let taken = judge("push", width == d && weights.len() == n, stream.push(batch));
        prop_assert_eq!(stream.rows(), if taken.is_some() { n as u64 } else { 0 });
        let other = StreamingMoments::<f64>::new(d.max(1)).unwrap();
        judge("merge", width == d.max(1), stream.merge(&other));
        judge("extend", true, stream.extend([matrix(3, width).view()]));
        let found = judge("moments", true, stream.covariance(1));
        prop_assert_eq!(found.unwrap().dim(), (width, width));
        judge("too few", false, stream.covariance(100));
    }

    #[test]
    fn pairs(
        (n, d, width) in (0_usize..5, 0_usize..4, 1_usize..4),
        (other, rows, count, weights) in (drawn(), drawn(), drawn(), drawn()),
        (gradient_rows, gradient_width, gradients) in (drawn(), drawn(), drawn()),
        distance in prop_oneof![
            Just(Distance::default()),
            Just(Distance::CrossCovariance {}),
            Just(Distance::RedundancyReduction { off_diagonal: 0.1, epsilon: 1e-6 }),
        ],
    ) {
        let (a, b) = (matrix(n, d), matrix(fit(rows, n), fit(other, d)));
        let paired = !matches!(distance, Distance::Frobenius { .. });
        let any_widths = matches!(distance, Distance::CrossCovariance {});
        let config = SharedInformationConfig { distance, ..SharedInformationConfig::default() };
        let pairs = PairWeights::uniform(2, 1.0).unwrap();
        let mut loss = SharedInformation::<f64>::new(config, pairs).unwrap();
        let weights = Array1::ones(fit(weights, n));
        let batches: Vec<_> = [
            Batch::from(a.view()).weighted(weights.view()),
            Batch::from(b.view()),
        ]
        .into_iter()
        .chain([Batch::from(a.view())])
        .take(fit(count, 2))
        .collect();
        let widths_fit = d > 0 && b.ncols() > 0 && (any_widths || b.ncols() == d);
        let fits = batches.len() == 2
            && widths_fit
            && n > 1
            && b.nrows() > 1
            && weights.len() == n
            && (!paired || b.nrows() == n);
        if let Some(value) = judge("value", fits, loss.value(&batches)) {
            prop_assert_eq!(value.pairs.len(), 1);
        }
        let mut gradients: Vec<_> = [
            Array2::zeros((fit(gradient_rows, n), fit(gradient_width, d))),
            Array2::zeros(b.dim()),
            Array2::zeros((width, width)),
        ]
        .into_iter()
        .take(fit(gradients, 2))
        .collect();
        let fits = fits && gradients.len() == 2 && gradients[0].dim() == (n, d);
        judge("gradient", fits, loss.value_and_gradient(&batches, &mut gradients));

        let fits = n > 1 && b.nrows() > 1 && d > 0 && b.ncols() == d;
        if let Some((_, da, db)) = judge("coral", fits, coral(a.view(), b.view())) {
            prop_assert_eq!((da.dim(), db.dim()), (a.dim(), b.dim()));
        }
    }

    #[test]
    fn pair_weights(rows in 0_usize..4, first in 0_usize..4, second in 0_usize..4, ragged in drawn()) {
        judge("uniform", true, PairWeights::uniform(rows, 1.0));
        let fits = first != second && first < rows && second < rows;
        judge("from_pairs", fits, PairWeights::from_pairs(rows, &[(first, second, 1.0)]));
        let table: Vec<Vec<f64>> = (0..rows)
            .map(|row| vec![0.0; if row == 0 { fit(ragged, rows) } else { rows }])
            .collect();
        let fits = table.iter().all(|row| row.len() == rows);
        prop_assert_eq!(PairWeights::try_from(table).is_ok(), fits);
    }
}
