//! The family of distances between the modalities of a pair.

use std::fmt::Debug;

use modalign_core::Scalar;
use ndarray::Array2;
use serde::{Deserialize, Serialize};

#[cfg(feature = "eigh")]
use crate::bures_wasserstein::BuresWasserstein;
use crate::correlation::Correlation;
use crate::cross_covariance::CrossCovariance;
use crate::frobenius::Frobenius;
#[cfg(feature = "eigh")]
use crate::log_euclidean::LogEuclidean;
use crate::redundancy::RedundancyReduction;
use crate::samples::{GroupPair, Samples};
use crate::{CovarianceError, Route, Shrinkage};

/// How far apart two modalities are: the `l_ij` of [`SharedInformation`](crate::SharedInformation).
///
/// In TOML: `distance = { kind = "correlation", epsilon = 1e-6 }`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Distance {
    /// The published form, and the default.
    ///
    /// ```text
    /// l = ‖C_i − C_j‖²_F / (4 D²)
    /// ```
    ///
    /// It is of degree four in the features, so it can be lowered by shrinking them.
    ///
    /// Reference: Baochen Sun, Kate Saenko, "Deep CORAL: Correlation Alignment for Deep Domain
    /// Adaptation", 2016.
    Frobenius {
        /// How it is computed.
        #[serde(default)]
        route: Route,
    },
    /// The same between correlations, which do not change with the scale of any feature.
    ///
    /// ```text
    /// R_kl = C_kl / √((C_kk + ε)(C_ll + ε))
    /// l = ‖R_i − R_j‖²_F / (4 D²)
    /// ```
    ///
    /// Scale is free as long as variances are far above ε; below it a feature counts as constant.
    Correlation {
        /// ε, added to every variance, above 0.
        #[serde(default = "default_epsilon")]
        epsilon: f64,
    },
    /// Between matrix logarithms, so that a variance of 0.01 against 0.02 counts as much as 1
    /// against 2.
    ///
    /// ```text
    /// l = ‖log(C_i + ε I) − log(C_j + ε I)‖²_F / (4 D²)
    /// ```
    ///
    /// A common scale of both modalities cancels; a scale of one of them does not. It takes an
    /// eigendecomposition a modality, O(D³), in `f64`. Directions without variance sit at `log ε`, so
    /// with fewer rows than columns ε or shrinkage decides what they weigh: use shrinkage.
    ///
    /// References: Vincent Arsigny, Pierre Fillard, Xavier Pennec, Nicholas Ayache, "Log-Euclidean
    /// Metrics for Fast and Simple Calculus on Diffusion Tensors", 2006 (the metric); Yifei Wang, Wen
    /// Li, Dengxin Dai, Luc Van Gool, "Deep Domain Adaptation by Geodesic Distance Minimization",
    /// 2017 (as a loss); Ju. L. Daleckii, S. G. Krein, "Integration and Differentiation of Functions
    /// of Hermitian Operators and Applications to the Theory of Perturbations", 1965 (the gradient).
    ///
    /// With the feature `eigh`.
    #[cfg(feature = "eigh")]
    LogEuclidean {
        /// ε, added to every eigenvalue, above 0.
        #[serde(default = "default_epsilon")]
        epsilon: f64,
    },
    /// The squared 2-Wasserstein distance between the centred Gaussians with these covariances.
    ///
    /// ```text
    /// A = C_i + ε I,  B = C_j + ε I
    /// l = (tr A + tr B − 2 tr (A^½ B A^½)^½) / D
    /// ```
    ///
    /// Of degree two in the features. It stays smooth and moderate where variances vanish. It takes
    /// an eigendecomposition a modality and one a pair, O(D³), in `f64`. The value is a difference of
    /// traces: its absolute error is about 1e-15 times their sum, so very close covariances have a
    /// distance of rounding size.
    ///
    /// Reference: Rajendra Bhatia, Tanvi Jain, Yongdo Lim, "On the Bures-Wasserstein Distance Between
    /// Positive Definite Matrices", 2019.
    ///
    /// With the feature `eigh`.
    #[cfg(feature = "eigh")]
    BuresWasserstein {
        /// ε, added to every eigenvalue, above 0.
        #[serde(default = "default_epsilon")]
        epsilon: f64,
    },
    /// Not a distance but a dependence: zero when no feature of one modality is correlated with one
    /// of the other. With a positive weight it makes them orthogonal, such as the shared and the
    /// private part of one modality.
    ///
    /// ```text
    /// l = ‖C_ij‖²_F / (D_i D_j)         C_ij = Σ_n (x_n − m_x)(y_n − m_y)ᵀ / (N − ddof)
    /// ```
    ///
    /// Row n of both modalities must be the same sample; a row missing in one counts for neither.
    /// The widths may differ. It is of degree four in the features, so it can be lowered by shrinking
    /// them.
    ///
    /// Reference: Konstantinos Bousmalis, George Trigeorgis, Nathan Silberman, Dilip Krishnan,
    /// Dumitru Erhan, "Domain Separation Networks", 2016 (the difference loss, without centring).
    CrossCovariance {},
    /// Feature k of one modality is to say the same as feature k of the other, and nothing that
    /// another feature says.
    ///
    /// ```text
    /// R_kl = C_ij,kl / √((Var x_k + ε)(Var y_l + ε))
    /// l = (1/D) [ Σ_k (1 − R_kk)² + off_diagonal Σ_{k≠l} R_kl² ]
    /// ```
    ///
    /// Row n of both modalities must be the same sample; a row missing in one counts for neither.
    ///
    /// Reference: Jure Zbontar, Li Jing, Ishan Misra, Yann LeCun, Stéphane Deny, "Barlow Twins:
    /// Self-Supervised Learning via Redundancy Reduction", 2021 (there without ε and the division
    /// by D).
    RedundancyReduction {
        /// The weight of a pair of different features, at least 0.
        #[serde(default = "default_off_diagonal")]
        off_diagonal: f64,
        /// ε, added to every variance, above 0.
        #[serde(default = "default_epsilon")]
        epsilon: f64,
    },
}

fn default_off_diagonal() -> f64 {
    5e-3
}

fn default_epsilon() -> f64 {
    1e-6
}

impl Default for Distance {
    fn default() -> Self {
        Self::Frobenius { route: Route::Auto }
    }
}

impl Distance {
    /// Checks the ranges of the fields.
    ///
    /// # Errors
    ///
    /// [`CovarianceError::Config`] unless ε is positive and weights are not negative.
    pub fn validate(&self) -> Result<(), CovarianceError> {
        match *self {
            Self::Frobenius { .. } | Self::CrossCovariance {} => Ok(()),
            Self::Correlation { epsilon } => positive("distance.epsilon", epsilon),
            #[cfg(feature = "eigh")]
            Self::LogEuclidean { epsilon } | Self::BuresWasserstein { epsilon } => {
                positive("distance.epsilon", epsilon)
            }
            Self::RedundancyReduction {
                off_diagonal,
                epsilon,
            } => {
                if !(off_diagonal >= 0.0 && off_diagonal.is_finite()) {
                    return Err(CovarianceError::Config {
                        field: "distance.off_diagonal",
                        expected: "0 or above",
                        found: off_diagonal,
                    });
                }
                positive("distance.epsilon", epsilon)
            }
        }
    }

    /// Whether the modalities of a pair must have one width.
    pub(crate) fn needs_one_width(&self) -> bool {
        !matches!(self, Self::CrossCovariance {})
    }

    pub(crate) fn build<A: Scalar>(
        self,
        shrinkage: Shrinkage,
        members: usize,
        pairs: usize,
    ) -> Box<dyn PairDistance<A>> {
        match self {
            Self::Frobenius { route } => Box::new(Frobenius::new(route, shrinkage, members)),
            Self::Correlation { epsilon } => {
                Box::new(Correlation::new(epsilon, shrinkage, members))
            }
            #[cfg(feature = "eigh")]
            Self::LogEuclidean { epsilon } => {
                Box::new(LogEuclidean::new(epsilon, shrinkage, members))
            }
            #[cfg(feature = "eigh")]
            Self::BuresWasserstein { epsilon } => {
                Box::new(BuresWasserstein::new(epsilon, shrinkage, members))
            }
            Self::CrossCovariance {} => Box::new(CrossCovariance::new(pairs)),
            Self::RedundancyReduction {
                off_diagonal,
                epsilon,
            } => Box::new(RedundancyReduction::new(off_diagonal, epsilon, pairs)),
        }
    }
}

/// Refuses a setting that is not a positive number.
pub(crate) fn positive(field: &'static str, found: f64) -> Result<(), CovarianceError> {
    if found > 0.0 && found.is_finite() {
        return Ok(());
    }
    Err(CovarianceError::Config {
        field,
        expected: "a positive number",
        found,
    })
}

/// A distance with its work space, for the modalities of one group.
pub(crate) trait PairDistance<A>: Debug + Send {
    /// Sets `distances[p] = l` for every pair `p`. Whether gradients will be asked for may decide
    /// how.
    fn distances(
        &mut self,
        samples: &Samples<A>,
        pairs: &[GroupPair],
        with_gradient: bool,
        distances: &mut [f64],
    ) -> Result<(), CovarianceError>;

    /// Sets the gradient of `Σ_p slopes[p] l_p` in the features of every modality of the group,
    /// after [`distances`](Self::distances) of the same samples.
    fn gradients(
        &mut self,
        samples: &Samples<A>,
        pairs: &[GroupPair],
        slopes: &[f64],
        gradients: &mut [Array2<A>],
    ) -> Result<(), CovarianceError>;
}
