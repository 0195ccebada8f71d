//! The keys of the configuration file: what each means, and the file with these comments.

use std::fmt::Write;

use modalign::train::ExperimentConfig;
use toml::{Table, Value};

use crate::settings::to_table;

/// One key or table of the configuration.
struct Key {
    /// Dotted path; `*` stands for each of the modalities.
    path: &'static str,
    /// Meaning, with unit or range.
    comment: &'static str,
    /// A value to show where the key has none and is therefore absent.
    unset: Option<&'static str>,
}

const fn key(path: &'static str, comment: &'static str) -> Key {
    Key { path, comment, unset: None }
}

const fn optional(path: &'static str, unset: &'static str, comment: &'static str) -> Key {
    Key { path, comment, unset: Some(unset) }
}

const KEYS: &[Key] = &[
    key("seeds", "one run a seed, each seed once"),
    key("data", "What is read and how it is prepared."),
    key("data.modalities", "those in use, of \"text\", \"audio\", \"vision\""),
    key("data.convention", "whose metric definitions apply: \"mosi\", \"mosei\" or \"sims\""),
    key(
        "data.neutral_label",
        "the neutral label: subtracted before training and metrics, added to predictions",
    ),
    key("data.standardize", "bring features to mean 0, deviation 1 of the training rows"),
    key("data.clip", "bound on standardised features, in standard deviations, above 0"),
    key("data.non_finite", "NaN and infinities in features: \"replace\" by 0 or \"refuse\""),
    optional("data.label_column", "0", "column of labels that have several, from 0"),
];

/// The whole configuration as TOML with a comment on every key.
pub fn to_toml(config: &ExperimentConfig) -> String {
    let mut text = String::new();
    write_table(&mut text, "", &to_table(config));
    text
}

/// Keys with plain values first, then the tables, as TOML wants it.
fn write_table(text: &mut String, path: &str, table: &Table) {
    // Writing to a string cannot fail, here and below.
    if !path.is_empty() {
        if let Some(comment) = comment(path) {
            let _ = writeln!(text, "\n# {comment}");
        } else {
            text.push('\n');
        }
        let _ = writeln!(text, "[{path}]");
    }
    for (name, value) in table.iter().filter(|(_, value)| !value.is_table()) {
        if let Some(comment) = comment(&join(path, name)) {
            let _ = writeln!(text, "# {comment}");
        }
        let _ = writeln!(text, "{name} = {value}");
    }
    for absent in KEYS.iter().filter(|key| is_absent(key, path, table)) {
        let name = absent.path.rsplit('.').next().unwrap_or_default();
        let example = absent.unset.unwrap_or_default();
        let _ = writeln!(text, "# {}\n# {name} = {example}", absent.comment);
    }
    for (name, value) in table {
        if let Value::Table(inner) = value {
            write_table(text, &join(path, name), inner);
        }
    }
}

fn is_absent(key: &Key, path: &str, table: &Table) -> bool {
    let (parent, name) = key.path.rsplit_once('.').unwrap_or(("", key.path));
    key.unset.is_some() && parent == pattern(path) && !table.contains_key(name)
}

fn comment(path: &str) -> Option<&'static str> {
    let pattern = pattern(path);
    KEYS.iter().find(|key| key.path == pattern).map(|key| key.comment)
}

/// The path with `*` for a modality.
fn pattern(path: &str) -> String {
    let mut segments: Vec<&str> = path.split('.').collect();
    if let ["modalities", modality, ..] = &mut segments[..] {
        *modality = "*";
    }
    segments.join(".")
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use modalign::metrics::Convention;
    use modalign::train::Recipe;

    fn presets() -> impl Iterator<Item = ExperimentConfig> {
        [Recipe::Modalign, Recipe::SelfMm].into_iter().flat_map(|recipe| {
            [Convention::Mosi, Convention::Mosei, Convention::Sims]
                .map(|convention| ExperimentConfig::recipe(recipe, convention))
        })
    }

    #[test]
    fn every_preset_is_read_back_exactly() {
        for preset in presets() {
            let text = to_toml(&preset);
            assert_eq!(toml::from_str::<ExperimentConfig>(&text).unwrap(), preset, "{text}");
        }
    }

    fn paths(prefix: &str, table: &Table, found: &mut BTreeSet<String>) {
        for (name, value) in table {
            let path = join(prefix, name);
            found.insert(pattern(&path));
            if let Value::Table(inner) = value {
                paths(&path, inner, found);
            }
        }
    }

    #[test]
    fn each_key_has_one_comment_and_each_comment_a_key() {
        let mut found = BTreeSet::new();
        for preset in presets() {
            paths("", &to_table(&preset), &mut found);
        }
        for key in KEYS.iter().filter(|key| key.unset.is_some()) {
            found.insert(key.path.to_owned());
        }
        let documented: BTreeSet<_> = KEYS.iter().map(|key| key.path.to_owned()).collect();
        assert_eq!(documented.len(), KEYS.len());
        assert_eq!(found, documented);
    }

    #[test]
    fn a_commented_key_can_be_uncommented() {
        let preset = ExperimentConfig::default();
        let text = to_toml(&preset).replace("# label_column = 0", "label_column = 3");
        let config: ExperimentConfig = toml::from_str(&text).unwrap();
        assert_eq!(config.data.label_column, Some(3));
    }
}
