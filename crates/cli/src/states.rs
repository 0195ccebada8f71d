//! Where a training keeps its state, and what it needs to go on from there.
//!
//! ```text
//! RUN/state/run.json                  the configuration, the data file and its content
//! RUN/state/seed-1111.a.state         one generation of a run's state,
//! RUN/state/seed-1111.b.state         and the other: each is written over the older one
//! ```
//!
//! A state file is one line, `modalign state 1, generation 12, sha256 …`, and a safetensors file.
//! The checksum covers the rest of the line and of the file.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use modalign::core::{Store, write_atomically};
use modalign::train::{Checkpoint, Event, ExperimentConfig, Observer, StateKeeper, TrainError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::CliError;
use crate::files::{CONFIG, METRICS, checkpoint_name, file_name, to_json};
use crate::folder::RunFolder;
use crate::progress::Progress;

const FOLDER: &str = "state";
const IDENTITY: &str = "run.json";
const FORMAT: u32 = 1;
const GENERATIONS: [&str; 2] = ["a", "b"];

/// What a resumed training has to have in common with the one before.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    format: u32,
    version: String,
    pub config: ExperimentConfig,
    /// The content of `config.toml`.
    config_sha256: String,
    /// What outputs call the data.
    pub data_name: String,
    /// Absent for generated data.
    pub data: Option<DataFile>,
    pub folds: Option<usize>,
}

/// A data file by place and content.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataFile {
    pub path: PathBuf,
    sha256: String,
}

impl DataFile {
    pub fn new(path: &Path) -> Result<Self, CliError> {
        let failed = |source| CliError::Read {
            path: path.to_owned(),
            source,
        };
        Ok(Self {
            path: fs::canonicalize(path).map_err(failed)?,
            sha256: file_hash(path).map_err(failed)?,
        })
    }
}

/// The states of all runs of one training. The process that holds it is the only one at work there.
pub struct States<'a> {
    folder: PathBuf,
    checkpoints: PathBuf,
    /// Locked for as long as it is open.
    _lock: File,
    steps: Option<usize>,
    progress: &'a Progress,
}

/// Asked to stop by Ctrl-C.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From here on Ctrl-C lets the batches under way end and keeps the state; a second one ends the
/// program at once.
pub fn listen() -> Result<(), CliError> {
    ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        let text = "\nstopping after this batch; Ctrl-C again stops at once";
        // Nobody is left to hear that standard error is closed.
        let _ = writeln!(io::stderr(), "{text}");
    })
    .map_err(|error| CliError::Signal {
        reason: error.to_string(),
    })
}

/// Writes down what a training is, before it begins.
pub fn begin(
    folder: &RunFolder,
    config: &ExperimentConfig,
    data_name: &str,
    data: Option<&Path>,
    folds: Option<usize>,
) -> Result<(), CliError> {
    let identity = Identity {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        config: config.clone(),
        config_sha256: hash_of(&folder.file(CONFIG))?,
        data_name: data_name.to_owned(),
        data: data.map(DataFile::new).transpose()?,
        folds,
    };
    folder.make_folder(FOLDER)?;
    folder.write(&format!("{FOLDER}/{IDENTITY}"), &to_json(&identity)?)
}

/// What a training was, and that nothing has changed since; `None` if it has ended. `data` is where
/// the data file is now, if it has moved.
pub fn identity(folder: &RunFolder, data: Option<&Path>) -> Result<Option<Identity>, CliError> {
    let path = folder.file(&format!("{FOLDER}/{IDENTITY}"));
    let refuse = |reason: String| CliError::Resume {
        path: path.clone(),
        reason,
    };
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if folder.file(METRICS).is_file() {
                remove_rest(&folder.file(FOLDER))?;
                return Ok(None);
            }
            return Err(refuse(
                "expected the identity of a training, found no such file: nothing was kept"
                    .to_owned(),
            ));
        }
        Err(source) => return Err(CliError::Read { path, source }),
    };
    let mut found: Identity = serde_json::from_slice(&text)
        .map_err(|error| refuse(format!("not the identity of a training: {error}")))?;
    let version = env!("CARGO_PKG_VERSION");
    if (found.format, found.version.as_str()) != (FORMAT, version) {
        return Err(refuse(format!(
            "expected a state of version {version}, found one of version {}",
            found.version
        )));
    }
    found.config.validate()?;
    let config = folder.file(CONFIG);
    unchanged(&config, &found.config_sha256, &hash_of(&config)?)?;
    match (&mut found.data, data) {
        (Some(recorded), moved) => {
            if let Some(path) = moved {
                recorded.path = path.to_owned();
            }
            unchanged(&recorded.path, &recorded.sha256, &hash_of(&recorded.path)?)?;
        }
        (None, Some(path)) => {
            return Err(CliError::Resume {
                path: path.to_owned(),
                reason: "expected the built-in generated data, found a data file".to_owned(),
            });
        }
        (None, None) => {}
    }
    Ok(Some(found))
}

/// A process that was killed while it took the states away has left some.
fn remove_rest(path: &Path) -> Result<(), CliError> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(CliError::Write {
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

fn unchanged(path: &Path, expected: &str, found: &str) -> Result<(), CliError> {
    if expected == found {
        return Ok(());
    }
    Err(CliError::Resume {
        path: path.to_owned(),
        reason: format!(
            "changed since the training began: expected the content with sha256 {expected}, found \
             {found}"
        ),
    })
}

impl<'a> States<'a> {
    pub fn open(
        folder: &RunFolder,
        steps: Option<usize>,
        progress: &'a Progress,
    ) -> Result<Self, CliError> {
        let path = folder.file(&format!("{FOLDER}/{IDENTITY}"));
        let failed = |source| CliError::Read {
            path: path.clone(),
            source,
        };
        let lock = File::open(&path).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(CliError::Resume {
                    path,
                    reason: "another process is at work in this run folder".to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        Ok(Self {
            folder: folder.file(FOLDER),
            checkpoints: folder.path().to_owned(),
            _lock: lock,
            steps,
            progress,
        })
    }

    /// Whether a run has kept a state.
    pub fn has_any(&self) -> bool {
        fs::read_dir(&self.folder).is_ok_and(|entries| {
            entries.flatten().any(|entry| {
                entry
                    .path()
                    .extension()
                    .is_some_and(|ending| ending == "state")
            })
        })
    }

    /// Takes the states away: the training has ended and its files are written.
    pub fn remove(self) -> Result<(), CliError> {
        let failed = |source| CliError::Write {
            path: self.folder.clone(),
            source,
        };
        // First what would make the rest look like a training to resume.
        fs::remove_file(self.folder.join(IDENTITY)).map_err(failed)?;
        fs::remove_dir_all(&self.folder).map_err(failed)
    }

    fn file(&self, run: &str, generation: usize) -> PathBuf {
        let name = GENERATIONS[generation];
        self.folder.join(format!("{}.{name}.state", file_name(run)))
    }
}

impl Observer for States<'_> {
    fn observe(&self, event: &Event<'_>) {
        self.progress.observe(event);
    }

    fn keeper(&self) -> Option<&dyn StateKeeper> {
        Some(self)
    }
}

impl StateKeeper for States<'_> {
    fn restore(&self, run: &str) -> Result<Option<Store>, TrainError> {
        let mut newest: Option<(u64, Store)> = None;
        let mut damaged = Vec::new();
        for generation in 0..GENERATIONS.len() {
            let path = self.file(run, generation);
            match read(&path) {
                Ok(None) => {}
                Ok(Some((number, _)))
                    if newest.as_ref().is_some_and(|(best, _)| *best > number) => {}
                Ok(state) => newest = state,
                Err(reason) => damaged.push(format!("{}: {reason}", path.display())),
            }
        }
        let damaged = damaged.join("; ");
        match newest {
            Some((_, state)) => {
                if !damaged.is_empty() {
                    self.progress.note(&format!(
                        "{run}: {damaged}; going on from the generation before it"
                    ));
                }
                Ok(Some(state))
            }
            None if damaged.is_empty() => Ok(None),
            None => Err(TrainError::State {
                run: run.to_owned(),
                reason: format!(
                    "{damaged}; expected one undamaged generation, found none: without these files \
                     the run begins anew"
                ),
            }),
        }
    }

    fn keep(&self, run: &str, state: &Store) -> Result<(), TrainError> {
        let numbers = [0, 1].map(|generation| generation_of(&self.file(run, generation)));
        let older = usize::from(numbers[1] < numbers[0]);
        let newest = numbers.into_iter().flatten().max();
        let path = self.file(run, older);
        let bytes = state.to_bytes().map_err(|error| TrainError::State {
            run: run.to_owned(),
            reason: error.to_string(),
        })?;
        let head = head(newest.map_or(1, |number| number + 1));
        let sum = checksum(&head, &bytes);
        write_atomically(&path, |file| {
            writeln!(file, "{head}{sum}")?;
            file.write_all(&bytes)
        })
        .map_err(|source| TrainError::Keep {
            run: run.to_owned(),
            path,
            source,
        })
    }

    fn rescue(&self, run: &str, best: &Checkpoint) -> Result<(), TrainError> {
        let path = self.checkpoints.join(checkpoint_name(run));
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|source| TrainError::Keep {
                run: run.to_owned(),
                path: folder.to_owned(),
                source,
            })?;
        }
        best.save(&path)?;
        self.progress.note(&format!(
            "{run}: its best model so far is {}",
            checkpoint_name(run)
        ));
        Ok(())
    }

    fn steps(&self) -> Option<usize> {
        self.steps
    }

    fn is_interrupted(&self) -> bool {
        INTERRUPTED.load(Ordering::SeqCst)
    }
}

fn head(generation: u64) -> String {
    format!("modalign state {FORMAT}, generation {generation}, sha256 ")
}

fn checksum(head: &str, bytes: &[u8]) -> String {
    hexadecimal(
        &Sha256::new()
            .chain_update(head)
            .chain_update(bytes)
            .finalize(),
    )
}

/// The number in a head, if this is one.
fn parse_head(line: &str) -> Option<(u64, &str)> {
    let rest = line.strip_prefix(&format!("modalign state {FORMAT}, generation "))?;
    let (number, sum) = rest.split_once(", sha256 ")?;
    Some((number.parse().ok()?, sum))
}

/// The generation that a file says it is. One that is not readable is older than all others, so it is
/// written over first.
fn generation_of(path: &Path) -> Option<u64> {
    let mut line = [0; 128];
    let length = File::open(path).ok()?.read(&mut line).ok()?;
    let line = line[..length].split(|&byte| byte == b'\n').next()?;
    Some(parse_head(std::str::from_utf8(line).ok()?)?.0)
}

/// A state with its generation, or what is wrong with the file.
fn read(path: &Path) -> Result<Option<(u64, Store)>, String> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    parse(&bytes, path).map(Some)
}

fn parse(bytes: &[u8], path: &Path) -> Result<(u64, Store), String> {
    let end = bytes.iter().take(128).position(|&byte| byte == b'\n');
    let (line, body) = end
        .map(|end| (&bytes[..end], &bytes[end + 1..]))
        .ok_or("damaged: expected a line with a checksum, found none")?;
    let (generation, expected) = std::str::from_utf8(line)
        .ok()
        .and_then(parse_head)
        .ok_or_else(|| {
            let found = String::from_utf8_lossy(line).into_owned();
            format!("damaged: expected a line with a checksum, found {found:?}")
        })?;
    let found = checksum(&head(generation), body);
    if found != expected {
        return Err(format!(
            "damaged: expected sha256 {expected}, found {found}"
        ));
    }
    let store = Store::from_bytes(body, path).map_err(|error| error.to_string())?;
    Ok((generation, store))
}

fn hash_of(path: &Path) -> Result<String, CliError> {
    file_hash(path).map_err(|source| CliError::Read {
        path: path.to_owned(),
        source,
    })
}

fn file_hash(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(hexadecimal(&hash.finalize()))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let mut store = Store::default();
        store.insert("a", &array![1.0_f32, -2.5]);
        store.metadata.insert("b".to_owned(), "c".to_owned());
        let body = store.to_bytes().unwrap();
        let head = head(7);
        let mut bytes = format!("{head}{}\n", checksum(&head, &body)).into_bytes();
        bytes.extend(body);
        let path = Path::new("seed-1.a.state");
        let (generation, found) = parse(&bytes, path).unwrap();
        assert_eq!((generation, found.names().count()), (7, 1));
        for at in 0..bytes.len() {
            assert!(parse(&bytes[..at], path).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                let error = parse(&damaged, path).expect_err("a bit is flipped");
                assert!(error.starts_with("damaged: expected "), "{at}: {error}");
            }
        }
    }
}
