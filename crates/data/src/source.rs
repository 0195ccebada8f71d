//! What a file of either format gives to the assembly.

use indexmap::IndexMap;

use crate::array::{FloatFormat, Header, Values};
use crate::error::ArrayError;

pub(crate) const SPLITS: [&str; 3] = ["train", "valid", "test"];

/// The arrays of each split by their keys, in the order of the file. Other splits than the three
/// may be listed without their arrays.
pub(crate) type Headers = IndexMap<String, IndexMap<String, Header>>;

/// The memory that the arrays of a file may take: some times the size of the file, and a little in
/// any case. Compression, references and small elements let a file ask for far more than it holds.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    left: u64,
}

impl Budget {
    /// Granted to a file of any size, in bytes.
    const LEAST: u64 = 16 << 20;

    pub fn new(file_size: u64, times: u64) -> Self {
        let limit = file_size.saturating_mul(times).max(Self::LEAST);
        Self { limit, left: limit }
    }

    /// Accounts for memory before it is taken.
    pub fn take(&mut self, bytes: u64) -> Result<(), ArrayError> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(ArrayError::TooMuch {
                limit: self.limit,
                found: (self.limit - self.left).saturating_add(bytes),
            }),
        }
    }
}

pub(crate) trait Source {
    fn headers(&self) -> &Headers;

    /// What is in the file outside any split.
    fn strays(&self) -> &[String];

    /// Reads one array whose header is among [`headers`](Self::headers).
    fn read(&mut self, split: &str, key: &str, header: &Header) -> Result<Values, ArrayError>;

    /// Where in the file the elements of such an array start, if they lie there one after the other
    /// as they are.
    fn locate(
        &mut self,
        split: &str,
        key: &str,
        header: &Header,
    ) -> Result<Option<(u64, FloatFormat)>, ArrayError>;
}
