//! The log-Euclidean distance: Frobenius between matrix logarithms.
//!
//! ```text
//! C + ε I = V diag(λ) Vᵀ,  L = V diag(log λ) Vᵀ
//! l = ‖L_i − L_j‖²_F / (4 D²)
//! Γ = V (F ∘ (Vᵀ Q V)) Vᵀ          Q: the gradient in L
//! F_kl = (log λ_k − log λ_l) / (λ_k − λ_l),  1 / λ_k where they are equal
//! ```
//!
//! The divided differences are computed as `log1p(x) / (x λ_l)` with `x = (λ_k − λ_l) / λ_l`, which
//! has no cancellation, so that equal and nearly equal eigenvalues need no threshold.

use modalign_core::Scalar;
use modalign_linalg::SymmetricEigen;
use ndarray::Array2;

use crate::covariances::{Covariances, combine_differences, squared_distances};
use crate::distance::PairDistance;
use crate::samples::{GroupPair, Samples};
use crate::spectral::{apply, decompose, product};
use crate::{CovarianceError, Shrinkage, workspace::Workspace};

#[derive(Debug)]
pub(crate) struct LogEuclidean<A> {
    epsilon: f64,
    covariances: Covariances<A>,
    eigen: Vec<SymmetricEigen<f64>>,
    logarithms: Vec<Workspace<f64>>,
}

impl<A: Scalar> LogEuclidean<A> {
    pub(crate) fn new(epsilon: f64, shrinkage: Shrinkage, members: usize) -> Self {
        Self {
            epsilon,
            covariances: Covariances::new(shrinkage, members),
            eigen: Vec::with_capacity(members),
            logarithms: (0..members).map(|_| Workspace::default()).collect(),
        }
    }
}

impl<A: Scalar> PairDistance<A> for LogEuclidean<A> {
    fn distances(
        &mut self,
        samples: &Samples<A>,
        pairs: &[GroupPair],
        _with_gradient: bool,
        distances: &mut [f64],
    ) -> Result<(), CovarianceError> {
        self.covariances.estimate(samples)?;
        self.eigen.clear();
        let matrices = self.covariances.matrices().iter();
        for (member, (matrix, logarithm)) in matrices.zip(&mut self.logarithms).enumerate() {
            let eigen = decompose(matrix, self.epsilon, samples.modality(member))?;
            logarithm.reshape_square(samples.width())?;
            logarithm.view_mut().assign(&apply(&eigen, f64::ln)?);
            self.eigen.push(eigen);
        }
        squared_distances(&self.logarithms, pairs, distances);
        Ok(())
    }

    fn gradients(
        &mut self,
        samples: &Samples<A>,
        pairs: &[GroupPair],
        slopes: &[f64],
        gradients: &mut [Array2<A>],
    ) -> Result<(), CovarianceError> {
        let fill = |_: &[Workspace<A>], member: usize, to: &mut Workspace<A>| {
            let (eigen, mut q) = (&self.eigen[member], Workspace::default());
            combine_differences(&self.logarithms, pairs, slopes, member, &mut q)?;
            let vectors = &eigen.vectors;
            let transposed = vectors.t().to_owned();
            let mut inner = product(&transposed, &product(&q.view().to_owned(), vectors)?)?;
            for ((k, l), entry) in inner.indexed_iter_mut() {
                *entry *= divided_difference(eigen.values[k], eigen.values[l]);
            }
            let gamma = product(vectors, &product(&inner, &transposed)?)?;
            to.reshape_square(samples.width())?;
            to.view_mut()
                .zip_mut_with(&gamma, |to, &from| *to = A::from_f64(from));
            Ok(())
        };
        self.covariances.pull_back(samples, gradients, fill)
    }
}

/// `(log a − log b) / (a − b)` for positive numbers, `1 / a` where they are equal.
fn divided_difference(a: f64, b: f64) -> f64 {
    let (small, large) = (a.min(b), a.max(b));
    let x = (large - small) / small;
    if x == 0.0 {
        small.recip()
    } else {
        x.ln_1p() / (x * small)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divided_differences_are_continuous_where_eigenvalues_meet() {
        assert_eq!(divided_difference(2.0, 2.0), 0.5);
        for distance in [1e-15, 1e-12, 1e-9, 1e-6, 1e-3] {
            // log1p(x / 2) / x = 1/2 − x/8 + x²/24 − x³/64 + …
            let x: f64 = distance;
            let expected = 0.5 - x / 8.0 + x.powi(2) / 24.0 - x.powi(3) / 64.0;
            let found = divided_difference(2.0 + distance, 2.0);
            assert!((found - expected).abs() < 1e-14, "{distance}: {found}");
            assert_eq!(found, divided_difference(2.0, 2.0 + distance));
        }
        let far = divided_difference(1e8, 1e-8);
        assert!((far - 16.0 * 10.0_f64.ln() / 1e8).abs() < 1e-20);
    }
}
