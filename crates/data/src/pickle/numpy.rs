//! The few functions and classes that numpy names in a pickle, as far as they make data.

use super::machine::PickleError;
use super::value::{Content, Heap, Id, Value};
use crate::array::{Dtype, Header, Kind, Values, read_elements};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Global {
    /// `numpy.ndarray`, named but never called.
    Ndarray,
    Dtype,
    /// Makes an empty array, which a state then fills.
    Reconstruct,
    /// Makes a whole array (protocol 5).
    FromBuffer,
    /// Makes one number or text.
    Scalar,
    /// Makes bytes of text (protocol 2 and below).
    Encode,
    /// Makes empty bytes (protocol 2 and below).
    Bytes,
}

/// An array whose elements have not been decoded.
#[derive(Debug)]
pub(crate) struct StoredArray {
    pub header: Header,
    /// Bytes, or a list for arrays of objects.
    pub elements: Id,
}

/// The one door to names: whatever is not listed here does not exist.
pub(crate) fn global(module: &str, name: &str) -> Result<Global, PickleError> {
    Ok(match (module, name) {
        ("numpy", "ndarray") => Global::Ndarray,
        ("numpy", "dtype") => Global::Dtype,
        ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Global::Reconstruct,
        ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Global::Scalar,
        ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Global::FromBuffer,
        ("_codecs", "encode") => Global::Encode,
        ("__builtin__" | "builtins", "bytes") => Global::Bytes,
        _ => return Err(PickleError::Global(format!("{module}.{name}"))),
    })
}

/// A call as numpy writes it.
pub(crate) fn call(function: Global, arguments: &[Id], heap: &Heap) -> Result<Value, PickleError> {
    let (what, value) = match function {
        Global::Ndarray => ("numpy.ndarray", None),
        Global::Dtype => ("numpy.dtype", dtype(arguments, heap).map(Value::Dtype)),
        Global::Reconstruct => {
            let is_array = matches!(
                arguments,
                [class, _, _] if matches!(heap.get(*class), Value::Global(Global::Ndarray))
            );
            ("_reconstruct", is_array.then_some(Value::EmptyArray))
        }
        Global::FromBuffer => match from_buffer(arguments, heap)? {
            Some((header, elements)) => return stored(header, elements, heap),
            None => ("_frombuffer", None),
        },
        Global::Scalar => ("scalar", scalar(arguments, heap)),
        Global::Encode => {
            let text = match arguments {
                [text, encoding] if matches!(heap.text(*encoding), Some("latin1" | "latin-1")) => {
                    matches!(heap.get(*text), Value::Text(_)).then_some(*text)
                }
                _ => None,
            };
            ("_codecs.encode", text.map(Value::Encoded))
        }
        Global::Bytes => {
            let empty = Value::Bytes(Content::Here(Vec::new()));
            ("bytes", arguments.is_empty().then_some(empty))
        }
    };
    value.ok_or(PickleError::Arguments(what))
}

/// `dtype('f8', False, True)`; the byte order follows as a state.
fn dtype(arguments: &[Id], heap: &Heap) -> Option<Dtype> {
    let name = heap.text(*arguments.first()?)?;
    let (order, name) = match name.chars().next()? {
        order @ ('<' | '>' | '|' | '=') => (order, &name[1..]),
        _ => ('|', name),
    };
    let mut characters = name.chars();
    let character = characters.next()?;
    let number = characters.as_str();
    let known = if number.is_empty() {
        Some(0)
    } else {
        number.parse().ok()
    };
    Some(match known {
        Some(number) => Dtype::new(character, number, order),
        None => Dtype::Other(name.to_owned()),
    })
}

/// `_frombuffer(bytes, dtype, shape, order)`, and from numpy 2.1 the order of axes for `'K'`.
fn from_buffer(arguments: &[Id], heap: &Heap) -> Result<Option<(Header, Id)>, PickleError> {
    let Some((&[elements, dtype, shape, order], axes)) = arguments.split_first_chunk() else {
        return Ok(None);
    };
    let Value::Dtype(dtype) = heap.get(dtype) else {
        return Ok(None);
    };
    let shape = heap.extents(shape)?;
    let axes = match axes {
        [] => None,
        [axes] if matches!(heap.get(*axes), Value::None) => None,
        [axes] => match heap.extents(*axes)? {
            Some(axes) => Some(axes),
            None => return Ok(None),
        },
        _ => return Ok(None),
    };
    let dtype = dtype.clone();
    let header = match (heap.text(order), shape, axes) {
        (Some("C"), Some(shape), _) => Some(Header::c_order(dtype, shape)),
        (Some("F"), Some(shape), _) => Some(Header::fortran_order(dtype, shape)),
        (Some("K"), Some(shape), Some(axes)) => Header::transposed(dtype, shape, axes),
        _ => None,
    };
    Ok(header.map(|header| (header, elements)))
}

/// `scalar(dtype, bytes)`.
fn scalar(arguments: &[Id], heap: &Heap) -> Option<Value> {
    let &[dtype, bytes] = arguments else {
        return None;
    };
    let Value::Dtype(dtype) = heap.get(dtype) else {
        return None;
    };
    let encoded;
    let bytes = match heap.get(bytes) {
        Value::Bytes(Content::Here(bytes)) => bytes,
        Value::Encoded(text) => {
            let characters = heap.text(*text)?.chars();
            encoded = characters
                .map(|c| u8::try_from(c).ok())
                .collect::<Option<Vec<_>>>()?;
            &encoded
        }
        _ => return None,
    };
    if let Dtype::Known {
        kind: Kind::Float,
        size: 8,
        big_endian,
    } = dtype
    {
        // Kept whole, as a plain number of Python is.
        let mut number: [u8; 8] = bytes.as_slice().try_into().ok()?;
        if *big_endian {
            number.reverse();
        }
        return Some(Value::Float(f64::from_le_bytes(number)));
    }
    let header = Header::c_order(dtype.clone(), Vec::new());
    let mut rest = bytes.as_slice();
    let values = read_elements(&mut rest, &header, 1).ok()?;
    if !rest.is_empty() {
        return None;
    }
    Some(match values {
        Values::Floats(value) => Value::Float(value.first().copied()?.into()),
        Values::Ints(value) => Value::Int(value.first().copied()?),
        Values::Texts(value) => Value::Text(Content::Here(value.first()?.clone().into_bytes())),
    })
}

/// The value that `target` becomes by its state.
pub(crate) fn build(target: Id, state: Id, heap: &Heap) -> Result<Value, PickleError> {
    let Value::Tuple(state) = heap.get(state) else {
        return Err(PickleError::Arguments("a state"));
    };
    match heap.get(target) {
        Value::Dtype(dtype) => dtype_with_state(dtype, state, heap)
            .map(Value::Dtype)
            .ok_or(PickleError::Arguments("the state of a dtype")),
        Value::EmptyArray => match array_state(state, heap)? {
            Some((header, elements)) => stored(header, elements, heap),
            None => Err(PickleError::Arguments("the state of an array")),
        },
        _ => Err(PickleError::Arguments("a state")),
    }
}

/// `(version, byte order, subtype, field names, fields, ...)`.
fn dtype_with_state(dtype: &Dtype, state: &[Id], heap: &Heap) -> Option<Dtype> {
    let (&[_, order, subtype, names, _], _) = state.split_first_chunk()?;
    let is_plain = |id| matches!(heap.get(id), Value::None);
    if !is_plain(subtype) || !is_plain(names) {
        return Some(Dtype::Other("record".to_owned()));
    }
    let order = heap.text(order)?;
    Some(match dtype {
        Dtype::Known { kind, size, .. } => Dtype::Known {
            kind: *kind,
            size: *size,
            big_endian: order == ">",
        },
        Dtype::Other(name) => Dtype::Other(name.clone()),
    })
}

/// `(version, shape, dtype, is Fortran order, bytes or list)`.
fn array_state(state: &[Id], heap: &Heap) -> Result<Option<(Header, Id)>, PickleError> {
    let &[_, shape, dtype, fortran, elements] = state else {
        return Ok(None);
    };
    let Value::Dtype(dtype) = heap.get(dtype) else {
        return Ok(None);
    };
    let Some(shape) = heap.extents(shape)? else {
        return Ok(None);
    };
    let header = match heap.get(fortran) {
        Value::Bool(false) | Value::Int(0) => Header::c_order(dtype.clone(), shape),
        Value::Bool(true) | Value::Int(1) => Header::fortran_order(dtype.clone(), shape),
        _ => return Ok(None),
    };
    Ok(Some((header, elements)))
}

/// Compares what is stored with what the shape needs.
fn stored(header: Header, elements: Id, heap: &Heap) -> Result<Value, PickleError> {
    let (found, unit) = match (heap.get(elements), &header.dtype) {
        (
            Value::List(items),
            Dtype::Known {
                kind: Kind::Object, ..
            },
        ) => (items.len() as u64, 1),
        (Value::Bytes(content), Dtype::Known { size, .. }) if *size > 0 => {
            (content.len(), *size as u64)
        }
        // The length is known once it is decoded.
        (Value::Encoded(_), Dtype::Known { size, .. }) if *size > 0 => {
            return Ok(Value::Array(StoredArray { header, elements }));
        }
        // Such an array can be in the file, but not be read.
        (Value::Bytes(_) | Value::Encoded(_) | Value::List(_), Dtype::Other(_)) => {
            return Ok(Value::Array(StoredArray { header, elements }));
        }
        _ => return Err(PickleError::Arguments("an array")),
    };
    let needed = header
        .count()
        .and_then(|count| (count as u64).checked_mul(unit));
    if needed != Some(found) {
        return Err(PickleError::Size {
            shape: header.shape.clone(),
            dtype: header.dtype.to_string(),
            bytes: found,
        });
    }
    Ok(Value::Array(StoredArray { header, elements }))
}
