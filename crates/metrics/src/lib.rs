#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod classification;
mod error;
mod metric;
mod regression;
mod report;
mod summary;

pub use crate::{
    classification::{accuracy, interval_class, rounded_class, weighted_f1},
    error::{Input, MetricsError},
    metric::{Convention, Metric},
    regression::{mean_absolute_error, pearson_correlation},
    report::{Report, evaluate},
    summary::{Summary, summarise},
};
