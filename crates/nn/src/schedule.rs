//! Learning-rate schedules, as factors of each group's rate.

use serde::{Deserialize, Serialize};

use crate::NnError;
use crate::error::check_config;

/// A factor that rises linearly from 0 to 1 and then falls linearly to 0.
///
/// ```text
/// factor(s) = s / warmup_steps                                     s < warmup_steps
///           = max(0, (total_steps − s) / (total_steps − warmup_steps))   else
/// ```
///
/// for the steps s = 0, 1, … already taken.
///
/// ```
/// use modalign_nn::LinearWarmup;
///
/// let schedule = LinearWarmup { warmup_steps: 4, total_steps: 12 };
/// schedule.validate()?;
/// assert_eq!([0, 2, 4, 8, 12].map(|step| schedule.factor(step)), [0.0, 0.5, 1.0, 0.5, 0.0]);
/// # Ok::<(), modalign_nn::NnError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LinearWarmup {
    /// Steps of the rise; 0 for none.
    pub warmup_steps: u64,
    /// Steps of rise and fall, above `warmup_steps`.
    pub total_steps: u64,
}

impl Default for LinearWarmup {
    /// 100 of 1000 steps.
    fn default() -> Self {
        Self {
            warmup_steps: 100,
            total_steps: 1000,
        }
    }
}

impl LinearWarmup {
    /// Checks that the fall has a length.
    ///
    /// # Errors
    ///
    /// [`NnError::Config`] if `total_steps` is not above `warmup_steps`.
    pub fn validate(&self) -> Result<(), NnError> {
        check_config(
            self.total_steps > self.warmup_steps,
            "linear warm-up",
            "total_steps",
            "above warmup_steps",
            self.total_steps as f64,
        )
    }

    /// The factor, from 0 to 1, of the learning rate after `step` steps.
    pub fn factor(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return step as f64 / self.warmup_steps as f64;
        }
        let left = self.total_steps.saturating_sub(step) as f64;
        let fall = self.total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
        left / fall
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_contract() {
        let default = LinearWarmup::default();
        default.validate().unwrap();
        let json = serde_json::to_string(&default).unwrap();
        assert_eq!(
            serde_json::from_str::<LinearWarmup>(&json).unwrap(),
            default
        );
        assert!(serde_json::from_str::<LinearWarmup>(r#"{"warm_up_steps": 1}"#).is_err());
        let level = LinearWarmup {
            warmup_steps: 5,
            total_steps: 5,
        };
        assert!(matches!(
            level.validate(),
            Err(NnError::Config {
                parameter: "total_steps",
                ..
            })
        ));
    }
}
