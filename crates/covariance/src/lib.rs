#![doc = include_str!("../README.md")]

mod batch;
#[cfg(feature = "eigh")]
mod bures_wasserstein;
mod correlation;
mod covariance;
mod covariances;
mod cross;
mod cross_covariance;
mod decorrelation;
mod distance;
mod error;
mod frobenius;
mod gram;
#[cfg(feature = "eigh")]
mod log_euclidean;
#[cfg(feature = "npy")]
mod npy;
mod redundancy;
mod running;
mod samples;
mod separation;
mod shared_information;
mod shrinkage;
#[cfg(feature = "eigh")]
mod spectral;
mod streaming;
mod sums;
mod variance_floor;
mod weights;
mod workspace;

pub use crate::{
    batch::Batch,
    covariance::covariance,
    decorrelation::off_diagonal_penalty,
    distance::Distance,
    error::CovarianceError,
    frobenius::Route,
    running::RunningCovariance,
    separation::Separation,
    shared_information::{PairValue, SharedInformation, SharedInformationConfig, Value, coral},
    shrinkage::Shrinkage,
    streaming::StreamingMoments,
    variance_floor::VarianceFloor,
    weights::PairWeights,
    workspace::MAX_SIDE,
};
