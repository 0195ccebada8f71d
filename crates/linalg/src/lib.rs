#![doc = include_str!("../README.md")]
#![warn(clippy::undocumented_unsafe_blocks)]

#[cfg(feature = "blas")]
#[allow(unsafe_code)]
mod blas;
#[cfg(any(feature = "eigh", feature = "blas"))]
mod eigen;
mod error;
#[allow(unsafe_code)]
mod kernel;
#[allow(unsafe_code)]
mod lanes;
#[allow(unsafe_code)]
mod means;
#[allow(unsafe_code)]
mod multiply;
mod operand;
mod product;
mod scatter;
mod simd;
#[cfg(test)]
mod tests;
mod threads;
#[allow(unsafe_code)]
mod typed;
mod workspace;

#[cfg(any(feature = "eigh", feature = "blas"))]
pub use eigen::{SymmetricEigen, eigh};
pub use error::LinalgError;
pub use means::column_means;
pub use operand::Operand;
pub use product::{gemm, syrk};
pub use scatter::scatter;
pub use simd::vectorized;
pub use threads::{on_one_thread, products_side_by_side};
