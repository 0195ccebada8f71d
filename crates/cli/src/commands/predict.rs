//! `modalign predict`

use modalign::train::{Prediction, Predictor};
use serde_json::{Map, Value, json};

use crate::arguments::{Format, Predict};
use crate::error::CliError;
use crate::explanation::explain;
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
    let range = 2.0 * config.label_generator.label_range as f32;
    let input = Input::load(arguments.data.data.as_deref(), config)?;
    let split = input.split(arguments.split)?;
    let predictions = predictor.predict(&split)?;
    let text = match arguments.format {
        Format::Jsonl => json_lines(&predictions, range),
        Format::Csv => columns(&predictions, range)?,
    };
    match &arguments.output {
        Some(path) => write_file(path, text.as_bytes()),
        None => print(&text),
    }
}

fn json_lines(predictions: &[Prediction], range: f32) -> String {
    let scores = |scores: &[(modalign::encoders::Modality, f32)]| {
        let pairs = scores.iter().map(|(modality, score)| (modality.to_string(), json!(score)));
        Value::Object(pairs.collect::<Map<_, _>>())
    };
    predictions
        .iter()
        .map(|prediction| {
            let line = json!({
                "id": prediction.id,
                "label": prediction.label,
                "fused": prediction.fused,
                "unimodal": scores(&prediction.unimodal),
                "pull": scores(&prediction.pull),
                "explanation": explain(prediction, range),
            });
            format!("{line}\n")
        })
        .collect()
}

fn columns(predictions: &[Prediction], range: f32) -> Result<String, CliError> {
    let mut header: Vec<_> = ["id", "label", "fused"].map(str::to_owned).to_vec();
    if let Some(first) = predictions.first() {
        header.extend(first.unimodal.iter().map(|(modality, _)| modality.to_string()));
        header.extend(first.pull.iter().map(|(modality, _)| format!("pull_{modality}")));
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
        row.push(explain(prediction, range));
        row
    });
    let bytes = csv(&header, rows)?;
    // Every cell was a string.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
