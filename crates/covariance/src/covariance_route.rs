//! The Frobenius distance and its gradient through D x D covariances, for more rows than columns.
//!
//! ```text
//! C_i = (X_i − 1 m_iᵀ)ᵀ (X_i − 1 m_iᵀ) / ν_i                ν_i = N_i − ddof
//! q_ij = ‖C_i − C_j‖²_F
//! d(Σ s_ij q_ij)/dX_i = (4 / ν_i) (X_i − 1 m_iᵀ) Σ_j s_ij (C_i − C_j)
//! ```
//!
//! One symmetric product a modality forward and one product a modality backward, whatever the number
//! of pairs.

use modalign_core::Scalar;
use modalign_linalg::{gemm, syrk};
use ndarray::Array2;

use crate::samples::{GroupPair, Samples};
use crate::sums::squared_distance;
use crate::{CovarianceError, workspace::Workspace};

#[derive(Debug, Clone)]
pub(crate) struct CovarianceRoute<A> {
    covariances: Vec<Workspace<A>>,
    /// `Σ_j s_ij (C_i − C_j)` of the modality at hand.
    combined: Workspace<A>,
}

impl<A: Scalar> CovarianceRoute<A> {
    pub(crate) fn new(modalities: usize) -> Self {
        Self {
            covariances: vec![Workspace::default(); modalities],
            combined: Workspace::default(),
        }
    }

    /// Sets `distances[p] = q` for every pair `p`.
    pub(crate) fn distances(
        &mut self,
        samples: &Samples<A>,
        pairs: &[GroupPair],
        distances: &mut [f64],
    ) -> Result<(), CovarianceError> {
        for (member, covariance) in self.covariances.iter_mut().enumerate() {
            covariance.reshape_square(samples.width())?;
            let scale = A::from_f64(1.0 / samples.divisors[member]);
            syrk(
                scale,
                samples.centered(member).t(),
                A::zero(),
                &mut covariance.view_mut(),
            )?;
        }
        for (pair, distance) in pairs.iter().zip(distances) {
            *distance = squared_distance(
                self.covariances[pair.first].entries(),
                self.covariances[pair.second].entries(),
            );
        }
        Ok(())
    }

    /// Sets the gradient of `Σ_p slopes[p] q_p` for every modality, after
    /// [`distances`](Self::distances) of the same samples.
    pub(crate) fn gradients(
        &mut self,
        samples: &Samples<A>,
        pairs: &[GroupPair],
        slopes: &[f64],
        gradients: &mut [Array2<A>],
    ) -> Result<(), CovarianceError> {
        self.combined.reshape_square(samples.width())?;
        for member in 0..samples.count() {
            let combined = self.combined.entries_mut();
            combined.fill(A::zero());
            let own = self.covariances[member].entries();
            for (pair, &slope) in pairs.iter().zip(slopes) {
                let Some(partner) = pair.partner_of(member) else {
                    continue;
                };
                let slope = A::from_f64(slope);
                let other = self.covariances[partner].entries();
                for (sum, (&own, &other)) in combined.iter_mut().zip(own.iter().zip(other)) {
                    *sum += slope * (own - other);
                }
            }
            let factor = A::from_f64(4.0 / samples.divisors[member]);
            let gradient = &mut gradients[samples.members[member]];
            let centered = samples.centered(member);
            gemm(factor, centered, &self.combined.view(), A::zero(), gradient)?;
        }
        Ok(())
    }
}
