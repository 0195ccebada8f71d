//! Features that stay in the file give the bits of those in memory.

#![allow(clippy::unwrap_used)]

mod npy;

use std::io::{Cursor, Write};
use std::path::PathBuf;

use modalign_core::{Stream, rng};
use modalign_data::{
    ArrayError, DataError, Dataset, NonFinite, ReadOptions, ReadReport, Standardizer, read,
    write_npz,
};
use npy::npy;
use proptest::prelude::*;
use rand::RngExt;
use tempfile::TempDir;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

const ROWS: [(&str, usize); 3] = [("train", 40), ("valid", 6), ("test", 9)];
const STEPS: usize = 7;
const WIDTH: usize = 5;

/// Three splits with `text` of vectors, `audio` with lengths and something beyond them, and
/// `vision` with padding and numbers that are not finite, stored as `descr` says.
fn archive(method: CompressionMethod, descr: &str, fortran: bool) -> Vec<u8> {
    let mut rng = rng(7, Stream::Split);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (split, rows) in ROWS {
        let mut add = |key: &str, bytes: Vec<u8>| {
            zip.start_file(format!("{split}/{key}.npy"), options)
                .unwrap();
            zip.write_all(&bytes).unwrap();
        };
        let lengths: Vec<usize> = (0..rows).map(|_| rng.random_range(0..=STEPS)).collect();
        let sequences = |padding: bool, rng: &mut modalign_core::ChaCha8Rng| -> Vec<f32> {
            (0..rows * STEPS * WIDTH)
                .map(|index| {
                    let (row, step) = (index / WIDTH / STEPS, index / WIDTH % STEPS);
                    match rng.random_range(0..20) {
                        _ if padding && step >= lengths[row] => 0.0,
                        0 => f32::NAN,
                        1 => f32::NEG_INFINITY,
                        _ => rng.random_range(-2.0..5.0),
                    }
                })
                .collect()
        };
        let encode = |values: &[f32]| -> Vec<u8> {
            let encoded = values.iter().map(|&value| match descr {
                "<f4" => value.to_le_bytes().to_vec(),
                ">f4" => value.to_be_bytes().to_vec(),
                "<f8" => f64::from(value).to_le_bytes().to_vec(),
                _ => f64::from(value).to_be_bytes().to_vec(),
            });
            encoded.flatten().collect()
        };
        let shape = [rows, STEPS, WIDTH];
        let audio = encode(&sequences(false, &mut rng));
        add("audio", npy(descr, fortran, &shape, &audio));
        let counts: Vec<u8> = lengths
            .iter()
            .flat_map(|&l| (l as i64).to_le_bytes())
            .collect();
        add("audio_lengths", npy("<i8", false, &[rows], &counts));
        let vision = encode(&sequences(true, &mut rng));
        add("vision", npy(descr, fortran, &shape, &vision));
        let text: Vec<f32> = (0..rows * 30)
            .map(|_| rng.random_range(-1.0..1.0))
            .collect();
        add("text", npy(descr, fortran, &[rows, 30], &encode(&text)));
        let labels: Vec<u8> = (0..rows)
            .flat_map(|row| ((row % 7) as f32 - 3.0).to_le_bytes())
            .collect();
        add("regression_labels", npy("<f4", false, &[rows], &labels));
    }
    zip.finish().unwrap().into_inner()
}

fn file(bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.npz");
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn in_file(above: u64) -> ReadOptions {
    ReadOptions {
        in_file_above: Some(above),
        ..ReadOptions::default()
    }
}

struct Both {
    memory: (Dataset, ReadReport),
    file: (Dataset, ReadReport),
    folder: TempDir,
}

fn both(descr: &str) -> Both {
    let (folder, path) = file(&archive(CompressionMethod::Stored, descr, false));
    Both {
        memory: read(&path, &ReadOptions::default()).unwrap(),
        file: read(&path, &in_file(0)).unwrap(),
        folder,
    }
}

const KEYS: [&str; 3] = ["vision", "text", "audio"];

#[test]
fn reports_lengths_and_statistics_are_the_same() {
    for descr in ["<f4", ">f4", "<f8", ">f8"] {
        let Both { memory, file, .. } = both(descr);
        assert_eq!(memory.1, file.1, "{descr}");
        assert!(memory.1.splits["train"].features["audio"].cleared_steps > 0);
        assert!(memory.1.splits["train"].features["vision"].nan > 0);
        assert!(file.0.train.features.is_empty());
        for key in KEYS {
            let (here, there) = (
                &memory.0.train.features[key],
                &file.0.train.file_features[key],
            );
            assert_eq!(there.lengths(), here.lengths);
            assert_eq!(memory.0.train.extent(key), file.0.train.extent(key));
            assert_eq!(
                Standardizer::fit(here).unwrap(),
                Standardizer::fit_file(there).unwrap()
            );
        }
    }
}

#[test]
fn only_what_is_larger_stays_in_the_file() {
    let (_folder, path) = file(&archive(CompressionMethod::Stored, "<f8", false));
    // As f32 the training rows of text take 4,800 bytes, those of the others 5,600.
    let (dataset, _) = read(&path, &in_file(5_000)).unwrap();
    assert_eq!(dataset.train.file_features.len(), 2);
    assert_eq!(dataset.train.features.keys().collect::<Vec<_>>(), ["text"]);
    assert!(dataset.test.file_features.is_empty());
}

#[test]
fn what_is_written_is_the_same_archive_and_can_stay_in_the_file() {
    let Both {
        memory,
        file,
        folder,
    } = both("<f4");
    let paths = ["memory", "file"].map(|name| folder.path().join(name));
    write_npz(&paths[0], &memory.0).unwrap();
    write_npz(&paths[1], &file.0).unwrap();
    let (again, _) = read(&paths[0], &in_file(0)).unwrap();
    assert_eq!(again.train.file_features.len(), KEYS.len());
    let [memory, file] = paths.map(|path| std::fs::read(path).unwrap());
    assert!(memory == file);
}

#[test]
fn standardised_rows_are_the_same() {
    let Both {
        mut memory, file, ..
    } = both("<f8");
    for key in KEYS {
        let here = &mut memory.0.train.features[key];
        let standardizer = Standardizer {
            clip: Some(1.5),
            ..Standardizer::fit(here).unwrap()
        };
        standardizer.apply(here).unwrap();
        let there = file.0.train.file_features[key].clone();
        let there = there.standardized(standardizer.clone()).unwrap();
        let rows: Vec<_> = (0..40).collect();
        let read = there.read(&rows).unwrap();
        assert_eq!(read.lengths, here.lengths);
        let steps = read.steps();
        assert_eq!(
            read.values,
            here.values.slice(ndarray::s![.., ..steps, ..]),
            "{key}"
        );
        let narrow = Standardizer {
            mean: standardizer.mean.slice(ndarray::s![1..]).to_owned(),
            ..standardizer
        };
        assert!(matches!(
            there.standardized(narrow).unwrap_err(),
            DataError::Statistics { .. }
        ));
    }
}

#[test]
fn what_cannot_stay_in_the_file_is_said() {
    for (method, fortran) in [
        (CompressionMethod::Deflated, false),
        (CompressionMethod::Stored, true),
    ] {
        let (_folder, path) = file(&archive(method, "<f4", fortran));
        let error = read(&path, &in_file(0)).unwrap_err();
        assert!(
            matches!(&error, DataError::NotInPlace { split, .. } if split == "train"),
            "{error}"
        );
        assert!(read(&path, &in_file(u64::MAX)).is_ok());
    }
}

#[test]
fn sizes_are_those_of_the_header_before_anything_is_read() {
    let change = |bytes: Vec<u8>| {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        for (split, rows) in ROWS {
            let labels = vec![0; 4 * rows];
            for (key, content) in [
                ("regression_labels", npy("<f4", false, &[rows], &labels)),
                ("audio", bytes.clone()),
            ] {
                zip.start_file(format!("{split}/{key}.npy"), options)
                    .unwrap();
                zip.write_all(&content).unwrap();
            }
        }
        let (_folder, path) = file(&zip.finish().unwrap().into_inner());
        match read(&path, &in_file(0)).unwrap_err() {
            DataError::Array { source, .. } => source,
            other => panic!("{other}"),
        }
    };
    let audio = |bytes: usize| npy("<f4", false, &[40, 3, 2], &vec![0; bytes]);
    assert!(matches!(
        change(audio(40 * 3 * 2 * 4 - 1)),
        ArrayError::Truncated {
            expected: 240,
            found: 239
        }
    ));
    assert!(matches!(
        change(audio(40 * 3 * 2 * 4 + 1)),
        ArrayError::TooLong { expected: 240 }
    ));
    let huge = npy("<f8", false, &[40, 1 << 40, 1 << 16], &[0; 8]);
    assert!(matches!(change(huge), ArrayError::Header(_)));
}

#[test]
fn infinities_can_be_refused() {
    let (_folder, path) = file(&archive(CompressionMethod::Stored, "<f4", false));
    let options = |above| ReadOptions {
        non_finite: NonFinite::Refuse,
        in_file_above: above,
        ..ReadOptions::default()
    };
    let [memory, file] =
        [None, Some(0)].map(|above| read(&path, &options(above)).unwrap_err().to_string());
    assert_eq!(memory, file);
    assert!(memory.contains("NaN"), "{memory}");
}

#[test]
fn a_file_that_has_gone_short_is_an_error() {
    let bytes = archive(CompressionMethod::Stored, "<f4", false);
    let (_folder, path) = file(&bytes);
    let (dataset, _) = read(&path, &in_file(0)).unwrap();
    std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(bytes.len() as u64 / 2)
        .unwrap();
    assert!(matches!(
        dataset.test.batch(&["audio"], &[8]).unwrap_err(),
        DataError::Io { .. }
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn batches_selections_and_pools_are_the_same(
        rows in prop::collection::vec(0..40_usize, 1..12),
        more in prop::collection::vec(0..55_usize, 1..12),
        kind in 0..4_usize,
    ) {
        let Both { memory, file, .. } = both(["<f4", ">f4", "<f8", ">f8"][kind]);
        let (memory, file) = (memory.0, file.0);
        let batch = memory.train.batch(&KEYS, &rows).unwrap();
        prop_assert_eq!(&batch, &file.train.batch(&KEYS, &rows).unwrap());
        let all: Vec<_> = (0..rows.len()).collect();
        let selected = file.train.select(&rows).unwrap().batch(&KEYS, &all).unwrap();
        prop_assert_eq!(&batch.sequences, &selected.sequences);
        let (memory, file) = (memory.pool().unwrap(), file.pool().unwrap());
        prop_assert_eq!(
            memory.batch(&KEYS, &more).unwrap(),
            file.batch(&KEYS, &more).unwrap()
        );
    }
}
