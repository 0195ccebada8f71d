//! The values that a pickle builds.

use super::numpy::{Global, StoredArray};
use crate::array::Dtype;

/// A value's place in the [`Heap`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Id(u32);

/// All values of a pickle. They refer to each other by place, so that shared and circular
/// references cost nothing and no depth of nesting can exhaust the stack.
#[derive(Debug, Default)]
pub(crate) struct Heap(Vec<Value>);

#[derive(Debug)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// An integer that does not fit: kept as a place in a list, of no further use.
    LargeInt,
    Float(f64),
    /// UTF-8 by declaration, checked when it is used.
    Text(Content),
    Bytes(Content),
    /// Bytes in the disguise of text, one character a byte: how protocol 2 stores bytes.
    Encoded(Id),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Dtype(Dtype),
    /// An array that has not got its content yet.
    EmptyArray,
    Array(StoredArray),
}

#[derive(Debug)]
pub(crate) enum Content {
    Here(Vec<u8>),
    /// Left in the file.
    InFile {
        start: u64,
        length: u64,
    },
}

impl Content {
    pub fn len(&self) -> u64 {
        match self {
            Self::Here(bytes) => bytes.len() as u64,
            Self::InFile { length, .. } => *length,
        }
    }
}

impl Heap {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn add(&mut self, value: Value) -> Id {
        // The machine stops long before there are `u32::MAX` values.
        let id = Id(self.0.len() as u32);
        self.0.push(value);
        id
    }

    pub fn get(&self, id: Id) -> &Value {
        &self.0[id.0 as usize]
    }

    pub fn get_mut(&mut self, id: Id) -> &mut Value {
        &mut self.0[id.0 as usize]
    }

    /// A short text. Python 2 wrote names as bytes.
    pub fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Value::Text(Content::Here(bytes)) | Value::Bytes(Content::Here(bytes)) => {
                str::from_utf8(bytes).ok()
            }
            _ => None,
        }
    }

    pub fn items(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Value::List(items) | Value::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// A tuple of extents or axes; an extent alone stands for a tuple of one.
    pub fn extents(&self, id: Id) -> Option<Vec<usize>> {
        let extent = |id: Id| match self.get(id) {
            Value::Int(extent) => usize::try_from(*extent).ok(),
            _ => None,
        };
        match self.get(id) {
            Value::Tuple(items) => items.iter().map(|&id| extent(id)).collect(),
            _ => Some(vec![extent(id)?]),
        }
    }
}
