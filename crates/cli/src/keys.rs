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
    Key {
        path,
        comment,
        unset: None,
    }
}

const fn optional(path: &'static str, unset: &'static str, comment: &'static str) -> Key {
    Key {
        path,
        comment,
        unset: Some(unset),
    }
}

const KEYS: &[Key] = &[
    key("seeds", "one run a seed; each seed once"),
    key("data", "What is read and how it is prepared."),
    key(
        "data.modalities",
        "those in use, of \"text\", \"audio\" and \"vision\"",
    ),
    key(
        "data.convention",
        "whose metric definitions apply: \"mosi\", \"mosei\" or \"sims\"",
    ),
    key(
        "data.neutral_label",
        "the neutral label: subtracted before training and metrics, added back in predictions",
    ),
    key(
        "data.standardize",
        "bring features to mean 0 and deviation 1 over the training rows",
    ),
    key(
        "data.clip",
        "bound on standardised features, in standard deviations, above 0",
    ),
    key(
        "data.non_finite",
        "NaN and infinities in features: \"replace\" by 0, or \"refuse\"",
    ),
    optional(
        "data.label_column",
        "0",
        "column of labels that have several, from 0",
    ),
    optional(
        "data.in_file_above_mib",
        "512",
        "larger features of a split stay in the file and are read batch by batch",
    ),
    key(
        "text_model",
        "A pretrained encoder that reads the transcripts in place of text features.",
    ),
    key(
        "text_model.folder",
        "Hugging Face folder of the BERT family",
    ),
    key(
        "text_model.tuning",
        "what of it is trained: \"full\", { last = 2 } (layers) or \"frozen\"",
    ),
    key(
        "text_model.pooling",
        "from the states of the tokens to one vector: \"cls\" or \"mean\"",
    ),
    key(
        "text_model.max_tokens",
        "longer transcripts lose their ends, 3 or more",
    ),
    key(
        "text_model.learning_rate",
        "learning rate of what is trained, above 0",
    ),
    key(
        "text_model.weight_decay",
        "weight decay of what is trained, biases and norms excepted, 0 or above",
    ),
    key(
        "text_model.recompute_layers",
        "whether training keeps the layers' inputs alone: less memory, more time, the same results",
    ),
    optional(
        "text_model.cache",
        "\"runs/.text-vectors\"",
        "folder where the vectors of a frozen encoder are kept",
    ),
    optional(
        "training.warm_up",
        "0.1",
        "part of all steps over which learning rates rise from 0, to fall to 0 over the others",
    ),
    key(
        "modalities",
        "The encoder and the unimodal head of each modality.",
    ),
    key(
        "modalities.*",
        "One modality; not used unless it is in data.modalities.",
    ),
    key(
        "modalities.*.features",
        "array of the data file that holds the features",
    ),
    key(
        "modalities.*.learning_rate",
        "learning rate of the encoder, above 0",
    ),
    key(
        "modalities.*.weight_decay",
        "weight decay of the encoder, 0 or above",
    ),
    key(
        "modalities.*.modality_dropout",
        "probability that a training row hides this modality from the fusion, in [0, 1)",
    ),
    key(
        "modalities.*.encoder",
        "From the features of a row to one vector.",
    ),
    key(
        "modalities.*.encoder.kind",
        "\"pooled\" (statistics over time), \"lstm\" (last hidden state) or \"identity\"",
    ),
    key(
        "modalities.*.encoder.statistics",
        "what is taken over time: \"mean\" or \"mean_std\"",
    ),
    key(
        "modalities.*.encoder.hidden_size",
        "width of the LSTM's state, 1 or more",
    ),
    key(
        "modalities.*.encoder.dropout",
        "probability of dropping an entry, in [0, 1)",
    ),
    key(
        "modalities.*.encoder.output_size",
        "width of the vector, 1 or more",
    ),
    key(
        "modalities.*.head",
        "From the vector to the unimodal score.",
    ),
    key(
        "modalities.*.head.hidden_size",
        "width of the hidden layer, 1 or more",
    ),
    key(
        "modalities.*.head.dropout",
        "probability of dropping an entry of the vector, in [0, 1)",
    ),
    key(
        "fusion",
        "From the concatenated vectors to the fused score.",
    ),
    key("fusion.hidden_size", "width of the hidden layer, 1 or more"),
    key(
        "fusion.dropout",
        "probability of dropping an entry of the vectors, in [0, 1)",
    ),
    key("objective", "The terms of the loss."),
    key(
        "objective.task_loss",
        "how scores are compared with labels: \"absolute\" or \"squared\" error",
    ),
    key(
        "objective.unimodal_weight",
        "weight of the unimodal tasks, 0 or above; 0: no generated labels",
    ),
    key(
        "objective.shared_information_weight",
        "weight of the shared-information loss, 0 or above; 0 turns it off",
    ),
    key(
        "objective.shared_width",
        "width of the projections it compares, 1 or more",
    ),
    key(
        "objective.pairs",
        "Positive: share information; negative: keep apart; 0: leave alone.",
    ),
    key(
        "objective.pairs.text_audio",
        "weight of text with audio, any number",
    ),
    key(
        "objective.pairs.text_vision",
        "weight of text with vision, any number",
    ),
    key(
        "objective.pairs.audio_vision",
        "weight of audio with vision, any number",
    ),
    key(
        "objective.shared_information",
        "The form of the shared-information loss.",
    ),
    key(
        "objective.shared_information.ddof",
        "taken off the rows of a batch in the divisor of a covariance, usually 1",
    ),
    key(
        "objective.shared_information.shrinkage",
        "of covariances towards the identity: \"none\", \"ledoit_wolf\" or { fixed = w }",
    ),
    key(
        "objective.shared_information.shrinkage.fixed",
        "how far, in [0, 1]",
    ),
    key(
        "objective.shared_information.distance",
        "How far apart two modalities are.",
    ),
    key(
        "objective.shared_information.distance.kind",
        "\"frobenius\" (published form), \"correlation\", \"log_euclidean\", \
         \"bures_wasserstein\", \"cross_covariance\" or \"redundancy_reduction\"",
    ),
    key(
        "objective.shared_information.distance.route",
        "how it is computed: \"auto\", \"covariance\" or \"gram\"; equal to rounding",
    ),
    key(
        "objective.shared_information.distance.epsilon",
        "added to every variance, above 0",
    ),
    key(
        "objective.shared_information.distance.off_diagonal",
        "weight of a pair of different features, 0 or above",
    ),
    key(
        "objective.shared_information.separation",
        "What bounds the distance of a pair with a negative weight.",
    ),
    key(
        "objective.shared_information.separation.kind",
        "\"hinge\" (with margin) or \"saturating\" (with scale)",
    ),
    key(
        "objective.shared_information.separation.margin",
        "distance beyond which a pair counts as separated, above 0",
    ),
    key(
        "objective.shared_information.separation.scale",
        "bound that the distance approaches, above 0",
    ),
    key(
        "label_generator",
        "How unimodal labels are made from class centres.",
    ),
    key(
        "label_generator.distance",
        "of a feature from a class centre: \"euclidean\" or \"scaled_square\"",
    ),
    key(
        "label_generator.offset",
        "how distances become a label: \"ratio\", \"difference\" or \"average\" of both",
    ),
    key(
        "label_generator.momentum",
        "weight of the old label: \"epoch\" for (n - 1)/(n + 1) in epoch n, or { constant = w }",
    ),
    key(
        "label_generator.momentum.constant",
        "weight of the old label, in [0, 1]",
    ),
    key(
        "label_generator.start_epoch",
        "first epoch in which labels change, 1 or more",
    ),
    key(
        "label_generator.centre_momentum",
        "weight of the old class centre, in [0, 1)",
    ),
    key(
        "label_generator.exclude_zero",
        "rows labelled 0 belong to neither class",
    ),
    key(
        "label_generator.count_unseen",
        "rows without a feature so far count as zero features",
    ),
    key(
        "label_generator.label_limit",
        "labels stay within plus and minus this, above 0",
    ),
    key(
        "label_generator.minimum_relative_distance",
        "a label stays where the fused relative distance is nearer to 0 than this, 0 or above",
    ),
    key("label_generator.epsilon", "added to divisors, above 0"),
    key("optimizer", "Adam, for all parameters."),
    key("optimizer.beta1", "decay of the first moment, in [0, 1)"),
    key("optimizer.beta2", "decay of the second moment, in [0, 1)"),
    key(
        "optimizer.epsilon",
        "added to the root of the second moment, above 0",
    ),
    key(
        "optimizer.weight_decay_mode",
        "\"decoupled\" (AdamW) or \"coupled\" (L2 through the moments)",
    ),
    key(
        "optimizer.amsgrad",
        "divide by the largest second moment so far",
    ),
    key(
        "heads",
        "The fusion head, the unimodal heads and the projections.",
    ),
    key("heads.learning_rate", "learning rate, above 0"),
    key("heads.weight_decay", "weight decay, 0 or above"),
    key("training", "Batches, epochs and stopping."),
    key("training.batch_size", "rows a batch, 1 or more"),
    key("training.accumulation_steps", "batches a step, 1 or more"),
    key(
        "training.accumulation",
        "how their gradients combine: \"sum\" or \"mean\"",
    ),
    key(
        "training.step_trailing_batches",
        "take a step with the batches left over in an epoch",
    ),
    key(
        "training.max_epochs",
        "last epoch, if early stopping has not come first",
    ),
    key(
        "training.patience",
        "epochs without a lower validation MAE before stopping",
    ),
    key(
        "training.clip_gradient_norm",
        "bound on the norm of a step's gradient; 0 for none",
    ),
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
    KEYS.iter()
        .find(|key| key.path == pattern)
        .map(|key| key.comment)
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
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::arguments::Assignment;
    use crate::settings::assign;
    use modalign::metrics::Convention;
    use modalign::train::Recipe;

    fn presets() -> impl Iterator<Item = ExperimentConfig> {
        [Recipe::Modalign, Recipe::SelfMm]
            .into_iter()
            .flat_map(|recipe| {
                [Convention::Mosi, Convention::Mosei, Convention::Sims]
                    .map(|convention| ExperimentConfig::recipe(recipe, convention))
            })
    }

    #[test]
    fn every_preset_is_read_back_exactly() {
        for preset in presets() {
            let text = to_toml(&preset);
            assert_eq!(
                toml::from_str::<ExperimentConfig>(&text).unwrap(),
                preset,
                "{text}"
            );
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

    /// The kinds of tables that no preset has.
    const OTHER_KINDS: &str = r#"
        [text_model]
        folder = "folder"
        cache = "folder"
        [objective.shared_information]
        distance = { kind = "redundancy_reduction" }
        separation = { kind = "saturating", scale = 0.25 }
        shrinkage = { fixed = 0.1 }
        [label_generator]
        momentum = { constant = 0.9 }
    "#;

    #[test]
    fn each_key_has_one_comment_and_each_comment_a_key() {
        let mut found = BTreeSet::new();
        let other: ExperimentConfig = toml::from_str(OTHER_KINDS).unwrap();
        for config in presets().chain([other]) {
            paths("", &to_table(&config), &mut found);
        }
        for key in KEYS.iter().filter(|key| key.unset.is_some()) {
            found.insert(key.path.to_owned());
        }
        let documented: BTreeSet<_> = KEYS.iter().map(|key| key.path.to_owned()).collect();
        assert_eq!(documented.len(), KEYS.len());
        let missing: Vec<_> = found.difference(&documented).collect();
        let superfluous: Vec<_> = documented.difference(&found).collect();
        assert!(missing.is_empty(), "without a comment: {missing:?}");
        assert!(superfluous.is_empty(), "without a key: {superfluous:?}");
    }

    /// What a comment puts in quotes can be written as the value of its key, in one of the
    /// configurations that have the key.
    #[test]
    fn every_quoted_value_is_accepted() {
        let configs: Vec<_> = presets().chain(toml::from_str(OTHER_KINDS)).collect();
        let accepts = |path: &str, value: &str| {
            let assignment = Assignment {
                key: path.to_owned(),
                value: value.to_owned(),
            };
            configs
                .iter()
                .any(|config| match assign(config, &assignment) {
                    Ok(_) => true,
                    // Another kind of table needs other keys too.
                    Err(error) => error.to_string().contains("missing field"),
                })
        };
        let mut tried = 0;
        for key in KEYS {
            for value in key.comment.split('"').skip(1).step_by(2) {
                let value = match key.path {
                    "data.modalities" => format!("[\"{value}\"]"),
                    _ => value.to_owned(),
                };
                let paths = ["text", "audio", "vision"].map(|name| key.path.replace('*', name));
                assert!(
                    paths.iter().any(|path| accepts(path, &value)),
                    "{} does not take {value}",
                    key.path
                );
                tried += 1;
            }
        }
        assert!(tried > 20, "{tried}");
        assert!(!accepts("training.accumulation", "product"));
    }

    #[test]
    fn a_commented_key_can_be_uncommented() {
        let preset = ExperimentConfig::default();
        let text = to_toml(&preset).replace("# label_column = 0", "label_column = 3");
        let config: ExperimentConfig = toml::from_str(&text).unwrap();
        assert_eq!(config.data.label_column, Some(3));
    }
}
