#![doc = include_str!("../README.md")]

mod array;
mod batch;
mod dataset;
mod error;
mod file_sequences;
mod generated;
mod npz;
mod pickle;
mod read;
mod report;
mod source;
mod standardizer;

pub use crate::{
    batch::{Batch, epoch_order, folds},
    dataset::{Dataset, Sequences, Split},
    error::{ArrayError, DataError},
    file_sequences::FileSequences,
    generated::{Factors, Generated, GeneratedConfig, GeneratedModality, generate},
    npz::write_npz,
    pickle::PickleError,
    read::{NonFinite, ReadOptions, read},
    report::{
        FeatureReport, Format, LabelReport, LengthSource, ReadReport, SplitReport, TokenReport,
    },
    standardizer::Standardizer,
};
