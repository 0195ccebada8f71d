//! Folders to run the program in, data for it, and trainings that are stopped on the way.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use modalign::data::{Dataset, GeneratedConfig, generate, write_npz};
use serde_json::Value;
use tempfile::TempDir;

/// A folder to run the program in.
pub struct Place(pub TempDir);

impl Place {
    pub fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With `small.npz` in it.
    pub fn with_data() -> Self {
        let place = Self::empty();
        place.write("small.npz", &small());
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_modalign"));
        command
            .args(line.split_whitespace())
            .current_dir(self.0.path())
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// Runs, wants success, and gives back standard output.
    pub fn succeed(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(output.status.success(), "{line}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Runs, wants exit code 2 and one error without a panic, and gives the error back.
    pub fn refuse(&self, line: &str) -> String {
        let output = self.run(line);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line}: {error}");
        assert!(output.stdout.is_empty(), "{line}: {}", text(&output.stdout));
        assert!(!error.contains("panicked"), "{line}: {error}");
        let mut errors = error.lines().filter(|line| line.starts_with("error: "));
        let first = errors.next().unwrap_or_default().to_owned();
        assert!(
            !first.is_empty() && errors.next().is_none(),
            "{line}: {error}"
        );
        first
    }

    pub fn write(&self, name: &str, dataset: &Dataset) {
        write_npz(self.path(name), dataset).unwrap();
    }

    pub fn write_text(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Few rows, but all that real data have.
pub fn small() -> Dataset {
    let mut config = GeneratedConfig {
        train_rows: 80,
        valid_rows: 30,
        test_rows: 40,
        ..GeneratedConfig::default()
    };
    config.text.width = 12;
    config.audio.steps = 6;
    config.vision.steps = 5;
    generate(&config).unwrap().dataset
}

/// The small data with something changed.
pub fn changed(change: impl FnOnce(&mut Dataset)) -> Dataset {
    let mut dataset = small();
    change(&mut dataset);
    dataset
}

/// Every file below a folder with its bytes.
pub fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_owned();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Everything but the log.
pub fn results(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = files(folder);
    assert!(files.remove(Path::new("train.log")).is_some());
    files
}

pub fn assert_equal(found: &Path, expected: &BTreeMap<PathBuf, Vec<u8>>) {
    let found = results(found);
    assert!(found.keys().eq(expected.keys()), "{:?}", found.keys());
    for (name, bytes) in &found {
        assert!(expected[name] == *bytes, "{} differs", name.display());
    }
}

/// A training in the folder `run`, stopped as soon as two states of it are kept.
pub fn stopped(place: &Place, line: &str) {
    let mut child = place
        .command(&format!("{line} --output run"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for_states(place, &mut child, 2);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!place.path("run/metrics.json").exists());
}

pub fn states(place: &Place) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(place.path("run/state"))
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "state"))
        .collect();
    found.sort();
    found
}

pub fn wait_for_states(place: &Place, child: &mut Child, count: usize) {
    let begun = Instant::now();
    while states(place).len() < count {
        assert!(child.try_wait().unwrap().is_none(), "it ended too early");
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A training that lasts long enough to be stopped on the way.
pub const LONG: &str = "train --data small.npz --seeds 1 --epochs 40 --set training.patience=40 --quiet \
                        --keep-every 1";

/// What [`LONG`] ends in when nothing happens to it.
pub fn undisturbed(place: &Place) -> BTreeMap<PathBuf, Vec<u8>> {
    place.succeed(&format!("{LONG} --output undisturbed"));
    results(&place.path("undisturbed"))
}
