//! Arrays as numpy stores them, in a `.npy` member of an archive or in a pickle.

use std::cmp::Ordering;
use std::fmt;
use std::io::{self, Read};

use modalign_core::npy_header;
use ndarray::ArrayD;

use crate::error::ArrayError;

/// Elements are decoded in pieces of about this many bytes.
const PIECE: usize = 1 << 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Int,
    Uint,
    Float,
    /// `S`: bytes padded with zeros.
    Bytes,
    /// `U`: UTF-32 padded with zeros.
    Unicode,
    /// `O`: any Python objects; strings in the files that are read.
    Object,
}

/// The type of one element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Dtype {
    Known {
        kind: Kind,
        /// Bytes an element; 0 for objects.
        size: usize,
        big_endian: bool,
    },
    /// Dates, complex numbers, records and others, as numpy names them.
    Other(String),
}

impl Dtype {
    /// From numpy's type character, the number after it, and the byte order (`<`, `>`, `=`, `|`).
    pub fn new(character: char, number: usize, order: char) -> Self {
        let kind = match character {
            'b' => Some((Kind::Bool, number)),
            'i' => Some((Kind::Int, number)),
            'u' => Some((Kind::Uint, number)),
            'f' => Some((Kind::Float, number)),
            'S' => Some((Kind::Bytes, number)),
            'U' => number.checked_mul(4).map(|size| (Kind::Unicode, size)),
            'O' => Some((Kind::Object, 0)),
            _ => None,
        };
        let readable = |&(kind, size): &(Kind, usize)| match kind {
            Kind::Bool => size == 1,
            Kind::Int | Kind::Uint => matches!(size, 1 | 2 | 4 | 8),
            Kind::Float => matches!(size, 2 | 4 | 8),
            Kind::Bytes | Kind::Unicode => size > 0,
            Kind::Object => true,
        };
        match kind.filter(readable) {
            Some((kind, size)) => Self::Known {
                kind,
                size,
                big_endian: order == '>',
            },
            None => Self::Other(format!("{order}{character}{number}")),
        }
    }

    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Known { kind, .. } => Some(*kind),
            Self::Other(_) => None,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, size, big_endian) = match self {
            Self::Known {
                kind,
                size,
                big_endian,
            } => (kind, *size, *big_endian),
            Self::Other(name) => return f.write_str(name),
        };
        let order = match kind {
            Kind::Bool | Kind::Bytes | Kind::Object => '|',
            _ if size == 1 => '|',
            _ if big_endian => '>',
            _ => '<',
        };
        match kind {
            Kind::Bool => write!(f, "{order}b1"),
            Kind::Int => write!(f, "{order}i{size}"),
            Kind::Uint => write!(f, "{order}u{size}"),
            Kind::Float => write!(f, "{order}f{size}"),
            Kind::Bytes => write!(f, "{order}S{size}"),
            Kind::Unicode => write!(f, "{order}U{}", size / 4),
            Kind::Object => write!(f, "{order}O"),
        }
    }
}

/// What is known of an array before its elements are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Which axis of the stored elements, in C order, each axis of the array is. `None` is all in
    /// their places.
    axes: Option<Vec<usize>>,
}

impl Header {
    pub fn c_order(dtype: Dtype, shape: Vec<usize>) -> Self {
        Self {
            dtype,
            shape,
            axes: None,
        }
    }

    pub fn fortran_order(dtype: Dtype, shape: Vec<usize>) -> Self {
        let axes = (0..shape.len()).rev().collect();
        Self {
            dtype,
            shape,
            axes: Some(axes),
        }
    }

    /// From the shape of the stored elements, if `axes` names each of its axes once.
    pub fn transposed(dtype: Dtype, stored: Vec<usize>, axes: Vec<usize>) -> Option<Self> {
        let mut sorted = axes.clone();
        sorted.sort_unstable();
        sorted.into_iter().eq(0..stored.len()).then(|| Self {
            dtype,
            shape: axes.iter().map(|&axis| stored[axis]).collect(),
            axes: Some(axes),
        })
    }

    /// The bytes of the header itself.
    pub fn bytes(&self) -> usize {
        let axes = self.shape.len() + self.axes.as_ref().map_or(0, Vec::len);
        let name = match &self.dtype {
            Dtype::Other(name) => name.len(),
            Dtype::Known { .. } => 0,
        };
        axes * size_of::<usize>() + name
    }

    /// The number of elements, if all axes together fit the address space.
    pub fn count(&self) -> Option<usize> {
        // Axes of no extent must not hide the size of the others.
        let mut extents = self.shape.iter().map(|&extent| extent.max(1));
        let product = extents.try_fold(1_usize, |all, extent| all.checked_mul(extent));
        let count = product.filter(|&all| isize::try_from(all).is_ok())?;
        Some(if self.shape.contains(&0) { 0 } else { count })
    }

    /// The bytes of memory that the elements take once they are read; of texts the least.
    pub fn memory(&self) -> u64 {
        let element = match self.dtype {
            Dtype::Known {
                kind: Kind::Float, ..
            } => size_of::<f32>(),
            Dtype::Known {
                kind: Kind::Bytes | Kind::Unicode,
                size,
                ..
            } => size_of::<String>().saturating_add(size),
            _ => size_of::<i64>(),
        };
        let count = self.count().unwrap_or(usize::MAX) as u64;
        count.saturating_mul(element as u64)
    }

    /// How the elements are stored, if they are floats in C order.
    pub fn floats_in_place(&self) -> Option<FloatFormat> {
        match self.dtype {
            Dtype::Known {
                kind: Kind::Float,
                size,
                big_endian,
            } if self.axes.is_none() => Some(FloatFormat { size, big_endian }),
            _ => None,
        }
    }

    /// Fails unless so many bytes are those of all elements.
    pub fn check_bytes(&self, format: FloatFormat, bytes: u64) -> Result<(), ArrayError> {
        let expected = self
            .count()
            .filter(|count| count.checked_mul(format.size).is_some())
            .ok_or_else(|| ArrayError::Header(format!("shape {:?} is too large", self.shape)))?;
        match bytes.cmp(&((expected * format.size) as u64)) {
            Ordering::Less => Err(ArrayError::Truncated {
                expected,
                // No more than expected, which is one.
                found: (bytes / format.size as u64) as usize,
            }),
            Ordering::Equal => Ok(()),
            Ordering::Greater => Err(ArrayError::TooLong { expected }),
        }
    }

    /// Elements as they are stored, as an array in C order.
    pub fn arrange<T: Clone>(&self, elements: Vec<T>) -> Result<ArrayD<T>, ArrayError> {
        let mut stored = self.shape.clone();
        for (&axis, &extent) in self.axes.iter().flatten().zip(&self.shape) {
            stored[axis] = extent;
        }
        let mut array = ArrayD::from_shape_vec(stored, elements)
            .map_err(|error| ArrayError::Header(error.to_string()))?;
        if let Some(axes) = &self.axes {
            array = array.permuted_axes(axes.as_slice());
        }
        if array.is_standard_layout() {
            return Ok(array);
        }
        Ok(array.as_standard_layout().into_owned())
    }
}

/// How floats are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FloatFormat {
    /// Bytes a number: 2, 4 or 8.
    pub size: usize,
    big_endian: bool,
}

/// Decodes numbers as [`read_elements`] does. There are `format.size` bytes for each.
pub(crate) fn decode_floats(format: FloatFormat, bytes: &[u8], target: &mut [f32]) {
    fn decode<const SIZE: usize>(
        bytes: &[u8],
        target: &mut [f32],
        number: impl Fn([u8; SIZE]) -> f32,
    ) {
        for (target, &bytes) in target.iter_mut().zip(bytes.as_chunks().0) {
            *target = number(bytes);
        }
    }
    match (format.size, format.big_endian) {
        (2, false) => decode(bytes, target, |b| half(u16::from_le_bytes(b))),
        (2, true) => decode(bytes, target, |b| half(u16::from_be_bytes(b))),
        (4, false) => decode(bytes, target, f32::from_le_bytes),
        (4, true) => decode(bytes, target, f32::from_be_bytes),
        (_, false) => decode(bytes, target, |b| f64::from_le_bytes(b) as f32),
        (_, true) => decode(bytes, target, |b| f64::from_be_bytes(b) as f32),
    }
}

/// Elements in C order, integers and truth values as `i64`, floats rounded to `f32`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Values {
    Floats(ArrayD<f32>),
    Ints(ArrayD<i64>),
    Texts(ArrayD<String>),
}

/// Reads the elements of an array, after which the source must end.
pub(crate) fn read_whole(
    source: &mut dyn Read,
    header: &Header,
    present: usize,
) -> Result<Values, ArrayError> {
    let values = read_elements(source, header, present)?;
    if source.read(&mut [0])? > 0 {
        return Err(ArrayError::TooLong {
            expected: header.count().unwrap_or_default(),
        });
    }
    Ok(values)
}

/// Reads the elements of an array. `present` is how many are certainly there, so that room may be
/// made for them before they are read.
pub(crate) fn read_elements(
    source: &mut dyn Read,
    header: &Header,
    present: usize,
) -> Result<Values, ArrayError> {
    let unreadable = || ArrayError::Dtype(header.dtype.to_string());
    let Dtype::Known {
        kind,
        size,
        big_endian,
    } = header.dtype
    else {
        return Err(unreadable());
    };
    let mut elements = Elements {
        source,
        header,
        count: header
            .count()
            .ok_or_else(|| ArrayError::Header(format!("shape {:?} is too large", header.shape)))?,
        present,
        size,
        big_endian,
    };
    Ok(match (kind, size) {
        (Kind::Bool, _) => Values::Ints(elements.numbers(|[byte]| i64::from(byte != 0))?),
        (Kind::Int, 1) => Values::Ints(elements.numbers(|b| i8::from_le_bytes(b).into())?),
        (Kind::Int, 2) => Values::Ints(elements.numbers(|b| i16::from_le_bytes(b).into())?),
        (Kind::Int, 4) => Values::Ints(elements.numbers(|b| i32::from_le_bytes(b).into())?),
        (Kind::Int, 8) => Values::Ints(elements.numbers(i64::from_le_bytes)?),
        (Kind::Uint, 1) => Values::Ints(elements.numbers(|[byte]| byte.into())?),
        (Kind::Uint, 2) => Values::Ints(elements.numbers(|b| u16::from_le_bytes(b).into())?),
        (Kind::Uint, 4) => Values::Ints(elements.numbers(|b| u32::from_le_bytes(b).into())?),
        (Kind::Uint, 8) => Values::Ints(elements.numbers(|b| {
            // No count, label or token comes near the bound.
            i64::try_from(u64::from_le_bytes(b)).unwrap_or(i64::MAX)
        })?),
        (Kind::Float, 2) => Values::Floats(elements.numbers(|b| half(u16::from_le_bytes(b)))?),
        (Kind::Float, 4) => Values::Floats(elements.numbers(f32::from_le_bytes)?),
        (Kind::Float, 8) => Values::Floats(elements.numbers(|b| f64::from_le_bytes(b) as f32)?),
        (Kind::Bytes | Kind::Unicode, _) => Values::Texts(elements.texts(kind)?),
        _ => return Err(unreadable()),
    })
}

struct Elements<'a> {
    source: &'a mut dyn Read,
    header: &'a Header,
    count: usize,
    present: usize,
    size: usize,
    big_endian: bool,
}

impl Elements<'_> {
    /// `decode` gets the bytes of one number, least significant first.
    fn numbers<const SIZE: usize, T: Clone>(
        &mut self,
        decode: impl Fn([u8; SIZE]) -> T,
    ) -> Result<ArrayD<T>, ArrayError> {
        let big_endian = self.big_endian;
        self.read(|bytes, _| {
            let mut number = [0; SIZE];
            number.copy_from_slice(bytes);
            if big_endian {
                number.reverse();
            }
            Ok(decode(number))
        })
    }

    fn texts(&mut self, kind: Kind) -> Result<ArrayD<String>, ArrayError> {
        let big_endian = self.big_endian;
        self.read(|bytes, row| {
            let text = match kind {
                Kind::Bytes => String::from_utf8(unpadded(bytes).to_vec()).ok(),
                _ => utf32(bytes, big_endian),
            };
            text.ok_or(ArrayError::Text { row })
        })
    }

    fn read<T: Clone>(
        &mut self,
        mut decode: impl FnMut(&[u8], usize) -> Result<T, ArrayError>,
    ) -> Result<ArrayD<T>, ArrayError> {
        let mut values = Vec::with_capacity(self.present.min(self.count));
        let mut bytes = Vec::new();
        while values.len() < self.count {
            let elements = (PIECE / self.size).max(1).min(self.count - values.len());
            let wanted = elements * self.size;
            bytes.clear();
            (&mut self.source)
                .take(wanted as u64)
                .read_to_end(&mut bytes)?;
            for element in bytes.chunks_exact(self.size) {
                values.push(decode(element, values.len())?);
            }
            if bytes.len() < wanted {
                return Err(ArrayError::Truncated {
                    expected: self.count,
                    found: values.len(),
                });
            }
        }
        values.shrink_to_fit();
        self.header.arrange(values)
    }
}

fn unpadded(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|&byte| byte != 0);
    &bytes[..end.map_or(0, |last| last + 1)]
}

fn utf32(bytes: &[u8], big_endian: bool) -> Option<String> {
    let mut text = String::new();
    let mut zeros = 0;
    for unit in bytes.chunks_exact(4) {
        let unit = [unit[0], unit[1], unit[2], unit[3]];
        let code = if big_endian {
            u32::from_be_bytes(unit)
        } else {
            u32::from_le_bytes(unit)
        };
        if code == 0 {
            zeros += 1;
        } else {
            text.extend(std::iter::repeat_n('\0', zeros));
            zeros = 0;
            text.push(char::from_u32(code)?);
        }
    }
    Some(text)
}

/// IEEE 754 half precision, exactly.
fn half(bits: u16) -> f32 {
    let sign = if bits >> 15 == 0 { 1.0 } else { -1.0 };
    let fraction = f32::from(bits & 0x3ff);
    sign * match (bits >> 10) & 0x1f {
        0 => fraction * 2.0_f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        exponent => (1024.0 + fraction) * 2.0_f32.powi(i32::from(exponent) - 25),
    }
}

/// The `.npy` header at the start of `source`.
pub(crate) fn read_npy_header(source: &mut dyn Read) -> Result<Header, ArrayError> {
    let bytes = npy_header_bytes(source)?;
    let header =
        npyz::NpyHeader::from_reader(&bytes[..]).map_err(|e| ArrayError::Header(e.to_string()))?;
    let shape = header
        .shape()
        .iter()
        .map(|&extent| usize::try_from(extent))
        .collect::<Result<_, _>>()
        .map_err(|error| ArrayError::Header(error.to_string()))?;
    let dtype = match header.dtype() {
        npyz::DType::Plain(plain) => {
            let name = plain.to_string();
            let mut characters = name.chars();
            match (characters.next(), characters.next()) {
                (Some(order), Some(character)) => {
                    let number = usize::try_from(plain.size_field()).unwrap_or(usize::MAX);
                    Dtype::new(character, number, order)
                }
                _ => Dtype::Other(name),
            }
        }
        other => Dtype::Other(other.descr()),
    };
    Ok(match header.order() {
        npyz::Order::C => Header::c_order(dtype, shape),
        npyz::Order::Fortran => Header::fortran_order(dtype, shape),
    })
}

/// The bytes of a header that nothing in can exhaust the parser behind.
pub(crate) fn npy_header_bytes(source: &mut dyn Read) -> Result<Vec<u8>, ArrayError> {
    npy_header(source).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => {
            ArrayError::Header(error.to_string())
        }
        _ => error.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;
    use proptest::prelude::*;

    fn dtype(name: &str) -> Dtype {
        let number = name[2..].parse().unwrap_or(0);
        let character = |index| name.chars().nth(index).unwrap();
        Dtype::new(character(1), number, character(0))
    }

    fn decode(name: &str, count: usize, bytes: &[u8]) -> Result<Values, ArrayError> {
        let header = Header::c_order(dtype(name), vec![count]);
        read_elements(&mut &bytes[..], &header, 0)
    }

    #[test]
    fn every_width_and_byte_order_of_numbers() {
        let ints: [(&str, &[u8], i64); 10] = [
            ("|b1", &[1], 1),
            ("|i1", &[0xfe], -2),
            ("|u1", &[0xfe], 254),
            ("<i2", &[0xfe, 0xff], -2),
            (">i2", &[0xff, 0xfe], -2),
            (">u2", &[0x01, 0x02], 258),
            ("<i4", &[4, 3, 2, 1], 0x0102_0304),
            (">u4", &[0xff; 4], 0xffff_ffff),
            (">i8", &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfd], -3),
            ("<u8", &[0xff; 8], i64::MAX),
        ];
        for (name, bytes, expected) in ints {
            let found = decode(name, 1, bytes).unwrap();
            assert_eq!(found, Values::Ints(array![expected].into_dyn()), "{name}");
        }
        let floats: [(&str, &[u8], f32); 6] = [
            ("<f4", &[0, 0, 0x80, 0xbf], -1.0),
            (">f4", &[0x3f, 0x80, 0, 0], 1.0),
            ("<f8", &0.1_f64.to_le_bytes(), 0.1),
            (">f8", &1e300_f64.to_be_bytes(), f32::INFINITY),
            ("<f2", &[0x00, 0x3c], 1.0),
            (">f2", &[0xc1, 0x00], -2.5),
        ];
        for (name, bytes, expected) in floats {
            let found = decode(name, 1, bytes).unwrap();
            assert_eq!(found, Values::Floats(array![expected].into_dyn()), "{name}");
        }
    }

    #[test]
    fn halves_are_exact_at_their_limits() {
        assert_eq!(half(0x0001), 2.0_f32.powi(-24));
        assert_eq!(half(0x03ff), 1023.0 * 2.0_f32.powi(-24));
        assert_eq!(half(0x0400), 2.0_f32.powi(-14));
        assert_eq!(half(0x7bff), 65504.0);
        assert_eq!(half(0xfc00), f32::NEG_INFINITY);
        assert_eq!(half(0x8000).to_bits(), (-0.0_f32).to_bits());
        assert!(half(0x7e00).is_nan());
    }

    #[test]
    fn text_of_both_kinds() {
        let texts = |name, bytes: &[u8]| match decode(name, 2, bytes).unwrap() {
            Values::Texts(texts) => texts.into_raw_vec_and_offset().0,
            other => panic!("{other:?}"),
        };
        assert_eq!(texts("|S3", b"ab\0\xc3\xa9\0"), ["ab", "é"]);
        assert_eq!(texts("<U2", b"a\0\0\0\0\0\0\0`O\0\0}Y\0\0"), ["a", "你好"]);
        assert_eq!(texts(">U1", b"\0\0\0z\0\0\0\0"), ["z", ""]);
        assert!(matches!(
            decode("|S1", 2, b"a\xff"),
            Err(ArrayError::Text { row: 1 })
        ));
        assert!(matches!(
            decode("<U1", 1, b"\0\xd8\0\0"),
            Err(ArrayError::Text { row: 0 })
        ));
    }

    #[test]
    fn other_elements_are_refused_by_name() {
        for name in ["<c8", "<f16", "<M8", "|V4", "|S0", "|O"] {
            let error = decode(name, 1, &[0; 64]).unwrap_err();
            assert!(
                matches!(error, ArrayError::Dtype(found) if found == name),
                "{name}"
            );
        }
    }

    #[test]
    fn missing_elements_are_counted_and_need_no_room() {
        let header = Header::c_order(dtype("<f4"), vec![1 << 40]);
        let error = read_elements(&mut &[0; 10][..], &header, 10).unwrap_err();
        assert!(matches!(error, ArrayError::Truncated { expected, found: 2 }
            if expected == 1 << 40));
        let header = Header::c_order(dtype("<f4"), vec![1 << 40, 1 << 40, 0]);
        assert_eq!(header.count(), None);
    }

    #[test]
    fn orders_of_axes() {
        let bytes: Vec<u8> = (0..6).collect();
        let read = |header: Header| match read_elements(&mut &bytes[..], &header, 6).unwrap() {
            Values::Ints(values) => values,
            other => panic!("{other:?}"),
        };
        let byte = dtype("|u1");
        assert_eq!(
            read(Header::c_order(byte.clone(), vec![2, 3])),
            array![[0, 1, 2], [3, 4, 5]].into_dyn()
        );
        let fortran = read(Header::fortran_order(byte.clone(), vec![2, 3]));
        assert_eq!(fortran, array![[0, 2, 4], [1, 3, 5]].into_dyn());
        assert!(fortran.is_standard_layout());
        let transposed = Header::transposed(byte.clone(), vec![1, 2, 3], vec![1, 2, 0]).unwrap();
        assert_eq!(transposed.shape, [2, 3, 1]);
        assert_eq!(
            read(transposed),
            array![[[0], [1], [2]], [[3], [4], [5]]].into_dyn()
        );
        for axes in [vec![0, 0], vec![0, 2], vec![0], vec![0, 1, 2]] {
            assert_eq!(Header::transposed(byte.clone(), vec![2, 3], axes), None);
        }
    }

    fn npy(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn headers_of_archives() {
        let bytes = npy(
            "{'descr': '>f4', 'fortran_order': True, 'shape': (2, 1), }\n",
            &[],
        );
        let header = read_npy_header(&mut &bytes[..]).unwrap();
        assert_eq!(header, Header::fortran_order(dtype(">f4"), vec![2, 1]));
        let refused = |header: &str| match read_npy_header(&mut &npy(header, &[])[..]) {
            Err(ArrayError::Header(reason)) => reason,
            other => panic!("{other:?}"),
        };
        let shape = |shape: &str| {
            refused(&format!(
                "{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
            ))
        };
        assert!(shape("(4294967296, 4294967296, 0)").contains("too large"));
        assert!(shape("(99999999999999999999,)").contains("too large"));
        assert!(refused(&"(".repeat(9000)).contains("nests too deeply"));
        assert!(refused(&" ".repeat(10_001)).contains("longer than 10000"));
        assert!(!refused("{'descr': '<f4'}").is_empty());
        let cut = read_npy_header(&mut &bytes[..20]).unwrap_err();
        assert!(cut.to_string().contains("ends within its header"), "{cut}");
        let other = read_npy_header(&mut &b"something else"[..]).unwrap_err();
        assert!(other.to_string().contains("does not start with"), "{other}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        #[test]
        fn no_header_panics(
            descr in "[<>|=!]?[?a-zA-Z]{0,2}[0-9]{0,12}(\\[[a-z0-9]{0,3}\\])?",
            shape in "(\\(([0-9]{1,20},? ?){0,4}\\)|[0-9]{0,3}|'a'|-3|\\(-1,\\))",
            order in "(True|False|None|0)",
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
            data in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let text = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}}}");
            let mut bytes = npy(&text, &data);
            for (place, byte) in changes {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            let mut source = &bytes[..];
            if let Ok(header) = read_npy_header(&mut source) {
                let _ = read_elements(&mut source, &header, 0);
            }
        }
    }
}
