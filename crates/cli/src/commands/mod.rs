//! One file a command.

pub mod ablate;
pub mod config;
pub mod convert;
pub mod evaluate;
pub mod inspect;
pub mod predict;
pub mod train;
