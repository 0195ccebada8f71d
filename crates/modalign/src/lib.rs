#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod prelude;
pub mod tutorial;

pub use modalign_core as core;
pub use modalign_covariance as covariance;
pub use modalign_data as data;
pub use modalign_encoders as encoders;
pub use modalign_fusion as fusion;
pub use modalign_labels as labels;
pub use modalign_linalg as linalg;
pub use modalign_metrics as metrics;
pub use modalign_nn as nn;
pub use modalign_train as train;
