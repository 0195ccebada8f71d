use modalign_core::{Stream, resize, rng};
use ndarray::{Array1, Axis, s};
use rand::Rng;
use rand::seq::SliceRandom;

use crate::dataset::SPLIT;
use crate::{DataError, Sequences, Split};

/// B rows of a split, ready for a model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// Which rows of the split these are.
    pub rows: Vec<usize>,
    /// The requested features in the requested order, `[B, T, D]` each, where T is the longest
    /// length in this batch.
    pub sequences: Vec<Sequences>,
    /// `[B]`.
    pub labels: Array1<f32>,
}

impl Split {
    /// Collects rows for a model, each feature cut to the longest length among these rows.
    ///
    /// # Errors
    ///
    /// [`DataError::UnknownFeature`] (call [`feature`](Self::feature) for each key to know it
    /// before training starts), [`DataError::Row`] for a row that is not there, and
    /// [`DataError::NoRows`] for none; [`DataError::RowCount`], [`DataError::Lengths`] or
    /// [`DataError::Length`] for a feature that does not suit the split; [`DataError::Io`] for features
    /// that stay in a file.
    ///
    /// ```
    /// use modalign_data::{GeneratedConfig, generate};
    ///
    /// let train = generate(&GeneratedConfig::default())?.dataset.train;
    /// let batch = train.batch(&["text", "audio"], &[0, 5, 2])?;
    /// assert_eq!(batch.labels[1], train.labels[5]);
    /// let audio = &batch.sequences[1];
    /// assert_eq!(audio.values.dim(), (3, *audio.lengths.iter().max().unwrap(), 5));
    /// # Ok::<(), modalign_data::DataError>(())
    /// ```
    pub fn batch(&self, keys: &[impl AsRef<str>], rows: &[usize]) -> Result<Batch, DataError> {
        let mut batch = Batch::default();
        self.batch_into(keys, rows, &mut batch)?;
        Ok(batch)
    }

    /// As [`batch`](Self::batch), in the memory of a batch that has served. On an error that one is
    /// of no more use.
    ///
    /// # Errors
    ///
    /// As [`batch`](Self::batch).
    pub fn batch_into(
        &self,
        keys: &[impl AsRef<str>],
        rows: &[usize],
        batch: &mut Batch,
    ) -> Result<(), DataError> {
        if rows.is_empty() {
            return Err(DataError::NoRows);
        }
        self.check_rows(rows)?;
        batch.rows.clear();
        batch.rows.extend_from_slice(rows);
        batch.sequences.resize_with(keys.len(), Sequences::default);
        for (key, target) in keys.iter().zip(&mut batch.sequences) {
            match self.file_features.get(key.as_ref()) {
                Some(sequences) => {
                    self.check_count(SPLIT, key.as_ref(), sequences.len())?;
                    sequences.read_into(rows, target)?;
                }
                None => {
                    let sequences = self.feature(key.as_ref())?;
                    self.check_count(SPLIT, key.as_ref(), sequences.len())?;
                    sequences.check(SPLIT, key.as_ref(), rows.iter().copied())?;
                    gather(sequences, rows, target);
                }
            }
        }
        resize(&mut batch.labels, rows.len());
        for (label, &row) in batch.labels.iter_mut().zip(rows) {
            *label = self.labels[row];
        }
        Ok(())
    }
}

fn gather(sequences: &Sequences, rows: &[usize], target: &mut Sequences) {
    let Sequences { values, lengths } = target;
    lengths.clear();
    lengths.extend(rows.iter().map(|&row| sequences.lengths[row]));
    let longest = lengths.iter().copied().max().unwrap_or(0);
    resize(values, (rows.len(), longest, sequences.width()));
    for (mut target, (&row, &length)) in values.outer_iter_mut().zip(rows.iter().zip(&*lengths)) {
        let (mut steps, mut padding) = target.view_mut().split_at(Axis(0), length);
        steps.assign(&sequences.values.slice(s![row, ..length, ..]));
        padding.fill(0.0);
    }
}

/// The rows `0..n` in a random order, for one pass over the training split.
///
/// ```
/// use modalign_core::{Stream, rng};
/// use modalign_data::epoch_order;
///
/// assert_eq!(epoch_order(6, &mut rng(1111, Stream::Order)), [3, 5, 1, 4, 2, 0]);
/// ```
pub fn epoch_order(n: usize, rng: &mut (impl Rng + ?Sized)) -> Vec<usize> {
    let mut order: Vec<_> = (0..n).collect();
    order.shuffle(rng);
    order
}

/// Deals the rows `0..n` at random into `k` test folds whose sizes differ by at most one. Each fold
/// is in ascending order.
///
/// # Errors
///
/// [`DataError::Folds`] unless `2 <= k <= n`.
///
/// ```
/// let folds = modalign_data::folds(7, 3, 1111)?;
/// assert_eq!(folds.iter().map(Vec::len).collect::<Vec<_>>(), [3, 2, 2]);
/// # Ok::<(), modalign_data::DataError>(())
/// ```
pub fn folds(n: usize, k: usize, seed: u64) -> Result<Vec<Vec<usize>>, DataError> {
    if k < 2 || k > n {
        return Err(DataError::Folds { rows: n, folds: k });
    }
    let order = epoch_order(n, &mut rng(seed, Stream::Split));
    let fold = |first: usize| {
        let mut rows: Vec<_> = order.iter().skip(first).step_by(k).copied().collect();
        rows.sort_unstable();
        rows
    };
    Ok((0..k).map(fold).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use indexmap::IndexMap;
    use ndarray::{Array, array};
    use proptest::prelude::*;

    fn split(lengths: &[usize], steps: usize) -> Split {
        let rows = lengths.len();
        let mut values = Array::range(1.0, (rows * steps * 2 + 1) as f32, 1.0)
            .into_shape_with_order((rows, steps, 2))
            .unwrap();
        for (mut row, &length) in values.outer_iter_mut().zip(lengths) {
            row.slice_mut(s![length.., ..]).fill(0.0);
        }
        let audio = Sequences {
            values,
            lengths: lengths.to_vec(),
        };
        let text = Sequences::from_vectors(Array::zeros((rows, 4)));
        Split {
            id: (0..rows).map(|row| row.to_string()).collect(),
            raw_text: None,
            text_bert: None,
            features: IndexMap::from([("text".to_owned(), text), ("audio".to_owned(), audio)]),
            file_features: IndexMap::new(),
            labels: Array::range(0.0, rows as f32, 1.0),
            unimodal_labels: IndexMap::new(),
        }
    }

    #[test]
    fn a_batch_is_cut_to_its_longest_row() {
        let split = split(&[2, 4, 1], 4);
        let batch = split.batch(&["audio", "text"], &[2, 0]).unwrap();
        assert_eq!(batch.rows, [2, 0]);
        assert_eq!(batch.labels, array![2.0, 0.0]);
        assert_eq!(
            batch.sequences[0].values,
            array![[[17.0, 18.0], [0.0, 0.0]], [[1.0, 2.0], [3.0, 4.0]]]
        );
        assert_eq!(batch.sequences[0].lengths, [1, 2]);
        assert_eq!(batch.sequences[1].values.dim(), (2, 1, 4));
    }

    #[test]
    fn a_bad_request_says_what_is_wrong() {
        let split = split(&[1, 1], 1);
        assert!(matches!(
            split.batch(&["audio"], &[0, 2]).unwrap_err(),
            DataError::Row { row: 2, rows: 2 }
        ));
        assert!(matches!(
            split.batch(&["audio"], &[]).unwrap_err(),
            DataError::NoRows
        ));
        let unknown = split.batch(&["speech"], &[0]).unwrap_err();
        assert_eq!(
            unknown.to_string(),
            "no feature speech; there are text, audio"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn one_seed_gives_one_sequence_of_batches(
            lengths in prop::collection::vec(1..6_usize, 1..20),
            size in 1..7_usize,
            seed: u64,
        ) {
            let split = split(&lengths, 5);
            let run = || {
                let order = epoch_order(split.len(), &mut rng(seed, Stream::Order));
                order
                    .chunks(size)
                    .map(|rows| split.batch(&["audio", "text"], rows).unwrap())
                    .collect::<Vec<_>>()
            };
            let batches = run();
            prop_assert_eq!(&batches, &run());
            let mut seen: Vec<_> = batches.iter().flat_map(|batch| batch.rows.clone()).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..split.len()).collect::<Vec<_>>());
            for batch in &batches {
                for (index, &row) in batch.rows.iter().enumerate() {
                    let found = batch.sequences[0].values.index_axis(Axis(0), index);
                    let whole = split.features["audio"].values.index_axis(Axis(0), row);
                    let (shown, hidden) = whole.split_at(Axis(0), found.nrows());
                    prop_assert_eq!(found, shown);
                    prop_assert!(hidden.iter().all(|&value| value == 0.0));
                }
            }
        }

        #[test]
        fn folds_are_a_balanced_partition(n in 2..60_usize, k in 2..10_usize, seed: u64) {
            prop_assume!(k <= n);
            let dealt = folds(n, k, seed).unwrap();
            prop_assert_eq!(&dealt, &folds(n, k, seed).unwrap());
            prop_assert!(dealt.iter().all(|fold| fold.len() == n / k || fold.len() == n.div_ceil(k)));
            let mut all = dealt.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..n).collect::<Vec<_>>());
        }
    }

    #[test]
    fn folds_that_cannot_be_are_refused() {
        for (n, k) in [(5, 0), (5, 1), (5, 6), (0, 2)] {
            assert!(matches!(
                folds(n, k, 0).unwrap_err(),
                DataError::Folds { rows, folds } if rows == n && folds == k
            ));
        }
    }

    #[test]
    fn the_folds_of_a_seed_stay_the_same() {
        assert_eq!(folds(6, 2, 1111).unwrap(), [[0, 1, 5], [2, 3, 4]]);
    }
}
