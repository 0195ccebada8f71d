#![doc = include_str!("../README.md")]

mod check;
mod difference;

pub use crate::{
    check::{Agreement, GradientCheck, GradientError, check_gradient},
    difference::{DEFAULT_STEP, contract, numeric_gradient},
};
