//! `modalign predict`

use std::io::{self, BufRead, Write};

use modalign::encoders::Modality;
use modalign::train::{Prediction, Predictor};
use ndarray::Array2;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::arguments::{Format, Predict};
use crate::error::CliError;
use crate::explanation::Explainer;
use crate::files::csv;
use crate::folder::{print, write_file};
use crate::input::{Input, load_model};

pub fn run(arguments: &Predict) -> Result<(), CliError> {
    if let Some(path) = &arguments.output
        && path.exists()
    {
        return Err(CliError::Exists { path: path.clone() });
    }
    let predictor = Predictor::new(load_model(&arguments.model.model)?);
    let config = predictor.checkpoint().config();
    if arguments.stdin {
        return score_lines(&predictor, io::stdin().lock(), io::stdout().lock());
    }
    let explainer = Explainer::new(config);
    let input = Input::load(arguments.data.data.as_deref(), config)?;
    let split = input.split(arguments.split)?;
    let predictions = predictor.predict(&split)?;
    let text = match arguments.format {
        Format::Jsonl => json_lines(&predictions, explainer)?,
        Format::Csv => columns(&predictions, explainer)?,
    };
    match &arguments.output {
        Some(path) => write_file(path, text.as_bytes()),
        None => print(&text),
    }
}

/// One line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<f32>,
    fused: f32,
    #[serde(serialize_with = "by_modality")]
    unimodal: &'a [(Modality, f32)],
    #[serde(serialize_with = "by_modality")]
    pull: &'a [(Modality, f32)],
    explanation: String,
}

fn by_modality<S: Serializer>(
    scores: &&[(Modality, f32)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(scores.iter().copied())
}

/// Scores each line of `input` as it comes and writes its line before the next one is read. The first
/// line that cannot be scored ends it.
pub fn score_lines(
    predictor: &Predictor,
    input: impl BufRead,
    mut output: impl Write,
) -> Result<(), CliError> {
    let config = predictor.checkpoint().config();
    let explainer = Explainer::new(config);
    let keys: Vec<_> = config
        .modalities_in_use()
        .map(|modality| config.modality(modality).features.as_str())
        .collect();
    let mut scorer = predictor.scorer();
    for (index, line) in input.lines().enumerate() {
        let number = index + 1;
        let refused = |reason: String| CliError::Line { number, reason };
        let line = line.map_err(|error| refused(error.to_string()))?;
        if line.trim().is_empty() {
            continue;
        }
        let utterance = Utterance::parse(&line, &keys).map_err(refused)?;
        let features: Vec<_> = utterance.features.iter().map(|one| one.view()).collect();
        let scores = scorer
            .score(&features)
            .map_err(|error| refused(error.to_string()))?;
        let line = serde_json::to_string(&Line {
            id: &utterance.id.unwrap_or_else(|| format!("line_{number}")),
            label: None,
            fused: scores.fused,
            unimodal: &scores.unimodal,
            pull: &scores.pull,
            explanation: explainer.explain(scores.fused, &scores.pull),
        });
        let line = line.map_err(|error| refused(error.to_string()))?;
        writeln!(output, "{line}")
            .and_then(|()| output.flush())
            .map_err(CliError::Output)?;
    }
    Ok(())
}

/// One line of input.
struct Utterance {
    id: Option<String>,
    /// `[T, D]` for each key.
    features: Vec<Array2<f32>>,
}

impl Utterance {
    /// Reads the arrays of these keys from a JSON object: an array of steps, each an array of
    /// numbers, or an array of numbers for a single step. Other keys are not looked at.
    fn parse(line: &str, keys: &[&str]) -> Result<Self, String> {
        let mut fields: serde_json::Map<String, Value> =
            serde_json::from_str(line).map_err(|error| format!("not a JSON object: {error}"))?;
        let id = match fields.remove("id") {
            None => None,
            Some(Value::String(id)) => Some(id),
            Some(other) => Some(other.to_string()),
        };
        let features = keys.iter().map(|&key| {
            let value = fields
                .get(key)
                .ok_or_else(|| format!("no {key}; the model reads {}", keys.join(", ")))?;
            array(value).map_err(|reason| format!("{key}: {reason}"))
        });
        Ok(Self {
            id,
            features: features.collect::<Result<_, _>>()?,
        })
    }
}

fn array(value: &Value) -> Result<Array2<f32>, String> {
    let entries = value
        .as_array()
        .ok_or_else(|| format!("expected an array, found {}", short(value)))?;
    let steps: Vec<&[Value]> = if entries.iter().any(Value::is_array) {
        let steps = entries.iter().enumerate().map(|(index, step)| match step {
            Value::Array(step) => Ok(step.as_slice()),
            other => Err(format!(
                "step {index} is {}, expected an array",
                short(other)
            )),
        });
        steps.collect::<Result<_, _>>()?
    } else {
        vec![entries]
    };
    let width = steps[0].len();
    let mut numbers = Vec::with_capacity(steps.len() * width);
    for (index, step) in steps.iter().enumerate() {
        if step.len() != width {
            let found = step.len();
            return Err(format!(
                "step {index} has {found} numbers, step 0 has {width}"
            ));
        }
        for value in *step {
            let number = value
                .as_f64()
                .ok_or_else(|| format!("step {index} has {}, expected a number", short(value)))?;
            numbers.push(number as f32);
        }
    }
    Array2::from_shape_vec((steps.len(), width), numbers).map_err(|error| error.to_string())
}

/// The beginning of a value.
fn short(value: &Value) -> String {
    const CHARACTERS: usize = 40;
    let text = value.to_string();
    match text.char_indices().nth(CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn json_lines(predictions: &[Prediction], explainer: Explainer) -> Result<String, CliError> {
    let mut text = String::new();
    for prediction in predictions {
        let line = serde_json::to_string(&Line {
            id: &prediction.id,
            label: Some(prediction.label),
            fused: prediction.fused,
            unimodal: &prediction.unimodal,
            pull: &prediction.pull,
            explanation: explainer.explain(prediction.fused, &prediction.pull),
        });
        text += &line.map_err(|error| CliError::Format {
            what: "predictions",
            reason: error.to_string(),
        })?;
        text.push('\n');
    }
    Ok(text)
}

fn columns(predictions: &[Prediction], explainer: Explainer) -> Result<String, CliError> {
    let mut header: Vec<_> = ["id", "label", "fused"].map(str::to_owned).to_vec();
    if let Some(first) = predictions.first() {
        header.extend(
            first
                .unimodal
                .iter()
                .map(|(modality, _)| modality.to_string()),
        );
        header.extend(
            first
                .pull
                .iter()
                .map(|(modality, _)| format!("pull_{modality}")),
        );
    }
    header.push("explanation".to_owned());
    let rows = predictions.iter().map(|prediction| {
        let mut row = vec![
            prediction.id.clone(),
            prediction.label.to_string(),
            prediction.fused.to_string(),
        ];
        let scores = prediction.unimodal.iter().chain(&prediction.pull);
        row.extend(scores.map(|(_, score)| score.to_string()));
        row.push(explainer.explain(prediction.fused, &prediction.pull));
        row
    });
    let bytes = csv(&header, rows)?;
    // Every cell was a string.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
