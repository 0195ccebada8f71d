//! From a preset, a file and flags to one configuration.

use std::path::{Path, PathBuf};

use modalign::encoders::Modality;
use modalign::metrics::Convention;
use modalign::train::{ExperimentConfig, Recipe, TextModelConfig, TrainError};
use serde::Deserialize;
use thiserror::Error;
use toml::{Table, Value};

use crate::arguments::{Assignment, Preset, SettingsArguments};

/// Where `--text-model` keeps the vectors of a frozen encoder.
const TEXT_CACHE: &str = "runs/.text-vectors";

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{}, line {line}: {reason}", path.display())]
    Syntax {
        path: PathBuf,
        line: usize,
        reason: String,
    },
    /// A key that there is not.
    #[error("{origin}: unknown key {key}{}", suggestion(suggested))]
    UnknownKey {
        origin: String,
        key: String,
        suggested: Option<String>,
    },
    /// A value that its key cannot have.
    #[error("{origin}: {key}: {reason}{}", suggestion(suggested))]
    Value {
        origin: String,
        key: String,
        reason: String,
        suggested: Option<String>,
    },
    /// A value out of its range.
    #[error(transparent)]
    Range(#[from] TrainError),
}

fn suggestion(suggested: &Option<String>) -> String {
    suggested
        .as_ref()
        .map_or(String::new(), |key| format!(", did you mean `{key}`?"))
}

/// The configuration that the arguments ask for, checked. The recipe gives modalities of utterance
/// vectors an encoder of their own; what the file and the flags say goes before it.
pub fn resolve(
    arguments: &SettingsArguments,
    vectors: &[Modality],
) -> Result<ExperimentConfig, SettingsError> {
    let file = arguments.config.as_deref().map(read).transpose()?;
    let preset = arguments.preset.map_or_else(
        || {
            file.as_ref()
                .and_then(convention)
                .unwrap_or(Convention::Mosi)
        },
        Preset::into,
    );
    let mut config = match arguments.recipe.into() {
        recipe @ Recipe::Modalign => ExperimentConfig::recipe(recipe, preset).with_vectors(vectors),
        recipe => ExperimentConfig::recipe(recipe, preset),
    };
    if let (Some(file), Some(path)) = (file, &arguments.config) {
        let mut table = to_table(&config);
        overlay(&mut table, file);
        config = from_table(table, &path.display().to_string())?;
    }
    apply_flags(&mut config, arguments);
    for assignment in &arguments.set {
        config = assign(&config, assignment)?;
    }
    config.validate()?;
    Ok(config)
}

fn apply_flags(config: &mut ExperimentConfig, arguments: &SettingsArguments) {
    if let Some(modalities) = &arguments.modalities {
        config.data.modalities.clone_from(modalities);
    }
    let features = [
        (Modality::Text, &arguments.text_features),
        (Modality::Audio, &arguments.audio_features),
        (Modality::Vision, &arguments.vision_features),
    ];
    for (modality, key) in features {
        if let Some(key) = key {
            let target = match modality {
                Modality::Text => &mut config.modalities.text,
                Modality::Audio => &mut config.modalities.audio,
                Modality::Vision => &mut config.modalities.vision,
            };
            target.features.clone_from(key);
        }
    }
    if let Some(folder) = &arguments.text_model {
        let text_model = config.text_model.get_or_insert_with(|| TextModelConfig {
            cache: Some(TEXT_CACHE.into()),
            ..TextModelConfig::default()
        });
        text_model.folder.clone_from(folder);
    }
    if let Some(seeds) = &arguments.seeds {
        config.seeds.clone_from(seeds);
    }
    if let Some(epochs) = arguments.epochs {
        config.training.max_epochs = epochs;
    }
}

fn read(path: &Path) -> Result<Table, SettingsError> {
    let text = std::fs::read_to_string(path).map_err(|source| SettingsError::Read {
        path: path.to_owned(),
        source,
    })?;
    text.parse::<Table>().map_err(|error| {
        let before = error
            .span()
            .map_or("", |span| &text[..span.start.min(text.len())]);
        SettingsError::Syntax {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            reason: error.message().to_owned(),
        }
    })
}

/// The convention that a file names, whose preset its other keys then start from.
fn convention(file: &Table) -> Option<Convention> {
    let value = file.get("data")?.get("convention")?;
    Convention::deserialize(value.clone()).ok()
}

/// A configuration as nested tables. Keys without a value are absent.
pub fn to_table(config: &ExperimentConfig) -> Table {
    // Numbers, strings, lists and structs with named fields: TOML can hold each of them. By way of
    // its text, for there an `f32` of 0.1 is 0.1.
    toml::to_string(config)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_default()
}

/// Puts the values of `upper` in the place of those of `lower`, table by table. A table of another
/// kind (another encoder, say) replaces the whole of the one below.
fn overlay(lower: &mut Table, upper: Table) {
    for (key, value) in upper {
        match (lower.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) if same_kind(below, &above) => {
                overlay(below, above);
            }
            (_, value) => {
                lower.insert(key, value);
            }
        }
    }
}

fn same_kind(below: &Table, above: &Table) -> bool {
    above
        .get("kind")
        .is_none_or(|kind| below.get("kind") == Some(kind))
}

/// Sets one key by its dotted path.
pub fn assign(
    config: &ExperimentConfig,
    assignment: &Assignment,
) -> Result<ExperimentConfig, SettingsError> {
    let Assignment { key, value } = assignment;
    let value = format!("value = {value}")
        .parse::<Table>()
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(value.clone()));
    let innermost_first = key.split('.').map(str::trim).rev();
    let upper = innermost_first.fold(value, |value, segment| {
        Value::Table(Table::from_iter([(segment.to_owned(), value)]))
    });
    let mut table = to_table(config);
    if let Value::Table(upper) = upper {
        overlay(&mut table, upper);
    }
    from_table(table, &format!("--set {key}"))
}

/// Reads a configuration from nested tables; `origin` is what the error blames.
fn from_table(table: Table, origin: &str) -> Result<ExperimentConfig, SettingsError> {
    serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
        let path = error.path().to_string();
        explain(origin, path.trim_end_matches('.'), error.inner().message())
    })
}

/// Turns what serde says into the sentence for the person, with the nearest of the names that serde
/// expected.
fn explain(origin: &str, path: &str, message: &str) -> SettingsError {
    let origin = origin.to_owned();
    let mut quoted = message.split('`').skip(1).step_by(2);
    let found = quoted.next().unwrap_or_default();
    let suggested = nearest(found, quoted);
    if message.starts_with("unknown field") {
        let parent = path
            .strip_suffix(found)
            .unwrap_or(path)
            .trim_end_matches('.');
        let key = match parent {
            "" | "?" => found.to_owned(),
            parent => format!("{parent}.{found}"),
        };
        return SettingsError::UnknownKey {
            origin,
            key,
            suggested,
        };
    }
    let suggested = suggested.filter(|_| message.starts_with("unknown variant"));
    SettingsError::Value {
        origin,
        key: path.to_owned(),
        reason: message.trim().to_owned(),
        suggested,
    }
}

/// The candidate that is most like `found`, if any is like it at all.
fn nearest<'a>(found: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    /// Below this similarity (1 is equal) a name is another word, not a misspelling.
    const LEAST_SIMILARITY: f64 = 0.6;
    candidates
        .map(|candidate| (strsim::jaro_winkler(found, candidate), candidate))
        .filter(|(similarity, _)| *similarity >= LEAST_SIMILARITY)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| candidate.to_owned())
}
