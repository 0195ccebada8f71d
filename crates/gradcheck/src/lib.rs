#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod check;
mod difference;

pub use crate::{
    check::{Agreement, GradientCheck, GradientError, check_gradient},
    difference::{DEFAULT_STEP, contract, numeric_gradient},
};
