#![doc = include_str!("../README.md")]

mod covariance;
mod covariance_route;
mod decorrelation;
mod error;
mod gram_route;
mod samples;
mod separation;
mod shared_information;
mod sums;
mod weights;
mod workspace;

pub use crate::{
    covariance::covariance,
    decorrelation::off_diagonal_penalty,
    error::CovarianceError,
    separation::Separation,
    shared_information::{
        PairValue, Route, SharedInformation, SharedInformationConfig, Value, coral,
    },
    weights::PairWeights,
    workspace::MAX_SIDE,
};
