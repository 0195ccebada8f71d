//! The header of a `.npy` file, looked at before a parser sees it.

use std::io::{Error, ErrorKind, Read, Result};

/// The bytes of a `.npy` header, from the start of `source` to the first element, once nothing in
/// them can exhaust time, memory, stack or integers in the parser behind.
///
/// # Errors
///
/// Of the kind `InvalidData` for what is no such header or one beyond the limits of numpy, of the kind
/// `UnexpectedEof` for one that is cut off, else what reading gave.
///
/// ```
/// use modalign_core::npy_header;
///
/// let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 9), }";
/// let mut file = b"\x93NUMPY\x01\x00".to_vec();
/// file.extend((header.len() as u16).to_le_bytes());
/// file.extend(header.as_bytes());
/// assert_eq!(npy_header(&mut &file[..]).unwrap_err().to_string(), "its shape is too large");
/// assert_eq!(npy_header(&mut &file[..20]).unwrap_err().to_string(), "it ends within its header");
/// ```
pub fn npy_header(source: &mut dyn Read) -> Result<Vec<u8>> {
    // As numpy itself; a header that is longer describes records of very many fields.
    const LONGEST: usize = 10_000;
    // The parser behind tries what a bracket holds up to three times, at every level again, and takes its
    // time for each character. An array of numbers or text has two brackets, a record one more a field.
    const MOST_STEPS: usize = 100_000;
    let wrong = |what: &str| Err(Error::new(ErrorKind::InvalidData, what));

    let mut bytes = vec![0; 12];
    source.read_exact(&mut bytes[..10]).map_err(short)?;
    if !bytes.starts_with(b"\x93NUMPY") {
        return wrong("it does not start with \\x93NUMPY");
    }
    let short_length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let length = if bytes[6] == 1 {
        bytes.truncate(10);
        short_length
    } else {
        source.read_exact(&mut bytes[10..]).map_err(short)?;
        short_length + (usize::from(u16::from_le_bytes([bytes[10], bytes[11]])) << 16)
    };
    if length > LONGEST {
        return wrong("its header is longer than 10000 bytes");
    }
    let start = bytes.len();
    bytes.resize(start + length, 0);
    source.read_exact(&mut bytes[start..]).map_err(short)?;

    let text = String::from_utf8_lossy(&bytes[start..]);
    let tries = text
        .matches(['(', '[', '{'])
        .fold(1_usize, |tries, _| tries.saturating_mul(3));
    if tries.saturating_mul(text.trim_end().len()) > MOST_STEPS {
        return wrong("its header nests too deeply, or has too many fields");
    }
    // Every number of the header, whatever it belongs to, is a factor: no product can overflow.
    let numbers = text
        .split(|c: char| !c.is_ascii_digit())
        .filter(|digits| !digits.is_empty());
    let product = numbers
        .map(str::parse::<u64>)
        .try_fold(1_u64, |product, number| {
            product.checked_mul(number.ok()?.max(1))
        });
    if product.is_none() {
        return wrong("its shape is too large");
    }
    Ok(bytes)
}

fn short(error: Error) -> Error {
    match error.kind() {
        ErrorKind::UnexpectedEof => Error::new(error.kind(), "it ends within its header"),
        _ => error,
    }
}
