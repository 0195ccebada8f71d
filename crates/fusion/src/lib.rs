#![doc = include_str!("../README.md")]

mod concatenation;
mod error;

pub use crate::{
    concatenation::{Concatenation, ConcatenationCache},
    error::FusionError,
};
