//! The folder that a run writes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use modalign::core::{PARTIAL, write_atomically};

use crate::error::CliError;
use crate::files::{CHECKPOINTS, TEXT_ENCODER};

/// A new folder. Its files appear whole or not at all; only the log grows.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Makes `output`, or the first of `runs/<name>-1`, `runs/<name>-2`, … that is free.
    pub fn create(output: Option<&Path>, name: &str) -> Result<Self, CliError> {
        if let Some(path) = output {
            return match Self::claim(path)? {
                Some(folder) => Ok(folder),
                None => Err(CliError::Exists {
                    path: path.to_owned(),
                }),
            };
        }
        let mut number = 1_usize;
        loop {
            if let Some(folder) = Self::claim(&Path::new("runs").join(format!("{name}-{number}")))?
            {
                return Ok(folder);
            }
            number += 1;
        }
    }

    /// Two programs cannot both make one folder: whoever comes second gets `None`.
    fn claim(path: &Path) -> Result<Option<Self>, CliError> {
        let failed = |source| CliError::Write {
            path: path.to_owned(),
            source,
        };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        match fs::create_dir(path) {
            Ok(()) => Ok(Some(Self {
                path: path.to_owned(),
            })),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// A folder that is there already, without what a killed process left half-written.
    pub fn reopen(path: &Path) -> Result<Self, CliError> {
        let folder = Self {
            path: path.to_owned(),
        };
        let failed = |source| CliError::Read {
            path: path.to_owned(),
            source,
        };
        let mut entries: Vec<_> = fs::read_dir(path).map_err(failed)?.flatten().collect();
        for below in [CHECKPOINTS, TEXT_ENCODER] {
            if let Ok(below) = fs::read_dir(folder.file(below)) {
                entries.extend(below.flatten());
            }
        }
        for entry in entries {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with('.') && name.ends_with(PARTIAL) {
                fs::remove_file(entry.path()).map_err(|source| CliError::Write {
                    path: entry.path(),
                    source,
                })?;
            }
        }
        Ok(folder)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), CliError> {
        write_file(&self.file(name), content)
    }

    /// The log, to be written line by line after what it has.
    pub fn log(&self, name: &str) -> Result<File, CliError> {
        let path = self.file(name);
        let mut options = File::options();
        options.create(true).append(true);
        options
            .open(&path)
            .map_err(|source| CliError::Write { path, source })
    }

    pub fn make_folder(&self, name: &str) -> Result<(), CliError> {
        let path = self.file(name);
        fs::create_dir_all(&path).map_err(|source| CliError::Write { path, source })
    }

    /// Takes the folder away again: what it was made for turned out to be impossible.
    pub fn remove(self) {
        // The error that led here is the one to report.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Writes one file whole or not at all.
pub fn write_file(path: &Path, content: &[u8]) -> Result<(), CliError> {
    write_atomically(path, |file| file.write_all(content)).map_err(|source| CliError::Write {
        path: path.to_owned(),
        source,
    })
}

/// Prints to standard output.
pub fn print(text: &str) -> Result<(), CliError> {
    let mut output = io::stdout().lock();
    output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush())
        .map_err(CliError::Output)
}
