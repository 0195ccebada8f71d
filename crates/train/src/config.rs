//! What an experiment is made of, as one TOML file states it.

use modalign_covariance::{PairWeights, SharedInformationConfig};
use modalign_data::NonFinite;
use modalign_encoders::{Encoder, EncoderConfig, Modality, RegressionHeadConfig};
use modalign_labels::LabelGeneratorConfig;
use modalign_metrics::Convention;
use modalign_nn::{Optimizer, OptimizerConfig, ParameterGroup};
use serde::{Deserialize, Serialize};

use crate::recipe::{self, Recipe};
use crate::text_model::{TextModelConfig, Tuning};
use crate::{Model, TrainError};

/// A whole experiment: data, model, objective, optimisation and seeds.
///
/// The default is the `modalign` recipe for MOSI-like labels in [−3, 3].
///
/// ```
/// use modalign_metrics::Convention;
/// use modalign_train::{ExperimentConfig, Recipe};
///
/// let config = ExperimentConfig::recipe(Recipe::SelfMm, Convention::Mosi);
/// assert_eq!(config.training.accumulation_steps, 4);
/// config.validate()?;
/// # Ok::<(), modalign_train::TrainError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExperimentConfig {
    /// One run a seed.
    pub seeds: Vec<u64>,
    /// What is read and how it is prepared.
    pub data: DataConfig,
    /// A pretrained encoder that reads the transcripts; absent, text is features of the data.
    pub text_model: Option<TextModelConfig>,
    /// The encoder and unimodal head of each modality.
    pub modalities: ModalityConfigs,
    /// The head on the concatenated representations.
    pub fusion: RegressionHeadConfig,
    /// The loss.
    pub objective: ObjectiveConfig,
    /// How unimodal labels are made.
    pub label_generator: LabelGeneratorConfig,
    /// The optimiser of all parameters.
    pub optimizer: OptimizerConfig,
    /// Learning rate and weight decay of the heads and projections.
    pub heads: ParameterGroup,
    /// Batches, epochs and stopping.
    pub training: TrainingConfig,
}

/// What is read and how it is prepared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// The modalities in use, in the order of the model.
    pub modalities: Vec<Modality>,
    /// Whose metric definitions apply.
    pub convention: Convention,
    /// The label that means neutral; subtracted before training and metrics, added back in
    /// predictions. 0 for MOSI, MOSEI and CH-SIMS.
    pub neutral_label: f32,
    /// Standardise features with the statistics of the training split.
    pub standardize: bool,
    /// Bound on standardised features, in standard deviations.
    pub clip: f32,
    /// What happens to −∞, ∞ and NaN in features.
    pub non_finite: NonFinite,
    /// The column of a two-dimensional label array.
    pub label_column: Option<usize>,
    /// Features of a split that take more MiB of memory than this stay in the data file, and every
    /// batch is read from it; all are read into memory if absent. The results are the same.
    pub in_file_above_mib: Option<u64>,
}

/// One configuration a modality; those not in [`DataConfig::modalities`] are not used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModalityConfigs {
    /// Text.
    pub text: ModalityConfig,
    /// Audio.
    pub audio: ModalityConfig,
    /// Vision.
    pub vision: ModalityConfig,
}

/// The encoder and unimodal head of one modality.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModalityConfig {
    /// The array in the data file that holds its features.
    pub features: String,
    /// From a sequence of features to one vector.
    pub encoder: EncoderConfig,
    /// The unimodal head.
    pub head: RegressionHeadConfig,
    /// Learning rate of the encoder.
    pub learning_rate: f64,
    /// Weight decay of the encoder.
    pub weight_decay: f64,
    /// Probability that a training row hides this modality from the fusion, in [0, 1): the fusion
    /// head then learns not to lean on it.
    pub modality_dropout: f64,
}

/// How a score is compared with a label.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskLoss {
    /// `|ŷ − y|`, the published choice: its minimum is the median.
    #[default]
    Absolute,
    /// `(ŷ − y)²`: its minimum is the mean, which serves labels that crowd at one end.
    Squared,
}

/// The terms of the loss and their weights.
///
/// ```text
/// L = mean t(ŷ_m, y_m) + u Σ_s mean( tanh|y_s − y_m| · t(ŷ_s, y_s) ) + λ Σ_{i<j} w_ij · l(i, j)
/// ```
///
/// with the task loss t, the absolute error by default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ObjectiveConfig {
    /// How scores are compared with labels.
    pub task_loss: TaskLoss,
    /// Weight u of the unimodal tasks; 0 turns the label generator off.
    pub unimodal_weight: f64,
    /// Weight λ of the shared-information loss; 0 turns it off. The loss divides by 4 D², so weights
    /// in the hundreds and thousands are ordinary.
    pub shared_information_weight: f64,
    /// Width D of the projections that the shared-information loss compares.
    pub shared_width: usize,
    /// Which modalities exchange information.
    pub pairs: PairConfig,
    /// The form of the shared-information loss.
    pub shared_information: SharedInformationConfig,
}

/// The weight of each pair of modalities in the shared-information loss: positive shares, negative
/// separates, zero leaves alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PairConfig {
    /// Text with audio.
    pub text_audio: f64,
    /// Text with vision.
    pub text_vision: f64,
    /// Audio with vision.
    pub audio_vision: f64,
}

/// How the gradients of several batches become one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accumulation {
    /// They are added, as the published code does.
    Sum,
    /// They are averaged.
    Mean,
}

/// Batches, epochs and stopping.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainingConfig {
    /// Rows a batch.
    pub batch_size: usize,
    /// Batches a step.
    pub accumulation_steps: usize,
    /// How their gradients combine.
    pub accumulation: Accumulation,
    /// Take a step with the batches left over at the end of an epoch. The published code drops
    /// them.
    pub step_trailing_batches: bool,
    /// The last epoch, if early stopping has not come first.
    pub max_epochs: usize,
    /// Epochs without a better validation loss before stopping.
    pub patience: usize,
    /// Bound on the norm of a step's gradient; 0 for none.
    pub clip_gradient_norm: f64,
    /// The part of all steps, up to `max_epochs`, over which the learning rates rise linearly from
    /// 0, to fall linearly to 0 over the others. Absent, they are constant.
    pub warm_up: Option<f64>,
}

impl Default for ExperimentConfig {
    fn default() -> Self {
        Self::recipe(Recipe::Modalign, Convention::Mosi)
    }
}

impl ExperimentConfig {
    /// A recipe with the preset of one data set.
    pub fn recipe(recipe: Recipe, convention: Convention) -> Self {
        match recipe {
            Recipe::Modalign => recipe::modalign(convention),
            Recipe::SelfMm => recipe::self_mm(convention),
        }
    }

    /// The configuration of one modality.
    pub fn modality(&self, modality: Modality) -> &ModalityConfig {
        match modality {
            Modality::Text => &self.modalities.text,
            Modality::Audio => &self.modalities.audio,
            Modality::Vision => &self.modalities.vision,
        }
    }

    /// The pair weights among the modalities in use.
    pub fn pair_weights(&self) -> Result<PairWeights, TrainError> {
        let modalities = &self.data.modalities;
        let mut pairs = Vec::new();
        for (j, &right) in modalities.iter().enumerate() {
            for (i, &left) in modalities[..j].iter().enumerate() {
                pairs.push((i, j, self.objective.pairs.weight(left, right)));
            }
        }
        Ok(PairWeights::from_pairs(modalities.len(), &pairs)?)
    }

    /// Whether the shared-information loss acts at all.
    pub fn uses_shared_information(&self) -> bool {
        self.objective.shared_information_weight != 0.0
            && self
                .pair_weights()
                .is_ok_and(|weights| weights.pairs().next().is_some())
    }

    /// The least training rows that all terms of the loss exist for.
    pub(crate) fn minimum_rows(&self) -> usize {
        if self.uses_shared_information() {
            self.objective.shared_information.ddof + 1
        } else {
            1
        }
    }

    /// Whether unimodal labels are generated.
    pub fn uses_label_generator(&self) -> bool {
        self.objective.unimodal_weight > 0.0
    }

    /// Checks every value.
    ///
    /// # Errors
    ///
    /// [`TrainError::Config`] naming the key, what it must be and what it is, or the error of the
    /// part that refuses its configuration.
    pub fn validate(&self) -> Result<(), TrainError> {
        require(!self.seeds.is_empty(), "seeds", "at least one seed", "none")?;
        let mut seeds = self.seeds.clone();
        seeds.sort_unstable();
        seeds.dedup();
        let distinct = seeds.len() == self.seeds.len();
        require(
            distinct,
            "seeds",
            "each seed once",
            format_args!("{:?}", self.seeds),
        )?;

        let data = &self.data;
        require(
            !data.modalities.is_empty(),
            "data.modalities",
            "at least one modality",
            "none",
        )?;
        let mut modalities = data.modalities.clone();
        modalities.sort_unstable();
        modalities.dedup();
        require(
            modalities.len() == data.modalities.len(),
            "data.modalities",
            "each modality once",
            format_args!("{:?}", data.modalities),
        )?;
        let neutral = data.neutral_label;
        require(
            neutral.is_finite(),
            "data.neutral_label",
            "a finite number",
            neutral,
        )?;
        let clip = data.clip;
        require(clip > 0.0 && clip.is_finite(), "data.clip", "above 0", clip)?;

        for &modality in &data.modalities {
            let config = self.modality(modality);
            let key = |field: &str| format!("modalities.{modality}.{field}");
            require(
                !config.features.is_empty(),
                key("features"),
                "the name of an array",
                "nothing",
            )?;
            rate(config.learning_rate, key("learning_rate"))?;
            decay(config.weight_decay, key("weight_decay"))?;
            let dropout = config.modality_dropout;
            let allowed = (0.0..1.0).contains(&dropout);
            require(allowed, key("modality_dropout"), "in [0, 1)", dropout)?;
            section(key("encoder"), config.encoder.validate())?;
            section(key("head"), config.head.validate())?;
        }
        section("fusion", self.fusion.validate())?;

        if let Some(text) = &self.text_model {
            require(
                !text.folder.as_os_str().is_empty(),
                "text_model.folder",
                "the folder of a pretrained encoder",
                "nothing",
            )?;
            require(
                text.tuning != Tuning::Last(0),
                "text_model.tuning.last",
                "at least 1",
                0,
            )?;
            let tokens = text.max_tokens;
            require(tokens >= 3, "text_model.max_tokens", "at least 3", tokens)?;
            rate(text.learning_rate, "text_model.learning_rate")?;
            decay(text.weight_decay, "text_model.weight_decay")?;
        }

        let objective = &self.objective;
        let weight = objective.unimodal_weight;
        let allowed = weight >= 0.0 && weight.is_finite();
        require(allowed, "objective.unimodal_weight", "0 or above", weight)?;
        let weight = objective.shared_information_weight;
        let allowed = weight >= 0.0 && weight.is_finite();
        require(
            allowed,
            "objective.shared_information_weight",
            "0 or above",
            weight,
        )?;
        let width = objective.shared_width;
        require(width > 0, "objective.shared_width", "at least 1", width)?;
        section(
            "objective.shared_information",
            objective.shared_information.validate(),
        )?;
        section("objective.pairs", self.pair_weights())?;
        section("label_generator", self.label_generator.validate())?;

        section("optimizer", self.optimizer.validate())?;
        rate(self.heads.learning_rate, "heads.learning_rate")?;
        decay(self.heads.weight_decay, "heads.weight_decay")?;

        let training = &self.training;
        for (key, count) in [
            ("training.batch_size", training.batch_size),
            ("training.accumulation_steps", training.accumulation_steps),
            ("training.max_epochs", training.max_epochs),
            ("training.patience", training.patience),
        ] {
            require(count > 0, key, "at least 1", count)?;
        }
        if let Some(part) = training.warm_up {
            let allowed = (0.0..1.0).contains(&part);
            require(allowed, "training.warm_up", "in [0, 1)", part)?;
        }
        let bound = training.clip_gradient_norm;
        let allowed = bound >= 0.0 && bound.is_finite();
        require(allowed, "training.clip_gradient_norm", "0 or above", bound)?;
        if self.uses_shared_information() {
            require(
                training.batch_size > objective.shared_information.ddof,
                "training.batch_size",
                "above objective.shared_information.ddof, for a covariance needs that many rows",
                training.batch_size,
            )?;
        }
        Ok(())
    }
}

impl ExperimentConfig {
    /// The optimiser of a model: one group for each encoder, one for all heads and projections. A
    /// tuned text model has one with decay, one without for biases and norms, and one without steps
    /// for what is frozen.
    pub(crate) fn new_optimizer(&self, model: &Model<f32>) -> Result<Optimizer<f32>, TrainError> {
        let mut groups = vec![self.heads];
        groups.extend(Modality::ALL.map(|modality| {
            let config = self.modality(modality);
            ParameterGroup {
                learning_rate: config.learning_rate,
                weight_decay: config.weight_decay,
            }
        }));
        let tuned = match (&model.text, &self.text_model) {
            (Some(branch), Some(text)) => match &branch.encoder {
                Encoder::Bert(encoder) => Some((encoder, text, groups.len())),
                _ => None,
            },
            _ => None,
        };
        if let Some((_, text, _)) = tuned {
            let &TextModelConfig {
                learning_rate,
                weight_decay,
                ..
            } = text;
            for (learning_rate, weight_decay) in [
                (learning_rate, weight_decay),
                (learning_rate, 0.0),
                (0.0, 0.0),
            ] {
                groups.push(ParameterGroup {
                    learning_rate,
                    weight_decay,
                });
            }
        }
        let group = |name: &str| {
            if let (Some((encoder, _, first)), Some(name)) =
                (tuned, name.strip_prefix("text.encoder."))
            {
                let undecayed = name.ends_with(".bias") || name.contains("norm.");
                return match encoder.is_trained(name) {
                    true => first + usize::from(undecayed),
                    false => first + 2,
                };
            }
            Modality::ALL
                .into_iter()
                .position(|modality| name.starts_with(&format!("{modality}.encoder.")))
                .map_or(0, |index| index + 1)
        };
        Ok(Optimizer::new(&self.optimizer, model, groups, group)?)
    }
}

impl PairConfig {
    /// The weight of one pair, in either order; 0 for a modality with itself.
    pub fn weight(&self, left: Modality, right: Modality) -> f64 {
        use Modality::{Audio, Text, Vision};
        match (left.min(right), left.max(right)) {
            (Text, Audio) => self.text_audio,
            (Text, Vision) => self.text_vision,
            (Audio, Vision) => self.audio_vision,
            _ => 0.0,
        }
    }
}

fn require(
    holds: bool,
    key: impl Into<String>,
    expected: &'static str,
    found: impl std::fmt::Display,
) -> Result<(), TrainError> {
    if holds {
        return Ok(());
    }
    Err(TrainError::Config {
        key: key.into(),
        expected,
        found: found.to_string(),
    })
}

/// Says in which part of the configuration another crate found a value it refuses.
fn section<T>(
    key: impl Into<String>,
    result: Result<T, impl Into<TrainError>>,
) -> Result<T, TrainError> {
    result.map_err(|error| TrainError::Section {
        key: key.into(),
        source: Box::new(error.into()),
    })
}

fn rate(value: f64, key: impl Into<String>) -> Result<(), TrainError> {
    require(value > 0.0 && value.is_finite(), key, "above 0", value)
}

fn decay(value: f64, key: impl Into<String>) -> Result<(), TrainError> {
    require(value >= 0.0 && value.is_finite(), key, "0 or above", value)
}

impl ExperimentConfig {
    /// The modalities in use, in the order of the model: text, audio, vision.
    pub fn modalities_in_use(&self) -> impl Iterator<Item = Modality> + '_ {
        Modality::ALL
            .into_iter()
            .filter(|modality| self.data.modalities.contains(modality))
    }
}
