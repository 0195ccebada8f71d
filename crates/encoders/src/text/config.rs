//! The form of a BERT encoder, and how a Hugging Face folder states it.

use std::path::Path;

use modalign_nn::{Activation, TransformerConfig};
use serde::{Deserialize, Serialize};

use crate::EncoderError;
use crate::error::{check_config, check_size};
use crate::text::folder;

/// How the states of a text's tokens become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The state of the first token, `[CLS]`.
    #[default]
    Cls,
    /// The mean of the states of all tokens, `[CLS]` and `[SEP]` included.
    Mean,
}

/// The models of the BERT family: they compute alike and call their parts by different names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// BERT, MiniLM and all that keep their names.
    #[default]
    Bert,
    /// RoBERTa: the first two rows of its position table belong to no position.
    Roberta,
    /// DistilBERT: no segments. Its own training has no dropout after the attention; here it is
    /// dropped as in the others.
    #[serde(rename = "distilbert")]
    DistilBert,
}

impl Architecture {
    const ALL: [Self; 3] = [Self::Bert, Self::Roberta, Self::DistilBert];

    /// What `config.json` calls it.
    fn model_type(self) -> &'static str {
        match self {
            Self::Bert => "bert",
            Self::Roberta => "roberta",
            Self::DistilBert => "distilbert",
        }
    }

    /// What the names of its classes begin with.
    fn class(self) -> &'static str {
        match self {
            Self::Bert => "Bert",
            Self::Roberta => "Roberta",
            Self::DistilBert => "DistilBert",
        }
    }

    /// The row of the position table that the first token of a text has.
    pub(crate) fn first_position(self) -> usize {
        match self {
            Self::Roberta => ROBERTA_PADDING + 1,
            Self::Bert | Self::DistilBert => 0,
        }
    }

    /// The tokens at the beginning and at the end of every text.
    pub(crate) fn frame(self) -> [&'static str; 2] {
        match self {
            Self::Roberta => ["<s>", "</s>"],
            Self::Bert | Self::DistilBert => ["[CLS]", "[SEP]"],
        }
    }
}

/// The token that RoBERTa fills texts up with; positions are counted from the next row on.
const ROBERTA_PADDING: usize = 1;

/// The form of a [`BertEncoder`](crate::BertEncoder). The defaults are those of BERT-base, uncased.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BertConfig {
    /// Default BERT.
    pub architecture: Architecture,
    /// Rows of the token table, at least 1. Default 30522.
    pub vocabulary_size: usize,
    /// Rows of the position table, at least 1, or 3 for RoBERTa. Default 512.
    pub positions: usize,
    /// Rows of the segment table, at least 1; 0 for DistilBERT, which has none. Default 2.
    pub token_types: usize,
    /// Transformer layers. Default 12.
    pub layers: usize,
    /// The form of each layer; its dropout and epsilon serve the embeddings too.
    pub layer: TransformerConfig,
    /// Default the first token.
    pub pooling: Pooling,
}

impl Default for BertConfig {
    fn default() -> Self {
        Self {
            architecture: Architecture::default(),
            vocabulary_size: 30_522,
            positions: 512,
            token_types: 2,
            layers: 12,
            layer: TransformerConfig::default(),
            pooling: Pooling::default(),
        }
    }
}

/// The entries of `config.json` that say how the numbers are computed. Others say how a model was
/// trained or is served.
#[derive(Deserialize)]
struct BertFile {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    #[serde(default = "default_activation")]
    hidden_act: String,
    #[serde(default = "default_rate")]
    hidden_dropout_prob: f64,
    #[serde(default = "default_rate")]
    attention_probs_dropout_prob: f64,
    #[serde(default = "default_epsilon")]
    layer_norm_eps: f64,
    #[serde(default = "default_position")]
    position_embedding_type: String,
    #[serde(default)]
    is_decoder: bool,
    #[serde(default = "default_padding")]
    pad_token_id: usize,
}

/// The same for DistilBERT, which has other names for them.
#[derive(Deserialize)]
struct DistilBertFile {
    vocab_size: usize,
    max_position_embeddings: usize,
    n_layers: usize,
    n_heads: usize,
    dim: usize,
    hidden_dim: usize,
    #[serde(default = "default_activation")]
    activation: String,
    #[serde(default = "default_rate")]
    dropout: f64,
    #[serde(default = "default_rate")]
    attention_dropout: f64,
}

/// Read before the rest, because another architecture has other entries.
#[derive(Deserialize)]
struct Names {
    model_type: Option<String>,
    #[serde(default)]
    architectures: Vec<String>,
}

fn default_padding() -> usize {
    ROBERTA_PADDING
}

fn default_activation() -> String {
    "gelu".to_owned()
}

fn default_rate() -> f64 {
    0.1
}

fn default_epsilon() -> f64 {
    1e-12
}

fn default_position() -> String {
    "absolute".to_owned()
}

impl BertConfig {
    /// Checks every value.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Config`] or [`EncoderError::Nn`] naming the field.
    pub fn validate(&self) -> Result<(), EncoderError> {
        check_size("bert", "vocabulary_size", self.vocabulary_size)?;
        check_config(
            self.positions > self.architecture.first_position(),
            "bert",
            "positions",
            "more than the rows that belong to no position",
            self.positions as f64,
        )?;
        check_size("bert", "positions", self.positions)?;
        match self.architecture {
            Architecture::DistilBert => check_config(
                self.token_types == 0,
                "bert",
                "token_types",
                "0, for DistilBERT has none",
                self.token_types as f64,
            )?,
            Architecture::Bert | Architecture::Roberta => {
                check_size("bert", "token_types", self.token_types)?;
            }
        }
        Ok(self.layer.validate()?)
    }

    /// The longest text in tokens.
    pub fn longest_text(&self) -> usize {
        self.positions
            .saturating_sub(self.architecture.first_position())
    }

    /// Reads `config.json` of a Hugging Face folder; the pooling, of which it says nothing, is the
    /// caller's.
    ///
    /// # Errors
    ///
    /// [`EncoderError::Io`] or [`EncoderError::Format`] if it cannot be read,
    /// [`EncoderError::Unsupported`] if the model is no BERT encoder as it is known here, or a value
    /// out of its range.
    pub fn load(folder: impl AsRef<Path>, pooling: Pooling) -> Result<Self, EncoderError> {
        let path = folder.as_ref().join("config.json");
        let bytes = folder::read(&path)?;
        let Names {
            model_type,
            architectures,
        } = folder::json(&path, &bytes)?;
        // Configurations of 2018 have no model type.
        let name = model_type.or_else(|| architectures.into_iter().next());
        let name = name.as_deref().unwrap_or("without a name");
        let is = |architecture: &Architecture| {
            let class = name.strip_prefix(architecture.class());
            name == architecture.model_type()
                || class.is_some_and(|rest| rest.starts_with("Model") || rest.starts_with("For"))
        };
        let architecture = Architecture::ALL.into_iter().find(is);
        let architecture = architecture.ok_or_else(|| EncoderError::Unsupported {
            path: path.clone(),
            what: "architecture",
            found: name.to_owned(),
        })?;
        let config = match architecture {
            Architecture::Bert | Architecture::Roberta => {
                Self::from_bert_file(&path, folder::json(&path, &bytes)?, architecture, pooling)
            }
            Architecture::DistilBert => {
                Self::from_distil_bert_file(&path, folder::json(&path, &bytes)?, pooling)
            }
        }?;
        config.validate()?;
        Ok(config)
    }

    fn from_bert_file(
        path: &Path,
        file: BertFile,
        architecture: Architecture,
        pooling: Pooling,
    ) -> Result<Self, EncoderError> {
        let absolute = |name: &str| name == "absolute";
        folder::check_supported(
            path,
            "position embedding",
            &file.position_embedding_type,
            absolute,
        )?;
        let role = if file.is_decoder {
            "decoder"
        } else {
            "encoder"
        };
        folder::check_supported(path, "role", role, |role| role == "encoder")?;
        if architecture == Architecture::Roberta {
            let padding = file.pad_token_id.to_string();
            let known = ROBERTA_PADDING.to_string();
            folder::check_supported(path, "padding token", &padding, |found| found == known)?;
        }
        Ok(Self {
            architecture,
            vocabulary_size: file.vocab_size,
            positions: file.max_position_embeddings,
            token_types: file.type_vocab_size,
            layers: file.num_hidden_layers,
            layer: TransformerConfig {
                hidden_size: file.hidden_size,
                heads: file.num_attention_heads,
                intermediate_size: file.intermediate_size,
                activation: activation(path, &file.hidden_act)?,
                dropout: file.hidden_dropout_prob,
                attention_dropout: file.attention_probs_dropout_prob,
                layer_norm_epsilon: file.layer_norm_eps,
            },
            pooling,
        })
    }

    fn from_distil_bert_file(
        path: &Path,
        file: DistilBertFile,
        pooling: Pooling,
    ) -> Result<Self, EncoderError> {
        Ok(Self {
            architecture: Architecture::DistilBert,
            vocabulary_size: file.vocab_size,
            positions: file.max_position_embeddings,
            token_types: 0,
            layers: file.n_layers,
            layer: TransformerConfig {
                hidden_size: file.dim,
                heads: file.n_heads,
                intermediate_size: file.hidden_dim,
                activation: activation(path, &file.activation)?,
                dropout: file.dropout,
                attention_dropout: file.attention_dropout,
                layer_norm_epsilon: default_epsilon(),
            },
            pooling,
        })
    }

    /// Writes `config.json` into an existing folder.
    pub(crate) fn save(&self, folder: &Path) -> Result<(), EncoderError> {
        let layer = &self.layer;
        let activation = match layer.activation {
            Activation::Gelu => "gelu",
            Activation::Relu => "relu",
            Activation::Tanh => "tanh",
        };
        let class = format!("{}Model", self.architecture.class());
        let mut file = match self.architecture {
            Architecture::Bert | Architecture::Roberta => serde_json::json!({
                "attention_probs_dropout_prob": layer.attention_dropout,
                "hidden_act": activation,
                "hidden_dropout_prob": layer.dropout,
                "hidden_size": layer.hidden_size,
                "intermediate_size": layer.intermediate_size,
                "layer_norm_eps": layer.layer_norm_epsilon,
                "num_attention_heads": layer.heads,
                "num_hidden_layers": self.layers,
                "position_embedding_type": "absolute",
                "type_vocab_size": self.token_types,
            }),
            Architecture::DistilBert => serde_json::json!({
                "activation": activation,
                "attention_dropout": layer.attention_dropout,
                "dim": layer.hidden_size,
                "dropout": layer.dropout,
                "hidden_dim": layer.intermediate_size,
                "n_heads": layer.heads,
                "n_layers": self.layers,
            }),
        };
        file["architectures"] = serde_json::json!([class]);
        file["max_position_embeddings"] = self.positions.into();
        file["model_type"] = self.architecture.model_type().into();
        file["torch_dtype"] = "float32".into();
        file["vocab_size"] = self.vocabulary_size.into();
        if self.architecture == Architecture::Roberta {
            file["pad_token_id"] = ROBERTA_PADDING.into();
        }
        folder::write(
            &folder.join("config.json"),
            format!("{file:#}\n").as_bytes(),
        )
    }
}

fn activation(path: &Path, name: &str) -> Result<Activation, EncoderError> {
    match name {
        "gelu" => Ok(Activation::Gelu),
        "relu" => Ok(Activation::Relu),
        "tanh" => Ok(Activation::Tanh),
        _ => Err(EncoderError::Unsupported {
            path: path.to_owned(),
            what: "activation",
            found: name.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn load(value: &Value) -> Result<BertConfig, EncoderError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), value.to_string()).unwrap();
        BertConfig::load(folder.path(), Pooling::Mean)
    }

    fn base() -> Value {
        json!({
            "model_type": "bert", "vocab_size": 30522, "hidden_size": 768,
            "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
            "max_position_embeddings": 512, "type_vocab_size": 2, "transformers_version": "4.8.2"
        })
    }

    #[test]
    fn a_folder_states_the_form() {
        let expected = BertConfig {
            pooling: Pooling::Mean,
            ..BertConfig::default()
        };
        assert_eq!(load(&base()).unwrap(), expected);
        let mut old = base();
        old["model_type"] = Value::Null;
        old["architectures"] = json!(["BertForMaskedLM"]);
        assert_eq!(load(&old).unwrap(), expected);
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        for (key, value, expected) in [
            ("model_type", json!("electra"), "architecture \"electra\""),
            (
                "model_type",
                json!("xlm-roberta"),
                "architecture \"xlm-roberta\"",
            ),
            ("model_type", Value::Null, "architecture \"without a name\""),
            ("hidden_act", json!("gelu_new"), "activation \"gelu_new\""),
            ("is_decoder", json!(true), "role \"decoder\""),
            (
                "position_embedding_type",
                json!("relative_key"),
                "position embedding \"relative_key\"",
            ),
        ] {
            let mut changed = base();
            changed[key] = value;
            let message = load(&changed).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
            assert!(message.contains("config.json"), "{message}");
        }
        let mut changed = base();
        changed["model_type"] = json!("roberta");
        load(&changed).unwrap();
        changed["pad_token_id"] = json!(0);
        let message = load(&changed).unwrap_err().to_string();
        assert!(message.contains("padding token \"0\""), "{message}");
        let mut changed = base();
        changed["num_attention_heads"] = json!(7);
        assert!(matches!(load(&changed), Err(EncoderError::Nn(_))));
        changed.as_object_mut().unwrap().remove("vocab_size");
        let message = load(&changed).unwrap_err().to_string();
        assert!(message.contains("vocab_size"), "{message}");
        let absent = BertConfig::load("/nowhere/at/all", Pooling::Cls).unwrap_err();
        assert!(matches!(absent, EncoderError::Io { .. }));
    }

    #[test]
    fn configurations_are_checked_and_kept() {
        let default = BertConfig::default();
        default.validate().unwrap();
        let json = serde_json::to_string(&default).unwrap();
        assert_eq!(serde_json::from_str::<BertConfig>(&json).unwrap(), default);
        assert!(serde_json::from_str::<BertConfig>(r#"{"position": 2}"#).is_err());
        let wrong: [(&str, fn(&mut BertConfig)); 3] = [
            ("vocabulary_size", |config| config.vocabulary_size = 0),
            ("positions", |config| config.positions = 0),
            ("token_types", |config| config.token_types = 0),
        ];
        for (name, change) in wrong {
            let mut config = default.clone();
            change(&mut config);
            let error = config.validate().unwrap_err();
            assert!(matches!(error, EncoderError::Config { parameter, .. } if parameter == name));
        }
        let mut config = default.clone();
        config.layer.heads = 5;
        assert!(config.validate().is_err());
        let of = |architecture| BertConfig {
            architecture,
            ..default.clone()
        };
        assert!(of(Architecture::DistilBert).validate().is_err());
        let mut config = of(Architecture::Roberta);
        assert_eq!(config.longest_text(), 510);
        config.positions = 2;
        assert!(config.validate().is_err());
    }
}
