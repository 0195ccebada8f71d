//! What the readers say about archives that are not as they should be.

#![allow(clippy::unwrap_used)]

mod npy;

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use modalign_data::{
    ArrayError, DataError, Dataset, LengthSource, ReadOptions, ReadReport, read, write_npz,
};
use ndarray::{array, s};
use npy::npy;
use proptest::prelude::*;
use tempfile::TempDir;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

fn floats(shape: &[usize], values: &[f32]) -> Vec<u8> {
    assert_eq!(shape.iter().product::<usize>(), values.len());
    let data: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    npy("<f4", false, shape, &data)
}

fn ints(shape: &[usize], values: &[i64]) -> Vec<u8> {
    assert_eq!(shape.iter().product::<usize>(), values.len());
    let data: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    npy("<i8", false, shape, &data)
}

/// The members of an archive, by name.
#[derive(Clone)]
struct Archive(Vec<(String, Vec<u8>)>);

impl Archive {
    /// Three splits of two rows: audio `[2, 3, 2]` and labels.
    fn good() -> Self {
        let mut archive = Self(Vec::new());
        for split in ["train", "valid", "test"] {
            let audio = [1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 5.0, 6.0, 0.0, 0.0, 0.0, 0.0];
            archive.set(&format!("{split}/audio"), floats(&[2, 3, 2], &audio));
            archive.set(
                &format!("{split}/regression_labels"),
                floats(&[2], &[-1.0, 2.0]),
            );
        }
        archive
    }

    fn set(&mut self, name: &str, content: Vec<u8>) {
        let name = format!("{name}.npy");
        self.0.retain(|(other, _)| *other != name);
        self.0.push((name, content));
    }

    fn with(mut self, name: &str, content: Vec<u8>) -> Self {
        self.set(name, content);
        self
    }

    /// In all three splits.
    fn with_all(mut self, key: &str, content: Vec<u8>) -> Self {
        for split in ["train", "valid", "test"] {
            self.set(&format!("{split}/{key}"), content.clone());
        }
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.0.retain(|(other, _)| !other.starts_with(name));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in &self.0 {
            writer
                .start_file(name, SimpleFileOptions::default())
                .unwrap();
            writer.write_all(content).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn read(&self) -> Result<(Dataset, ReadReport), DataError> {
        self.read_with(&ReadOptions::default())
    }

    fn read_with(&self, options: &ReadOptions) -> Result<(Dataset, ReadReport), DataError> {
        read_bytes(&self.bytes(), options)
    }

    fn refusal(&self) -> DataError {
        self.read().unwrap_err()
    }
}

fn read_bytes(bytes: &[u8], options: &ReadOptions) -> Result<(Dataset, ReadReport), DataError> {
    let (_folder, path) = file(bytes);
    read(path, options)
}

fn file(bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.npz");
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

#[test]
fn a_good_archive_is_read() {
    let (dataset, report) = Archive::good().read().unwrap();
    let train = &dataset.train;
    assert_eq!(train.labels, array![-1.0, 2.0]);
    assert_eq!(train.id, ["train_0", "train_1"]);
    assert_eq!(train.features["audio"].lengths, [2, 1]);
    assert_eq!(train.raw_text, None);
    let audio = &report.splits["test"].features["audio"];
    assert_eq!(audio.length_source, LengthSource::Content);
    assert_eq!(
        (audio.min_length, audio.mean_length, audio.max_length),
        (1, 1.5, 2)
    );
    let labels = &report.splits["test"].labels;
    assert_eq!(
        (labels.negative, labels.neutral, labels.positive),
        (1, 0, 1)
    );
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<ReadReport>(&json).unwrap(), report);
}

#[test]
fn files_that_are_no_data_say_what_they_are() {
    let found = |bytes: &[u8]| match read_bytes(bytes, &ReadOptions::default()).unwrap_err() {
        DataError::Format { found, .. } => found,
        other => panic!("{other}"),
    };
    assert_eq!(found(b""), "it is empty");
    assert_eq!(found(b"<!DOCTYPE html>"), "it is a web page");
    assert!(found(b"version https://git-lfs.github.com/spec/v1\n").contains("Git LFS"));
    assert!(found(b"\x89HDF\r\n").contains("HDF5"));
    assert_eq!(found(b"id,label\n"), "it starts with \"id,label\\n\"");
    let absent = read(Path::new("absent.npz"), &ReadOptions::default()).unwrap_err();
    assert!(matches!(absent, DataError::Io { .. }));
    assert!(absent.to_string().starts_with("absent.npz: "));
}

#[test]
fn what_is_missing_is_named_with_what_is_there() {
    let error = Archive::good().without("valid/").refusal();
    assert!(
        error
            .to_string()
            .ends_with("no split valid; there are train, test"),
        "{error}"
    );
    let error = Archive::good().without("test/regression_labels").refusal();
    assert_eq!(
        error.to_string(),
        "split test has no regression_labels; it has audio"
    );
    // Present in one split, absent in another.
    for key in [
        "vision",
        "audio_lengths",
        "regression_labels_T",
        "text_bert",
        "id",
    ] {
        let error = Archive::good()
            .with(&format!("valid/{key}"), floats(&[2, 1], &[0.0; 2]))
            .refusal();
        assert!(
            matches!(&error, DataError::MissingKey { split, key: missing, .. }
                if split == "train" && missing == key),
            "{error}"
        );
    }
}

#[test]
fn other_splits_and_arrays_are_listed() {
    let archive = Archive::good()
        .with("dev/audio", floats(&[1], &[0.0]))
        .with("train/video_index", ints(&[9], &[0; 9]))
        .with("notes", floats(&[1], &[0.0]));
    let (_, report) = archive.read().unwrap();
    assert_eq!(report.ignored_splits, ["dev"]);
    assert_eq!(report.ignored_arrays, ["train/video_index", "notes"]);
}

#[test]
fn wrong_shapes_are_named() {
    let shape = |key: &str, content: Vec<u8>| {
        let error = Archive::good().with_all(key, content).refusal();
        match error {
            DataError::Shape {
                split,
                key: found,
                found: shape,
                ..
            } => {
                assert_eq!((split.as_str(), found.as_str()), ("train", key));
                shape
            }
            other => panic!("{other}"),
        }
    };
    assert_eq!(
        shape("regression_labels", floats(&[1, 2, 1], &[0.0; 2])),
        [1, 2, 1]
    );
    assert_eq!(shape("audio_lengths", ints(&[2, 2], &[1; 4])), [2, 2]);
    assert_eq!(shape("id", ints(&[1, 2], &[1; 2])), [1, 2]);
    assert_eq!(shape("text_bert", ints(&[2, 4], &[1; 8])), [2, 4]);
    assert_eq!(shape("text_bert", ints(&[2, 4, 4], &[1; 32])), [2, 4, 4]);
    assert_eq!(shape("vision", floats(&[2, 0, 3], &[])), [2, 0, 3]);
    let requested = ReadOptions {
        features: Some(vec!["audio".to_owned()]),
        ..ReadOptions::default()
    };
    let error = Archive::good()
        .with_all("audio", floats(&[2], &[0.0; 2]))
        .read_with(&requested)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "train/audio has shape [2], expected [N, T, D] or [N, D]"
    );
}

#[test]
fn rows_and_widths_must_agree() {
    let error = Archive::good()
        .with("valid/audio", floats(&[3, 1, 2], &[1.0; 6]))
        .refusal();
    assert_eq!(
        error.to_string(),
        "valid/audio has 3 rows, valid/regression_labels has 2"
    );
    let error = Archive::good()
        .with("test/audio", floats(&[2, 3, 1], &[1.0; 6]))
        .refusal();
    assert_eq!(
        error.to_string(),
        "test/audio has width 1, train/audio has 2"
    );
    // The number of steps may differ.
    let (dataset, _) = Archive::good()
        .with("test/audio", floats(&[2, 1, 2], &[1.0; 4]))
        .read()
        .unwrap();
    assert_eq!(
        dataset.pool().unwrap().features["audio"].values.dim(),
        (6, 3, 2)
    );
    let error = Archive::good()
        .with("valid/regression_labels", floats(&[0], &[]))
        .with("valid/audio", floats(&[0, 3, 2], &[]))
        .refusal();
    assert_eq!(
        error.to_string(),
        "split valid has no rows, expected at least one"
    );
}

#[test]
fn kinds_of_elements_must_fit() {
    let texts = npy("|S2", false, &[2], b"abcd");
    let error = Archive::good()
        .with_all("regression_labels", texts.clone())
        .refusal();
    assert_eq!(
        error.to_string(),
        "train/regression_labels is stored as |S2, expected numbers"
    );
    let error = Archive::good()
        .with_all("raw_text", floats(&[2], &[0.0; 2]))
        .refusal();
    assert!(matches!(
        error,
        DataError::Kind {
            expected: "text",
            ..
        }
    ));
    let error = Archive::good().with_all("audio_lengths", texts).refusal();
    assert!(matches!(
        error,
        DataError::Kind {
            expected: "integers",
            ..
        }
    ));
    let error = Archive::good()
        .with_all("audio_lengths", floats(&[2], &[1.0, 1.5]))
        .refusal();
    assert_eq!(
        error.to_string(),
        "train/audio_lengths: row 1 has 1.5, expected an integer"
    );
    let error = Archive::good()
        .with_all("raw_text", npy("|O", false, &[2], b""))
        .refusal();
    assert!(
        error
            .to_string()
            .ends_with("train/raw_text: elements of type |O are not read")
    );
    let error = Archive::good()
        .with_all("raw_text", npy("|S1", false, &[2], b"a\xff"))
        .refusal();
    assert!(
        error
            .to_string()
            .ends_with("train/raw_text: row 1 is not valid text")
    );
}

#[test]
fn lengths_must_fit_their_steps() {
    for (length, row) in [(4, 1), (-1, 1)] {
        let error = Archive::good()
            .with_all("audio_lengths", ints(&[2], &[3, length]))
            .refusal();
        assert!(
            matches!(&error, DataError::Length { split, key, row: found, length: l, steps: 3 }
                if split == "train" && key == "audio" && *found == row && *l == length),
            "{error}"
        );
    }
}

#[test]
fn empty_rows_get_one_step_and_padding_is_cleared() {
    let (dataset, report) = Archive::good()
        .with_all("audio_lengths", ints(&[2, 1], &[0, 1]))
        .read()
        .unwrap();
    let audio = &dataset.train.features["audio"];
    assert_eq!(audio.lengths, [1, 1]);
    assert_eq!(
        audio.values.slice(s![0, .., ..]),
        array![[1.0, 2.0], [0.0, 0.0], [0.0, 0.0]]
    );
    let found = &report.splits["train"].features["audio"];
    assert_eq!((found.empty_rows, found.cleared_steps), (1, 1));

    let (dataset, report) = Archive::good()
        .with_all("audio", floats(&[2, 2, 1], &[0.0; 4]))
        .read()
        .unwrap();
    assert_eq!(dataset.train.features["audio"].lengths, [1, 1]);
    assert_eq!(report.splits["train"].features["audio"].empty_rows, 2);
}

/// `[2, 3, 3]`: two tokens, then one.
const TOKENS: [i64; 18] = [101, 102, 0, 1, 1, 0, 0, 0, 0, 101, 0, 0, 1, 0, 0, 0, 0, 0];

#[test]
fn aligned_features_have_the_length_of_the_tokens() {
    let (dataset, report) = Archive::good()
        .with_all("text_bert", ints(&[2, 3, 3], &TOKENS))
        .with_all("vision", floats(&[2, 2, 1], &[1.0; 4]))
        .read()
        .unwrap();
    let features = &report.splits["train"].features;
    assert_eq!(features["audio"].length_source, LengthSource::TokenMask);
    assert_eq!(dataset.train.features["audio"].lengths, [2, 1]);
    assert_eq!(features["vision"].length_source, LengthSource::Content);
    assert_eq!(dataset.train.features["vision"].lengths, [2, 2]);

    // Embeddings of padding are cut off; frames without a token are kept.
    let frames = floats(&[2, 3, 1], &[1.0; 6]);
    let (dataset, report) = Archive::good()
        .with_all("text_bert", ints(&[2, 3, 3], &TOKENS))
        .with_all("text", frames.clone())
        .with_all("vision", frames)
        .read()
        .unwrap();
    assert_eq!(dataset.train.features["text"].lengths, [2, 1]);
    assert_eq!(report.splits["train"].features["text"].cleared_steps, 3);
    assert_eq!(dataset.train.features["vision"].lengths, [3, 3]);
    assert_eq!(report.splits["train"].features["vision"].cleared_steps, 0);
}

#[test]
fn tokens_in_the_other_order_are_turned() {
    let upright = [7, 8, 9, 10, 1, 1, 1, 0, 0, 0, 0, 0];
    let turned = [7, 1, 0, 8, 1, 0, 9, 1, 0, 10, 0, 0];
    let read_tokens = |shape: &[usize], values: &[i64]| {
        let values = [values, values].concat();
        Archive::good()
            .with_all("text_bert", ints(shape, &values))
            .read()
            .unwrap()
    };
    let (expected, plain) = read_tokens(&[2, 3, 4], &upright);
    let (found, noted) = read_tokens(&[2, 4, 3], &turned);
    assert_eq!(found, expected);
    assert!(!plain.splits["train"].text_bert.as_ref().unwrap().turned);
    let noted = noted.splits["train"].text_bert.as_ref().unwrap();
    assert!(noted.turned);
    assert_eq!(noted.shape, [2, 4, 3]);

    let error = Archive::good()
        .with_all(
            "text_bert",
            ints(&[2, 3, 2], &[1, 0, 101, 102, 0, 0, 1, 0, 101, 102, 0, 0]),
        )
        .refusal();
    assert!(matches!(
        error,
        DataError::Mask {
            row: 0,
            value: 101,
            ..
        }
    ));
}

#[test]
fn tokens_may_be_floats() {
    let values = TOKENS.map(|token| token as f32);
    let as_floats = Archive::good().with_all("text_bert", floats(&[2, 3, 3], &values));
    let as_ints = Archive::good().with_all("text_bert", ints(&[2, 3, 3], &TOKENS));
    assert_eq!(as_floats.read().unwrap().0, as_ints.read().unwrap().0);
}

#[test]
fn labels_must_be_finite() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let labels = floats(&[2], &[0.0, value]);
        let archive = Archive::good().with_all("id", npy("|S3", false, &[2], b"v_1v_2"));
        let error = archive
            .clone()
            .with("test/regression_labels", labels.clone())
            .refusal();
        assert_eq!(
            error.to_string(),
            format!("test/regression_labels: row 1 (id v_2) is {value}, expected a finite number")
        );
        let error = archive.with_all("regression_labels_A", labels).refusal();
        assert!(
            error
                .to_string()
                .starts_with("train/regression_labels_A: row 1 (id v_2)")
        );
    }
}

#[test]
fn a_column_of_labels_is_chosen() {
    let table = Archive::good().with_all(
        "regression_labels",
        floats(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
    );
    let with_column = |column| {
        let options = ReadOptions {
            label_column: column,
            ..ReadOptions::default()
        };
        table.read_with(&options)
    };
    assert_eq!(
        with_column(Some(2)).unwrap().0.valid.labels,
        array![3.0, 6.0]
    );
    assert_eq!(
        with_column(None).unwrap_err().to_string(),
        "train/regression_labels has 3 columns; label_column is not set"
    );
    assert_eq!(
        with_column(Some(3)).unwrap_err().to_string(),
        "train/regression_labels has 3 columns; label_column is 3"
    );
    let single = Archive::good().with_all("regression_labels", floats(&[2, 1], &[7.0, 8.0]));
    assert_eq!(single.read().unwrap().0.train.labels, array![7.0, 8.0]);
}

#[test]
fn orders_and_strings_of_numpy() {
    let data: Vec<u8> = [1.0_f64, 4.0, 2.0, 5.0, 3.0, 6.0]
        .iter()
        .flat_map(|value| value.to_be_bytes())
        .collect();
    let (dataset, report) = Archive::good()
        .with_all("audio", npy(">f8", true, &[2, 3], &data))
        .with_all("id", npy("<U1", false, &[2], b"a\0\0\0\xe9\0\0\0"))
        .read()
        .unwrap();
    assert_eq!(
        dataset.train.features["audio"].values,
        array![[[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0]]]
    );
    assert_eq!(dataset.train.id, ["a", "é"]);
    assert_eq!(report.splits["train"].features["audio"].dtype, ">f8");
}

#[test]
fn members_must_have_the_size_of_their_header() {
    let source = |content: Vec<u8>| match Archive::good().with("train/audio", content).refusal() {
        DataError::Array {
            split, key, source, ..
        } => {
            assert_eq!((split.as_str(), key.as_str()), ("train", "audio"));
            source
        }
        other => panic!("{other}"),
    };
    let short = npy("<f4", false, &[2, 3, 2], &[0; 11]);
    assert!(matches!(
        source(short),
        ArrayError::Truncated {
            expected: 12,
            found: 2
        }
    ));
    let long = npy("<f4", false, &[2, 3, 2], &[0; 49]);
    assert!(matches!(source(long), ArrayError::TooLong { expected: 12 }));
    // A terabyte is declared.
    let vast = npy("<f8", false, &[2, 1 << 18, 1 << 18], &[0; 64]);
    assert!(matches!(
        source(vast),
        ArrayError::TooMuch { found, .. } if found > 1 << 38
    ));
    assert!(matches!(
        source(b"no array".to_vec()),
        ArrayError::Header(_)
    ));
}

#[test]
fn a_cut_or_changed_archive_is_refused() {
    let archive = Archive::good();
    let bytes = archive.bytes();
    for length in (2..bytes.len()).step_by(53) {
        let error = read_bytes(&bytes[..length], &ReadOptions::default()).unwrap_err();
        assert!(matches!(error, DataError::Zip { .. }), "{length}: {error}");
        assert!(error.to_string().contains("data.npz: "));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_change_of_bytes_panics(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4), 1..6),
    ) {
        let mut bytes = include_bytes!("fixtures/small.npz").to_vec();
        for (place, byte, change) in changes {
            let place = place.index(bytes.len());
            match change {
                0 => bytes[place] = byte,
                1 => bytes[place] ^= 1 << (byte % 8),
                2 => bytes.insert(place, byte),
                _ => drop(bytes.remove(place)),
            }
        }
        let _ = read_bytes(&bytes, &ReadOptions::default());
    }
}

#[test]
fn what_is_written_is_read_again() {
    let (mut dataset, _) = read(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/small.npz"),
        &ReadOptions::default(),
    )
    .unwrap();
    dataset.test.raw_text.as_mut().unwrap()[0].clear();
    let (_folder, path) = file(b"old");
    write_npz(&path, &dataset).unwrap();
    let first = std::fs::read(&path).unwrap();
    let (again, report) = read(&path, &ReadOptions::default()).unwrap();
    assert_eq!(again, dataset);
    assert!(report.ignored_arrays.is_empty());
    write_npz(&path, &again).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), first);
}

#[test]
fn options_are_plain_configuration() {
    let options = ReadOptions {
        features: Some(vec!["text".to_owned()]),
        label_column: Some(2),
        ..ReadOptions::default()
    };
    let json = serde_json::to_string(&options).unwrap();
    assert_eq!(serde_json::from_str::<ReadOptions>(&json).unwrap(), options);
    assert_eq!(
        serde_json::from_str::<ReadOptions>("{}").unwrap(),
        ReadOptions::default()
    );
    assert!(serde_json::from_str::<ReadOptions>(r#"{"featurs": []}"#).is_err());
}
