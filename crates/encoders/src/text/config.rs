//! The form of a BERT encoder, and how a Hugging Face folder states it.

use std::path::Path;

use modalign_nn::{Activation, TransformerConfig};
use serde::{Deserialize, Serialize};

use crate::EncoderError;
use crate::error::check_size;
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

/// The form of a [`BertEncoder`](crate::BertEncoder). The defaults are those of BERT-base, uncased.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BertConfig {
    /// Rows of the token table, at least 1. Default 30522.
    pub vocabulary_size: usize,
    /// Rows of the position table, the longest text in tokens, at least 1. Default 512.
    pub positions: usize,
    /// Rows of the segment table, at least 1. Default 2.
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
struct HuggingFaceConfig {
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
}

/// Read before the rest, because another architecture has other entries.
#[derive(Deserialize)]
struct Architecture {
    model_type: Option<String>,
    #[serde(default)]
    architectures: Vec<String>,
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
        check_size("bert", "positions", self.positions)?;
        check_size("bert", "token_types", self.token_types)?;
        Ok(self.layer.validate()?)
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
        let Architecture {
            model_type,
            architectures,
        } = folder::json(&path, &bytes)?;
        // Configurations of 2018 have no model type.
        let name = model_type.or_else(|| architectures.into_iter().next());
        let known = |name: &str| {
            name == "bert" || name.starts_with("BertModel") || name.starts_with("BertFor")
        };
        folder::check_supported(
            &path,
            "architecture",
            name.as_deref().unwrap_or("without a name"),
            known,
        )?;
        let file: HuggingFaceConfig = folder::json(&path, &bytes)?;
        let absolute = |name: &str| name == "absolute";
        folder::check_supported(
            &path,
            "position embedding",
            &file.position_embedding_type,
            absolute,
        )?;
        let role = if file.is_decoder {
            "decoder"
        } else {
            "encoder"
        };
        folder::check_supported(&path, "role", role, |role| role == "encoder")?;
        let activation = match file.hidden_act.as_str() {
            "gelu" => Some(Activation::Gelu),
            "relu" => Some(Activation::Relu),
            "tanh" => Some(Activation::Tanh),
            _ => None,
        };
        let activation = activation.ok_or_else(|| EncoderError::Unsupported {
            path: path.clone(),
            what: "activation",
            found: file.hidden_act.clone(),
        })?;
        let config = Self {
            vocabulary_size: file.vocab_size,
            positions: file.max_position_embeddings,
            token_types: file.type_vocab_size,
            layers: file.num_hidden_layers,
            layer: TransformerConfig {
                hidden_size: file.hidden_size,
                heads: file.num_attention_heads,
                intermediate_size: file.intermediate_size,
                activation,
                dropout: file.hidden_dropout_prob,
                attention_dropout: file.attention_probs_dropout_prob,
                layer_norm_epsilon: file.layer_norm_eps,
            },
            pooling,
        };
        config.validate()?;
        Ok(config)
    }

    /// Writes `config.json` into an existing folder.
    pub(crate) fn save(&self, folder: &Path) -> Result<(), EncoderError> {
        let layer = &self.layer;
        let activation = match layer.activation {
            Activation::Gelu => "gelu",
            Activation::Relu => "relu",
            Activation::Tanh => "tanh",
        };
        let file = serde_json::json!({
            "architectures": ["BertModel"],
            "attention_probs_dropout_prob": layer.attention_dropout,
            "hidden_act": activation,
            "hidden_dropout_prob": layer.dropout,
            "hidden_size": layer.hidden_size,
            "intermediate_size": layer.intermediate_size,
            "layer_norm_eps": layer.layer_norm_epsilon,
            "max_position_embeddings": self.positions,
            "model_type": "bert",
            "num_attention_heads": layer.heads,
            "num_hidden_layers": self.layers,
            "position_embedding_type": "absolute",
            "torch_dtype": "float32",
            "type_vocab_size": self.token_types,
            "vocab_size": self.vocabulary_size,
        });
        folder::write(
            &folder.join("config.json"),
            format!("{file:#}\n").as_bytes(),
        )
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
            ("model_type", json!("roberta"), "architecture \"roberta\""),
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
        let mut config = default;
        config.layer.heads = 5;
        assert!(config.validate().is_err());
    }
}
