//! Where defaults come from: two recipes, each with the presets of three data sets.

use modalign_covariance::SharedInformationConfig;
use modalign_data::NonFinite;
use modalign_encoders::{
    EncoderConfig, LstmEncoderConfig, Modality, PooledConfig, RegressionHeadConfig, Statistics,
};
use modalign_labels::LabelGeneratorConfig;
use modalign_metrics::Convention;
use modalign_nn::{OptimizerConfig, ParameterGroup, WeightDecay};
use serde::{Deserialize, Serialize};

use crate::config::{
    Accumulation, DataConfig, ExperimentConfig, ModalityConfig, ModalityConfigs, ObjectiveConfig,
    PairConfig, TaskLoss, TrainingConfig,
};

/// Which method the defaults follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recipe {
    /// The full method: shared-information loss, label generator, every batch stepped, gradients
    /// clipped, decoupled weight decay, features standardised.
    #[default]
    Modalign,
    /// Self-MM as MMSA's published code trains it, quirks included: no shared-information loss,
    /// gradients of four batches added, left-over batches dropped, coupled weight decay, features
    /// as they come, no epoch limit to speak of.
    SelfMm,
}

/// The published code has no limit on epochs; early stopping always comes before this one.
const NO_EPOCH_LIMIT: usize = 10_000;

/// The published seeds.
const SEEDS: [u64; 5] = [1111, 1112, 1113, 1114, 1115];

/// The largest absolute label of a data set.
fn label_limit(convention: Convention) -> f64 {
    match convention {
        Convention::Sims => 1.0,
        _ => 3.0,
    }
}

fn data(convention: Convention, standardize: bool) -> DataConfig {
    DataConfig {
        modalities: Modality::ALL.to_vec(),
        convention,
        neutral_label: 0.0,
        standardize,
        clip: 5.0,
        non_finite: NonFinite::Replace,
        label_column: None,
        in_file_above_mib: None,
    }
}

pub(crate) fn modalign(convention: Convention) -> ExperimentConfig {
    let modality = |modality: Modality, encoder, modality_dropout| ModalityConfig {
        features: modality.name().to_owned(),
        encoder,
        head: RegressionHeadConfig {
            hidden_size: 32,
            dropout: 0.3,
        },
        learning_rate: 5e-4,
        weight_decay: 0.1,
        modality_dropout,
    };
    let lstm = || EncoderConfig::Lstm(LstmEncoderConfig::default());
    ExperimentConfig {
        seeds: SEEDS.to_vec(),
        data: data(convention, true),
        text_model: None,
        modalities: ModalityConfigs {
            text: modality(Modality::Text, pooled(128), 0.0),
            audio: modality(Modality::Audio, lstm(), 0.3),
            vision: modality(Modality::Vision, lstm(), 0.5),
        },
        fusion: RegressionHeadConfig {
            hidden_size: 64,
            dropout: 0.5,
        },
        objective: ObjectiveConfig::default(),
        label_generator: LabelGeneratorConfig {
            label_limit: label_limit(convention),
            ..LabelGeneratorConfig::default()
        },
        optimizer: OptimizerConfig {
            weight_decay_mode: WeightDecay::Decoupled,
            ..OptimizerConfig::default()
        },
        heads: ParameterGroup {
            learning_rate: 5e-4,
            weight_decay: 0.1,
        },
        training: TrainingConfig::default(),
    }
}

fn pooled(output_size: usize) -> EncoderConfig {
    EncoderConfig::Pooled(PooledConfig {
        statistics: Statistics::Mean,
        dropout: 0.5,
        output_size,
    })
}

impl ExperimentConfig {
    /// Gives these modalities the encoder for utterance vectors in place of the one for sequences:
    /// a recurrence over one step has nothing to remember, and vectors, often wide, want dropout.
    ///
    /// ```
    /// use modalign_encoders::{EncoderConfig, Modality};
    /// use modalign_train::ExperimentConfig;
    ///
    /// let config = ExperimentConfig::default().with_vectors(&[Modality::Audio]);
    /// assert!(matches!(config.modalities.audio.encoder, EncoderConfig::Pooled(_)));
    /// assert!(matches!(config.modalities.vision.encoder, EncoderConfig::Lstm(_)));
    /// ```
    #[must_use]
    pub fn with_vectors(mut self, vectors: &[Modality]) -> Self {
        for (modality, config) in [
            (Modality::Audio, &mut self.modalities.audio),
            (Modality::Vision, &mut self.modalities.vision),
        ] {
            if vectors.contains(&modality) {
                config.encoder = pooled(16);
            }
        }
        self
    }
}

/// Values of MMSA's `config_regression` for Self-MM.
pub(crate) fn self_mm(convention: Convention) -> ExperimentConfig {
    struct Preset {
        batch_size: usize,
        audio: (f64, f64, usize),
        vision: (f64, f64, usize),
        weight_decay: f64,
        hidden: [usize; 4],
        dropout: [f64; 4],
    }
    let preset = match convention {
        Convention::Mosei => Preset {
            batch_size: 32,
            audio: (5e-3, 0.0, 16),
            vision: (1e-4, 0.0, 32),
            weight_decay: 1e-2,
            hidden: [128, 32, 16, 32],
            dropout: [0.1, 0.0, 0.0, 0.0],
        },
        Convention::Sims => Preset {
            batch_size: 32,
            audio: (5e-3, 1e-2, 16),
            vision: (5e-3, 1e-2, 64),
            weight_decay: 1e-3,
            hidden: [128, 64, 16, 32],
            dropout: [0.0, 0.1, 0.1, 0.0],
        },
        _ => Preset {
            batch_size: 16,
            audio: (5e-3, 1e-3, 16),
            vision: (5e-3, 1e-3, 32),
            weight_decay: 1e-3,
            hidden: [128, 32, 16, 32],
            dropout: [0.0, 0.1, 0.1, 0.0],
        },
    };
    let head = |index: usize| RegressionHeadConfig {
        hidden_size: preset.hidden[index],
        dropout: preset.dropout[index],
    };
    let lstm =
        |modality: Modality, (rate, decay, hidden_size), output_size, index| ModalityConfig {
            features: modality.name().to_owned(),
            encoder: EncoderConfig::Lstm(LstmEncoderConfig {
                hidden_size,
                dropout: 0.0,
                output_size,
            }),
            head: head(index),
            learning_rate: rate,
            weight_decay: decay,
            modality_dropout: 0.0,
        };
    ExperimentConfig {
        seeds: SEEDS.to_vec(),
        data: data(convention, false),
        text_model: None,
        modalities: ModalityConfigs {
            text: ModalityConfig {
                features: Modality::Text.name().to_owned(),
                encoder: EncoderConfig::Identity {},
                head: head(1),
                learning_rate: 5e-5,
                weight_decay: 1e-3,
                modality_dropout: 0.0,
            },
            audio: lstm(Modality::Audio, preset.audio, 16, 2),
            vision: lstm(Modality::Vision, preset.vision, 32, 3),
        },
        fusion: head(0),
        objective: ObjectiveConfig {
            shared_information_weight: 0.0,
            ..ObjectiveConfig::default()
        },
        label_generator: LabelGeneratorConfig {
            label_limit: label_limit(convention),
            ..LabelGeneratorConfig::mmsa()
        },
        optimizer: OptimizerConfig {
            weight_decay_mode: WeightDecay::Coupled,
            ..OptimizerConfig::default()
        },
        heads: ParameterGroup {
            learning_rate: 1e-3,
            weight_decay: preset.weight_decay,
        },
        training: TrainingConfig {
            batch_size: preset.batch_size,
            accumulation_steps: 4,
            accumulation: Accumulation::Sum,
            step_trailing_batches: false,
            max_epochs: NO_EPOCH_LIMIT,
            patience: 8,
            clip_gradient_norm: 0.0,
            warm_up: None,
        },
    }
}

impl Default for DataConfig {
    fn default() -> Self {
        data(Convention::Mosi, true)
    }
}

impl Default for ModalityConfigs {
    fn default() -> Self {
        modalign(Convention::Mosi).modalities
    }
}

impl Default for ObjectiveConfig {
    fn default() -> Self {
        Self {
            task_loss: TaskLoss::Absolute,
            unimodal_weight: 1.0,
            shared_information_weight: 1000.0,
            shared_width: 32,
            pairs: PairConfig::default(),
            shared_information: SharedInformationConfig::default(),
        }
    }
}

impl Default for PairConfig {
    fn default() -> Self {
        Self {
            text_audio: 1.0,
            text_vision: 1.0,
            audio_vision: 1.0,
        }
    }
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            batch_size: 32,
            accumulation_steps: 1,
            accumulation: Accumulation::Mean,
            step_trailing_batches: true,
            max_epochs: 60,
            patience: 10,
            clip_gradient_norm: 5.0,
            warm_up: None,
        }
    }
}
