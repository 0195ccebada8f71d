//! Tables for the terminal.

use std::collections::BTreeMap;

use comfy_table::presets::NOTHING;
use comfy_table::{
    CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, Table, TableStyle,
};
use modalign::metrics::{Convention, Metric, Summary};
use modalign::train::CheckedGradient;

use crate::outcome::{BASELINE, Outcome, SELECTION};

/// Columns of text where nobody says how wide the terminal is.
const DEFAULT_WIDTH: u16 = 100;

/// Some terminals say that they have no columns at all: below this, nothing could be read.
const LEAST_WIDTH: u16 = 40;

/// One line, between the names of the columns and what is in them.
const RULED: TableStyle = NOTHING.header_separator(LineStyle::none().fill('─').junction('─'));

/// The metrics of an outcome with all that is needed to read them.
pub fn outcome_table(outcome: &Outcome<'_>) -> String {
    let columns = [
        ("validation", &outcome.valid),
        ("test", &outcome.test),
        ("best constant (test)", &outcome.baseline),
    ];
    let notes = [outcome.spread(), SELECTION.to_owned(), BASELINE.to_owned()];
    metric_table(outcome.convention(), &columns, &notes)
}

/// The derivative of the loss in every array of a model, by the backward pass and by differences.
pub fn gradient_table(checked: &[CheckedGradient]) -> String {
    let header = ["array", "entries", "gradient", "differences", "apart"];
    let rows = checked.iter().map(|one| {
        let apart = (one.analytic - one.numeric).abs();
        vec![
            one.parameter.clone(),
            one.entries.to_string(),
            format!("{:.6e}", one.analytic),
            format!("{:.6e}", one.numeric),
            format!(
                "{apart:.1e}{}",
                if one.agrees() { "" } else { " (differs)" }
            ),
        ]
    });
    let agree = checked.iter().filter(|one| one.agrees()).count();
    format!(
        "{}\n{agree} of {} arrays agree, each along a random direction, on the first batch\n",
        number_table(&header, rows.collect()),
        checked.len()
    )
}

/// One row a metric, one column a summary, then the notes and what each metric means.
pub fn metric_table(
    convention: Convention,
    columns: &[(&str, &BTreeMap<Metric, Summary>)],
    notes: &[String],
) -> String {
    let names = columns.iter().map(|(name, _)| *name);
    let header: Vec<_> = ["metric"].into_iter().chain(names).collect();
    let rows = convention.metrics().iter().map(|metric| {
        let values = columns
            .iter()
            .map(|(_, summaries)| match summaries.get(metric) {
                Some(summary) => mean_and_deviation(summary),
                None => String::new(),
            });
        [metric.to_string()].into_iter().chain(values).collect()
    });
    let mut text = number_table(&header, rows.collect());
    let notes = notes.iter().map(|note| vec![note.clone()]).collect();
    let meanings = convention.metrics().iter().map(|metric| {
        let meaning = metric.description(convention).unwrap_or_default();
        vec![metric.to_string(), meaning.to_owned()]
    });
    for part in [word_table(notes), word_table(meanings.collect())] {
        text.push('\n');
        text.push_str(&part);
    }
    text
}

/// A table whose first column has names and whose others have numbers.
pub fn number_table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(RULED)
        .set_header(header.iter().copied())
        .add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    finish(&table)
}

/// Names and sentences, the sentences wrapped.
fn word_table(rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .add_rows(rows);
    if table.width().is_none_or(|width| width < LEAST_WIDTH) {
        table.set_width(DEFAULT_WIDTH);
    }
    if table.column_count() > 1
        && let Some(names) = table.column_mut(0)
    {
        names.set_constraint(ColumnConstraint::ContentWidth);
    }
    finish(&table)
}

fn finish(table: &Table) -> String {
    table.trim_fmt() + "\n"
}

/// `0.8312 ± 0.0041`, without a deviation where there is one value only.
pub fn mean_and_deviation(summary: &Summary) -> String {
    match (summary.mean, summary.std, &summary.per_seed[..]) {
        (Some(mean), _, [_]) => format!("{mean:.4}"),
        (Some(mean), Some(deviation), _) => format!("{mean:.4} ± {deviation:.4}"),
        _ => "undefined".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_names_every_metric_and_its_meaning() {
        let summaries = BTreeMap::from([
            (Metric::Mae, Summary::of(vec![Some(0.8), Some(0.9)])),
            (Metric::Corr, Summary::of(vec![None, Some(0.7)])),
            (Metric::Has0Acc2, Summary::of(vec![Some(0.75)])),
        ]);
        let text = metric_table(
            Convention::Mosi,
            &[("test", &summaries)],
            &["chosen somehow".to_owned()],
        );
        for expected in [
            "0.8500 ± 0.0500",
            "undefined",
            " 0.7500",
            "chosen somehow",
            "halves to",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        let widest = text.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(usize::from(DEFAULT_WIDTH)), "{text}");
    }
}
