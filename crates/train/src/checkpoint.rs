//! A trained model with all that is needed to use it, as one safetensors file.

use std::path::Path;

use modalign_core::{Parameters, Store, StoreError, Stream, rng};
use modalign_data::Standardizer;
use modalign_encoders::{Encoder, Modality};
use ndarray::{Array1, array};

use crate::model::{Model, parameter_count};
use crate::prepared::{Preparation, text_encoder};
use crate::text_model::TextModel;
use crate::{ExperimentConfig, TrainError};

/// The version of the layout of arrays and metadata, raised when it changes.
const FORMAT: &str = "2";

/// The metadata entry of the checksum over everything else.
const CHECKSUM: &str = "sha256";

/// The metadata entry of a text model.
const TEXT_MODEL: &str = "text_model";

/// A trained model: configuration, seed, standardisation and weights.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    pub(crate) config: ExperimentConfig,
    pub(crate) seed: u64,
    pub(crate) preparation: Vec<Preparation>,
    pub(crate) model: Model<f32>,
}

impl Checkpoint {
    /// The configuration it was trained with.
    pub fn config(&self) -> &ExperimentConfig {
        &self.config
    }

    /// The seed of its run.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The model with its weights.
    pub fn model(&self) -> &Model<f32> {
        &self.model
    }

    /// Writes the tuned text encoder into a new folder that `transformers` reads; nothing if there is
    /// none. Says whether there is.
    ///
    /// # Errors
    ///
    /// [`TrainError::Store`] or [`TrainError::Encoder`] with the path.
    pub fn save_text_encoder(&self, folder: impl AsRef<Path>) -> Result<bool, TrainError> {
        let text_model = self
            .preparation
            .iter()
            .find_map(|one| one.text_model.as_ref());
        let encoder = self.model.text.as_ref().map(|branch| &branch.encoder);
        let (Some(text_model), Some(Encoder::Bert(encoder))) = (text_model, encoder) else {
            return Ok(false);
        };
        let folder = folder.as_ref();
        std::fs::create_dir_all(folder).map_err(|source| StoreError::Io {
            path: folder.to_owned(),
            source,
        })?;
        text_model.save(folder, encoder)?;
        Ok(true)
    }

    /// Writes the file whole or not at all.
    ///
    /// # Errors
    ///
    /// [`TrainError::Store`] with the path.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), TrainError> {
        let path = path.as_ref();
        let config =
            serde_json::to_string(&self.config).map_err(|error| TrainError::Checkpoint {
                path: path.to_owned(),
                reason: error.to_string(),
            })?;
        let mut store = Store::default();
        store
            .metadata
            .insert("format".to_owned(), FORMAT.to_owned());
        store.metadata.insert("config".to_owned(), config);
        store
            .metadata
            .insert("seed".to_owned(), self.seed.to_string());
        for one in &self.preparation {
            let modality = one.modality;
            store.insert(format!("input.{modality}.width"), &array![one.width as u64]);
            if let Some(text_model) = &one.text_model {
                let record = text_model.record()?;
                store.metadata.insert(TEXT_MODEL.to_owned(), record);
            }
            if let Some(standardizer) = &one.standardizer {
                store.insert(format!("input.{modality}.mean"), &standardizer.mean);
                store.insert(format!("input.{modality}.scale"), &standardizer.scale);
            }
        }
        store.insert_parameters("model", &self.model);
        let sum = store.checksum();
        store.metadata.insert(CHECKSUM.to_owned(), sum);
        Ok(store.save(path)?)
    }

    /// Reads a file that [`save`](Self::save) wrote.
    ///
    /// # Errors
    ///
    /// [`TrainError::Store`] for a file that cannot be read, is cut, or lacks an array or has one of
    /// another shape; [`TrainError::Checkpoint`] for metadata that is absent or not understood, and
    /// for content that its checksum does not fit.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, TrainError> {
        let path = path.as_ref();
        let refuse = |reason: String| TrainError::Checkpoint {
            path: path.to_owned(),
            reason,
        };
        let mut store = Store::load(path)?;
        let absent = |key: &str| {
            refuse(format!(
                "no metadata entry {key}: it is not a modalign checkpoint"
            ))
        };
        let expected = store.metadata.remove(CHECKSUM);
        let entry = |key: &str| store.metadata.get(key).ok_or_else(|| absent(key));
        let format = entry("format")?;
        if format != FORMAT {
            return Err(refuse(format!(
                "format {format}, this version reads format {FORMAT}"
            )));
        }
        let expected = expected.ok_or_else(|| absent(CHECKSUM))?;
        let found = store.checksum();
        if found != expected {
            return Err(refuse(format!(
                "damaged: expected sha256 {expected}, found {found}"
            )));
        }
        let config: ExperimentConfig = serde_json::from_str(entry("config")?)
            .map_err(|error| refuse(format!("its configuration: {error}")))?;
        config
            .validate()
            .map_err(|error| refuse(format!("its {error}")))?;
        let seed = entry("seed")?;
        let seed = seed
            .parse()
            .map_err(|_| refuse(format!("its seed is {seed:?}")))?;

        // What the file holds bounds what the configuration may ask memory for.
        let stored = store.parameter_count("model");
        let too_few = |expected: usize| {
            refuse(format!(
                "its configuration says {expected} parameters, the file has {stored}"
            ))
        };

        let vector = |name: String, width: usize| -> Result<Array1<f32>, TrainError> {
            let found = store.array::<f32>(&name)?;
            check_finite(path, &name, found.iter())?;
            let shape = found.shape().to_vec();
            found.into_shape_with_order(width).map_err(|_| {
                refuse(format!(
                    "{name} has shape {shape:?}, expected {:?}",
                    [width]
                ))
            })
        };
        let preparation = config
            .modalities_in_use()
            .map(|modality| {
                let width = store.array::<u64>(&format!("input.{modality}.width"))?;
                let width = width.first().map_or(0, |&width| width as usize);
                let text_model = match (modality, &config.text_model) {
                    (Modality::Text, Some(text)) => {
                        Some(TextModel::restore(path, entry(TEXT_MODEL)?, text, stored)?)
                    }
                    _ => None,
                };
                let tokens = text_model
                    .as_ref()
                    .is_some_and(|text| text.tuned().is_some());
                let standardizer = if config.data.standardize && !tokens {
                    let scale = vector(format!("input.{modality}.scale"), width)?;
                    if let Some(value) = scale.iter().find(|&&value| value <= 0.0) {
                        return Err(refuse(format!(
                            "input.{modality}.scale has {value}, expected numbers above 0"
                        )));
                    }
                    Some(Standardizer {
                        mean: vector(format!("input.{modality}.mean"), width)?,
                        scale,
                        clip: Some(config.data.clip),
                    })
                } else {
                    None
                };
                let features = config.modality(modality).features.clone();
                Ok(Preparation {
                    modality,
                    features,
                    width,
                    standardizer,
                    text_model,
                })
            })
            .collect::<Result<Vec<_>, TrainError>>()?;

        let widths: Vec<_> = preparation.iter().map(|one| one.width).collect();
        let text = text_encoder(&preparation);
        let pretrained = text
            .as_ref()
            .map(|text| (text.parameter_count(), text.output_size()));
        let expected = parameter_count(&config, &widths, pretrained);
        if expected > stored {
            return Err(too_few(expected));
        }
        let initialisation = &mut rng(seed, Stream::Initialisation);
        let mut model = Model::with_text_encoder(&config, &widths, text, initialisation)?;
        store.read_parameters("model", &mut model)?;
        for (name, view) in model.named_views() {
            check_finite(path, &name, view.iter())?;
        }
        Ok(Self {
            config,
            seed,
            preparation,
            model,
        })
    }
}

fn check_finite<'a>(
    path: &Path,
    name: &str,
    values: impl IntoIterator<Item = &'a f32>,
) -> Result<(), TrainError> {
    match values.into_iter().find(|value| !value.is_finite()) {
        None => Ok(()),
        Some(value) => Err(TrainError::Checkpoint {
            path: path.to_owned(),
            reason: format!("{name} has {value}, expected finite numbers"),
        }),
    }
}
