//! What a file of either format gives to the assembly.

use indexmap::IndexMap;

use crate::array::{FloatFormat, Header, Values};
use crate::error::ArrayError;

pub(crate) const SPLITS: [&str; 3] = ["train", "valid", "test"];

/// The arrays of each split by their keys, in the order of the file. Other splits than the three
/// may be listed without their arrays.
pub(crate) type Headers = IndexMap<String, IndexMap<String, Header>>;

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
