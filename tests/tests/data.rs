//! The readers on real files.

#![allow(clippy::unwrap_used)]

use std::process::ExitCode;

use modalign_data::{DataError, Dataset, LengthSource, ReadOptions, ReadReport, read};
use modalign_oracle_tests::{Fixture, run};

fn main() -> ExitCode {
    run(vec![
        ("utterances of MOSI", "data/mosi_utt.npz", mosi),
        (
            "utterances of MOSI, split by test videos",
            "data/mosi_utt_honestvalid.npz",
            mosi_by_test_videos,
        ),
        ("aligned words of ICT-MMMO", "data/mmmo_word.npz", mmmo),
        ("aligned words of POM", "data/pom_av_word.npz", pom),
        (
            "a file without splits",
            "data/minilm_reference.npz",
            no_splits,
        ),
    ])
}

fn read_all(fixture: &Fixture) -> (Dataset, ReadReport) {
    read(fixture.path(), &ReadOptions::default()).unwrap()
}

fn rows(dataset: &Dataset) -> [usize; 3] {
    [&dataset.train, &dataset.valid, &dataset.test].map(|split| split.len())
}

fn classes(report: &ReadReport) -> Vec<[usize; 3]> {
    report
        .splits
        .values()
        .map(|split| {
            [
                split.labels.negative,
                split.labels.neutral,
                split.labels.positive,
            ]
        })
        .collect()
}

/// Every value equal to what an independent reader finds under `split/key`.
fn assert_same(fixture: &Fixture, dataset: &Dataset) {
    for (name, split) in [
        ("train", &dataset.train),
        ("valid", &dataset.valid),
        ("test", &dataset.test),
    ] {
        for (key, sequences) in &split.features {
            let expected = fixture.array(&format!("{name}/{key}"));
            assert_eq!(expected.len(), sequences.values.len(), "{name}/{key}");
            let same = expected
                .iter()
                .zip(&sequences.values)
                .all(|(&e, &v)| e == f64::from(v));
            assert!(same, "{name}/{key}");
        }
        if let Some(tokens) = &split.text_bert {
            let expected = fixture.array(&format!("{name}/text_bert"));
            assert!(expected.iter().zip(tokens).all(|(&e, &v)| e == v as f64));
        }
    }
}

fn mosi(fixture: &Fixture) {
    let (dataset, report) = read_all(fixture);
    assert_eq!(rows(&dataset), [1242, 205, 752]);
    assert_eq!(
        classes(&report),
        [[622, 57, 563], [116, 8, 81], [285, 31, 436]]
    );
    assert_eq!(
        dataset.train.features.keys().collect::<Vec<_>>(),
        ["text", "text_minilm", "audio", "vision"]
    );
    let widths = [
        ("text", 100),
        ("text_minilm", 384),
        ("audio", 73),
        ("vision", 100),
    ];
    for (key, width) in widths {
        assert_eq!(dataset.test.features[key].values.dim(), (752, 1, width));
    }
    assert_eq!(
        dataset.train.text_bert.as_ref().unwrap().dim(),
        (1242, 3, 50)
    );
    let train = &report.splits["train"];
    assert_eq!(train.features["audio"].length_source, LengthSource::Given);
    assert_eq!(train.features["text"].length_source, LengthSource::Vector);
    assert_eq!(train.features["text"].dtype, "<f4");
    assert!((train.labels.mean + 0.05).abs() < 0.01);
    assert!(dataset.train.id[0].contains("$_$"));
    assert!(!dataset.train.raw_text.as_ref().unwrap()[0].is_empty());
    assert!(report.ignored_splits.is_empty());
    assert!(
        report
            .ignored_arrays
            .contains(&"train/classification_labels".to_owned())
    );
    assert_same(fixture, &dataset);
}

fn mosi_by_test_videos(fixture: &Fixture) {
    let (dataset, _) = read_all(fixture);
    assert_eq!(rows(&dataset), [1447, 291, 461]);
    let pooled = dataset.pool().unwrap();
    assert_eq!(pooled.len(), 2199);
    assert_eq!(pooled.text_bert.unwrap().dim(), (2199, 3, 50));
    assert_same(fixture, &dataset);
}

fn mmmo(fixture: &Fixture) {
    let (dataset, report) = read_all(fixture);
    assert_eq!(rows(&dataset), [72, 12, 36]);
    for (key, width) in [("text", 300), ("audio", 74), ("vision", 36)] {
        assert_eq!(dataset.train.features[key].values.dim(), (72, 20, width));
        let found = &report.splits["train"].features[key];
        assert_eq!(found.shape, [72, 20, width]);
        assert_eq!(found.length_source, LengthSource::Given);
        assert_eq!((found.cleared_steps, found.replaced()), (0, 0), "{key}");
    }
    assert_eq!(report.ignored_splits, ["train_av"]);
    assert!(
        dataset
            .train
            .labels
            .iter()
            .all(|label| (1.0..=5.0).contains(label))
    );
    assert_same(fixture, &dataset);
}

fn pom(fixture: &Fixture) {
    let error = read(fixture.path(), &ReadOptions::default()).unwrap_err();
    assert!(
        matches!(
            error,
            DataError::LabelColumn {
                columns: 17,
                column: None,
                ..
            }
        ),
        "{error}"
    );
    let options = ReadOptions {
        label_column: Some(3),
        ..ReadOptions::default()
    };
    let (dataset, report) = read(fixture.path(), &options).unwrap();
    assert_eq!(rows(&dataset), [600, 100, 203]);
    assert_eq!(dataset.train.features["audio"].values.dim(), (600, 20, 43));
    assert_eq!(dataset.train.features["vision"].values.dim(), (600, 20, 41));
    let audio = &report.splits["train"].features["audio"];
    assert_eq!(audio.length_source, LengthSource::Content);
    let labels = fixture.array("test/regression_labels");
    for (row, &label) in dataset.test.labels.iter().enumerate() {
        assert_eq!(f64::from(label), labels[[row, 3]]);
    }
    assert_same(fixture, &dataset);
}

fn no_splits(fixture: &Fixture) {
    let error = read(fixture.path(), &ReadOptions::default()).unwrap_err();
    assert!(
        matches!(&error, DataError::MissingSplit { split: "train", present, .. } if present.is_empty()),
        "{error}"
    );
}
