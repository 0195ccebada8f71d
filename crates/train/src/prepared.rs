//! A data set as the model takes it: chosen modalities, standardised, labels around neutral.

use indexmap::IndexMap;
use modalign_data::{Dataset, Split, Standardizer};
use modalign_encoders::Modality;

use crate::{ExperimentConfig, TrainError};

/// How the features of one modality become the model's input.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Preparation {
    pub modality: Modality,
    /// The key of its features.
    pub features: String,
    /// Features a step.
    pub width: usize,
    /// Fitted on the training split; absent when the configuration turns standardising off.
    pub standardizer: Option<Standardizer>,
}

impl Preparation {
    /// Fits the preparation of every modality in use on the training split.
    fn fit(config: &ExperimentConfig, train: &Split) -> Result<Vec<Self>, TrainError> {
        config
            .modalities_in_use()
            .map(|modality| {
                let features = config.modality(modality).features.clone();
                let sequences = train.feature(&features)?;
                let standardizer = if config.data.standardize {
                    let fitted = Standardizer::fit(sequences)?;
                    Some(Standardizer {
                        clip: Some(config.data.clip),
                        ..fitted
                    })
                } else {
                    None
                };
                Ok(Self {
                    modality,
                    width: sequences.width(),
                    features,
                    standardizer,
                })
            })
            .collect()
    }
}

/// A split with only what the model reads, standardised, its labels minus the neutral one.
pub(crate) fn prepare(
    preparation: &[Preparation],
    neutral_label: f32,
    split: &Split,
) -> Result<Split, TrainError> {
    let mut features = IndexMap::new();
    for one in preparation {
        let mut sequences = split.feature(&one.features)?.clone();
        let found = sequences.width();
        if found != one.width {
            return Err(TrainError::Width {
                modality: one.modality,
                expected: one.width,
                found,
            });
        }
        if let Some(standardizer) = &one.standardizer {
            standardizer.apply(&mut sequences)?;
        }
        features.insert(one.features.clone(), sequences);
    }
    Ok(Split {
        id: split.id.clone(),
        raw_text: None,
        text_bert: None,
        features,
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
}

impl PreparedData {
    pub fn new(config: &ExperimentConfig, dataset: &Dataset) -> Result<Self, TrainError> {
        let (found, expected) = (dataset.train.len(), config.minimum_rows());
        if found < expected {
            return Err(TrainError::TooFewRows {
                split: "train",
                expected,
                found,
                purpose: "for a covariance",
            });
        }
        let preparation = Preparation::fit(config, &dataset.train)?;
        let neutral = config.data.neutral_label;
        let train = prepare(&preparation, neutral, &dataset.train)?;
        let valid = prepare(&preparation, neutral, &dataset.valid)?;
        Ok(Self {
            preparation,
            train,
            valid,
        })
    }

    /// The keys of the features, in the order of the model.
    pub fn keys(&self) -> Vec<&str> {
        self.preparation
            .iter()
            .map(|one| one.features.as_str())
            .collect()
    }
}
