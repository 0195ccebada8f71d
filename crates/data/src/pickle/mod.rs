//! Pickles of a dictionary of splits, as MMSA distributes its features.

mod machine;
mod numpy;
mod value;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use indexmap::IndexMap;

pub use machine::PickleError;
use numpy::StoredArray;
use value::{Content, Heap, Id, Value};

use crate::DataError;
use crate::array::{Dtype, FloatFormat, Header, Kind, Values, read_whole};
use crate::error::ArrayError;
use crate::source::{Budget, Headers, Source};

/// An interpreted pickle. Large contents are still in the file.
pub(crate) struct Pickle<R> {
    file: BufReader<R>,
    heap: Heap,
    /// The value of each array, in step with `headers`.
    arrays: IndexMap<String, IndexMap<String, Id>>,
    headers: Headers,
    budget: Budget,
    strays: Vec<String>,
}

/// How many times its size a pickle may take: strings of one character take most.
const TIMES: u64 = 32;

impl Pickle<File> {
    pub fn open(file: File, path: &Path) -> Result<Self, DataError> {
        let size = file.metadata().map_err(|source| DataError::Io {
            path: path.to_owned(),
            source,
        })?;
        Self::interpret(file, size.len()).map_err(|(offset, source)| DataError::Pickle {
            path: path.to_owned(),
            offset,
            source,
        })
    }
}

impl<R: Read + Seek> Pickle<R> {
    fn interpret(file: R, size: u64) -> Result<Self, (u64, PickleError)> {
        let mut file = BufReader::new(file);
        let (heap, root) = machine::run(&mut file, size)?;
        let Value::Dict(splits) = heap.get(root) else {
            return Err((0, PickleError::NoDictionary));
        };
        let mut arrays = IndexMap::new();
        let mut headers = Headers::new();
        let mut strays = Vec::new();
        for &(split, content) in splits {
            let split = heap.text(split).unwrap_or("a key that is not text");
            let Value::Dict(entries) = heap.get(content) else {
                strays.push(split.to_owned());
                continue;
            };
            let entries = entries
                .iter()
                .filter_map(|&(key, value)| Some((heap.text(key)?.to_owned(), value)));
            let entries: IndexMap<_, _> = entries.collect();
            let of_split = entries
                .iter()
                .map(|(key, &id)| (key.clone(), header(id, &heap)));
            headers.insert(split.to_owned(), of_split.collect());
            arrays.insert(split.to_owned(), entries);
        }
        Ok(Self {
            file,
            heap,
            arrays,
            headers,
            budget: Budget::new(size, TIMES),
            strays,
        })
    }
}

fn header(id: Id, heap: &Heap) -> Header {
    let objects = Dtype::new('O', 0, '|');
    let other = |what: &str| Header::c_order(Dtype::Other(what.to_owned()), Vec::new());
    match heap.get(id) {
        Value::Array(array) => array.header.clone(),
        Value::List(items) | Value::Tuple(items) => Header::c_order(objects, vec![items.len()]),
        Value::Dict(_) => other("dict"),
        Value::Text(_) => other("str"),
        Value::Bytes(_) | Value::Encoded(_) => other("bytes"),
        Value::None => other("None"),
        Value::Bool(_) | Value::Int(_) | Value::LargeInt | Value::Float(_) => other("number"),
        Value::Global(_) | Value::Dtype(_) | Value::EmptyArray => other("object"),
    }
}

impl<R: Read + Seek> Source for Pickle<R> {
    fn headers(&self) -> &Headers {
        &self.headers
    }

    fn strays(&self) -> &[String] {
        &self.strays
    }

    fn read(&mut self, split: &str, key: &str, header: &Header) -> Result<Values, ArrayError> {
        let id = self.arrays[split][key];
        let elements = match self.heap.get(id) {
            Value::Array(StoredArray { elements, .. }) => *elements,
            _ => id,
        };
        if let (Some(Kind::Object), Some(items)) = (header.dtype.kind(), self.heap.items(elements))
        {
            let items = items.to_vec();
            return self.objects(&items, header);
        }
        self.budget.take(header.memory())?;
        let (heap, file) = (&self.heap, &mut self.file);
        let mut source: Box<dyn Read + '_>;
        let bytes = match heap.get(elements) {
            Value::Bytes(content) => {
                source = open(content, file)?;
                content.len()
            }
            Value::Encoded(text) => match heap.get(*text) {
                Value::Text(content) => {
                    source = Box::new(Latin1::new(open(content, file)?));
                    content.len()
                }
                _ => return Err(ArrayError::Dtype(header.dtype.to_string())),
            },
            _ => return Err(ArrayError::Dtype(header.dtype.to_string())),
        };
        // No element is smaller than a byte, so these are certainly there or the file is cut off.
        let present = usize::try_from(bytes).unwrap_or(usize::MAX);
        read_whole(&mut source, header, present)
    }

    fn locate(
        &mut self,
        split: &str,
        key: &str,
        header: &Header,
    ) -> Result<Option<(u64, FloatFormat)>, ArrayError> {
        let Value::Array(array) = self.heap.get(self.arrays[split][key]) else {
            return Ok(None);
        };
        let Value::Bytes(Content::InFile { start, length }) = self.heap.get(array.elements) else {
            return Ok(None);
        };
        let Some(format) = header.floats_in_place() else {
            return Ok(None);
        };
        header.check_bytes(format, *length)?;
        Ok(Some((*start, format)))
    }
}

impl<R: Read + Seek> Pickle<R> {
    /// A list, or an array of objects: all text, all integers or all numbers.
    fn objects(&mut self, items: &[Id], header: &Header) -> Result<Values, ArrayError> {
        self.budget.take(header.memory())?;
        let value = |id: &Id| self.heap.get(*id);
        if items
            .iter()
            .all(|id| matches!(value(id), Value::Int(_) | Value::Bool(_)))
        {
            let integers = items.iter().map(|id| match value(id) {
                Value::Int(number) => *number,
                other => i64::from(matches!(other, Value::Bool(true))),
            });
            return Ok(Values::Ints(header.arrange(integers.collect())?));
        }
        let numbers: Option<Vec<_>> = items
            .iter()
            .map(|id| match value(id) {
                Value::Int(number) => Some(*number as f32),
                Value::Float(number) => Some(*number as f32),
                _ => None,
            })
            .collect();
        if let Some(numbers) = numbers {
            return Ok(Values::Floats(header.arrange(numbers)?));
        }
        let mut texts = Vec::with_capacity(items.len());
        for (row, &id) in items.iter().enumerate() {
            let (Value::Text(content) | Value::Bytes(content)) = self.heap.get(id) else {
                return Err(ArrayError::Text { row });
            };
            let length = content.len();
            self.budget
                .take(length.saturating_add(size_of::<String>() as u64))?;
            let mut bytes = Vec::new();
            open(content, &mut self.file)?.read_to_end(&mut bytes)?;
            texts.push(String::from_utf8(bytes).map_err(|_| ArrayError::Text { row })?);
        }
        Ok(Values::Texts(header.arrange(texts)?))
    }
}

fn open<'a, R: Read + Seek>(
    content: &'a Content,
    file: &'a mut BufReader<R>,
) -> io::Result<Box<dyn BufRead + 'a>> {
    Ok(match content {
        Content::Here(bytes) => Box::new(&bytes[..]),
        Content::InFile { start, length } => {
            file.seek(SeekFrom::Start(*start))?;
            Box::new(file.take(*length))
        }
    })
}

/// Bytes that are written as UTF-8 text, one character each.
struct Latin1<B> {
    text: B,
    /// The first half of a character of two bytes.
    lead: Option<u8>,
}

impl<B: BufRead> Latin1<B> {
    fn new(text: B) -> Self {
        Self { text, lead: None }
    }
}

impl<B: BufRead> Read for Latin1<B> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "text that is not bytes");
        let mut written = 0;
        // A piece of text that ends within a character may give no byte at all.
        while written == 0 && !target.is_empty() {
            let available = self.text.fill_buf()?;
            if available.is_empty() {
                return self.lead.map_or(Ok(0), |_| Err(wrong()));
            }
            let mut consumed = 0;
            for &byte in available {
                if written == target.len() {
                    break;
                }
                consumed += 1;
                match (self.lead.take(), byte) {
                    (None, 0x00..0x80) => {
                        target[written] = byte;
                        written += 1;
                    }
                    (None, 0xc2 | 0xc3) => self.lead = Some(byte),
                    (Some(lead), 0x80..0xc0) => {
                        target[written] = (lead << 6) | (byte & 0x3f);
                        written += 1;
                    }
                    _ => return Err(wrong()),
                }
            }
            self.text.consume(consumed);
        }
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    const PICKLES: [&[u8]; 5] = [
        include_bytes!("../../tests/fixtures/numpy1_p2.pkl"),
        include_bytes!("../../tests/fixtures/numpy2_p0.pkl"),
        include_bytes!("../../tests/fixtures/numpy2_p2.pkl"),
        include_bytes!("../../tests/fixtures/numpy2_p4.pkl"),
        include_bytes!("../../tests/fixtures/numpy2_p5.pkl"),
    ];

    /// Interprets a pickle and decodes whatever arrays are in it; how many could be.
    fn decode_all(bytes: &[u8]) -> usize {
        let size = bytes.len() as u64;
        let Ok(mut pickle) = Pickle::interpret(Cursor::new(bytes), size) else {
            return 0;
        };
        let headers = pickle.headers.clone();
        let arrays = headers.iter().flat_map(|(split, arrays)| {
            arrays.iter().map(move |(key, header)| (split, key, header))
        });
        arrays
            .filter(|(split, key, header)| pickle.read(split, key, header).is_ok())
            .count()
    }

    #[test]
    fn all_arrays_but_dates_are_decoded() {
        for pickle in PICKLES {
            assert_eq!(decode_all(pickle), 3 * 12);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]

        #[test]
        fn no_change_of_bytes_panics(
            base in 0..PICKLES.len(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4), 1..6),
        ) {
            let mut bytes = PICKLES[base].to_vec();
            for (place, byte, change) in changes {
                let place = place.index(bytes.len());
                match change {
                    0 => bytes[place] = byte,
                    1 => bytes[place] ^= 1 << (byte % 8),
                    2 => bytes.insert(place, byte),
                    _ => drop(bytes.remove(place)),
                }
            }
            decode_all(&bytes);
        }

        #[test]
        fn no_program_panics(
            instructions in prop::collection::vec(
                prop::sample::select(&b"(((012NNIJKKLMFGVX))]]}}aaeeddssuulttpqrghjcRRbb.\x85\x86\x87\x94\x93"[..]),
                1..60
            ),
        ) {
            let mut program = b"\x80\x04".to_vec();
            for instruction in instructions {
                program.push(instruction);
                match instruction {
                    b'K' | b'q' | b'h' => program.push(1),
                    b'J' | b'r' | b'j' => program.extend([1, 0, 0, 0]),
                    b'M' => program.extend([3, 0]),
                    b'G' => program.extend([0; 8]),
                    b'I' | b'L' | b'F' | b'p' | b'g' => program.extend(b"1\n"),
                    b'V' => program.extend(b"x\n"),
                    b'X' => program.extend(b"\x02\0\0\0f8"),
                    b'c' => program.extend(b"numpy\ndtype\n"),
                    _ => {}
                }
            }
            decode_all(&program);
        }

        #[test]
        fn bytes_survive_as_text(bytes: Vec<u8>, piece in 1..9_usize) {
            let text: String = bytes.iter().map(|&byte| char::from(byte)).collect();
            let source = BufReader::with_capacity(piece, text.as_bytes());
            let mut decoded = Vec::new();
            Latin1::new(source).read_to_end(&mut decoded).unwrap();
            prop_assert_eq!(decoded, bytes);
        }
    }

    #[test]
    fn text_that_is_not_bytes_is_an_error() {
        for text in ["\u{100}", "€"] {
            assert!(
                Latin1::new(text.as_bytes())
                    .read_to_end(&mut Vec::new())
                    .is_err()
            );
        }
        assert!(
            Latin1::new(&b"a\xc3"[..])
                .read_to_end(&mut Vec::new())
                .is_err()
        );
    }
}
