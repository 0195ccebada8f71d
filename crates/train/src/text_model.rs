//! Text through a pretrained encoder, from the transcripts of the data.
//!
//! Tuned, the encoder is a part of the model: its input is tokens, and it takes the place of the
//! text encoder of the configuration. Frozen, it turns each transcript into a vector once; the
//! vectors are the text features, and the configured text encoder reads them.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use modalign_core::{Store, Stream, rng};
use modalign_data::{Sequences, Split};
use modalign_encoders::{
    BertConfig, BertEncoder, EncodedTexts, Pooling, TextTokenizer, TokenBatch,
};
use ndarray::{Array2, Axis, Ix2, s};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::TrainError;

/// Transcripts that a frozen encoder reads at a time; only the memory depends on it.
const ROWS_AT_ONCE: usize = 64;

/// A pretrained text encoder and how it is used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TextModelConfig {
    /// A Hugging Face folder of the BERT family. A trained model whose encoder was tuned no longer
    /// needs it, one whose encoder is frozen does.
    pub folder: PathBuf,
    /// What of it is trained.
    pub tuning: Tuning,
    /// How the states of a transcript's tokens become one vector.
    pub pooling: Pooling,
    /// Longer transcripts lose their ends, and are counted. `[CLS]` and `[SEP]` are included.
    pub max_tokens: usize,
    /// Learning rate of what is trained.
    pub learning_rate: f64,
    /// Weight decay of what is trained, biases and norms excepted.
    pub weight_decay: f64,
    /// Whether the backward pass computes each layer again, of which only the input is kept: less
    /// memory, more time, the same bits.
    pub recompute_layers: bool,
    /// Where the vectors of a frozen encoder are kept between programs; nowhere if absent.
    pub cache: Option<PathBuf>,
}

/// What of a pretrained encoder is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tuning {
    /// Everything.
    #[default]
    Full,
    /// So many of its last layers.
    Last(usize),
    /// Nothing.
    Frozen,
}

impl Default for TextModelConfig {
    fn default() -> Self {
        Self {
            folder: PathBuf::new(),
            tuning: Tuning::default(),
            pooling: Pooling::Mean,
            max_tokens: 50,
            learning_rate: 5e-5,
            weight_decay: 0.01,
            recompute_layers: false,
            cache: None,
        }
    }
}

/// A tokeniser with the encoder that it was made for.
#[derive(Debug, Clone)]
pub(crate) struct TextModel {
    bert: BertConfig,
    tokenizer: TextTokenizer,
    /// The pretrained weights; of a tuned model that was loaded only their form.
    encoder: Arc<BertEncoder<f32>>,
    frozen: bool,
    /// Hash of the pretrained weights.
    content: String,
    cache: Option<PathBuf>,
}

/// What a checkpoint says of its text model beside the weights.
#[derive(Serialize, Deserialize)]
struct Record {
    bert: BertConfig,
    tokenizer: String,
    content: String,
}

impl TextModel {
    /// Reads the folder of a configuration.
    pub fn load(config: &TextModelConfig) -> Result<Self, TrainError> {
        let bert = BertConfig::load(&config.folder, config.pooling)?;
        let tokenizer = TextTokenizer::load(&config.folder, &bert, config.max_tokens)?;
        let mut encoder = BertEncoder::load(&config.folder, config.pooling)?;
        prepare(&mut encoder, config);
        Ok(Self {
            content: content(&encoder),
            bert,
            tokenizer,
            encoder: Arc::new(encoder),
            frozen: config.tuning == Tuning::Frozen,
            cache: config.cache.clone(),
        })
    }

    /// What [`restore`](Self::restore) needs.
    pub fn record(&self) -> Result<String, TrainError> {
        let record = Record {
            bert: self.bert.clone(),
            tokenizer: self.tokenizer.to_json()?,
            content: self.content.clone(),
        };
        serde_json::to_string(&record).map_err(|error| TrainError::Checkpoint {
            path: PathBuf::new(),
            reason: error.to_string(),
        })
    }

    /// The text model of the checkpoint in `path`. A tuned encoder has its form alone, for its
    /// weights are the model's, of which the file has `stored`; a frozen one is read from its folder.
    pub fn restore(
        path: &Path,
        record: &str,
        config: &TextModelConfig,
        stored: usize,
    ) -> Result<Self, TrainError> {
        let refuse = |reason: String| TrainError::Checkpoint {
            path: path.to_owned(),
            reason,
        };
        let record: Record = serde_json::from_str(record)
            .map_err(|error| refuse(format!("its text model: {error}")))?;
        if config.tuning == Tuning::Frozen {
            let model = Self::load(config)?;
            if model.content != record.content {
                return Err(refuse(format!(
                    "it was trained on vectors of another encoder than the one in {}",
                    config.folder.display()
                )));
            }
            return Ok(model);
        }
        let tokens = record.tokenizer.as_bytes();
        let tokenizer = TextTokenizer::from_json(path, tokens, &record.bert, config.max_tokens)?;
        let expected = record.bert.parameter_count();
        if expected > stored {
            return Err(refuse(format!(
                "its text model says {expected} parameters, the file has {stored}"
            )));
        }
        // Every weight drawn here is replaced.
        let mut encoder = BertEncoder::new(&record.bert, &mut rng(0, Stream::Initialisation))?;
        prepare(&mut encoder, config);
        Ok(Self {
            bert: record.bert,
            tokenizer,
            encoder: Arc::new(encoder),
            frozen: false,
            content: record.content,
            cache: None,
        })
    }

    /// The encoder that training starts from, or none if it is frozen.
    pub fn tuned(&self) -> Option<&BertEncoder<f32>> {
        (!self.frozen).then_some(&*self.encoder)
    }

    /// Writes a Hugging Face folder with the weights of `encoder`.
    pub fn save(&self, folder: &Path, encoder: &BertEncoder<f32>) -> Result<(), TrainError> {
        encoder.save(folder, &self.bert)?;
        Ok(self.tokenizer.save(folder)?)
    }

    /// The text of a split as the model's input, and how many transcripts lost their ends: tokens
    /// for an encoder that is tuned, vectors of one that is frozen.
    pub fn sequences(&self, split: &Split) -> Result<(Sequences, usize), TrainError> {
        let EncodedTexts { batch, truncated } = self.tokens(split)?;
        let sequences = if self.frozen {
            Sequences::from_vectors(self.vectors(&batch)?)
        } else {
            let (values, lengths) = batch.to_steps()?;
            Sequences { values, lengths }
        };
        Ok((sequences, truncated))
    }

    /// Of the transcripts, or else of the tokens that the file has.
    fn tokens(&self, split: &Split) -> Result<EncodedTexts, TrainError> {
        if let Some(texts) = &split.raw_text {
            return Ok(self.tokenizer.encode(texts)?);
        }
        let Some(tokens) = &split.text_bert else {
            return Err(TrainError::NoText);
        };
        // A number that is no index becomes one that no table has.
        let row = |index| {
            let row = tokens.index_axis(Axis(1), index);
            row.mapv(|value| u32::try_from(value).unwrap_or(u32::MAX))
        };
        let batch = TokenBatch {
            ids: row(0),
            mask: tokens.index_axis(Axis(1), 1).mapv(|value| value != 0),
            token_types: row(2),
        };
        Ok(self.tokenizer.truncate(batch)?)
    }

    fn vectors(&self, batch: &TokenBatch) -> Result<Array2<f32>, TrainError> {
        let cached = self.cache.as_ref().map(|folder| {
            let name = format!("{}.safetensors", self.key(batch));
            folder.join(name)
        });
        if let Some(path) = cached.as_ref().filter(|path| path.exists()) {
            let vectors = Store::load(path)?.array::<f32>("vectors")?;
            let expected = [batch.ids.nrows(), self.encoder.output_size()];
            let found = vectors.shape().to_vec();
            return vectors
                .into_dimensionality::<Ix2>()
                .ok()
                .filter(|vectors| vectors.shape() == expected)
                .ok_or_else(|| TrainError::Checkpoint {
                    path: path.clone(),
                    reason: format!("vectors of shape {found:?}, expected {expected:?}"),
                });
        }
        let mut vectors = Array2::zeros((batch.ids.nrows(), self.encoder.output_size()));
        for start in (0..batch.ids.nrows()).step_by(ROWS_AT_ONCE) {
            let rows = start..batch.ids.nrows().min(start + ROWS_AT_ONCE);
            let part = TokenBatch {
                ids: batch.ids.slice(s![rows.clone(), ..]).to_owned(),
                mask: batch.mask.slice(s![rows.clone(), ..]).to_owned(),
                token_types: batch.token_types.slice(s![rows.clone(), ..]).to_owned(),
            };
            let encoded = self.encoder.infer(&part)?;
            vectors.slice_mut(s![rows, ..]).assign(&encoded);
        }
        if let Some(path) = cached {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder).map_err(|source| {
                    let path = folder.to_owned();
                    modalign_core::StoreError::Io { path, source }
                })?;
            }
            let mut store = Store::default();
            store.insert("vectors", &vectors);
            store.save(path)?;
        }
        Ok(vectors)
    }

    /// The hash of everything that the vectors depend on.
    fn key(&self, batch: &TokenBatch) -> String {
        let mut hash = Sha256::new();
        hash.update(&self.content);
        hash.update(format!("{:?} {:?}", self.bert, batch.ids.dim()));
        let tokens = batch.ids.iter().zip(&batch.mask).zip(&batch.token_types);
        for ((&id, &on), &token_type) in tokens {
            // Nothing depends on what stands where there is no token.
            let [id, token_type] = if on { [id, token_type] } else { [0, 0] };
            hash.update(id.to_le_bytes());
            hash.update(token_type.to_le_bytes());
            hash.update([u8::from(on)]);
        }
        hexadecimal(hash)
    }
}

fn prepare(encoder: &mut BertEncoder<f32>, config: &TextModelConfig) {
    encoder.recompute_layers(config.recompute_layers);
    if let Tuning::Last(layers) = config.tuning {
        encoder.train_last_layers(layers);
    }
}

fn content(encoder: &BertEncoder<f32>) -> String {
    use modalign_core::Parameters;
    let mut hash = Sha256::new();
    for (name, view) in encoder.named_views() {
        hash.update(name);
        let bytes: Vec<u8> = view.iter().flat_map(|value| value.to_le_bytes()).collect();
        hash.update(bytes);
    }
    hexadecimal(hash)
}

fn hexadecimal(hash: Sha256) -> String {
    hash.finalize()
        .iter()
        .fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
