//! The number types that everything mathematical is generic over.

use std::fmt::{Debug, Display};
use std::iter::Sum;

use ndarray::{LinalgScalar, ScalarOperand};
use num_traits::{Float, NumAssign};
use safetensors::Dtype;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A number that a [`Store`](crate::Store) can hold, little-endian.
pub trait Element: Copy + Send + Sync + 'static {
    /// The safetensors element type.
    const DTYPE: Dtype;
    /// Appends the little-endian bytes.
    fn write(self, bytes: &mut Vec<u8>);
    /// Reads one number from exactly `size_of::<Self>()` little-endian bytes.
    fn read(bytes: &[u8]) -> Self;
}

macro_rules! element {
    ($($number:ty => $dtype:ident),*) => {$(
        impl Element for $number {
            const DTYPE: Dtype = Dtype::$dtype;

            fn write(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }

            fn read(bytes: &[u8]) -> Self {
                let mut buffer = [0; size_of::<$number>()];
                buffer.copy_from_slice(bytes);
                Self::from_le_bytes(buffer)
            }
        }
    )*};
}

element!(f32 => F32, f64 => F64, i64 => I64, u64 => U64);

/// A real number: `f32` for training, `f64` for gradient checks.
///
/// ```
/// use modalign_core::Scalar;
///
/// fn half<A: Scalar>(x: A) -> A {
///     x * A::from_f64(0.5)
/// }
/// assert_eq!(half(3.0_f32), 1.5);
/// assert_eq!(half(3.0_f64).as_f64(), 1.5);
/// ```
pub trait Scalar:
    Element
    + Float
    + NumAssign
    + LinalgScalar
    + ScalarOperand
    + Sum<Self>
    + Default
    + Debug
    + Display
    + Serialize
    + DeserializeOwned
{
    /// Rounds a constant to this type.
    fn from_f64(value: f64) -> Self;
    /// Widens, exactly.
    fn as_f64(self) -> f64;
}

impl Scalar for f32 {
    fn from_f64(value: f64) -> Self {
        value as f32
    }

    fn as_f64(self) -> f64 {
        f64::from(self)
    }
}

impl Scalar for f64 {
    fn from_f64(value: f64) -> Self {
        value
    }

    fn as_f64(self) -> f64 {
        self
    }
}
