use std::cell::Cell;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use modalign_core::resize;
use ndarray::{Array3, ArrayView2};

use crate::array::{FloatFormat, decode_floats};
use crate::{DataError, Sequences, Standardizer};

/// The features of one modality that stay in the data file: N sequences of D-dimensional steps.
///
/// The rows that are asked for are read at their places in the file and become what
/// [`Sequences`] holds, bit for bit. The memory needed is that of the lengths. The file must not
/// change meanwhile.
#[derive(Debug, Clone, PartialEq)]
pub struct FileSequences {
    arrays: Vec<Arc<FileArray>>,
    /// Array and row in it of every row.
    places: Vec<(usize, usize)>,
    lengths: Vec<usize>,
    standardizer: Option<Standardizer>,
}

/// An array `[N, T, D]` in C order in a file.
#[derive(Debug)]
pub(crate) struct FileArray {
    path: PathBuf,
    file: File,
    /// Where the elements start.
    start: u64,
    format: FloatFormat,
    steps: usize,
    width: usize,
}

impl PartialEq for FileArray {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            path,
            file: _,
            start,
            format,
            steps,
            width,
        } = self;
        (path, start, format, steps, width)
            == (
                &other.path,
                &other.start,
                &other.format,
                &other.steps,
                &other.width,
            )
    }
}

impl FileArray {
    pub fn open(
        path: &Path,
        start: u64,
        format: FloatFormat,
        [steps, width]: [usize; 2],
    ) -> Result<Self, DataError> {
        let file = File::open(path).map_err(|source| DataError::Io {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            file,
            start,
            format,
            steps,
            width,
        })
    }

    /// Reads the first steps of a row, as many as `target` has room for. `bytes` is only memory.
    pub fn read(
        &self,
        row: usize,
        bytes: &mut Vec<u8>,
        target: &mut [f32],
    ) -> Result<(), DataError> {
        let size = self.format.size;
        // The whole array fits the address space.
        let offset = row * self.steps * self.width * size;
        bytes.resize(target.len() * size, 0);
        let start = self.start + offset as u64;
        read_exact_at(&self.file, bytes, start).map_err(|source| {
            let source = match source.kind() {
                io::ErrorKind::UnexpectedEof => io::Error::other(format!(
                    "expected {} bytes of row {row} from byte {start} on, found the end: the file \
                     has changed since it was opened",
                    bytes.len()
                )),
                _ => source,
            };
            DataError::Io {
                path: self.path.clone(),
                source,
            }
        })?;
        decode_floats(self.format, bytes, target);
        Ok(())
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                bytes = &mut bytes[count..];
                offset += count as u64;
            }
        }
    }
    Ok(())
}

#[cfg(not(any(unix, windows)))]
fn read_exact_at(_: &File, _: &mut [u8], _: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

thread_local! {
    /// What a row is read into, once for each thread.
    static BYTES: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl FileSequences {
    /// All rows of an array; each length is in `1..=T`.
    pub(crate) fn new(array: FileArray, lengths: Vec<usize>) -> Self {
        Self {
            arrays: vec![Arc::new(array)],
            places: (0..lengths.len()).map(|row| (0, row)).collect(),
            lengths,
            standardizer: None,
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
        self.arrays
            .iter()
            .map(|array| array.steps)
            .max()
            .unwrap_or(0)
    }

    /// The number of features a step, D.
    pub fn width(&self) -> usize {
        self.arrays.first().map_or(0, |array| array.width)
    }

    /// The number of steps of each row, `1..=T`.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// The same rows, standardised when they are read.
    ///
    /// # Errors
    ///
    /// As [`Standardizer::apply`].
    pub fn standardized(self, standardizer: Standardizer) -> Result<Self, DataError> {
        // Nothing to change yet, but everything to check.
        standardizer.apply(&mut Sequences {
            values: Array3::zeros((0, 0, self.width())),
            lengths: Vec::new(),
        })?;
        Ok(Self {
            standardizer: Some(standardizer),
            ..self
        })
    }

    /// Reads rows, in the given order and cut to the longest of them.
    ///
    /// # Errors
    ///
    /// [`DataError::Row`] for a row that is not there, [`DataError::Io`] if the file cannot be
    /// read.
    pub fn read(&self, rows: &[usize]) -> Result<Sequences, DataError> {
        let mut sequences = Sequences::default();
        self.read_into(rows, &mut sequences)?;
        Ok(sequences)
    }

    /// As [`read`](Self::read), in memory that has served.
    pub(crate) fn read_into(
        &self,
        rows: &[usize],
        sequences: &mut Sequences,
    ) -> Result<(), DataError> {
        if let Some(&row) = rows.iter().find(|&&row| row >= self.len()) {
            return Err(DataError::Row {
                row,
                rows: self.len(),
            });
        }
        let Sequences { values, lengths } = &mut *sequences;
        lengths.clear();
        lengths.extend(rows.iter().map(|&row| self.lengths[row]));
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let width = self.width();
        resize(values, (rows.len(), longest, width));
        let mut bytes = BYTES.take();
        for ((&row, &length), mut target) in rows.iter().zip(&*lengths).zip(values.outer_iter_mut())
        {
            let (array, row) = self.places[row];
            let target = target.as_slice_mut().expect("standard layout has no gaps");
            let (target, padding) = target.split_at_mut(length * width);
            self.arrays[array].read(row, &mut bytes, target)?;
            for value in target.iter_mut().filter(|value| !value.is_finite()) {
                *value = 0.0;
            }
            padding.fill(0.0);
        }
        BYTES.set(bytes);
        if let Some(standardizer) = &self.standardizer {
            standardizer.apply(sequences)?;
        }
        Ok(())
    }

    /// Reads every row in turn and shows its steps `[length, D]`.
    pub(crate) fn for_each_row(
        &self,
        mut visit: impl FnMut(ArrayView2<f32>),
    ) -> Result<(), DataError> {
        for row in 0..self.len() {
            self.read(&[row])?.rows().for_each(&mut visit);
        }
        Ok(())
    }

    /// The given rows, each of which must be there.
    pub(crate) fn select(&self, rows: &[usize]) -> Self {
        Self {
            arrays: self.arrays.clone(),
            places: rows.iter().map(|&row| self.places[row]).collect(),
            lengths: rows.iter().map(|&row| self.lengths[row]).collect(),
            standardizer: self.standardizer.clone(),
        }
    }

    /// The rows of all parts, which are standardised as the first.
    pub(crate) fn pool(parts: [&Self; 3]) -> Self {
        let mut pooled = Self {
            arrays: Vec::new(),
            places: Vec::new(),
            lengths: Vec::new(),
            standardizer: parts[0].standardizer.clone(),
        };
        for part in parts {
            let first = pooled.arrays.len();
            let places = part.places.iter();
            let places = places.map(|&(array, row)| (first + array, row));
            pooled.places.extend(places);
            pooled.arrays.extend(part.arrays.iter().cloned());
            pooled.lengths.extend(&part.lengths);
        }
        pooled
    }
}
