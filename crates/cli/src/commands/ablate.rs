//! `modalign ablate`

use std::collections::BTreeMap;

use modalign::metrics::{Metric, Summary};
use modalign::train::Variant;
use serde::Serialize;

use crate::arguments::Ablate;
use crate::commands::train::{experiment, give_up, introduce, prepare, use_threads};
use crate::error::CliError;
use crate::files::{self, CONFIG, LOG};
use crate::folder::{RunFolder, print};
use crate::keys;
use crate::outcome::{BASELINE, Outcome, SELECTION};
use crate::progress::Progress;
use crate::table::{mean_and_deviation, number_table};

/// One line of the table.
#[derive(Serialize)]
struct Row {
    name: &'static str,
    test: BTreeMap<Metric, Summary>,
    valid: Option<BTreeMap<Metric, Summary>>,
}

/// The whole of `ablation.json`.
#[derive(Serialize)]
struct Ablation<'a> {
    data: &'a str,
    spread: &'a str,
    selection: &'a str,
    best_constant_is: &'a str,
    variants: &'a [Row],
}

pub fn run(arguments: &Ablate) -> Result<(), CliError> {
    let (config, input) = prepare(&arguments.settings, &arguments.data)?;
    use_threads(&arguments.run)?;

    let name = format!("{}-ablation", input.stem());
    let folder = RunFolder::create(arguments.run.output.as_deref(), &name)?;
    folder.write(CONFIG, keys::to_toml(&config).as_bytes())?;
    let progress = Progress::new(arguments.run.quiet, Some(folder.log(LOG)?));
    introduce(&progress, &input, &config);
    let mut rows: Vec<Row> = Vec::new();
    let mut constant = None;
    let mut spread = String::new();
    for variant in Variant::ALL {
        let config = variant.apply(&config);
        progress.note(&format!("variant: {}", variant.name()));
        let trained = experiment(&config, &input.dataset, arguments.run.folds, &progress);
        let experiment = match trained {
            Ok(experiment) => experiment,
            Err(error) => return Err(give_up(folder, &progress, error)),
        };
        let outcome = Outcome::new(&config, &input.name, &experiment)?;
        spread = outcome.spread();
        constant.get_or_insert(outcome.baseline);
        rows.push(Row {
            name: variant.name(),
            test: outcome.test,
            valid: Some(outcome.valid),
        });
    }
    if let Some(test) = constant {
        rows.push(Row {
            name: "best constant",
            test,
            valid: None,
        });
    }

    let metrics = config.data.convention.metrics();
    let (header, cells) = lines(&rows, metrics);
    let notes = format!("test split: {spread}; {SELECTION}. {BASELINE}.");
    let json = files::to_json(&Ablation {
        data: &input.name,
        spread: &spread,
        selection: SELECTION,
        best_constant_is: BASELINE,
        variants: &rows,
    })?;
    folder.write("ablation.json", &json)?;
    folder.write("ablation.md", markdown(&header, &cells, &notes).as_bytes())?;
    progress.finish(&folder.file(LOG))?;
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    print(&format!(
        "{}\n{notes}\n\nrun folder  {}\n",
        number_table(&header, cells),
        folder.path().display()
    ))
}

fn lines(rows: &[Row], metrics: &[Metric]) -> (Vec<String>, Vec<Vec<String>>) {
    let names = metrics.iter().map(Metric::to_string);
    let header = ["variant".to_owned()].into_iter().chain(names).collect();
    let cells = rows
        .iter()
        .map(|row| {
            let values = metrics.iter().map(|metric| {
                row.test
                    .get(metric)
                    .map_or(String::new(), mean_and_deviation)
            });
            [row.name.to_owned()].into_iter().chain(values).collect()
        })
        .collect();
    (header, cells)
}

fn markdown(header: &[String], rows: &[Vec<String>], notes: &str) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rule = vec!["---".to_owned(); header.len()];
    let rows: String = rows.iter().map(|row| line(row)).collect();
    format!("{}{}{rows}\n{notes}\n", line(header), line(&rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_markdown_table_has_a_line_a_variant() {
        let test = BTreeMap::from([(Metric::Mae, Summary::of(vec![Some(0.5), Some(0.7)]))]);
        let rows = [Row {
            name: "full",
            test,
            valid: None,
        }];
        let (header, cells) = lines(&rows, &[Metric::Mae]);
        assert_eq!(
            markdown(&header, &cells, "notes"),
            "| variant | MAE |\n| --- | --- |\n| full | 0.6000 ± 0.1000 |\n\nnotes\n"
        );
    }
}
