#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod npy;
mod parameters;
mod scalar;
mod seed;
mod shape;
mod store;
mod write;

pub use crate::{
    npy::npy_header,
    parameters::{Parameters, Path},
    scalar::{Element, Scalar},
    seed::{Stream, rng},
    shape::{ShapeError, assign, check_shape, resize},
    store::{Store, StoreError},
    write::{PARTIAL, write_atomically},
};

#[doc(hidden)]
pub use ndarray;

/// The random number generator of every modalign crate: ChaCha with 8 rounds, whose output for a
/// seed is fixed across platforms and versions.
pub use rand_chacha::ChaCha8Rng;
