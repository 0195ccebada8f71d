//! `modalign evaluate`

use std::collections::BTreeMap;

use modalign::metrics::Summary;
use modalign::train::Predictor;

use crate::arguments::Evaluate;
use crate::error::CliError;
use crate::folder::print;
use crate::input::{Input, load_model};
use crate::outcome::{BASELINE, best_constants};
use crate::table::metric_table;

pub fn run(arguments: &Evaluate) -> Result<(), CliError> {
    let predictor = Predictor::new(load_model(&arguments.model.model)?);
    let config = predictor.checkpoint().config();
    let convention = config.data.convention;
    let neutral = config.data.neutral_label;
    let input = Input::load(arguments.data.data.as_deref(), config)?;
    let name = input.name.clone();
    let split = input.split(arguments.split)?;

    let report = predictor.evaluate(&split)?;
    let labels = &split.labels - neutral;
    let constants = best_constants(convention, labels.view())?;
    let single = |value| Summary::of(vec![value]);
    let model: BTreeMap<_, _> = report
        .iter()
        .map(|(metric, value)| (metric, single(value)))
        .collect();
    let constants: BTreeMap<_, _> = report
        .iter()
        .map(|(metric, _)| (metric, single(constants.get(&metric).copied())))
        .collect();
    let notes = [
        format!(
            "{name}, {:?} split, {} rows; model of seed {}",
            arguments.split,
            split.len(),
            predictor.checkpoint().seed()
        )
        .to_lowercase(),
        BASELINE.to_owned(),
    ];
    print(&metric_table(
        convention,
        &[("model", &model), ("best constant", &constants)],
        &notes,
    ))
}
