//! Pickles written by numpy 1 and 2 in every protocol, see `fixtures/generate.py`.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use modalign_data::{
    DataError, Dataset, Format, LengthSource, NonFinite, PickleError, ReadOptions, ReadReport, read,
};
use ndarray::{array, s};

const PICKLES: [&str; 9] = [
    "numpy1_p2.pkl",
    "numpy1_p4.pkl",
    "numpy1_p5.pkl",
    "numpy2_p0.pkl",
    "numpy2_p1.pkl",
    "numpy2_p2.pkl",
    "numpy2_p3.pkl",
    "numpy2_p4.pkl",
    "numpy2_p5.pkl",
];

fn fixture(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "fixtures", name]
        .iter()
        .collect()
}

fn read_fixture(name: &str) -> (Dataset, ReadReport) {
    read(fixture(name), &ReadOptions::default()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn values_are_those_that_were_written() {
    let (dataset, report) = read_fixture("numpy2_p4.pkl");
    let train = &dataset.train;
    assert_eq!(train.id[4], "train$_$4");
    assert_eq!(train.raw_text.as_ref().unwrap()[2], "well, naïve 你好 2");
    assert_eq!(train.labels, array![-0.5, 0.0, 0.5, 1.0, 1.5]);
    assert_eq!(train.unimodal_labels["T"], array![0.0, 0.5, 1.0, 1.5, 2.0]);
    assert_eq!(
        train.text_bert.as_ref().unwrap().slice(s![1, .., ..]),
        array![[101, 7592, 102, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]]
    );

    assert_eq!(
        train.features.keys().collect::<Vec<_>>(),
        ["text", "audio", "vision"]
    );
    let text = &train.features["text"];
    assert_eq!(text.values.dim(), (5, 1, 30));
    assert_eq!(text.values[[3, 0, 29]], 3.0 + 29.0 / 64.0);
    let audio = &train.features["audio"];
    assert_eq!(audio.lengths, [1, 2, 3, 4, 1]);
    assert_eq!(
        audio.values.slice(s![2, .., ..]),
        array![[200.0, 201.0], [210.0, 211.0], [220.0, 221.0], [0.0, 0.0]]
    );
    assert_eq!(audio.values[[0, 0, 1]], 0.0);
    let vision = &train.features["vision"];
    assert_eq!(vision.lengths, [1, 1, 1, 1, 2]);
    assert_eq!(vision.values.slice(s![4, 1, ..]), array![0.0, -1.5]);

    assert_eq!(report.format, Format::Pickle);
    let found = &report.splits["train"];
    assert_eq!(found.features["audio"].negative_infinity, 1);
    assert_eq!(found.features["audio"].replaced(), 1);
    assert_eq!(found.features["audio"].length_source, LengthSource::Given);
    assert_eq!(found.features["vision"].nan, 1);
    assert_eq!(
        found.features["vision"].length_source,
        LengthSource::Content
    );
    assert_eq!(found.features["vision"].dtype, ">f4");
    assert_eq!(found.features["text"].length_source, LengthSource::Vector);
    assert_eq!(found.features["text"].shape, [5, 30]);
    assert_eq!(found.labels.histogram.iter().sum::<usize>(), 5);
    assert_eq!(
        report.ignored_arrays[..4],
        [
            "train/annotations",
            "train/classification_labels",
            "train/has_face",
            "train/recorded"
        ]
    );
    assert_eq!(report.ignored_arrays.last().unwrap(), "meta");
}

#[test]
fn every_protocol_and_the_archive_give_the_same_bits() {
    let (expected, archive) = read_fixture("small.npz");
    let bits = |dataset: &Dataset| {
        let splits = [&dataset.train, &dataset.valid, &dataset.test];
        let features = splits.map(|split| {
            let values = split
                .features
                .values()
                .flat_map(|sequences| &sequences.values);
            values.map(|value| value.to_bits()).collect::<Vec<_>>()
        });
        features.concat()
    };
    for name in PICKLES {
        let (dataset, mut report) = read_fixture(name);
        assert_eq!(dataset, expected, "{name}");
        assert_eq!(bits(&dataset), bits(&expected), "{name}");
        report.format = Format::Npz;
        assert_eq!(report, archive, "{name}");
    }
}

#[test]
fn only_the_requested_features_are_read() {
    let options = ReadOptions {
        features: Some(vec!["vision".to_owned(), "text".to_owned()]),
        ..ReadOptions::default()
    };
    let (dataset, report) = read(fixture("numpy1_p4.pkl"), &options).unwrap();
    assert_eq!(
        dataset.test.features.keys().collect::<Vec<_>>(),
        ["vision", "text"]
    );
    assert!(report.ignored_arrays.contains(&"train/audio".to_owned()));
    assert!(
        report
            .ignored_arrays
            .contains(&"train/audio_lengths".to_owned())
    );

    // Truth values are numbers for whoever asks for them; dates are not.
    let options = |key: &str| ReadOptions {
        features: Some(vec![key.to_owned()]),
        ..ReadOptions::default()
    };
    let error = read(fixture("numpy1_p4.pkl"), &options("recorded")).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("train/recorded: elements of type |M8 are not read"),
        "{error}"
    );
    let error = read(fixture("numpy1_p4.pkl"), &options("speech")).unwrap_err();
    assert!(matches!(
        error,
        DataError::MissingKey { split, key, present }
            if split == "train" && key == "speech" && present.len() == 13
    ));
}

#[test]
fn values_that_are_not_finite_can_be_refused() {
    let options = ReadOptions {
        non_finite: NonFinite::Refuse,
        ..ReadOptions::default()
    };
    for name in PICKLES {
        assert!(matches!(
            read(fixture(name), &options).unwrap_err(),
            DataError::NonFinite { split, key, nan: 0, positive_infinity: 0, negative_infinity: 1 }
                if split == "train" && key == "audio"
        ));
    }
}

/// What the interpreter says about a pickle, and where.
fn refusal(pickle: &[u8]) -> (u64, PickleError) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.pkl");
    std::fs::write(&path, pickle).unwrap();
    match read(&path, &ReadOptions::default()).unwrap_err() {
        DataError::Pickle { offset, source, .. } => (offset, source),
        other => panic!("{other}"),
    }
}

#[test]
fn code_is_refused_by_name_before_anything_is_called() {
    let attacks: [(&[u8], &str, u64); 7] = [
        (
            b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.",
            "os.system",
            2,
        ),
        (
            b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.",
            "builtins.eval",
            18,
        ),
        (b"\x80\x02c__builtin__\neval\n.", "__builtin__.eval", 2),
        (b"\x80\x02cnumpy\nload\n.", "numpy.load", 2),
        (
            b"\x80\x02cnumpy.core.multiarray\nfromfile\n.",
            "numpy.core.multiarray.fromfile",
            2,
        ),
        (
            b"\x80\x02(icollections\nOrderedDict\n.",
            "collections.OrderedDict",
            3,
        ),
        (
            b"(dctorch._utils\n_rebuild_tensor_v2\n.",
            "torch._utils._rebuild_tensor_v2",
            2,
        ),
    ];
    for (pickle, expected, position) in attacks {
        let (offset, error) = refusal(pickle);
        assert!(
            matches!(&error, PickleError::Global(name) if name == expected),
            "{expected}: {error}"
        );
        assert_eq!(offset, position, "{expected}");
    }
}

#[test]
fn instructions_that_make_objects_are_refused() {
    // Instantiation, extension registry, persistent names, sets and buffers from outside.
    for instruction in [
        b'o', 0x81, 0x92, 0x82, 0x83, 0x84, b'P', b'Q', 0x8f, 0x97, 0xff,
    ] {
        let (offset, error) = refusal(&[0x80, 4, b')', b')', instruction, 0, 0, 0, 0, b'.']);
        assert!(matches!(error, PickleError::Instruction(found) if found == instruction));
        assert_eq!(offset, 4);
    }
}

#[test]
fn broken_programs_are_errors() {
    let matches = |pickle: &[u8], expected: fn(&PickleError) -> bool| {
        let (_, error) = refusal(pickle);
        assert!(expected(&error), "{pickle:?}: {error}");
    };
    matches(b"\x80\x09N.", |e| matches!(e, PickleError::Protocol(9)));
    matches(b"\x80\x04N.", |e| matches!(e, PickleError::NoDictionary));
    matches(b"\x80\x04.", |e| matches!(e, PickleError::Operands(b'.')));
    matches(b"\x80\x04h\x07.", |e| {
        matches!(e, PickleError::Operands(b'h'))
    });
    matches(b"\x80\x04}(Nu.", |e| {
        matches!(e, PickleError::Operands(b'u'))
    });
    matches(b"\x80\x04N(\x85.", |e| {
        matches!(e, PickleError::Operands(0x85))
    });
    matches(b"\x80\x04}", |e| {
        matches!(e, PickleError::Truncated { wanted: 1, left: 0 })
    });
    // Text of 4 GB and bytes of 2^63 in a file of some bytes.
    matches(b"\x80\x04X\xff\xff\xff\xffabc", |e| {
        matches!(
            e,
            PickleError::Truncated {
                wanted: 0xffff_ffff,
                left: 3
            }
        )
    });
    matches(b"\x80\x04\x8e\0\0\0\0\0\0\0\x80.", |e| {
        matches!(e, PickleError::Truncated { .. })
    });
    // An array of 2^62 numbers without their bytes.
    let array = b"\x80\x05}\x8c\x13numpy._core.numeric\x8c\x0b_frombuffer\x93(C\x00\
        \x8c\x05numpy\x8c\x05dtype\x93\x8c\x02f8\x85R\
        \x8a\x08\0\0\0\0\0\0\0\x40\x85\x8c\x01CtR.";
    matches(array, |e| matches!(e, PickleError::Size { bytes: 0, .. }));
    // A list cannot be built, an array cannot be built twice, a dtype cannot be called.
    matches(b"\x80\x04])b.", |e| {
        matches!(e, PickleError::Arguments("a state"))
    });
    matches(b"\x80\x04cnumpy\nndarray\n)R.", |e| {
        matches!(e, PickleError::Arguments("numpy.ndarray"))
    });
    // A list of itself holds nothing, but does no harm.
    matches(b"\x80\x04]q\x00h\x00a.", |e| {
        matches!(e, PickleError::NoDictionary)
    });
}

#[test]
fn no_depth_of_nesting_exhausts_the_stack() {
    let mut pickle = vec![b'}'];
    pickle.extend(std::iter::repeat_n(b']', 200_000));
    pickle.extend(std::iter::repeat_n(b'a', 199_999));
    pickle.push(b'.');
    assert!(matches!(refusal(&pickle).1, PickleError::NoDictionary));
}

#[test]
fn a_cut_pickle_is_refused_wherever_it_is_cut() {
    for name in ["numpy1_p2.pkl", "numpy2_p5.pkl"] {
        let bytes = std::fs::read(fixture(name)).unwrap();
        for length in (2..bytes.len()).step_by(97) {
            let (_, error) = refusal(&bytes[..length]);
            assert!(
                matches!(error, PickleError::Truncated { .. }),
                "{length}: {error}"
            );
        }
    }
}

#[test]
fn a_dictionary_without_splits_says_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels.pkl");
    std::fs::write(
        &path,
        b"\x80\x04}(\x8c\x05train}\x8c\x04test}\x8c\x01xK\x01u.",
    )
    .unwrap();
    let error = read(&path, &ReadOptions::default()).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("no split valid; there are train, test"),
        "{error}"
    );
}
