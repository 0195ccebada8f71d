//! The distance between correlations: scale-free.
//!
//! ```text
//! s_k = (C_kk + ε)^(−1/2)
//! R = diag(s) C diag(s)
//! l = ‖R_i − R_j‖²_F / (4 D²)
//! Γ_kl = s_k s_l Q_kl − [k = l] s_k² Σ_m Q_km R_km        Q: the gradient in R
//! ```
//!
//! The second term is the way through `s`: `ds_k/dC_kk = −s_k³ / 2`.

use modalign_core::Scalar;
use ndarray::Array2;

use crate::covariances::{Covariances, combine_differences, squared_distances};
use crate::distance::PairDistance;
use crate::samples::{GroupPair, Samples};
use crate::{CovarianceError, Shrinkage, workspace::Workspace};

#[derive(Debug)]
pub(crate) struct Correlation<A> {
    epsilon: A,
    /// Correlations, once they are normalised.
    covariances: Covariances<A>,
    /// s, one row a modality.
    scales: Workspace<A>,
}

impl<A: Scalar> Correlation<A> {
    pub(crate) fn new(epsilon: f64, shrinkage: Shrinkage, members: usize) -> Self {
        Self {
            epsilon: A::from_f64(epsilon),
            covariances: Covariances::new(shrinkage, members),
            scales: Workspace::default(),
        }
    }
}

impl<A: Scalar> PairDistance<A> for Correlation<A> {
    fn distances(
        &mut self,
        samples: &Samples<A>,
        pairs: &[GroupPair],
        _with_gradient: bool,
        distances: &mut [f64],
    ) -> Result<(), CovarianceError> {
        let width = samples.width();
        self.covariances.estimate(samples)?;
        self.scales.reshape(samples.count(), width)?;
        let matrices = self.covariances.matrices_mut();
        for (matrix, scales) in matrices
            .iter_mut()
            .zip(self.scales.entries_mut().chunks_mut(width))
        {
            let matrix = matrix.entries_mut();
            for (k, scale) in scales.iter_mut().enumerate() {
                *scale = (matrix[k * width + k] + self.epsilon).sqrt().recip();
            }
            for (row, &row_scale) in matrix.chunks_mut(width).zip(&*scales) {
                for (entry, &scale) in row.iter_mut().zip(&*scales) {
                    *entry *= row_scale * scale;
                }
            }
        }
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
        let width = samples.width();
        let all_scales = self.scales.entries();
        let fill = |matrices: &[Workspace<A>], member: usize, gamma: &mut Workspace<A>| {
            combine_differences(matrices, pairs, slopes, member, gamma)?;
            let correlation = matrices[member].entries().chunks(width);
            let scales = &all_scales[member * width..(member + 1) * width];
            let rows = gamma.entries_mut().chunks_mut(width).zip(correlation);
            for (k, (row, correlation)) in rows.enumerate() {
                let through_scale: A = row.iter().zip(correlation).map(|(&q, &r)| q * r).sum();
                for (entry, &scale) in row.iter_mut().zip(scales) {
                    *entry *= scales[k] * scale;
                }
                row[k] -= scales[k] * scales[k] * through_scale;
            }
            Ok(())
        };
        self.covariances.pull_back(samples, gradients, fill)
    }
}
