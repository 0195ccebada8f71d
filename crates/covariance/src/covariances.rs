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

use std::mem;

use modalign_core::Scalar;
use modalign_linalg::{gemm, on_one_thread, products_side_by_side, syrk, vectorized};
use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

use crate::samples::{GroupPair, Samples};
use crate::shrinkage::{Shrinkage, Shrunk};
use crate::sums::squared_distance;
use crate::{CovarianceError, workspace::Workspace};

/// Multiply-adds of a modality from which a second one is worth another thread.
const WORTH_THREADS: usize = 1 << 20;

/// Multiply-adds from which a product makes as good use of all threads by itself.
const ENOUGH_FOR_ALL: usize = 1 << 23;

#[derive(Debug)]
pub(crate) struct Covariances<A> {
    shrinkage: Shrinkage,
    matrices: Vec<Workspace<A>>,
    ways_back: Vec<WayBack<A>>,
}

/// What one modality needs between its covariance and the gradient in its features.
#[derive(Debug)]
struct WayBack<A> {
    shrunk: Shrunk<A>,
    gamma: Workspace<A>,
    /// The caller's, while it is set.
    gradient: Array2<A>,
}

impl<A: Scalar> Covariances<A> {
    pub(crate) fn new(shrinkage: Shrinkage, members: usize) -> Self {
        let way_back = |_| WayBack {
            shrunk: Shrunk::new(),
            gamma: Workspace::default(),
            gradient: Array2::zeros((0, 0)),
        };
        Self {
            shrinkage,
            matrices: (0..members).map(|_| Workspace::default()).collect(),
            ways_back: (0..members).map(way_back).collect(),
        }
    }

    pub(crate) fn estimate(&mut self, samples: &Samples<A>) -> Result<(), CovarianceError> {
        let shrinkage = self.shrinkage;
        let estimate = |member, covariance: &mut _, way_back: &mut WayBack<A>| {
            estimate_covariance(samples, member, covariance)?;
            way_back
                .shrunk
                .shrink(shrinkage, samples, member, covariance)
        };
        let (matrices, ways_back) = (&mut self.matrices, &mut self.ways_back);
        if is_side_by_side(samples, 0.5) {
            let states = matrices.par_iter_mut().zip(ways_back).enumerate();
            return in_order(states.map(|(member, (covariance, way_back))| {
                on_one_thread(|| estimate(member, covariance, way_back))
            }));
        }
        let mut states = matrices.iter_mut().zip(ways_back).enumerate();
        states
            .try_for_each(|(member, (covariance, way_back))| estimate(member, covariance, way_back))
    }

    /// One matrix a modality.
    pub(crate) fn matrices(&self) -> &[Workspace<A>] {
        &self.matrices
    }

    /// As [`matrices`](Self::matrices), for distances that transform them in place.
    pub(crate) fn matrices_mut(&mut self) -> &mut [Workspace<A>] {
        &mut self.matrices
    }

    /// Sets the gradient in the features of every modality. `fill(matrices, member, gamma)` is to set
    /// the gradient in the estimate of one.
    pub(crate) fn pull_back(
        &mut self,
        samples: &Samples<A>,
        gradients: &mut [Array2<A>],
        fill: impl Fn(&[Workspace<A>], usize, &mut Workspace<A>) -> Result<(), CovarianceError> + Sync,
    ) -> Result<(), CovarianceError> {
        for (member, way_back) in self.ways_back.iter_mut().enumerate() {
            way_back.gradient = mem::take(&mut gradients[samples.modality(member)]);
        }
        let matrices = &self.matrices;
        let set = |member: usize, way_back: &mut WayBack<A>| {
            let WayBack {
                shrunk,
                gamma,
                gradient,
            } = way_back;
            fill(matrices, member, gamma)?;
            shrunk.pull_back(gamma);
            pull_back(samples, member, gamma.view(), gradient)?;
            shrunk.add_fourth_powers(samples, member, gradient)
        };
        let result = if is_side_by_side(samples, 1.0) {
            let states = self.ways_back.par_iter_mut().enumerate();
            in_order(states.map(|(member, way_back)| on_one_thread(|| set(member, way_back))))
        } else {
            let mut states = self.ways_back.iter_mut().enumerate();
            states.try_for_each(|(member, way_back)| set(member, way_back))
        };
        for (member, way_back) in self.ways_back.iter_mut().enumerate() {
            gradients[samples.modality(member)] = mem::take(&mut way_back.gradient);
        }
        result
    }
}

/// Whether modalities of `products` times N D² multiply-adds each are worked on side by side: where
/// these are too few for the threads to share, or every thread gets as many of them as the others.
fn is_side_by_side<A: Scalar>(samples: &Samples<A>, products: f64) -> bool {
    let count = samples.count();
    let rows = (0..count).map(|member| samples.rows(member)).max();
    let width = samples.width() as f64;
    let work = (products * rows.unwrap_or(0) as f64 * width * width) as usize;
    if count < 2 || work < WORTH_THREADS {
        return false;
    }
    let threads = products_side_by_side();
    threads > 1 && (work < ENOUGH_FOR_ALL || count.is_multiple_of(threads))
}

/// The first error in the order of the modalities, whichever thread was first.
fn in_order(
    results: impl ParallelIterator<Item = Result<(), CovarianceError>>,
) -> Result<(), CovarianceError> {
    results.reduce(|| Ok(()), Result::and)
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
    let own = matrices[member].entries();
    let partners = pairs.iter().zip(slopes).filter_map(|(pair, &slope)| {
        let slope = A::from_f64(2.0 * normalisation(width) * slope);
        Some((matrices[pair.partner_of(member)?].entries(), slope))
    });
    let mut written = false;
    for (other, slope) in partners {
        vectorized(
            #[inline(always)]
            || {
                for (sum, (&own, &other)) in sums.iter_mut().zip(own.iter().zip(other)) {
                    let term = slope * (own - other);
                    *sum = if written { *sum + term } else { term };
                }
            },
        );
        written = true;
    }
    if !written {
        sums.fill(A::zero());
    }
    Ok(())
}
