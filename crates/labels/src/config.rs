//! The options of the generator, and the presets of the published programs.

use serde::{Deserialize, Serialize};

use crate::LabelError;

/// How far a feature is from a class centre.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Distance {
    /// `‖f − c‖`, as the published programs compute it.
    Euclidean,
    /// `‖f − c‖² / √D` for a space of width D, as the paper writes it.
    ScaledSquare,
}

/// How a unimodal label `y_s` departs from the multimodal label `y_m`, given the relative distances
/// `α_s` of the modality and `α_m` of the fused space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Offset {
    /// `y_s = y_m α_s / (α_m + ε)`.
    Ratio,
    /// `y_s = y_m + α_s − α_m`.
    Difference,
    /// The mean of both.
    Average,
}

/// The weight of the old label in the average with the new one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Momentum {
    /// `(n − 1)/(n + 1)` in epoch n, so that the labels of all epochs weigh by their number.
    Epoch,
    /// The same weight, from 0 to 1, in every epoch.
    Constant(f64),
}

impl Momentum {
    /// The weights of the old label and of the new one in an epoch, numbered from 1.
    ///
    /// ```
    /// use modalign_labels::Momentum;
    ///
    /// assert_eq!(Momentum::Epoch.weights(1), [0.0, 1.0]);
    /// assert_eq!(Momentum::Epoch.weights(2), [1.0 / 3.0, 2.0 / 3.0]);
    /// assert_eq!(Momentum::Constant(0.75).weights(7), [0.75, 0.25]);
    /// ```
    pub fn weights(self, epoch: usize) -> [f64; 2] {
        let n = epoch as f64;
        match self {
            Self::Epoch => [(n - 1.0) / (n + 1.0), 2.0 / (n + 1.0)],
            Self::Constant(weight) => [weight, 1.0 - weight],
        }
    }
}

/// The options of a [`LabelGenerator`](crate::LabelGenerator).
///
/// ```
/// use modalign_labels::LabelGeneratorConfig;
///
/// // MMSA on CH-SIMS, whose labels go from -1 to 1.
/// let config = LabelGeneratorConfig { label_limit: 1.0, ..LabelGeneratorConfig::mmsa() };
/// assert!(config.validate().is_ok());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LabelGeneratorConfig {
    /// The distance of a feature from a class centre. Default Euclidean.
    pub distance: Distance,
    /// How relative distances become a label. Default average.
    pub offset: Offset,
    /// The weight of the old label in the new one. Default by epoch.
    pub momentum: Momentum,
    /// The first epoch, numbered from 1, in which labels change. Default 2: in epoch 1 every sample
    /// gets its first feature.
    pub start_epoch: usize,
    /// The weight of the old class centre in the new one, from 0 up to but not including 1. Default
    /// 0: the centre is the mean of its class.
    pub centre_momentum: f64,
    /// Whether samples labelled exactly 0 belong to neither class (otherwise to the positive one).
    /// Default true.
    pub exclude_zero: bool,
    /// Whether a sample without any feature so far counts as a zero feature of its class. Default
    /// false.
    pub count_unseen: bool,
    /// Labels stay within `±label_limit`, in their own unit. Default 3.
    pub label_limit: f64,
    /// Leaves a label as it is if the offset divides by `α_m` and `|α_m|` is below this, that is if
    /// the fused feature is as far from one class as from the other. Default 1e-3: distances that
    /// differ by a tenth of a percent.
    pub minimum_relative_distance: f64,
    /// `ε`, added to each divisor. Default 1e-8.
    pub epsilon: f64,
}

impl Default for LabelGeneratorConfig {
    fn default() -> Self {
        Self {
            distance: Distance::Euclidean,
            offset: Offset::Average,
            momentum: Momentum::Epoch,
            start_epoch: 2,
            centre_momentum: 0.0,
            exclude_zero: true,
            count_unseen: false,
            label_limit: 3.0,
            minimum_relative_distance: 1e-3,
            epsilon: 1e-8,
        }
    }
}

impl LabelGeneratorConfig {
    /// What the program published with Self-MM does on MOSI and MOSEI: samples labelled 0 are
    /// positive, samples not seen yet count as zero features, and `α_m` may be as small as it likes
    /// (the clamp catches the result).
    pub fn self_mm() -> Self {
        Self {
            exclude_zero: false,
            ..Self::mmsa()
        }
    }

    /// What MMSA does on MOSI and MOSEI: as [`Self::self_mm`], without the samples labelled 0.
    pub fn mmsa() -> Self {
        Self {
            exclude_zero: true,
            count_unseen: true,
            minimum_relative_distance: 0.0,
            ..Self::default()
        }
    }

    /// Checks the range of every field.
    ///
    /// # Errors
    ///
    /// [`LabelError::Config`] naming the first field that is out of range.
    pub fn validate(&self) -> Result<(), LabelError> {
        let weight = match self.momentum {
            Momentum::Epoch => 0.0,
            Momentum::Constant(weight) => weight,
        };
        let checks = [
            (
                "momentum",
                weight,
                (0.0..=1.0).contains(&weight),
                "from 0 to 1",
            ),
            (
                "start_epoch",
                self.start_epoch as f64,
                self.start_epoch >= 1,
                "at least 1",
            ),
            (
                "centre_momentum",
                self.centre_momentum,
                (0.0..1.0).contains(&self.centre_momentum),
                "from 0 to below 1",
            ),
            (
                "label_limit",
                self.label_limit,
                self.label_limit > 0.0 && self.label_limit.is_finite(),
                "above 0 and finite",
            ),
            (
                "minimum_relative_distance",
                self.minimum_relative_distance,
                self.minimum_relative_distance >= 0.0 && self.minimum_relative_distance.is_finite(),
                "at least 0 and finite",
            ),
            (
                "epsilon",
                self.epsilon,
                self.epsilon > 0.0 && self.epsilon.is_finite(),
                "above 0 and finite",
            ),
        ];
        for (field, value, in_range, expected) in checks {
            if !in_range {
                return Err(LabelError::Config {
                    field,
                    value,
                    expected,
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_and_the_presets_are_valid_and_survive_json() {
        for config in [
            LabelGeneratorConfig::default(),
            LabelGeneratorConfig::self_mm(),
            LabelGeneratorConfig::mmsa(),
            LabelGeneratorConfig {
                momentum: Momentum::Constant(0.25),
                distance: Distance::ScaledSquare,
                ..LabelGeneratorConfig::default()
            },
        ] {
            config.validate().unwrap();
            let json = serde_json::to_string(&config).unwrap();
            assert_eq!(
                serde_json::from_str::<LabelGeneratorConfig>(&json).unwrap(),
                config
            );
        }
    }

    #[test]
    fn absent_fields_have_their_default_and_misspelt_ones_fail() {
        let config: LabelGeneratorConfig =
            serde_json::from_str(r#"{"offset": "ratio", "momentum": {"constant": 0.5}}"#).unwrap();
        let expected = LabelGeneratorConfig {
            offset: Offset::Ratio,
            momentum: Momentum::Constant(0.5),
            ..LabelGeneratorConfig::default()
        };
        assert_eq!(config, expected);
        let error = serde_json::from_str::<LabelGeneratorConfig>(r#"{"ofset": "ratio"}"#);
        assert!(error.unwrap_err().to_string().contains("ofset"));
    }

    #[test]
    fn each_field_out_of_range_is_named() {
        let good = LabelGeneratorConfig::default;
        let set = |change: fn(&mut LabelGeneratorConfig)| {
            let mut config = good();
            change(&mut config);
            config
        };
        for (expected, config) in [
            ("momentum", set(|c| c.momentum = Momentum::Constant(1.1))),
            ("momentum", set(|c| c.momentum = Momentum::Constant(-0.1))),
            (
                "momentum",
                set(|c| c.momentum = Momentum::Constant(f64::NAN)),
            ),
            ("start_epoch", set(|c| c.start_epoch = 0)),
            ("centre_momentum", set(|c| c.centre_momentum = 1.0)),
            ("label_limit", set(|c| c.label_limit = 0.0)),
            ("label_limit", set(|c| c.label_limit = f64::INFINITY)),
            (
                "minimum_relative_distance",
                set(|c| c.minimum_relative_distance = -1e-3),
            ),
            ("epsilon", set(|c| c.epsilon = 0.0)),
        ] {
            let error = config.validate().unwrap_err();
            assert!(
                matches!(error, LabelError::Config { field, .. } if field == expected),
                "{error}"
            );
        }
    }
}
