#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod concatenation;
mod error;

pub use crate::{
    concatenation::{Concatenation, ConcatenationCache},
    error::FusionError,
};
