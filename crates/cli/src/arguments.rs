//! What can be said on the command line.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use modalign::encoders::Modality;
use modalign::metrics::Convention;
use modalign::train::Recipe;

/// Shared and private information learning for multimodal sentiment analysis.
///
/// Trains a model on text, audio and vision features of utterances, with a covariance loss that
/// lets the modalities share information and with unimodal labels it generates itself.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  modalign train                                     train on the built-in generated data
  modalign train --data unaligned_50.pkl             train on a file of MMSA's
  modalign inspect unaligned_50.pkl                  look into it first
  modalign predict --model runs/generated-1          predict with what was trained
  modalign config --preset sims > sims.toml          start a configuration of your own";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a model with every seed and write a run folder with a report
    Train(Train),
    /// Print the metric table of a trained model on one split of a data file
    Evaluate(Evaluate),
    /// Predict: the fused score, one score a modality, and who pulled where
    Predict(Predict),
    /// Show what is in a data file: shapes, lengths, labels and bad values
    Inspect(Inspect),
    /// Print a complete configuration with a comment on every key
    Config(Config),
    /// Train the full method and its reduced variants and compare them in one table
    Ablate(Ablate),
    /// Write a data file (a pickle of MMSA's, or npz) as npz
    Convert(Convert),
}

/// What is trained on.
#[derive(Debug, Args)]
pub struct DataArgument {
    /// Data file: npz, or a pickle as MMSA distributes them [default: the built-in generated data]
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
}

/// Where the configuration comes from, weakest first.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Configuration (the later of these win)")]
pub struct SettingsArguments {
    /// Data set whose preset and metric definitions apply [default: the file's, else mosi]
    #[arg(long, value_enum)]
    pub preset: Option<Preset>,

    /// Where the preset's training recipe comes from
    #[arg(long, value_enum, default_value_t = RecipeName::Modalign)]
    pub recipe: RecipeName,

    /// Configuration file; keys it does not have keep the value of the preset
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,

    /// Modalities in use, such as text,audio
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = modality)]
    pub modalities: Option<Vec<Modality>>,

    /// Array of the data file that holds the text features
    #[arg(long, value_name = "KEY")]
    pub text_features: Option<String>,

    /// Pretrained text encoder, a Hugging Face folder of the BERT family, to read the transcripts;
    /// it is fine-tuned unless text_model.tuning says otherwise
    #[arg(long, value_name = "FOLDER")]
    pub text_model: Option<PathBuf>,

    /// Array of the data file that holds the audio features
    #[arg(long, value_name = "KEY")]
    pub audio_features: Option<String>,

    /// Array of the data file that holds the vision features
    #[arg(long, value_name = "KEY")]
    pub vision_features: Option<String>,

    /// Seeds, one run each, such as 1111,1112
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = whole::<u64>)]
    pub seeds: Option<Vec<u64>>,

    /// Last epoch, if early stopping has not come first
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    pub epochs: Option<usize>,

    /// Any key of the configuration, such as training.batch_size=64; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = assignment)]
    pub set: Vec<Assignment>,
}

fn whole<N: FromStr>(text: &str) -> Result<N, &'static str> {
    text.parse()
        .map_err(|_| "expected a whole number, 0 or above")
}

fn positive(text: &str) -> Result<NonZeroUsize, &'static str> {
    text.parse()
        .map_err(|_| "expected a whole number, 1 or above")
}

/// One `--set`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    pub key: String,
    pub value: String,
}

/// How the program runs.
#[derive(Debug, Args)]
#[command(next_help_heading = "Running")]
pub struct RunArguments {
    /// New folder to write [default: runs/NAME-1, or the next free number]
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,

    /// Cross-validate over all rows of the data file instead of using its splits
    #[arg(long, value_name = "K")]
    pub folds: Option<usize>,

    /// Threads [default: one a core]; the result does not depend on it
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,

    /// Print nothing but the result
    #[arg(long)]
    pub quiet: bool,
}

/// How a training goes on after an interruption.
#[derive(Debug, Args)]
#[command(next_help_heading = "After an interruption")]
pub struct ResumeArguments {
    /// Go on with the training in this run folder, to the same bytes as without the interruption;
    /// --data says where its data file is now, if it has moved
    #[arg(long, value_name = "RUN", conflicts_with_all = [
        "preset", "recipe", "config", "modalities", "text_features", "text_model", "audio_features",
        "vision_features", "seeds", "epochs", "set", "text_only", "no_shared_information",
        "no_label_generator", "output", "folds",
    ])]
    pub resume: Option<PathBuf>,

    /// Keep the state after every N batches too, not after epochs alone
    #[arg(long, value_name = "N", value_parser = positive)]
    pub keep_every: Option<NonZeroUsize>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  modalign train
  modalign train --data unaligned_50.pkl --seeds 1111,1112,1113
  modalign train --data mosi.npz --text-features text_minilm --modalities text,audio
  modalign train --data sims.pkl --preset sims --recipe self_mm
  modalign train --data mosi.npz --text-model bert-base-uncased --epochs 5
  modalign train --set objective.shared_information_weight=0.5 --set training.batch_size=64
  modalign train --resume runs/unaligned_50-1

Everything is chosen on the validation split; the test split is read once, by the chosen model.")]
pub struct Train {
    #[command(flatten)]
    pub data: DataArgument,
    #[command(flatten)]
    pub settings: SettingsArguments,
    #[command(flatten)]
    pub variant: VariantArguments,
    #[command(flatten)]
    pub run: RunArguments,
    #[command(flatten)]
    pub resume: ResumeArguments,

    /// Train nothing: compare the gradient of the first batch in every array of the model with
    /// central differences, and fail if one differs
    #[arg(long, conflicts_with_all = ["resume", "keep_every", "output", "folds"])]
    pub check_gradients: bool,
}

/// Reduced variants of the method, for comparison.
#[derive(Debug, Args)]
#[command(next_help_heading = "Reduced variants, for comparison")]
pub struct VariantArguments {
    /// Use the text alone
    #[arg(long)]
    pub text_only: bool,

    /// Leave the shared-information loss out
    #[arg(long)]
    pub no_shared_information: bool,

    /// Leave the label generator and the unimodal tasks out
    #[arg(long)]
    pub no_label_generator: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  modalign ablate
  modalign ablate --data mosi.npz --seeds 1111,1112,1113,1114,1115 --output runs/mosi-ablation")]
pub struct Ablate {
    #[command(flatten)]
    pub data: DataArgument,
    #[command(flatten)]
    pub settings: SettingsArguments,
    #[command(flatten)]
    pub run: RunArguments,
}

/// A trained model.
#[derive(Debug, Args)]
pub struct ModelArgument {
    /// Run folder (its best checkpoint is taken) or one checkpoint file
    #[arg(long, value_name = "RUN_OR_FILE")]
    pub model: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  modalign evaluate --model runs/mosi-1 --data mosi.npz
  modalign evaluate --model runs/mosi-1/checkpoints/seed-1112.safetensors --data mosi.npz --split valid")]
pub struct Evaluate {
    #[command(flatten)]
    pub model: ModelArgument,
    #[command(flatten)]
    pub data: DataArgument,
    /// Rows to use
    #[arg(long, value_enum, default_value_t = SplitName::Test)]
    pub split: SplitName,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  modalign predict --model runs/generated-1 | head -3
  modalign predict --model runs/mosi-1 --data mosi.npz --split all --format csv --output scores.csv
  modalign predict --model runs/mosi-1 --stdin < utterances.jsonl

A modality pulls up where its own score is above the fused one, and down where it is below.")]
pub struct Predict {
    #[command(flatten)]
    pub model: ModelArgument,
    #[command(flatten)]
    pub data: DataArgument,
    /// Score utterances from standard input as they come: one JSON object a line with the features
    /// of each modality by name, [[...], ...] for steps, [...] for a vector, and an id if you like
    #[arg(long, conflicts_with_all = ["data", "split", "format", "output"])]
    pub stdin: bool,
    /// Rows to use
    #[arg(long, value_enum, default_value_t = SplitName::Test)]
    pub split: SplitName,
    /// One JSON object a line, or comma-separated columns
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    pub format: Format,
    /// New file to write instead of printing
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  modalign inspect unaligned_50.pkl
  modalign inspect pom.npz --label-column 0")]
pub struct Inspect {
    /// Data file: npz, or a pickle as MMSA distributes them
    pub file: PathBuf,
    /// Column of labels that have several, from 0
    #[arg(long, value_name = "N")]
    pub label_column: Option<usize>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  modalign config > mine.toml
  modalign config --preset mosei --recipe self_mm")]
pub struct Config {
    /// Data set whose preset is printed
    #[arg(long, value_enum, default_value_t = Preset::Mosi)]
    pub preset: Preset,
    /// Training recipe
    #[arg(long, value_enum, default_value_t = RecipeName::Modalign)]
    pub recipe: RecipeName,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  modalign convert unaligned_50.pkl mosi.npz

A pickle is read by a closed interpreter that builds numbers, text, lists, dictionaries and arrays;
no code of the file runs.")]
pub struct Convert {
    /// Data file to read
    pub input: PathBuf,
    /// New npz file to write
    pub output: PathBuf,
    /// Column of labels that have several, from 0
    #[arg(long, value_name = "N")]
    pub label_column: Option<usize>,
}

/// `--preset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// CMU-MOSI, labels from -3 to 3
    Mosi,
    /// CMU-MOSEI, labels from -3 to 3
    Mosei,
    /// CH-SIMS, labels from -1 to 1
    Sims,
}

impl From<Preset> for Convention {
    fn from(preset: Preset) -> Self {
        match preset {
            Preset::Mosi => Self::Mosi,
            Preset::Mosei => Self::Mosei,
            Preset::Sims => Self::Sims,
        }
    }
}

/// `--recipe`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum RecipeName {
    /// The full method
    #[default]
    Modalign,
    /// Self-MM as its published code trains, without the shared-information loss
    #[value(name = "self_mm")]
    SelfMm,
}

impl From<RecipeName> for Recipe {
    fn from(name: RecipeName) -> Self {
        match name {
            RecipeName::Modalign => Self::Modalign,
            RecipeName::SelfMm => Self::SelfMm,
        }
    }
}

/// `--split`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SplitName {
    /// Training rows
    Train,
    /// Validation rows
    Valid,
    /// Test rows
    Test,
    /// All rows: training, then validation, then test
    All,
}

/// `--format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One JSON object a line
    Jsonl,
    /// Comma-separated columns with a header
    Csv,
}

fn modality(text: &str) -> Result<Modality, String> {
    Modality::ALL
        .into_iter()
        .find(|modality| modality.to_string() == text)
        .ok_or_else(|| "the modalities are text, audio and vision".to_owned())
}

fn assignment(text: &str) -> Result<Assignment, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok(Assignment {
            key: key.trim().to_owned(),
            value: value.trim().to_owned(),
        }),
        _ => Err("expected key=value, such as training.batch_size=64".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn an_assignment_keeps_what_follows_its_first_equals_sign() {
        let parsed = assignment("a.b = x=y").unwrap();
        assert_eq!((parsed.key.as_str(), parsed.value.as_str()), ("a.b", "x=y"));
        assert!(assignment("a.b").is_err() && assignment("=1").is_err());
    }
}
