//! Data sets put together by hand at drawn extents, some of which do not fit: an error where they do
//! not, and no panic.

#![allow(clippy::unwrap_used)]

use modalign_data::{DataError, Dataset, Sequences, Split, Standardizer, folds};
use ndarray::{Array1, Array3};
use proptest::prelude::*;

/// Stands for the extent that fits.
const FITS: usize = 9;

fn drawn() -> impl Strategy<Value = usize> {
    prop_oneof![8 => Just(FITS), 1 => 0_usize..5]
}

fn fit(drawn: usize, fitting: usize) -> usize {
    if drawn == FITS { fitting } else { drawn }
}

fn judge<T>(what: &str, fits: bool, result: Result<T, DataError>) -> Option<T> {
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

prop_compose! {
    /// A split of `n` rows and whether it holds together.
    fn splits()(
        (n, steps, width) in (0_usize..4, 0_usize..4, 1_usize..3),
        [ids, texts, tokens, planes, rows, lengths, longest, unimodal] in prop::array::uniform8(drawn()),
    ) -> (Split, bool) {
        let planes = fit(planes, 3);
        let (rows, lengths, longest) = (fit(rows, n), fit(lengths, n), fit(longest, steps));
        let sequences = Sequences {
            values: Array3::ones((rows, steps, width)),
            lengths: (0..lengths).map(|row| if row == 0 { longest } else { steps }).collect(),
        };
        let split = Split {
            id: vec!["id".to_owned(); fit(ids, n)],
            raw_text: Some(vec!["text".to_owned(); fit(texts, n)]),
            text_bert: Some(Array3::zeros((fit(tokens, n), planes, 2))),
            features: [("audio".to_owned(), sequences.clone())].into_iter().collect(),
            file_features: Default::default(),
            labels: Array1::zeros(n),
            unimodal_labels: [("A".to_owned(), Array1::zeros(fit(unimodal, n)))].into_iter().collect(),
        };
        let sound = [split.id.len(), fit(texts, n), fit(tokens, n), rows, lengths, fit(unimodal, n)]
            .into_iter()
            .all(|found| found == n)
            && planes == 3
            && sequences.lengths.iter().all(|length| (1..=steps).contains(length));
        (split, sound)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_split((split, sound) in splits(), rows in prop::collection::vec(0_usize..4, 0..4)) {
        judge("validate", sound, split.validate("train"));
        let inside = rows.iter().all(|&row| row < split.len());
        if let Some(selected) = judge("select", sound && inside, split.select(&rows)) {
            prop_assert_eq!(selected.len(), rows.len());
        }
        let sequences = &split.features["audio"];
        let own = sequences.len() == split.len() && sequences.values.dim().0 == split.len();
        let steps = sequences.steps();
        let fits = own && inside && !rows.is_empty()
            && rows.iter().all(|&row| (1..=steps).contains(&sequences.lengths[row]));
        if let Some(batch) = judge("batch", fits, split.batch(&["audio"], &rows)) {
            let longest = rows.iter().map(|&row| sequences.lengths[row]).max().unwrap();
            let expected = (rows.len(), longest, sequences.width());
            prop_assert_eq!(batch.sequences[0].values.dim(), expected);
        }
        judge("no such feature", false, split.batch(&["sound"], &rows));

        prop_assert!(sequences.rows().count() <= sequences.len());
        let own = sequences.values.dim().0 == sequences.len()
            && sequences.lengths.iter().all(|length| (1..=steps).contains(length));
        let fitted = judge("fit", own && !sequences.is_empty(), Standardizer::fit(sequences));
        for width in 1..4 {
            let statistics = Standardizer { mean: Array1::zeros(width), scale: Array1::ones(width), clip: None };
            let mut target = sequences.clone();
            let applied = judge("apply", own && width == sequences.width(), statistics.apply(&mut target));
            prop_assert!(applied.is_some() || target == *sequences);
        }
        if let Some(fitted) = fitted {
            judge("apply", true, fitted.apply(&mut sequences.clone()));
        }
    }

    #[test]
    fn a_data_set([train, valid, test] in prop::array::uniform3(splits())) {
        let sound = train.1 && valid.1 && test.1;
        let dataset = Dataset { train: train.0, valid: valid.0, test: test.0 };
        judge("validate", sound, dataset.validate());
        let width = |split: &Split| split.features["audio"].width();
        let widths = width(&dataset.valid) == width(&dataset.train) && width(&dataset.test) == width(&dataset.train);
        if let Some(pool) = judge("pool", sound && widths, dataset.pool()) {
            prop_assert_eq!(pool.len(), dataset.train.len() + dataset.valid.len() + dataset.test.len());
            judge("pool", true, pool.validate("all"));
        }
    }

    #[test]
    fn rows_in_folds(n in 0_usize..6, k in 0_usize..6) {
        if let Some(folds) = judge("folds", k > 1 && k <= n, folds(n, k, 1)) {
            prop_assert_eq!(folds.len(), k);
            prop_assert_eq!(folds.iter().map(Vec::len).sum::<usize>(), n);
        }
    }
}
