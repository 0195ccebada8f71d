#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod config;
mod error;
mod generator;
mod space;
mod state;

pub use crate::{
    config::{Distance, LabelGeneratorConfig, Momentum, Offset},
    error::LabelError,
    generator::{LabelGenerator, UpdateReport},
    space::Class,
    state::LabelState,
};
