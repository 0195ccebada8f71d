//! How a pair with a negative weight is pushed apart without growing for ever.

use serde::{Deserialize, Serialize};

use crate::CovarianceError;
use crate::distance::positive;

/// The distance that a negative weight multiplies: `φ(l)` in place of the unbounded `l`.
///
/// A loss of `−w l` has no least value: growing features lower it for ever. Both forms are bounded
/// above, so a negative weight adds at least `−w` times the bound.
///
/// ```text
/// hinge        φ(l) = min(l, margin)               φ'(l) = 1 for l < margin, else 0
/// saturating   φ(l) = scale l / (scale + l)        φ'(l) = (scale / (scale + l))²
/// ```
///
/// The hinge has a kink at `l = margin`; the slope used there is 0.
///
/// `l = ‖C_i − C_j‖²_F / (4 D²)` is a quarter of the mean squared difference between the entries of
/// two covariances. A bound of 0.25, the default, is reached when they differ by one on (root mean
/// square) average.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Separation {
    /// Full force up to a distance, none beyond it.
    Hinge {
        /// The distance at which a pair counts as separated, above 0.
        margin: f64,
    },
    /// A force that fades smoothly as the distance grows.
    Saturating {
        /// The bound, which is also the distance at which half of it is reached, above 0.
        scale: f64,
    },
}

impl Default for Separation {
    fn default() -> Self {
        Self::Hinge { margin: 0.25 }
    }
}

impl Separation {
    /// Checks the ranges of the fields.
    ///
    /// # Errors
    ///
    /// [`CovarianceError::Config`] unless the bound is positive and finite.
    pub fn validate(&self) -> Result<(), CovarianceError> {
        match *self {
            Self::Hinge { margin } => positive("separation.margin", margin),
            Self::Saturating { scale } => positive("separation.scale", scale),
        }
    }

    /// `φ(l)` and `φ'(l)`.
    pub(crate) fn apply(self, distance: f64) -> (f64, f64) {
        match self {
            Self::Hinge { margin } if distance < margin => (distance, 1.0),
            Self::Hinge { margin } => (margin, 0.0),
            Self::Saturating { scale } => {
                let remaining = scale / (scale + distance);
                (distance * remaining, remaining * remaining)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kink_of_the_hinge_has_slope_zero() {
        let hinge = Separation::Hinge { margin: 2.0 };
        assert_eq!(hinge.apply(1.5), (1.5, 1.0));
        assert_eq!(hinge.apply(2.0), (2.0, 0.0));
        assert_eq!(hinge.apply(3.0), (2.0, 0.0));
    }

    #[test]
    fn the_saturating_distance_stays_below_its_scale() {
        let saturating = Separation::Saturating { scale: 2.0 };
        assert_eq!(saturating.apply(0.0), (0.0, 1.0));
        assert_eq!(saturating.apply(2.0), (1.0, 0.25));
        let (value, slope) = saturating.apply(1e300);
        assert!((value - 2.0).abs() < 1e-12 && slope >= 0.0);
    }

    #[test]
    fn bounds_must_be_positive() {
        for bound in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Separation::Hinge { margin: bound }.validate().is_err());
            assert!(Separation::Saturating { scale: bound }.validate().is_err());
        }
        assert!(Separation::default().validate().is_ok());
    }
}
