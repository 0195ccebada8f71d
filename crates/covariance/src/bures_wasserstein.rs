//! The Bures-Wasserstein distance: what it costs to move one centred Gaussian onto the other.
//!
//! ```text
//! A = C_i + ε I,  B = C_j + ε I,  M = (A^½ B A^½)^½
//! l = (tr A + tr B − 2 tr M) / D
//! Γ_A = (I − A^−½ M A^−½) / D        Γ_B = (I − A^½ M^−1 A^½) / D
//! ```
//!
//! `A^−½ M A^−½` is the linear map that carries A onto B; `A^½ M^−1 A^½` is its inverse. Only
//! functions of eigenvalues of at least ε appear, no differences between them, so equal eigenvalues
//! are no special case.

use modalign_core::Scalar;
use modalign_linalg::SymmetricEigen;
use ndarray::Array2;

use crate::covariances::Covariances;
use crate::distance::PairDistance;
use crate::samples::{GroupPair, Samples};
use crate::spectral::{apply, decompose, product};
use crate::{CovarianceError, Shrinkage, workspace::Workspace};

#[derive(Debug)]
pub(crate) struct BuresWasserstein<A> {
    epsilon: f64,
    covariances: Covariances<A>,
    eigen: Vec<SymmetricEigen<f64>>,
    /// `I − A^−½ M A^−½` and `I − A^½ M^−1 A^½` of each pair.
    gammas: Vec<[Array2<f64>; 2]>,
}

impl<A: Scalar> BuresWasserstein<A> {
    pub(crate) fn new(epsilon: f64, shrinkage: Shrinkage, members: usize) -> Self {
        Self {
            epsilon,
            covariances: Covariances::new(shrinkage, members),
            eigen: Vec::with_capacity(members),
            gammas: Vec::new(),
        }
    }

    /// The squared distance of a pair, and its gradients if they are asked for.
    fn pair(&mut self, pair: GroupPair, with_gradient: bool) -> Result<f64, CovarianceError> {
        let (a, b) = (&self.eigen[pair.first], &self.eigen[pair.second]);
        let root = apply(a, f64::sqrt)?;
        let inner = product(&product(&root, &apply(b, |value| value)?)?, &root)?;
        let width = inner.nrows();
        let mut squared = modalign_linalg::eigh(&inner)?;
        // Both factors have no eigenvalue below ε.
        let least = self.epsilon * self.epsilon;
        squared.values.mapv_inplace(|value| value.max(least));
        let middle: f64 = squared.values.iter().map(|value| value.sqrt()).sum();
        if with_gradient {
            let inverse_root = apply(a, |value| value.sqrt().recip())?;
            let m = apply(&squared, f64::sqrt)?;
            let inverse_m = apply(&squared, |value| value.sqrt().recip())?;
            let there = product(&product(&inverse_root, &m)?, &inverse_root)?;
            let back = product(&product(&root, &inverse_m)?, &root)?;
            self.gammas
                .push([Array2::eye(width) - there, Array2::eye(width) - back]);
        }
        Ok((a.values.sum() + b.values.sum() - 2.0 * middle).max(0.0))
    }
}

impl<A: Scalar> PairDistance<A> for BuresWasserstein<A> {
    fn distances(
        &mut self,
        samples: &Samples<A>,
        pairs: &[GroupPair],
        with_gradient: bool,
        distances: &mut [f64],
    ) -> Result<(), CovarianceError> {
        self.covariances.estimate(samples)?;
        self.eigen.clear();
        for (member, matrix) in self.covariances.matrices().iter().enumerate() {
            self.eigen
                .push(decompose(matrix, self.epsilon, samples.modality(member))?);
        }
        self.gammas.clear();
        for (&pair, distance) in pairs.iter().zip(distances) {
            *distance = self.pair(pair, with_gradient)? / samples.width() as f64;
        }
        Ok(())
    }

    fn gradients(
        &mut self,
        samples: &Samples<A>,
        pairs: &[GroupPair],
        slopes: &[f64],
        gradients: &mut [Array2<A>],
    ) -> Result<(), CovarianceError> {
        let width = samples.width();
        let all_gammas = &self.gammas;
        let fill = |_: &[Workspace<A>], member: usize, to: &mut Workspace<A>| {
            let mut sum = Array2::zeros((width, width));
            for ((pair, &slope), gammas) in pairs.iter().zip(slopes).zip(all_gammas) {
                let factor = slope / width as f64;
                if pair.first == member {
                    sum.scaled_add(factor, &gammas[0]);
                } else if pair.second == member {
                    sum.scaled_add(factor, &gammas[1]);
                }
            }
            to.reshape_square(width)?;
            to.view_mut()
                .zip_mut_with(&sum, |to, &from| *to = A::from_f64(from));
            Ok(())
        };
        self.covariances.pull_back(samples, gradients, fill)
    }
}
