//! The values that a pickle builds.

use super::machine::PickleError;
use super::numpy::{Global, StoredArray};
use crate::array::Dtype;

/// A value's place in the [`Heap`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Id(u32);

/// All values of a pickle. They refer to each other by place, so that shared and circular
/// references cost nothing and no depth of nesting can exhaust the stack.
#[derive(Debug, Default)]
pub(crate) struct Heap {
    values: Vec<Value>,
    weight: usize,
}

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

impl Value {
    /// 1, and more for what one instruction can copy from values that are there already. Lists and
    /// dictionaries only refer.
    fn weight(&self) -> usize {
        /// About the size of a value.
        const UNIT: usize = 64;
        let bytes = match self {
            Self::Text(Content::Here(bytes)) | Self::Bytes(Content::Here(bytes)) => bytes.len(),
            Self::Dtype(Dtype::Other(name)) => name.len(),
            Self::Array(array) => array.header.bytes(),
            _ => 0,
        };
        1 + bytes / UNIT
    }
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
    /// The number of values, where one that holds much counts as several.
    pub fn weight(&self) -> usize {
        self.weight
    }

    pub fn add(&mut self, value: Value) -> Id {
        // The machine stops long before there are `u32::MAX` values.
        let id = Id(self.values.len() as u32);
        self.weight += value.weight();
        self.values.push(value);
        id
    }

    pub fn get(&self, id: Id) -> &Value {
        &self.values[id.0 as usize]
    }

    pub fn get_mut(&mut self, id: Id) -> &mut Value {
        &mut self.values[id.0 as usize]
    }

    /// Puts another value in the place of one.
    pub fn replace(&mut self, id: Id, value: Value) {
        self.weight += value.weight();
        *self.get_mut(id) = value;
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
    pub fn extents(&self, id: Id) -> Result<Option<Vec<usize>>, PickleError> {
        /// As numpy has.
        const MOST_AXES: usize = 64;
        let extent = |id: Id| match self.get(id) {
            Value::Int(extent) => usize::try_from(*extent).ok(),
            _ => None,
        };
        Ok(match self.get(id) {
            Value::Tuple(items) if items.len() > MOST_AXES => {
                return Err(PickleError::Axes {
                    limit: MOST_AXES,
                    found: items.len(),
                });
            }
            Value::Tuple(items) => items.iter().map(|&id| extent(id)).collect(),
            _ => extent(id).map(|extent| vec![extent]),
        })
    }
}
