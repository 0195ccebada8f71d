//! Numpy archives: a zip file with one `.npy` member an array.

use std::fs::File;
use std::io::{self, BufReader, Seek, Write};
use std::iter;
use std::path::Path;

use modalign_core::write_atomically;
use npyz::{AutoSerialize, DType, TypeStr, WriterBuilder};
use zip::result::ZipError;
use zip::write::{SimpleFileOptions, ZipWriter};
use zip::{CompressionMethod, ZipArchive};

use crate::array::{FloatFormat, Header, Values, npy_header_bytes, read_npy_header, read_whole};
use crate::error::ArrayError;
use crate::source::{Budget, Headers, SPLITS, Source};
use crate::{DataError, Dataset, FileSequences, Split};

/// How many times its size an archive may take: padding is zeros, which compress well.
const TIMES: u64 = 256;

pub(crate) struct Npz {
    archive: ZipArchive<BufReader<File>>,
    headers: Headers,
    budget: Budget,
    /// The members that are not `split/key.npy`.
    strays: Vec<String>,
}

impl Npz {
    pub fn open(file: File, path: &Path) -> Result<Self, DataError> {
        let zip_error = |source| DataError::Zip {
            path: path.to_owned(),
            source,
        };
        let size = file.metadata().map_err(|source| DataError::Io {
            path: path.to_owned(),
            source,
        })?;
        let mut archive = ZipArchive::new(BufReader::new(file)).map_err(zip_error)?;
        if archive.has_overlapping_files().map_err(zip_error)? {
            return Err(zip_error(ZipError::InvalidArchive(
                "some of its members are the same bytes of the file".into(),
            )));
        }
        let names = archive
            .file_names()
            .map(|name| name.map(|name| name.into_owned()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(zip_error)?;
        let mut headers = Headers::new();
        let mut strays = Vec::new();
        for name in names {
            let array = name.strip_suffix(".npy").unwrap_or(&name);
            let Some((split, key)) = array.split_once('/') else {
                strays.push(array.to_owned());
                continue;
            };
            let arrays = headers.entry(split.to_owned()).or_default();
            if SPLITS.contains(&split) {
                let header = archive
                    .by_name(&name)
                    .map_err(ArrayError::from)
                    .and_then(|mut member| read_npy_header(&mut member))
                    .map_err(|source| DataError::Array {
                        path: path.to_owned(),
                        split: split.to_owned(),
                        key: key.to_owned(),
                        source,
                    })?;
                arrays.insert(key.to_owned(), header);
            }
        }
        Ok(Self {
            archive,
            budget: Budget::new(size.len(), TIMES),
            headers,
            strays,
        })
    }
}

impl Source for Npz {
    fn headers(&self) -> &Headers {
        &self.headers
    }

    fn strays(&self) -> &[String] {
        &self.strays
    }

    fn read(&mut self, split: &str, key: &str, header: &Header) -> Result<Values, ArrayError> {
        self.budget.take(header.memory())?;
        let mut member = self.archive.by_name(&format!("{split}/{key}.npy"))?;
        read_npy_header(&mut member)?;
        // The size of a member is what the archive declares: no room is made in advance.
        // Reading on to the end also makes the archive compare the checksum.
        read_whole(&mut member, header, 0).map_err(|error| match error {
            ArrayError::Io(error) if error.to_string() == "Invalid checksum" => {
                let sentence = "expected bytes with the checksum that the archive states, found \
                                other bytes";
                ArrayError::Io(io::Error::new(error.kind(), sentence))
            }
            error => error,
        })
    }

    fn locate(
        &mut self,
        split: &str,
        key: &str,
        header: &Header,
    ) -> Result<Option<(u64, FloatFormat)>, ArrayError> {
        let mut member = self.archive.by_name(&format!("{split}/{key}.npy"))?;
        let start = member
            .data_start()
            .filter(|_| member.compression() == CompressionMethod::Stored);
        let (Some(start), Some(format)) = (start, header.floats_in_place()) else {
            return Ok(None);
        };
        let header_bytes = npy_header_bytes(&mut member)?.len() as u64;
        header.check_bytes(format, member.size().saturating_sub(header_bytes))?;
        Ok(Some((start + header_bytes, format)))
    }
}

/// Writes a data set as an `.npz` archive that [`read`](crate::read) and numpy read, whole or not
/// at all. Equal data sets give equal bytes.
///
/// The keys are `<split>/<name>` as in the files of MMSA: `id`, `raw_text`, `text_bert`, each
/// feature `[N, T, D]` with `<feature>_lengths`, `regression_labels` and `regression_labels_<m>`.
/// Text is UTF-8 in fixed-width byte strings, so zero characters at the end of a text are lost.
///
/// # Errors
///
/// [`DataError::Io`] with the path; the file is then as it was before.
///
/// ```
/// use modalign_data::{GeneratedConfig, ReadOptions, generate, read, write_npz};
///
/// let dataset = generate(&GeneratedConfig::default())?.dataset;
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("generated.npz");
/// write_npz(&path, &dataset)?;
/// let (same, report) = read(&path, &ReadOptions::default())?;
/// assert_eq!(same, dataset);
/// assert_eq!(report.splits["train"].rows, 1284);
/// # Ok::<(), modalign_data::DataError>(())
/// ```
pub fn write_npz(path: impl AsRef<Path>, dataset: &Dataset) -> Result<(), DataError> {
    let path = path.as_ref();
    write_atomically(path, |file| {
        let mut writer = Writer {
            zip: ZipWriter::new(file),
        };
        let splits = [&dataset.train, &dataset.valid, &dataset.test];
        let written = SPLITS
            .iter()
            .zip(splits)
            .try_for_each(|(name, split)| writer.split(name, split));
        if written.is_err() {
            // Dropped, it would try to end the archive and print that it cannot.
            std::mem::forget(writer.zip);
            return written;
        }
        writer.zip.finish()?;
        Ok(())
    })
    .map_err(|source| DataError::Io {
        path: path.to_owned(),
        source,
    })
}

struct Writer<W: Write + Seek> {
    zip: ZipWriter<W>,
}

impl<W: Write + Seek> Writer<W> {
    fn split(&mut self, name: &str, split: &Split) -> io::Result<()> {
        self.texts(&format!("{name}/id"), &split.id)?;
        if let Some(raw_text) = &split.raw_text {
            self.texts(&format!("{name}/raw_text"), raw_text)?;
        }
        if let Some(tokens) = &split.text_bert {
            self.numbers(&format!("{name}/text_bert"), tokens.shape(), tokens)?;
        }
        for (key, sequences) in &split.features {
            let values = &sequences.values;
            self.numbers(&format!("{name}/{key}"), values.shape(), values)?;
            self.lengths(name, key, &sequences.lengths)?;
        }
        for (key, sequences) in &split.file_features {
            self.file_feature(&format!("{name}/{key}"), sequences)?;
            self.lengths(name, key, sequences.lengths())?;
        }
        let labels = &split.labels;
        self.numbers(
            &format!("{name}/regression_labels"),
            &[labels.len()],
            labels,
        )?;
        for (key, labels) in &split.unimodal_labels {
            let name = format!("{name}/regression_labels_{key}");
            self.numbers(&name, &[labels.len()], labels)?;
        }
        Ok(())
    }

    fn lengths(&mut self, name: &str, key: &str, lengths: &[usize]) -> io::Result<()> {
        let lengths: Vec<_> = lengths.iter().map(|&length| length as i64).collect();
        self.numbers(&format!("{name}/{key}_lengths"), &[lengths.len()], &lengths)
    }

    /// Row by row.
    fn file_feature(&mut self, name: &str, sequences: &FileSequences) -> io::Result<()> {
        let (steps, width) = (sequences.steps(), sequences.width());
        self.start(name)?;
        let mut writer = npyz::WriteOptions::new()
            .dtype(f32::default_dtype())
            .shape(&[sequences.len(), steps, width].map(|extent| extent as u64))
            .writer(io::BufWriter::new(&mut self.zip))
            .begin_nd()?;
        for row in 0..sequences.len() {
            let row = sequences.read(&[row]).map_err(io::Error::other)?;
            let padding = (steps - row.steps()) * width;
            for &value in row.values.iter().chain(iter::repeat_n(&0.0, padding)) {
                writer.push(&value)?;
            }
        }
        writer.finish()
    }

    fn start(&mut self, name: &str) -> io::Result<()> {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(true);
        Ok(self.zip.start_file(format!("{name}.npy"), options)?)
    }

    fn numbers<'a, T: AutoSerialize + 'a>(
        &mut self,
        name: &str,
        shape: &[usize],
        values: impl IntoIterator<Item = &'a T>,
    ) -> io::Result<()> {
        self.array(name, T::default_dtype(), shape, values)
    }

    fn texts(&mut self, name: &str, texts: &[String]) -> io::Result<()> {
        let longest = texts.iter().map(String::len).max().unwrap_or_default();
        let dtype: TypeStr = format!("|S{}", longest.max(1))
            .parse()
            .map_err(io::Error::other)?;
        let bytes = texts.iter().map(String::as_bytes);
        self.array(name, DType::Plain(dtype), &[texts.len()], bytes)
    }

    fn array<'a, T: npyz::Serialize + ?Sized + 'a>(
        &mut self,
        name: &str,
        dtype: DType,
        shape: &[usize],
        values: impl IntoIterator<Item = &'a T>,
    ) -> io::Result<()> {
        self.start(name)?;
        let shape: Vec<_> = shape.iter().map(|&extent| extent as u64).collect();
        let mut writer = npyz::WriteOptions::new()
            .dtype(dtype)
            .shape(&shape)
            .writer(io::BufWriter::new(&mut self.zip))
            .begin_nd()?;
        for value in values {
            writer.push(value)?;
        }
        writer.finish()
    }
}
