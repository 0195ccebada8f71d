//! Covariances drawn towards a multiple of the identity.
//!
//! ```text
//! C_λ = (1 − λ) C + λ μ I                      μ = tr C / D
//! Γ = (1 − λ) Γ_λ + (λ / D) tr(Γ_λ) I          for a constant λ
//! ```
//!
//! Ledoit and Wolf's intensity minimises the expected squared Frobenius error. With
//! `S = (1/n) Σ_k a_k a_kᵀ` for the n centred rows `a_k`,
//!
//! ```text
//! d² = ‖S − μ_S I‖²_F = ‖S‖² − (tr S)² / D
//! b² = (1/n²) Σ_k ‖a_k a_kᵀ − S‖²_F = (1/n²) Σ_k ‖a_k‖⁴ − ‖S‖² / n
//! λ = min(b², d²) / d²
//! ```
//!
//! It depends on the features, and the gradient goes through it:
//!
//! ```text
//! ℓ = ⟨Γ_λ, μ I − C⟩                           the derivative in λ
//! dλ = (db² − λ dd²) / d²                      0 where λ = 1; slope 0 is used at the kink
//! ```

use modalign_core::Scalar;
use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::samples::Samples;
use crate::sums::sum_of_squares;
use crate::{CovarianceError, workspace::Workspace};

/// How far covariances are drawn towards a multiple of the identity before they are compared.
///
/// ```text
/// C_λ = (1 − λ) C + λ (tr C / D) I
/// ```
///
/// With fewer rows than columns a covariance has zero eigenvalues and its large ones are too large;
/// shrinkage mends both. The trace is kept.
///
/// In TOML: `shrinkage = "none"`, `shrinkage = "ledoit_wolf"` or `shrinkage = { fixed = 0.1 }`.
///
/// # References
///
/// Olivier Ledoit, Michael Wolf, "A Well-Conditioned Estimator for Large-Dimensional Covariance
/// Matrices", 2004.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shrinkage {
    /// The covariance as it is.
    #[default]
    None,
    /// This λ, from 0 to 1.
    Fixed(f64),
    /// The λ that the rows suggest; the gradient goes through it. For rows that all count alike (or
    /// not at all), without a running covariance.
    LedoitWolf,
}

impl Shrinkage {
    /// Checks the range of a fixed intensity.
    ///
    /// # Errors
    ///
    /// [`CovarianceError::Config`] unless it is from 0 to 1.
    pub fn validate(&self) -> Result<(), CovarianceError> {
        match *self {
            Self::Fixed(found) if !(0.0..=1.0).contains(&found) => {
                let expected = "from 0 to 1";
                Err(CovarianceError::Config {
                    field: "shrinkage.fixed",
                    expected,
                    found,
                })
            }
            _ => Ok(()),
        }
    }
}

/// What the gradient needs of the shrinkage of one modality.
#[derive(Debug)]
pub(crate) struct Shrunk<A> {
    intensity: f64,
    /// For an intensity that depends on the features: the covariance as it was, and d².
    estimated: Option<Estimated>,
    original: Workspace<A>,
    /// The derivative in `Σ_k ‖a_k‖⁴`, and a row for its gradient.
    fourth_powers: f64,
    mean: Vec<f64>,
}

#[derive(Debug, Clone, Copy)]
struct Estimated {
    /// n.
    rows: f64,
    /// d².
    dispersion: f64,
    /// `S = κ C`.
    kappa: f64,
}

impl<A: Scalar> Shrunk<A> {
    pub(crate) fn new() -> Self {
        Self {
            intensity: 0.0,
            estimated: None,
            original: Workspace::default(),
            fourth_powers: 0.0,
            mean: Vec::new(),
        }
    }

    /// Replaces a covariance by the shrunk one.
    pub(crate) fn shrink(
        &mut self,
        shrinkage: Shrinkage,
        samples: &Samples<A>,
        member: usize,
        covariance: &mut Workspace<A>,
    ) -> Result<(), CovarianceError> {
        self.estimated = None;
        self.intensity = match shrinkage {
            Shrinkage::None => return Ok(()),
            Shrinkage::Fixed(intensity) => intensity,
            Shrinkage::LedoitWolf => self.estimate(samples, member, covariance)?,
        };
        let target = A::from_f64(self.intensity * trace(covariance) / samples.width() as f64);
        let kept = A::from_f64(1.0 - self.intensity);
        let mut covariance = covariance.view_mut();
        covariance *= kept;
        covariance.diag_mut().mapv_inplace(|entry| entry + target);
        Ok(())
    }

    fn estimate(
        &mut self,
        samples: &Samples<A>,
        member: usize,
        covariance: &Workspace<A>,
    ) -> Result<f64, CovarianceError> {
        if samples.running(member).is_some() {
            let setting = "Ledoit-Wolf shrinkage";
            return Err(CovarianceError::Incompatible {
                setting,
                with: "a running covariance",
            });
        }
        let rows = samples.equal_rows(member)? as f64;
        let width = samples.width();
        self.original.reshape_square(width)?;
        self.original
            .entries_mut()
            .copy_from_slice(covariance.entries());
        let kappa = samples.divisor(member) / samples.weight(member);
        let squares = kappa * kappa * sum_of_squares(covariance.entries());
        let dispersion = squares - (kappa * trace(covariance)).powi(2) / width as f64;
        let mut fourth_powers = 0.0;
        samples.for_each_centered_row(member, |_, row| {
            fourth_powers += row.map(|entry| entry * entry).sum::<f64>().powi(2);
        });
        let error = ((fourth_powers / rows - squares) / rows).max(0.0);
        if error >= dispersion {
            // No better than the target, which is then taken; nothing to shrink if both are zero.
            return Ok(if dispersion > 0.0 { 1.0 } else { 0.0 });
        }
        self.estimated = Some(Estimated {
            rows,
            dispersion,
            kappa,
        });
        Ok(error / dispersion)
    }

    /// Replaces a gradient in the shrunk covariance by one in the covariance.
    pub(crate) fn pull_back(&mut self, gamma: &mut Workspace<A>) {
        self.fourth_powers = 0.0;
        let lambda = self.intensity;
        if lambda == 0.0 && self.estimated.is_none() {
            return;
        }
        let width = gamma.view().ncols() as f64;
        let gamma_trace = trace(gamma);
        let mut identity = lambda / width * gamma_trace;
        let mut original = 0.0;
        if let Some(Estimated {
            rows,
            dispersion,
            kappa,
        }) = self.estimated
        {
            let mu = trace(&self.original) / width;
            let inner: f64 = gamma
                .entries()
                .iter()
                .zip(self.original.entries())
                .map(|(gamma, entry)| gamma.as_f64() * entry.as_f64())
                .sum();
            let slope = (mu * gamma_trace - inner) / dispersion;
            original = -2.0 * slope * kappa * kappa * (1.0 / rows + lambda);
            identity += 2.0 * slope * lambda * kappa * kappa * mu;
            self.fourth_powers = slope / (rows * rows);
        }
        let (kept, original) = (A::from_f64(1.0 - lambda), A::from_f64(original));
        if self.estimated.is_some() {
            for (gamma, &entry) in gamma.entries_mut().iter_mut().zip(self.original.entries()) {
                *gamma = kept * *gamma + original * entry;
            }
        } else {
            for gamma in gamma.entries_mut() {
                *gamma *= kept;
            }
        }
        let identity = A::from_f64(identity);
        gamma
            .view_mut()
            .diag_mut()
            .mapv_inplace(|entry| entry + identity);
    }

    /// Adds to the gradient in the features what does not come through the covariance, after
    /// [`pull_back`](Self::pull_back): `(I − 1 1ᵀ / n) 4 ‖a_k‖² a_k` times the derivative in
    /// `Σ_k ‖a_k‖⁴`.
    pub(crate) fn add_fourth_powers(
        &mut self,
        samples: &Samples<A>,
        member: usize,
        gradient: &mut Array2<A>,
    ) -> Result<(), CovarianceError> {
        if self.fourth_powers == 0.0 {
            return Ok(());
        }
        let rows = samples.equal_rows(member)? as f64;
        let (factor, means) = (4.0 * self.fourth_powers, &mut self.mean);
        means.clear();
        means.resize(samples.width(), 0.0);
        samples.for_each_centered_row(member, |_, row| {
            let square: f64 = row.clone().map(|entry| entry * entry).sum();
            for (mean, entry) in means.iter_mut().zip(row) {
                *mean += square * entry / rows;
            }
        });
        samples.for_each_centered_row(member, |index, row| {
            let square: f64 = row.clone().map(|entry| entry * entry).sum();
            let terms = row.zip(&*means).map(|(entry, mean)| square * entry - mean);
            for (gradient, term) in gradient.row_mut(index).iter_mut().zip(terms) {
                *gradient += A::from_f64(factor * term);
            }
        });
        Ok(())
    }
}

fn trace<A: Scalar>(matrix: &Workspace<A>) -> f64 {
    matrix
        .view()
        .diag()
        .iter()
        .map(|entry| entry.as_f64())
        .sum()
}
