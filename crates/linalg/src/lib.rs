#![doc = include_str!("../README.md")]

mod error;
mod means;
mod operand;
mod product;

pub use error::LinalgError;
pub use means::column_means;
pub use operand::Operand;
pub use product::{gemm, syrk};
