//! The published distance, through covariances or through inner products of rows.
//!
//! ```text
//! l = ‖C_i − C_j‖²_F / (4 D²)
//! Γ_i = Σ_j s_ij (C_i − C_j) / (2 D²)
//! ```

use modalign_core::Scalar;
use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::covariances::{Covariances, combine_differences, squared_distances};
use crate::distance::PairDistance;
use crate::gram::Gram;
use crate::samples::{GroupPair, Samples};
use crate::{CovarianceError, Shrinkage};

/// Through which products the distance is computed. The results agree to rounding.
///
/// For M modalities of N rows and D columns, in multiply-adds, halves of symmetric products left
/// out:
///
/// ```text
///               forward         backward        work space
/// Covariance    M N D² / 2      M N D²          (M + 1) D²
/// Gram          M² N² D / 2     M² N² D         M² N² + M N D
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// Whichever costs less for the shapes at hand: about, covariances where the rows of all
    /// modalities together are more than the columns, inner products where they are fewer.
    #[default]
    Auto,
    /// The D x D covariance of every modality.
    Covariance,
    /// The inner products between the rows of all modalities.
    Gram,
}

/// What a pass over a matrix entry costs, in floating-point operations of a product: its time is
/// that of memory, not of arithmetic.
const ENTRY_COST: f64 = 16.0;

#[derive(Debug)]
pub(crate) struct Frobenius<A> {
    route: Route,
    shrinkage: Shrinkage,
    covariances: Covariances<A>,
    gram: Gram<A>,
    gram_taken: bool,
}

impl<A: Scalar> Frobenius<A> {
    pub(crate) fn new(route: Route, shrinkage: Shrinkage, members: usize) -> Self {
        Self {
            route,
            shrinkage,
            covariances: Covariances::new(shrinkage, members),
            gram: Gram::new(),
            gram_taken: false,
        }
    }

    fn takes_gram(
        &self,
        samples: &Samples<A>,
        pairs: usize,
        with_gradient: bool,
    ) -> Result<bool, CovarianceError> {
        let count = samples.count();
        let blended = (0..count).any(|member| samples.running(member).is_some());
        match self.route {
            Route::Covariance => return Ok(false),
            Route::Gram if blended => {
                let with = "a running covariance";
                return Err(CovarianceError::Incompatible {
                    setting: "the Gram route",
                    with,
                });
            }
            Route::Gram => return Ok(true),
            Route::Auto if blended || self.shrinkage != Shrinkage::None => return Ok(false),
            Route::Auto => {}
        }
        let rows: usize = (0..count).map(|member| samples.rows(member)).sum();
        let (rows, width, pairs) = (rows as f64, samples.width() as f64, pairs as f64);
        // Forward counts the half that is computed of 2 N D²; each pair reads two matrices.
        let (products, passes) = if with_gradient {
            (3.0, 4.0)
        } else {
            (1.0, 1.0)
        };
        let covariance = width * width * (products * rows + ENTRY_COST * passes * pairs);
        let gram = rows * (width * (products * rows + ENTRY_COST) + ENTRY_COST * rows);
        Ok(gram < covariance)
    }
}

impl<A: Scalar> PairDistance<A> for Frobenius<A> {
    fn distances(
        &mut self,
        samples: &Samples<A>,
        pairs: &[GroupPair],
        with_gradient: bool,
        distances: &mut [f64],
    ) -> Result<(), CovarianceError> {
        self.gram_taken = self.takes_gram(samples, pairs.len(), with_gradient)?;
        if self.gram_taken {
            return self.gram.distances(samples, pairs, distances);
        }
        self.covariances.estimate(samples)?;
        squared_distances(self.covariances.matrices(), pairs, distances);
        Ok(())
    }

    fn gradients(
        &mut self,
        samples: &Samples<A>,
        pairs: &[GroupPair],
        slopes: &[f64],
        gradients: &mut [Array2<A>],
    ) -> Result<(), CovarianceError> {
        if self.gram_taken {
            return self.gram.gradients(samples, pairs, slopes, gradients);
        }
        self.covariances
            .pull_back(samples, gradients, |matrices, member, gamma| {
                combine_differences(matrices, pairs, slopes, member, gamma)
            })
    }
}
