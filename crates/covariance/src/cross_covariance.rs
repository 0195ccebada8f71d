//! Cross-covariance: zero when no feature of one modality is correlated with one of the other.
//!
//! ```text
//! l = ‖C_ij‖²_F / (D_i D_j)
//! Γ = 2 s_ij C_ij / (D_i D_j)
//! ```

use modalign_core::Scalar;
use ndarray::Array2;

use crate::CovarianceError;
use crate::cross::CrossPair;
use crate::distance::PairDistance;
use crate::samples::{GroupPair, Samples};
use crate::sums::sum_of_squares;

#[derive(Debug)]
pub(crate) struct CrossCovariance<A> {
    pairs: Vec<CrossPair<A>>,
}

impl<A: Scalar> CrossCovariance<A> {
    pub(crate) fn new(pairs: usize) -> Self {
        Self {
            pairs: (0..pairs).map(|_| CrossPair::new()).collect(),
        }
    }
}

impl<A: Scalar> PairDistance<A> for CrossCovariance<A> {
    fn distances(
        &mut self,
        samples: &Samples<A>,
        pairs: &[GroupPair],
        _with_gradient: bool,
        distances: &mut [f64],
    ) -> Result<(), CovarianceError> {
        for ((state, &pair), distance) in self.pairs.iter_mut().zip(pairs).zip(distances) {
            state.estimate(samples, pair)?;
            let cross = state.cross().entries();
            *distance = sum_of_squares(cross) / cross.len() as f64;
        }
        Ok(())
    }

    fn gradients(
        &mut self,
        samples: &Samples<A>,
        _pairs: &[GroupPair],
        slopes: &[f64],
        gradients: &mut [Array2<A>],
    ) -> Result<(), CovarianceError> {
        samples.fill_gradients_with_zero(gradients);
        for (state, slope) in self.pairs.iter_mut().zip(slopes) {
            let cross = state.cross_mut().entries_mut();
            let factor = A::from_f64(2.0 * slope / cross.len() as f64);
            for entry in cross {
                *entry *= factor;
            }
            state.add_gradients(samples, gradients)?;
        }
        Ok(())
    }
}
