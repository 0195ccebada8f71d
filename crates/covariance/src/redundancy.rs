//! Redundancy reduction: the cross-correlation of a pair against the identity.
//!
//! ```text
//! R_kl = s_k C_kl t_l        s_k = (Var x_k + ε)^(−1/2), t_l = (Var y_l + ε)^(−1/2)
//! l = (1/D) [ Σ_k (1 − R_kk)² + o Σ_{k≠l} R_kl² ]
//! Q_kk = −2 s_ij (1 − R_kk) / D,  Q_kl = 2 o s_ij R_kl / D       the gradient in R
//! Γ_kl = s_k t_l Q_kl                                            the gradient in C
//! γ_k = −s_k² Σ_l Q_kl R_kl / 2,  γ_l = −t_l² Σ_k Q_kl R_kl / 2   the gradients in the variances
//! ```

use modalign_core::Scalar;
use ndarray::Array2;

use crate::CovarianceError;
use crate::cross::CrossPair;
use crate::distance::PairDistance;
use crate::samples::{GroupPair, Samples};

#[derive(Debug)]
pub(crate) struct RedundancyReduction<A> {
    off_diagonal: f64,
    epsilon: f64,
    pairs: Vec<State<A>>,
}

#[derive(Debug)]
struct State<A> {
    /// The cross-correlation, once normalised.
    cross: CrossPair<A>,
    /// s and t, then the gradients in the variances.
    scales: [Vec<A>; 2],
    /// `Σ_k Q_kl R_kl`.
    through_columns: Vec<A>,
}

impl<A: Scalar> RedundancyReduction<A> {
    pub(crate) fn new(off_diagonal: f64, epsilon: f64, pairs: usize) -> Self {
        let state = |_| State {
            cross: CrossPair::new(),
            scales: [Vec::new(), Vec::new()],
            through_columns: Vec::new(),
        };
        Self {
            off_diagonal,
            epsilon,
            pairs: (0..pairs).map(state).collect(),
        }
    }
}

impl<A: Scalar> PairDistance<A> for RedundancyReduction<A> {
    fn distances(
        &mut self,
        samples: &Samples<A>,
        pairs: &[GroupPair],
        _with_gradient: bool,
        distances: &mut [f64],
    ) -> Result<(), CovarianceError> {
        let epsilon = A::from_f64(self.epsilon);
        for ((state, &pair), distance) in self.pairs.iter_mut().zip(pairs).zip(distances) {
            state.cross.estimate(samples, pair)?;
            let sides = state.cross.sides(samples);
            for (side, scales) in state.scales.iter_mut().enumerate() {
                sides.variances(side, scales);
                for scale in scales {
                    *scale = (*scale + epsilon).sqrt().recip();
                }
            }
            let [rows, columns] = &state.scales;
            let width = columns.len();
            let mut sum = 0.0;
            let matrix = state.cross.cross_mut().entries_mut();
            for (k, (row, &row_scale)) in matrix.chunks_mut(width).zip(rows).enumerate() {
                let mut off_diagonal = 0.0;
                for (entry, &scale) in row.iter_mut().zip(columns) {
                    *entry *= row_scale * scale;
                    off_diagonal += entry.as_f64().powi(2);
                }
                let own = row[k].as_f64();
                sum += (1.0 - own).powi(2) + self.off_diagonal * (off_diagonal - own * own);
            }
            *distance = sum / width as f64;
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
            let State {
                cross,
                scales: [rows, columns],
                through_columns,
            } = state;
            let width = columns.len();
            let factor = 2.0 * slope / width as f64;
            let off_diagonal = A::from_f64(factor * self.off_diagonal);
            through_columns.clear();
            through_columns.resize(width, A::zero());
            for (k, row) in cross
                .cross_mut()
                .entries_mut()
                .chunks_mut(width)
                .enumerate()
            {
                let mut through_row = A::zero();
                for (l, entry) in row.iter_mut().enumerate() {
                    let correlation = *entry;
                    let q = if k == l {
                        A::from_f64(-factor) * (A::one() - correlation)
                    } else {
                        off_diagonal * correlation
                    };
                    through_row += q * correlation;
                    through_columns[l] += q * correlation;
                    *entry = rows[k] * q * columns[l];
                }
                rows[k] = -rows[k] * rows[k] * through_row;
            }
            for (column, &mut through) in columns.iter_mut().zip(through_columns) {
                *column = -*column * *column * through;
            }
            cross.add_gradients(samples, gradients)?;
            let sides = cross.sides(samples);
            let half = A::from_f64(0.5);
            for (side, variances) in [rows, columns].into_iter().enumerate() {
                for gamma in variances.iter_mut() {
                    *gamma *= half;
                }
                sides.add_variance_gradient(side, variances, gradients);
            }
        }
        Ok(())
    }
}
