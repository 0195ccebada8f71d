//! Random data sets pickled and archived by the Python at hand, and archives of this crate read by
//! its numpy. Ignored where `python3` or its numpy is not there.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Trial};
use modalign_data::{
    DataError, GeneratedConfig, GeneratedModality, ReadOptions, Split, generate, read, write_npz,
};

const WRITE: &str = r#"
import pickle, sys
import numpy as np

folder, protocol, dtype = sys.argv[1], int(sys.argv[2]), sys.argv[3]
rng = np.random.default_rng(protocol)
data, arrays = {}, {}
for split, rows in [("train", 37), ("valid", 5), ("test", 11)]:
    vision = rng.normal(size=(rows, 9, 40)).astype(dtype)
    vision[rng.random(vision.shape) < 0.01] = np.inf
    audio = rng.normal(size=(9, 16, rows)).astype(dtype).transpose(2, 0, 1)
    data[split] = content = {
        "raw_text": np.array(["word " * int(n) + "\u00e9nd" for n in rng.integers(0, 400, rows)], dtype=object),
        "id": ["%s$_$%d" % (split, row) for row in range(rows)],
        "text": np.asfortranarray(rng.normal(size=(rows, 33)).astype(dtype)),
        "audio": audio,
        "audio_lengths": rng.integers(1, 10, rows).astype("i4"),
        "vision": vision,
        "regression_labels": rng.uniform(-3, 3, rows).astype(dtype),
    }
    for key, value in content.items():
        value = np.array(value)
        arrays[f"{split}/{key}"] = value.astype(str) if value.dtype == object else value
with open(folder + "/data.pkl", "wb") as file:
    pickle.dump(data, file, protocol)
np.savez(folder + "/data.npz", **arrays)
"#;

const READ: &str = r#"
import sys
import numpy as np

data = np.load(sys.argv[1])
assert len(data.files) == 3 * 8, data.files
assert data["train/id"][3].decode() == "train_3"
assert data["train/text"].dtype == "<f4" and data["train/text"].shape == (7, 1, 6)
assert data["test/audio_lengths"].dtype == "<i8" and data["test/audio_lengths"].max() <= 4
print(repr(float(data["valid/vision"].astype("f8").sum())))
"#;

fn main() -> ExitCode {
    let numpy = Command::new("python3")
        .args(["-c", "import numpy"])
        .output();
    let ignored = !numpy.is_ok_and(|output| output.status.success());
    let mut trials = Vec::new();
    for protocol in ["0", "2", "3", "4", "5"] {
        for dtype in ["f4", "f8", ">f4"] {
            let name = format!("protocol_{protocol}_of_{dtype}_reads_as_its_archive");
            let trial = Trial::test(name, move || {
                same_as_archive(protocol, dtype);
                Ok(())
            });
            trials.push(trial.with_ignored_flag(ignored));
        }
    }
    let trial = Trial::test("numpy_reads_a_written_archive", || {
        numpy_reads();
        Ok(())
    });
    trials.push(trial.with_ignored_flag(ignored));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn python(script: &str, arguments: &[&str]) -> String {
    let mut command = Command::new("python3");
    let output = command
        .args(["-c", script])
        .args(arguments)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn same_as_archive(protocol: &str, dtype: &str) {
    let folder = tempfile::tempdir().unwrap();
    python(WRITE, &[text(folder.path()), protocol, dtype]);
    let options = ReadOptions::default();
    let (pickled, _) = read(folder.path().join("data.pkl"), &options).unwrap();
    let (archived, report) = read(folder.path().join("data.npz"), &options).unwrap();
    assert_eq!(pickled, archived);
    assert_eq!(pickled.train.features["audio"].values.dim(), (37, 9, 16));
    assert!(report.splits["train"].features["vision"].positive_infinity > 0);

    // Before protocol 3 arrays are not pickled as they are.
    let in_file = ReadOptions {
        features: Some(vec!["vision".to_owned()]),
        in_file_above: Some(0),
        ..ReadOptions::default()
    };
    for name in ["data.npz", "data.pkl"] {
        let found = read(folder.path().join(name), &in_file);
        if name == "data.pkl" && matches!(protocol, "0" | "2") {
            assert!(matches!(found, Err(DataError::NotInPlace { .. })));
            continue;
        }
        let train = found.unwrap().0.train;
        assert!(train.features.is_empty());
        let batch = |split: &Split| split.batch(&["vision"], &[36, 0, 5]).unwrap();
        assert_eq!(batch(&train), batch(&pickled.train));
    }
}

fn numpy_reads() {
    let modality = |steps| GeneratedModality {
        steps,
        width: 6,
        ..GeneratedConfig::default().audio
    };
    let config = GeneratedConfig {
        train_rows: 7,
        valid_rows: 2,
        test_rows: 3,
        text: modality(1),
        audio: modality(4),
        vision: modality(5),
        ..GeneratedConfig::default()
    };
    let dataset = generate(&config).unwrap().dataset;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("written.npz");
    write_npz(&path, &dataset).unwrap();
    let found: f64 = python(READ, &[text(&path)]).trim().parse().unwrap();
    let vision = &dataset.valid.features["vision"].values;
    let expected: f64 = vision.iter().map(|&value| f64::from(value)).sum();
    assert!((found - expected).abs() < 1e-9, "{found} {expected}");
}
