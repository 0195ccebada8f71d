//! What a fusion refuses.

use modalign_core::ShapeError;
use thiserror::Error;

/// Why representations could not be fused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FusionError {
    /// There is nothing to fuse.
    #[error("fusion: at least one representation is needed")]
    Empty,
    /// An array has the wrong shape.
    #[error(transparent)]
    Shape(#[from] ShapeError),
}
