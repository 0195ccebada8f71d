//! The cross-covariance of a pair of modalities over the rows that both have.
//!
//! ```text
//! C_ij = Σ_n w_n (x_n − m_x)(y_n − m_y)ᵀ / ν           w_n = √(w_in w_jn), means under these weights
//! dX = (1 / ν) diag(w) (Y − 1 m_yᵀ) Γᵀ                  for a gradient Γ in C_ij
//! dY = (1 / ν) diag(w) (X − 1 m_xᵀ) Γ
//! ```

use modalign_core::Scalar;
use modalign_linalg::gemm;
use ndarray::{Array1, Array2};

use crate::samples::{GroupPair, Sample, Samples};
use crate::{Batch, CovarianceError, workspace::Workspace};

/// One pair, with its own means.
#[derive(Debug)]
pub(crate) struct CrossPair<A> {
    joint: Array1<A>,
    sides: [Sample<A>; 2],
    cross: Workspace<A>,
}

impl<A: Scalar> CrossPair<A> {
    pub(crate) fn new() -> Self {
        Self {
            joint: Array1::zeros(0),
            sides: [Sample::new(0), Sample::new(0)],
            cross: Workspace::default(),
        }
    }

    /// Sets `C_ij`.
    pub(crate) fn estimate(
        &mut self,
        samples: &Samples<A>,
        pair: GroupPair,
    ) -> Result<(), CovarianceError> {
        let modalities = [pair.first, pair.second].map(|member| samples.modality(member));
        let batches = modalities.map(samples.batches);
        let rows = batches.map(|batch| batch.features.nrows());
        if rows[0] != rows[1] {
            let [first, second] = modalities;
            return Err(CovarianceError::Rows {
                first,
                second,
                rows,
            });
        }
        if batches.iter().any(|batch| batch.running.is_some()) {
            let with = "a running covariance";
            return Err(CovarianceError::Incompatible {
                setting: "a cross-covariance",
                with,
            });
        }
        let weighted = batches.iter().any(|batch| batch.weights.is_some());
        if weighted {
            self.join(&batches);
        }
        let joint = weighted.then(|| self.joint.view());
        for (side, (batch, modality)) in self
            .sides
            .iter_mut()
            .zip(batches.into_iter().zip(modalities))
        {
            side.modality = modality;
            side.set(
                Batch {
                    weights: joint,
                    ..batch
                },
                samples.ddof,
            )?;
        }
        let sides = Samples {
            members: &self.sides,
            ..*samples
        };
        let (x, y) = (sides.features(0), sides.features(1));
        self.cross.reshape(x.ncols(), y.ncols())?;
        let scale = A::from_f64(1.0 / sides.divisor(0));
        let (x, y) = (sides.factor(&x, 0).t(), sides.factor(&y, 1));
        gemm(scale, x, y, A::zero(), &mut self.cross.view_mut())?;
        Ok(())
    }

    /// C_ij.
    pub(crate) fn cross(&self) -> &Workspace<A> {
        &self.cross
    }

    /// As [`cross`](Self::cross), to be replaced by a gradient in it.
    pub(crate) fn cross_mut(&mut self) -> &mut Workspace<A> {
        &mut self.cross
    }

    /// The two modalities under their joint weights.
    pub(crate) fn sides<'s, 'a>(&'s self, samples: &Samples<'s, 'a, A>) -> Samples<'s, 'a, A> {
        Samples {
            members: &self.sides,
            ..*samples
        }
    }

    /// Adds the gradient in the features of both modalities, from the gradient Γ that stands in the
    /// place of `C_ij`.
    pub(crate) fn add_gradients(
        &self,
        samples: &Samples<A>,
        gradients: &mut [Array2<A>],
    ) -> Result<(), CovarianceError> {
        let sides = self.sides(samples);
        let gamma = self.cross.view();
        let scale = A::from_f64(1.0 / sides.divisor(0));
        let (x, y) = (sides.features(0), sides.features(1));
        let (x, y) = (sides.gradient_factor(&x, 0), sides.gradient_factor(&y, 1));
        gemm(
            scale,
            y,
            &gamma.t(),
            A::one(),
            &mut gradients[sides.modality(0)],
        )?;
        gemm(
            scale,
            x,
            &gamma,
            A::one(),
            &mut gradients[sides.modality(1)],
        )?;
        Ok(())
    }

    fn join(&mut self, batches: &[Batch<A>; 2]) {
        let rows = batches[0].features.nrows();
        if self.joint.len() != rows {
            self.joint = Array1::zeros(rows);
        }
        self.joint.fill(A::one());
        for weights in batches.iter().filter_map(|batch| batch.weights) {
            // Their lengths were checked with the modalities.
            for (joint, &weight) in self.joint.iter_mut().zip(weights) {
                *joint *= weight;
            }
        }
        self.joint.mapv_inplace(A::sqrt);
    }
}
