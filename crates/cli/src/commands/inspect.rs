//! `modalign inspect`

use std::fmt::Write;

use modalign::data::{FeatureReport, Format, LengthSource, ReadOptions, ReadReport, SplitReport};

use crate::arguments::Inspect;
use crate::error::CliError;
use crate::folder::print;
use crate::input::read;
use crate::table::number_table;

pub fn run(arguments: &Inspect) -> Result<(), CliError> {
    let options = ReadOptions {
        label_column: arguments.label_column,
        ..ReadOptions::default()
    };
    let (_, report) = read(&arguments.file, &options)?;
    print(&format!(
        "{}: {}\n\n{}",
        arguments.file.display(),
        format(&report),
        describe(&report)
    ))
}

fn format(report: &ReadReport) -> &'static str {
    match report.format {
        Format::Npz => "an npz archive",
        Format::Pickle => {
            "a pickle of numpy arrays (numbers, text, lists, dictionaries and arrays are read; a \
             pickle that asks for anything else is refused)"
        }
        _ => "a data file",
    }
}

fn describe(report: &ReadReport) -> String {
    let mut text = number_table(
        &[
            "split", "rows", "negative", "neutral", "positive", "least", "mean", "greatest",
        ],
        report
            .splits
            .iter()
            .map(|(name, split)| labels(name, split))
            .collect(),
    );
    text.push('\n');
    text.push_str(&number_table(
        &[
            "array", "shape", "type", "lengths", "shortest", "mean", "longest", "empty", "NaN",
            "inf", "-inf", "cleared",
        ],
        report
            .splits
            .iter()
            .flat_map(|(split, report)| {
                report
                    .features
                    .iter()
                    .map(move |(key, feature)| row(split, key, feature))
            })
            .collect(),
    ));
    text.push('\n');
    for (name, split) in &report.splits {
        histogram(
            &mut text,
            name,
            &split.labels.histogram,
            &report.label_borders,
        );
    }
    text.push_str(
        "empty: rows without content, read as one step of zeros. NaN, inf, -inf: values read as 0.\n\
         cleared: steps after a row's length that were not 0.\n",
    );
    for (name, split) in &report.splits {
        if let Some(tokens) = &split.text_bert {
            let turned = if tokens.turned {
                ", stored as [N, L, 3] and turned"
            } else {
                ""
            };
            let shape = shape(&tokens.shape);
            // Writing to a string cannot fail, here and below.
            let _ = writeln!(text, "tokens: {name}/text_bert {shape}{turned}");
        }
    }
    for (what, names) in [
        ("splits not read", &report.ignored_splits),
        ("arrays not read", &report.ignored_arrays),
    ] {
        if !names.is_empty() {
            let _ = writeln!(text, "{what}: {}", names.join(", "));
        }
    }
    text
}

fn labels(name: &str, split: &SplitReport) -> Vec<String> {
    let labels = &split.labels;
    let counts = [split.rows, labels.negative, labels.neutral, labels.positive];
    let moments = [f64::from(labels.min), labels.mean, f64::from(labels.max)];
    [name.to_owned()]
        .into_iter()
        .chain(counts.iter().map(usize::to_string))
        .chain(moments.iter().map(|value| format!("{value:.2}")))
        .collect()
}

fn row(split: &str, key: &str, feature: &FeatureReport) -> Vec<String> {
    let source = match feature.length_source {
        LengthSource::Given => "given",
        LengthSource::Vector => "vectors",
        LengthSource::TokenMask => "token mask",
        LengthSource::Content => "content",
    };
    vec![
        format!("{split}/{key}"),
        shape(&feature.shape),
        feature.dtype.clone(),
        source.to_owned(),
        feature.min_length.to_string(),
        format!("{:.1}", feature.mean_length),
        feature.max_length.to_string(),
        feature.empty_rows.to_string(),
        feature.nan.to_string(),
        feature.positive_infinity.to_string(),
        feature.negative_infinity.to_string(),
        feature.cleared_steps.to_string(),
    ]
}

fn shape(extents: &[usize]) -> String {
    let extents: Vec<_> = extents.iter().map(usize::to_string).collect();
    extents.join(" × ")
}

/// Characters of the longest bar.
const BAR: usize = 40;
/// A bar's last character, by how many eighths of it are full.
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

fn histogram(text: &mut String, split: &str, counts: &[usize], borders: &[f32]) {
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let _ = writeln!(text, "labels of {split}");
    for (count, border) in counts.iter().zip(borders.windows(2)) {
        let eighths = (count * BAR * 8).div_ceil(most);
        let bar = "█".repeat(eighths / 8) + EIGHTHS[eighths % 8];
        let _ = writeln!(
            text,
            "  {:>6.2} to {:>5.2}  {bar} {count}",
            border[0], border[1]
        );
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_in_proportion_and_the_least_count_still_shows() {
        let mut text = String::new();
        histogram(
            &mut text,
            "train",
            &[0, 1, 400, 200],
            &[-1.0, -0.5, 0.0, 0.5, 1.0],
        );
        let full = |line: usize| text.lines().nth(line).unwrap().matches('█').count();
        assert_eq!((full(1), full(3), full(4)), (0, BAR, BAR / 2));
        assert!(text.lines().nth(2).unwrap().contains("▏ 1"), "{text}");
        assert!(text.lines().nth(1).unwrap().ends_with("  0"), "{text}");
    }
}
