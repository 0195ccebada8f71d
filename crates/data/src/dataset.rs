use indexmap::IndexMap;
use ndarray::{Array1, Array2, Array3, ArrayView2, ArrayViewMut2, Axis, s};
use num_traits::Zero;

use crate::{DataError, FileSequences};

/// What errors call a split whose name is not known.
pub(crate) const SPLIT: &str = "split";

/// Training, validation and test samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// The samples that parameters and statistics are fitted on.
    pub train: Split,
    /// The samples that choose between models.
    pub valid: Split,
    /// The samples that are looked at once, at the end.
    pub test: Split,
}

/// N samples: features of each modality and labels.
///
/// Everything has the same N rows, in the same order.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// What each row is called, such as `video$_$segment`; `train_0` and so on where the file says
    /// nothing.
    pub id: Vec<String>,
    /// The transcripts.
    pub raw_text: Option<Vec<String>>,
    /// Tokens for a BERT encoder `[N, 3, L]`: ids, mask (1 for a token, 0 for padding), segments.
    pub text_bert: Option<Array3<i64>>,
    /// The features by their key in the file: `text`, `audio`, `vision` and others.
    pub features: IndexMap<String, Sequences>,
    /// Features that stay in the data file, by their key; none unless
    /// [`ReadOptions::in_file_above`](crate::ReadOptions::in_file_above) asks for it.
    pub file_features: IndexMap<String, FileSequences>,
    /// The label of the whole sample `[N]`, finite.
    pub labels: Array1<f32>,
    /// The labels of single modalities `[N]` by `T`, `A` and `V`, where the corpus has them.
    pub unimodal_labels: IndexMap<String, Array1<f32>>,
}

/// The features of one modality: N sequences of D-dimensional steps. None is the default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sequences {
    /// `[N, T, D]`, finite, zero after each row's length. A vector a sample is T = 1.
    pub values: Array3<f32>,
    /// The number of steps of each row, `1..=T`.
    pub lengths: Vec<usize>,
}

impl Dataset {
    /// Checks that every split holds together; what the readers of this crate return does.
    ///
    /// # Errors
    ///
    /// As [`Split::validate`], naming the split.
    pub fn validate(&self) -> Result<(), DataError> {
        self.train.validate("train")?;
        self.valid.validate("valid")?;
        self.test.validate("test")
    }

    /// All three splits as one, for cross-validation: train, then valid, then test.
    ///
    /// Shorter sequences are padded at the back. What not every split has is left out.
    ///
    /// # Errors
    ///
    /// [`DataError::Width`] if a feature differs in width between the splits, and as
    /// [`validate`](Self::validate); the readers of this crate return no such data set.
    pub fn pool(&self) -> Result<Split, DataError> {
        self.validate()?;
        let splits = [&self.train, &self.valid, &self.test];
        let same_width = |key: &str, widths: [usize; 3]| {
            let parts = widths.into_iter().zip(["train", "valid", "test"]);
            match parts.into_iter().find(|&(width, _)| width != widths[0]) {
                None => Ok(()),
                Some((found, split)) => Err(DataError::Width {
                    split: split.to_owned(),
                    key: key.to_owned(),
                    expected: widths[0],
                    found,
                }),
            }
        };
        let mut features = IndexMap::new();
        for key in self.train.features.keys() {
            let Some(parts) = of_all(splits, |split| split.features.get(key)) else {
                continue;
            };
            same_width(key, parts.map(Sequences::width))?;
            let pooled = Sequences {
                values: stack(parts.map(|part| &part.values)),
                lengths: parts.map(|part| &part.lengths[..]).concat(),
            };
            features.insert(key.clone(), pooled);
        }
        let mut file_features = IndexMap::new();
        for key in self.train.file_features.keys() {
            let Some(parts) = of_all(splits, |split| split.file_features.get(key)) else {
                continue;
            };
            same_width(key, parts.map(FileSequences::width))?;
            file_features.insert(key.clone(), FileSequences::pool(parts));
        }
        let unimodal_labels = self.train.unimodal_labels.keys().filter_map(|key| {
            let parts = of_all(splits, |split| split.unimodal_labels.get(key))?;
            Some((key.clone(), parts.into_iter().flatten().copied().collect()))
        });
        Ok(Split {
            id: splits.map(|split| &split.id[..]).concat(),
            raw_text: of_all(splits, |split| split.raw_text.as_deref()).map(|parts| parts.concat()),
            text_bert: of_all(splits, |split| split.text_bert.as_ref()).map(stack),
            features,
            file_features,
            labels: splits
                .into_iter()
                .flat_map(|split| &split.labels)
                .copied()
                .collect(),
            unimodal_labels: unimodal_labels.collect(),
        })
    }
}

impl Split {
    /// The number of rows, N.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Checks that everything has as many rows as there are labels, and that no length is beyond the
    /// steps. `name` is what errors call the split.
    ///
    /// # Errors
    ///
    /// [`DataError::RowCount`], [`DataError::Length`], or [`DataError::Shape`] for tokens without
    /// three planes.
    ///
    /// ```
    /// use modalign_data::{GeneratedConfig, generate};
    ///
    /// let mut train = generate(&GeneratedConfig::default())?.dataset.train;
    /// train.validate("train")?;
    /// train.features["audio"].lengths[7] = 1000;
    /// let error = train.validate("train").unwrap_err().to_string();
    /// assert!(error.starts_with("train/audio: row 7 has length 1000, but there are "));
    /// # Ok::<(), modalign_data::DataError>(())
    /// ```
    pub fn validate(&self, name: &str) -> Result<(), DataError> {
        let count = |key: &str, found| self.check_count(name, key, found);
        count("id", self.id.len())?;
        if let Some(texts) = &self.raw_text {
            count("raw_text", texts.len())?;
        }
        if let Some(tokens) = &self.text_bert {
            count("text_bert", tokens.len_of(Axis(0)))?;
            if tokens.len_of(Axis(1)) != 3 {
                return Err(DataError::Shape {
                    split: name.to_owned(),
                    key: "text_bert".to_owned(),
                    expected: "[N, 3, L]",
                    found: tokens.shape().to_vec(),
                });
            }
        }
        for (key, sequences) in &self.features {
            count(key, sequences.len())?;
            sequences.check(name, key, 0..sequences.len())?;
        }
        for (key, sequences) in &self.file_features {
            count(key, sequences.len())?;
        }
        for (key, labels) in &self.unimodal_labels {
            count(key, labels.len())?;
        }
        Ok(())
    }

    /// Fails unless an array has a row a label.
    pub(crate) fn check_count(&self, name: &str, key: &str, found: usize) -> Result<(), DataError> {
        if found == self.len() {
            return Ok(());
        }
        Err(DataError::RowCount {
            split: name.to_owned(),
            key: key.to_owned(),
            expected: self.len(),
            found,
        })
    }

    /// The given rows, in the given order; a row may come more than once.
    ///
    /// # Errors
    ///
    /// [`DataError::Row`] for a row that is not there, and as [`validate`](Self::validate).
    pub fn select(&self, rows: &[usize]) -> Result<Self, DataError> {
        self.validate(SPLIT)?;
        self.check_rows(rows)?;
        let pick = |strings: &[String]| rows.iter().map(|&row| strings[row].clone()).collect();
        let select = |labels: &Array1<f32>| labels.select(Axis(0), rows);
        let features = self.features.iter().map(|(key, sequences)| {
            let selected = Sequences {
                values: sequences.values.select(Axis(0), rows),
                lengths: rows.iter().map(|&row| sequences.lengths[row]).collect(),
            };
            (key.clone(), selected)
        });
        Ok(Self {
            id: pick(&self.id),
            raw_text: self.raw_text.as_deref().map(pick),
            text_bert: self
                .text_bert
                .as_ref()
                .map(|tokens| tokens.select(Axis(0), rows)),
            features: features.collect(),
            file_features: self
                .file_features
                .iter()
                .map(|(key, sequences)| (key.clone(), sequences.select(rows)))
                .collect(),
            labels: select(&self.labels),
            unimodal_labels: self
                .unimodal_labels
                .iter()
                .map(|(key, labels)| (key.clone(), select(labels)))
                .collect(),
        })
    }

    /// One feature in memory by its key.
    ///
    /// # Errors
    ///
    /// [`DataError::UnknownFeature`], which lists the keys that are there.
    pub fn feature(&self, key: &str) -> Result<&Sequences, DataError> {
        self.features
            .get(key)
            .ok_or_else(|| DataError::UnknownFeature {
                key: key.to_owned(),
                present: self.features.keys().cloned().collect(),
            })
    }

    /// The number of steps T that rows are padded to and of features a step D of one feature, in
    /// memory or in the file, if it is there.
    pub fn extent(&self, key: &str) -> Option<[usize; 2]> {
        let in_memory = self.features.get(key);
        let in_file = self.file_features.get(key);
        in_memory
            .map(|sequences| [sequences.steps(), sequences.width()])
            .or_else(|| in_file.map(|sequences| [sequences.steps(), sequences.width()]))
    }

    pub(crate) fn check_rows(&self, rows: &[usize]) -> Result<(), DataError> {
        match rows.iter().find(|&&row| row >= self.len()) {
            Some(&row) => Err(DataError::Row {
                row,
                rows: self.len(),
            }),
            None => Ok(()),
        }
    }
}

impl Sequences {
    /// Vectors `[N, D]` as sequences of one step.
    ///
    /// ```
    /// use modalign_data::Sequences;
    /// use ndarray::array;
    ///
    /// let sequences = Sequences::from_vectors(array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]);
    /// assert_eq!((sequences.len(), sequences.steps(), sequences.width()), (3, 1, 2));
    /// ```
    pub fn from_vectors(vectors: Array2<f32>) -> Self {
        Self {
            lengths: vec![1; vectors.nrows()],
            values: vectors.insert_axis(Axis(1)),
        }
    }

    /// The number of rows, N.
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// The number of steps that rows are padded to, T.
    pub fn steps(&self) -> usize {
        self.values.len_of(Axis(1))
    }

    /// The number of features a step, D.
    pub fn width(&self) -> usize {
        self.values.len_of(Axis(2))
    }

    /// The steps `[length, D]` of each row, without its padding; all steps of one that is said to be
    /// longer.
    pub fn rows(&self) -> impl Iterator<Item = ArrayView2<'_, f32>> {
        let steps = self.steps();
        let rows = self.values.outer_iter().zip(&self.lengths);
        rows.map(move |(row, &length)| row.split_at(Axis(0), length.min(steps)).0)
    }

    pub(crate) fn rows_mut(&mut self) -> impl Iterator<Item = ArrayViewMut2<'_, f32>> {
        let steps = self.steps();
        let rows = self.values.outer_iter_mut().zip(&self.lengths);
        rows.map(move |(row, &length)| row.split_at(Axis(0), length.min(steps)).0)
    }

    /// Fails unless there is a length a row, and each of `rows` has one of `1..=T`.
    pub(crate) fn check(
        &self,
        split: &str,
        key: &str,
        rows: impl IntoIterator<Item = usize>,
    ) -> Result<(), DataError> {
        let (found, steps) = (self.values.len_of(Axis(0)), self.steps());
        if found != self.len() {
            return Err(DataError::Lengths {
                split: split.to_owned(),
                key: key.to_owned(),
                expected: found,
                found: self.len(),
            });
        }
        let wrong = |row: &usize| !(1..=steps).contains(&self.lengths[*row]);
        match rows.into_iter().find(wrong) {
            None => Ok(()),
            Some(row) => Err(DataError::Length {
                split: split.to_owned(),
                key: key.to_owned(),
                row,
                length: i64::try_from(self.lengths[row]).unwrap_or(i64::MAX),
                steps,
            }),
        }
    }
}

fn of_all<'a, T>(splits: [&'a Split; 3], part: impl Fn(&'a Split) -> Option<T>) -> Option<[T; 3]> {
    let [train, valid, test] = splits;
    Some([part(train)?, part(valid)?, part(test)?])
}

/// Puts blocks of rows below each other, padding the other two axes at the back.
fn stack<A: Copy + Zero>(parts: [&Array3<A>; 3]) -> Array3<A> {
    let longest = |axis| {
        let lengths = parts.map(|part| part.len_of(Axis(axis)));
        lengths.into_iter().fold(0, usize::max)
    };
    let rows = parts.iter().map(|part| part.len_of(Axis(0))).sum();
    let mut stacked = Array3::zeros((rows, longest(1), longest(2)));
    let mut start = 0;
    for part in parts {
        let (rows, steps, width) = part.dim();
        stacked
            .slice_mut(s![start..start + rows, ..steps, ..width])
            .assign(part);
        start += rows;
    }
    stacked
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array, array};

    fn split(name: &str, rows: usize, steps: usize) -> Split {
        let count = (rows * steps * 2) as f32;
        let audio = Sequences {
            values: Array::range(1.0, count + 1.0, 1.0)
                .into_shape_with_order((rows, steps, 2))
                .unwrap(),
            lengths: vec![steps; rows],
        };
        Split {
            id: (0..rows).map(|row| format!("{name}{row}")).collect(),
            raw_text: Some(vec!["well".to_owned(); rows]),
            text_bert: Some(Array3::from_elem((rows, 3, steps), 7)),
            features: IndexMap::from([("audio".to_owned(), audio)]),
            file_features: IndexMap::new(),
            labels: Array::range(0.0, rows as f32, 1.0),
            unimodal_labels: IndexMap::from([("A".to_owned(), Array1::zeros(rows))]),
        }
    }

    fn dataset() -> Dataset {
        Dataset {
            train: split("train", 3, 2),
            valid: split("valid", 1, 4),
            test: split("test", 2, 3),
        }
    }

    #[test]
    fn pooling_keeps_the_order_and_pads_at_the_back() {
        let pooled = dataset().pool().unwrap();
        assert_eq!(
            pooled.id,
            ["train0", "train1", "train2", "valid0", "test0", "test1"]
        );
        assert_eq!(pooled.labels, array![0.0, 1.0, 2.0, 0.0, 0.0, 1.0]);
        let audio = &pooled.features["audio"];
        assert_eq!(audio.values.dim(), (6, 4, 2));
        assert_eq!(audio.lengths, [2, 2, 2, 4, 3, 3]);
        assert_eq!(
            audio.values.slice(s![2, .., ..]),
            array![[9.0, 10.0], [11.0, 12.0], [0.0, 0.0], [0.0, 0.0]]
        );
        assert_eq!(audio.values[[3, 3, 1]], 8.0);
        let tokens = pooled.text_bert.unwrap();
        assert_eq!(tokens.dim(), (6, 3, 4));
        assert_eq!(tokens.slice(s![5, 2, ..]), array![7, 7, 7, 0]);
        assert_eq!(pooled.raw_text.unwrap().len(), 6);
        assert_eq!(pooled.unimodal_labels["A"].len(), 6);
    }

    #[test]
    fn pooling_leaves_out_what_one_split_lacks() {
        let mut dataset = dataset();
        dataset.test.raw_text = None;
        dataset.valid.unimodal_labels.clear();
        dataset.test.features.clear();
        let pooled = dataset.pool().unwrap();
        assert_eq!(pooled.raw_text, None);
        assert!(pooled.unimodal_labels.is_empty() && pooled.features.is_empty());
        assert!(pooled.text_bert.is_some());
    }

    #[test]
    fn pooling_refuses_widths_that_differ() {
        let mut dataset = dataset();
        dataset.test.features["audio"].values = Array3::zeros((2, 3, 5));
        assert!(matches!(
            dataset.pool().unwrap_err(),
            DataError::Width { split, expected: 2, found: 5, .. } if split == "test"
        ));
    }

    #[test]
    fn selecting_moves_every_part_of_a_row() {
        let split = split("row", 4, 2);
        let selected = split.select(&[3, 1, 3]).unwrap();
        assert_eq!(selected.id, ["row3", "row1", "row3"]);
        assert_eq!(selected.labels, array![3.0, 1.0, 3.0]);
        assert_eq!(selected.features["audio"].values[[0, 0, 0]], 13.0);
        assert_eq!(selected.features["audio"].values[[1, 0, 0]], 5.0);
        assert_eq!(selected.features["audio"].lengths, [2, 2, 2]);
        assert_eq!(selected.text_bert.unwrap().dim(), (3, 3, 2));
        assert_eq!(selected.raw_text.unwrap().len(), 3);
        assert_eq!(selected.unimodal_labels["A"].len(), 3);
        assert!(matches!(
            split.select(&[0, 4]).unwrap_err(),
            DataError::Row { row: 4, rows: 4 }
        ));
    }
}
