//! A data set as the model takes it: chosen modalities, standardised, labels around neutral.

use indexmap::IndexMap;
use modalign_data::{DataError, Dataset, FileSequences, Sequences, Split, Standardizer};
use modalign_encoders::{BertEncoder, Modality};

use crate::text_model::TextModel;
use crate::{ExperimentConfig, TrainError};

/// How the features of one modality become the model's input.
#[derive(Debug, Clone)]
pub(crate) struct Preparation {
    pub modality: Modality,
    /// The key of its features.
    pub features: String,
    /// Features a step.
    pub width: usize,
    /// Fitted on the training split; absent when the configuration turns standardising off, and for
    /// tokens.
    pub standardizer: Option<Standardizer>,
    /// What makes the features from transcripts; absent if the data has them.
    pub text_model: Option<TextModel>,
}

impl Preparation {
    /// Fits the preparation of every modality in use on the training split, whose sequences come
    /// with it.
    fn fit(config: &ExperimentConfig, train: &Split) -> Result<Vec<(Self, Read)>, TrainError> {
        config
            .modalities_in_use()
            .map(|modality| {
                let features = config.modality(modality).features.clone();
                let text_model = match (modality, &config.text_model) {
                    (Modality::Text, Some(text)) => Some(TextModel::load(text)?),
                    _ => None,
                };
                let tokens = text_model
                    .as_ref()
                    .is_some_and(|text| text.tuned().is_some());
                let read = Read::new(text_model.as_ref(), &features, train)?;
                let features_read = &read.features;
                let standardizer = if config.data.standardize && !tokens {
                    let fitted = features_read.fit()?;
                    Some(Standardizer {
                        clip: Some(config.data.clip),
                        ..fitted
                    })
                } else {
                    None
                };
                let preparation = Self {
                    modality,
                    width: features_read.width(),
                    features,
                    standardizer,
                    text_model,
                };
                Ok((preparation, read))
            })
            .collect()
    }

    fn apply(&self, features: Features) -> Result<Features, TrainError> {
        let found = features.width();
        if found != self.width {
            return Err(TrainError::Width {
                modality: self.modality,
                expected: self.width,
                found,
            });
        }
        Ok(match &self.standardizer {
            Some(standardizer) => features.standardized(standardizer)?,
            None => features,
        })
    }
}

/// The features of one modality as they come, and how many transcripts lost their ends.
struct Read {
    features: Features,
    truncated: usize,
}

/// The features of one modality, wherever they are.
enum Features {
    InMemory(Sequences),
    InFile(FileSequences),
}

impl Features {
    fn width(&self) -> usize {
        match self {
            Self::InMemory(sequences) => sequences.width(),
            Self::InFile(sequences) => sequences.width(),
        }
    }

    fn fit(&self) -> Result<Standardizer, DataError> {
        match self {
            Self::InMemory(sequences) => Standardizer::fit(sequences),
            Self::InFile(sequences) => Standardizer::fit_file(sequences),
        }
    }

    fn standardized(self, standardizer: &Standardizer) -> Result<Self, DataError> {
        Ok(match self {
            Self::InMemory(mut sequences) => {
                standardizer.apply(&mut sequences)?;
                Self::InMemory(sequences)
            }
            Self::InFile(sequences) => Self::InFile(sequences.standardized(standardizer.clone())?),
        })
    }
}

impl Read {
    fn new(text_model: Option<&TextModel>, key: &str, split: &Split) -> Result<Self, TrainError> {
        if let Some(text_model) = text_model {
            let (sequences, truncated) = text_model.sequences(split)?;
            return Ok(Self {
                features: Features::InMemory(sequences),
                truncated,
            });
        }
        let features = match split.file_features.get(key) {
            Some(sequences) => Features::InFile(sequences.clone()),
            None => Features::InMemory(split.feature(key)?.clone()),
        };
        Ok(Self {
            features,
            truncated: 0,
        })
    }
}

/// A split with only what the model reads, standardised, its labels minus the neutral one.
pub(crate) fn prepare(
    preparation: &[Preparation],
    neutral_label: f32,
    split: &Split,
) -> Result<Split, TrainError> {
    split.validate("split")?;
    let reads = read(preparation, split)?;
    assemble(preparation, neutral_label, split, reads)
}

fn read(preparation: &[Preparation], split: &Split) -> Result<Vec<Read>, TrainError> {
    preparation
        .iter()
        .map(|one| Read::new(one.text_model.as_ref(), &one.features, split))
        .collect()
}

fn assemble(
    preparation: &[Preparation],
    neutral_label: f32,
    split: &Split,
    reads: Vec<Read>,
) -> Result<Split, TrainError> {
    let (mut features, mut file_features) = (IndexMap::new(), IndexMap::new());
    for (one, read) in preparation.iter().zip(reads) {
        let key = one.features.clone();
        match one.apply(read.features)? {
            Features::InMemory(sequences) => {
                features.insert(key, sequences);
            }
            Features::InFile(sequences) => {
                file_features.insert(key, sequences);
            }
        }
    }
    Ok(Split {
        id: split.id.clone(),
        raw_text: None,
        text_bert: None,
        features,
        file_features,
        labels: &split.labels - neutral_label,
        unimodal_labels: IndexMap::new(),
    })
}

/// The splits a run learns from, prepared with the statistics of the first.
#[derive(Debug, Clone)]
pub(crate) struct PreparedData {
    pub preparation: Vec<Preparation>,
    pub train: Split,
    pub valid: Split,
    /// Transcripts of both that lost their ends.
    pub truncated: usize,
}

impl PreparedData {
    pub fn new(config: &ExperimentConfig, dataset: &Dataset) -> Result<Self, TrainError> {
        dataset.validate()?;
        let (found, expected) = (dataset.train.len(), config.minimum_rows());
        if found < expected {
            return Err(TrainError::TooFewRows {
                split: "train",
                expected,
                found,
                purpose: "for a covariance",
            });
        }
        let fitted = Preparation::fit(config, &dataset.train)?;
        let (preparation, train): (Vec<_>, Vec<_>) = fitted.into_iter().unzip();
        let valid = read(&preparation, &dataset.valid)?;
        let truncated = train.iter().chain(&valid).map(|read| read.truncated).sum();
        let neutral = config.data.neutral_label;
        Ok(Self {
            train: assemble(&preparation, neutral, &dataset.train, train)?,
            valid: assemble(&preparation, neutral, &dataset.valid, valid)?,
            preparation,
            truncated,
        })
    }

    /// The pretrained text encoder to train, if there is one.
    pub fn text_encoder(&self) -> Option<BertEncoder<f32>> {
        text_encoder(&self.preparation)
    }

    /// The keys of the features, in the order of the model.
    pub fn keys(&self) -> Vec<&str> {
        self.preparation
            .iter()
            .map(|one| one.features.as_str())
            .collect()
    }
}

/// The text encoder of a model for this preparation, if it is not the one of the configuration.
pub(crate) fn text_encoder(preparation: &[Preparation]) -> Option<BertEncoder<f32>> {
    preparation
        .iter()
        .find_map(|one| one.text_model.as_ref()?.tuned().cloned())
}
