//! The comparison of an analytic gradient with central differences.

use std::error::Error;
use std::fmt::{self, Display};

use ndarray::{Array, Dimension, IntoDimension, indices};

use crate::{DEFAULT_STEP, numeric_gradient};

/// How closely an analytic gradient must follow the numeric one.
///
/// An entry passes if
///
/// ```text
/// |analytic − numeric| <= absolute_tolerance + relative_tolerance · max(|analytic|, |numeric|)
/// ```
///
/// ```
/// use modalign_gradcheck::GradientCheck;
/// use ndarray::array;
///
/// let x = array![[0.3, -1.2], [2.0, 0.0]];
/// let gradient = x.mapv(f64::cos);
/// let strict = GradientCheck { relative_tolerance: 1e-8, ..GradientCheck::default() };
/// let agreement = strict.check("sin", &x, &gradient, |x| x.mapv(f64::sin).sum())?;
/// assert_eq!(agreement.entries, 4);
/// assert!(agreement.largest_error < 1e-9);
/// # Ok::<(), modalign_gradcheck::GradientError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GradientCheck {
    /// Step of the central differences, multiplied by `max(1, |x|)` for each entry. Default 6e-6.
    pub step: f64,
    /// Error allowed however small the entry is. Default 1e-7.
    pub absolute_tolerance: f64,
    /// Error allowed as a part of the entry. Default 1e-5.
    pub relative_tolerance: f64,
}

impl Default for GradientCheck {
    fn default() -> Self {
        Self {
            step: DEFAULT_STEP,
            absolute_tolerance: 1e-7,
            relative_tolerance: 1e-5,
        }
    }
}

/// What a check that passed has seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Agreement {
    /// The number of entries compared.
    pub entries: usize,
    /// The largest `|analytic − numeric|`.
    pub largest_error: f64,
    /// The largest error as a part of what its entry is allowed, from 0 to 1.
    pub largest_ratio: f64,
}

/// Why a check did not pass.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum GradientError {
    /// The gradients differ; the entry is the one that exceeds its allowance most.
    Mismatch {
        /// The name given to the check.
        name: String,
        /// Where the worst entry is.
        index: Vec<usize>,
        /// Its analytic value.
        analytic: f64,
        /// Its numeric value.
        numeric: f64,
        /// The difference it is allowed.
        allowed: f64,
        /// How many entries exceed their allowance.
        failing: usize,
        /// How many entries there are.
        entries: usize,
    },
    /// The analytic gradient does not have the shape of the input.
    Shape {
        /// The name given to the check.
        name: String,
        /// The shape of the input.
        expected: Vec<usize>,
        /// The shape of the analytic gradient.
        found: Vec<usize>,
    },
    /// An entry of the analytic gradient, or the function next to it, is infinite or not a number.
    NonFinite {
        /// The name given to the check.
        name: String,
        /// Where the first such entry is.
        index: Vec<usize>,
        /// Its analytic value.
        analytic: f64,
        /// Its numeric value.
        numeric: f64,
    },
}

impl Display for GradientError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mismatch {
                name,
                index,
                analytic,
                numeric,
                allowed,
                failing,
                entries,
            } => write!(
                formatter,
                "{name}: {failing} of {entries} entries differ, most of all {index:?}: analytic \
                 {analytic:e}, numeric {numeric:e}, difference {:e}, allowed {allowed:e}",
                (analytic - numeric).abs()
            ),
            Self::Shape {
                name,
                expected,
                found,
            } => write!(
                formatter,
                "{name}: the gradient has shape {found:?}, the input has {expected:?}"
            ),
            Self::NonFinite {
                name,
                index,
                analytic,
                numeric,
            } => write!(
                formatter,
                "{name}: entry {index:?} is not finite: analytic {analytic}, numeric {numeric}"
            ),
        }
    }
}

impl Error for GradientError {}

impl GradientCheck {
    /// Compares `analytic`, the gradient of `f` at `x` as it was computed, with central
    /// differences of `f`.
    ///
    /// `f` is called twice for each entry of `x`. It must be deterministic (same dropout mask at
    /// every call) and differentiable within a step of `x`.
    ///
    /// # Errors
    ///
    /// [`GradientError::Shape`] before `f` is called at all, [`GradientError::NonFinite`] for the
    /// first entry that is not finite, otherwise [`GradientError::Mismatch`] for the worst.
    pub fn check<D: Dimension>(
        &self,
        name: &str,
        x: &Array<f64, D>,
        analytic: &Array<f64, D>,
        f: impl FnMut(&Array<f64, D>) -> f64,
    ) -> Result<Agreement, GradientError> {
        if x.shape() != analytic.shape() {
            return Err(GradientError::Shape {
                name: name.to_owned(),
                expected: x.shape().to_vec(),
                found: analytic.shape().to_vec(),
            });
        }
        let numeric = numeric_gradient(self.step, x, f);
        let mut agreement = Agreement {
            entries: x.len(),
            largest_error: 0.0,
            largest_ratio: 0.0,
        };
        let mut worst = None;
        let mut failing = 0;
        for index in indices(x.raw_dim()) {
            let index: D = index.into_dimension();
            let (analytic, numeric) = (analytic[index.clone()], numeric[index.clone()]);
            if !(analytic.is_finite() && numeric.is_finite()) {
                return Err(GradientError::NonFinite {
                    name: name.to_owned(),
                    index: index.slice().to_vec(),
                    analytic,
                    numeric,
                });
            }
            let error = (analytic - numeric).abs();
            let allowed = self.absolute_tolerance
                + self.relative_tolerance * analytic.abs().max(numeric.abs());
            // A tolerance that is negative or not a number allows nothing.
            let passes = error <= allowed;
            let ratio = match error {
                0.0 if passes => 0.0,
                _ if allowed > 0.0 => error / allowed,
                _ => f64::INFINITY,
            };
            failing += usize::from(!passes);
            agreement.largest_error = agreement.largest_error.max(error);
            if worst.is_none() || ratio > agreement.largest_ratio {
                agreement.largest_ratio = ratio;
                worst = Some((index, analytic, numeric, allowed));
            }
        }
        match worst {
            Some((index, analytic, numeric, allowed)) if failing > 0 => {
                Err(GradientError::Mismatch {
                    name: name.to_owned(),
                    index: index.slice().to_vec(),
                    analytic,
                    numeric,
                    allowed,
                    failing,
                    entries: agreement.entries,
                })
            }
            _ => Ok(agreement),
        }
    }
}

/// [`GradientCheck::check`] with the default step and tolerances.
///
/// # Errors
///
/// As [`GradientCheck::check`].
///
/// ```
/// use modalign_gradcheck::check_gradient;
/// use ndarray::array;
///
/// let x = array![1.0, 2.0];
/// let wrong = array![2.0, 4.1];
/// let error = check_gradient("square", &x, &wrong, |x| x.mapv(|x| x * x).sum()).unwrap_err();
/// assert!(error.to_string().starts_with("square: 1 of 2 entries differ, most of all [1]"));
/// ```
pub fn check_gradient<D: Dimension>(
    name: &str,
    x: &Array<f64, D>,
    analytic: &Array<f64, D>,
    f: impl FnMut(&Array<f64, D>) -> f64,
) -> Result<Agreement, GradientError> {
    GradientCheck::default().check(name, x, analytic, f)
}
