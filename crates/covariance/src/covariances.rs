//! The covariance of every modality of a group, and the way back from a gradient in it to one in the
//! features.
//!
//! ```text
//! C = π E + α Pᵀ P / ν                  P = diag(√w) (X − 1 mᵀ)
//! dX = (2 α / ν) diag(w) (X − 1 mᵀ) Γ   for a symmetric gradient Γ in C
//! ```
//!
//! `E` is the running sum of earlier batches; without one, `π = 0` and `α = 1`.
//!
//! ```text
//! C_λ = (1 − λ) C + λ (tr C / D) I
//! ```

use modalign_core::Scalar;
use modalign_linalg::{gemm, syrk};
use ndarray::{Array2, ArrayView2};

use crate::samples::{GroupPair, Samples};
use crate::shrinkage::{Shrinkage, Shrunk};
use crate::sums::squared_distance;
use crate::{CovarianceError, workspace::Workspace};

#[derive(Debug)]
pub(crate) struct Covariances<A> {
    shrinkage: Shrinkage,
    matrices: Vec<Workspace<A>>,
    shrunk: Vec<Shrunk<A>>,
}

impl<A: Scalar> Covariances<A> {
    pub(crate) fn new(shrinkage: Shrinkage, members: usize) -> Self {
        Self {
            shrinkage,
            matrices: (0..members).map(|_| Workspace::default()).collect(),
            shrunk: (0..members).map(|_| Shrunk::new()).collect(),
        }
    }

    pub(crate) fn estimate(&mut self, samples: &Samples<A>) -> Result<(), CovarianceError> {
        let states = self.matrices.iter_mut().zip(&mut self.shrunk);
        for (member, (covariance, shrunk)) in states.enumerate() {
            estimate_covariance(samples, member, covariance)?;
            shrunk.shrink(self.shrinkage, samples, member, covariance)?;
        }
        Ok(())
    }

    /// One matrix a modality.
    pub(crate) fn matrices(&self) -> &[Workspace<A>] {
        &self.matrices
    }

    /// As [`matrices`](Self::matrices), for distances that transform them in place.
    pub(crate) fn matrices_mut(&mut self) -> &mut [Workspace<A>] {
        &mut self.matrices
    }

    /// Sets the gradient in the features of a modality from a gradient `gamma` in its estimate,
    /// which is overwritten.
    pub(crate) fn pull_back(
        &mut self,
        samples: &Samples<A>,
        member: usize,
        gamma: &mut Workspace<A>,
        gradient: &mut Array2<A>,
    ) -> Result<(), CovarianceError> {
        let shrunk = &mut self.shrunk[member];
        shrunk.pull_back(gamma);
        pull_back(samples, member, gamma.view(), gradient)?;
        shrunk.add_fourth_powers(samples, member, gradient)
    }
}

/// Sets the covariance of one modality.
pub(crate) fn estimate_covariance<A: Scalar>(
    samples: &Samples<A>,
    member: usize,
    covariance: &mut Workspace<A>,
) -> Result<(), CovarianceError> {
    covariance.reshape_square(samples.width())?;
    let mut covariance = covariance.view_mut();
    let (past, present) = match samples.running(member) {
        Some(running) => {
            let (sum, past, present) = running.blend();
            covariance.assign(sum);
            (past, present)
        }
        None => (0.0, 1.0),
    };
    let scale = A::from_f64(present / samples.divisor(member));
    let x = samples.features(member);
    let p = samples.factor(&x, member);
    syrk(scale, p.t(), A::from_f64(past), &mut covariance)?;
    Ok(())
}

/// Sets the gradient in the features of one modality from a gradient `gamma` in its covariance.
pub(crate) fn pull_back<A: Scalar>(
    samples: &Samples<A>,
    member: usize,
    gamma: ArrayView2<A>,
    gradient: &mut Array2<A>,
) -> Result<(), CovarianceError> {
    let present = samples.present(member);
    let factor = A::from_f64(2.0 * present / samples.divisor(member));
    let x = samples.features(member);
    let rows = samples.gradient_factor(&x, member);
    gemm(factor, rows, &gamma, A::zero(), gradient)?;
    Ok(())
}

/// `1 / (4 D²)`, by which a sum over all entries of a difference becomes a distance.
pub(crate) fn normalisation(width: usize) -> f64 {
    0.25 / (width as f64).powi(2)
}

/// Sets `distances[p] = ‖E_i − E_j‖²_F / (4 D²)`.
pub(crate) fn squared_distances<A: Scalar>(
    matrices: &[Workspace<A>],
    pairs: &[GroupPair],
    distances: &mut [f64],
) {
    for (pair, distance) in pairs.iter().zip(distances) {
        let (first, second) = (&matrices[pair.first], &matrices[pair.second]);
        *distance = normalisation(first.view().ncols())
            * squared_distance(first.entries(), second.entries());
    }
}

/// Sets `gamma = Σ_j s_ij (E_i − E_j) / (2 D²)`, the gradient in `E_i` of `Σ_p slopes[p] l_p`.
pub(crate) fn combine_differences<A: Scalar>(
    matrices: &[Workspace<A>],
    pairs: &[GroupPair],
    slopes: &[f64],
    member: usize,
    gamma: &mut Workspace<A>,
) -> Result<(), CovarianceError> {
    let width = matrices[member].view().ncols();
    gamma.reshape_square(width)?;
    let sums = gamma.entries_mut();
    sums.fill(A::zero());
    for (pair, &slope) in pairs.iter().zip(slopes) {
        let Some(partner) = pair.partner_of(member) else {
            continue;
        };
        let slope = A::from_f64(2.0 * normalisation(width) * slope);
        let (own, other) = (matrices[member].entries(), matrices[partner].entries());
        for (sum, (&own, &other)) in sums.iter_mut().zip(own.iter().zip(other)) {
            *sum += slope * (own - other);
        }
    }
    Ok(())
}
