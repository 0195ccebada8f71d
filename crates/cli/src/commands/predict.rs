//! `modalign predict`

use modalign::encoders::Modality;
use modalign::train::{Prediction, Predictor};
use serde::{Serialize, Serializer};

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
    label: f32,
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

fn json_lines(predictions: &[Prediction], explainer: Explainer) -> Result<String, CliError> {
    let mut text = String::new();
    for prediction in predictions {
        let line = serde_json::to_string(&Line {
            id: &prediction.id,
            label: prediction.label,
            fused: prediction.fused,
            unimodal: &prediction.unimodal,
            pull: &prediction.pull,
            explanation: explainer.explain(prediction),
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
        row.push(explainer.explain(prediction));
        row
    });
    let bytes = csv(&header, rows)?;
    // Every cell was a string.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
