//! The report of a run: one HTML file that needs nothing else.

pub mod plot;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use modalign::encoders::Modality;
use modalign::metrics::{Metric, Summary};
use modalign::train::{EpochRecord, RunResult};

use crate::error::CliError;
use crate::outcome::{BASELINE, Outcome, SELECTION};
use crate::table::mean_and_deviation;
use plot::{Axes, Curve, GRID, Ink, PlotError, WORDS, bands, curves, extent, scatter};

/// More points than this in one plot hide each other and swell the file: then every second, third
/// and so on is drawn.
const MOST_POINTS: usize = 1500;

/// Writes the report. `config` is the configuration as TOML.
pub fn page(outcome: &Outcome<'_>, config: &str) -> Result<String, CliError> {
    let title = format!("modalign: {}", outcome.data);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(style())) }
            }
            body {
                header {
                    h1 { (outcome.data) }
                    p { (summary(outcome)) }
                }
                main {
                    (metrics(outcome))
                    (losses(outcome)?)
                    (predictions(outcome)?)
                    (labels(outcome)?)
                    section {
                        h2 { "Configuration" }
                        details {
                            summary { "config.toml" }
                            pre { code { (config) } }
                        }
                    }
                }
                footer { "Written by modalign " (env!("CARGO_PKG_VERSION")) "." }
            }
        }
    };
    Ok(page.into_string())
}

/// One sentence on what was trained.
fn summary(outcome: &Outcome<'_>) -> String {
    let modalities: Vec<_> = outcome
        .config
        .data
        .modalities
        .iter()
        .map(Modality::to_string)
        .collect();
    let rows = outcome.best_run();
    format!(
        "A model of {} trained on {} rows and tested on {}: {}.",
        modalities.join(", "),
        rows.train_labels.len(),
        rows.test_predictions.len(),
        outcome.spread()
    )
}

fn metrics(outcome: &Outcome<'_>) -> Markup {
    html! {
        section {
            h2 { "Metrics" }
            table {
                thead {
                    tr {
                        th { "metric" }
                        th.number { "validation" }
                        th.number { "test" }
                        th.number { "best constant (test)" }
                    }
                }
                tbody {
                    @for metric in outcome.metrics() {
                        tr {
                            th scope="row" { (breakable(*metric)) }
                            @for summaries in [&outcome.valid, &outcome.test, &outcome.baseline] {
                                td.number {
                                    @if let Some(summary) = summaries.get(metric) {
                                        (value(summary))
                                    }
                                }
                            }
                        }
                    }
                }
            }
            p.note {
                "Values: " (outcome.spread()) "; " (SELECTION) ". Column " (BASELINE) "."
            }
            details open {
                summary { "What the metrics mean" }
                dl {
                    @for metric in outcome.metrics() {
                        dt { (metric) }
                        dd { (metric.description(outcome.convention()).unwrap_or_default()) }
                    }
                }
            }
        }
    }
}

/// The name, with places where a narrow screen may break it.
fn breakable(metric: Metric) -> Markup {
    html! {
        @for (index, part) in metric.name().split('_').enumerate() {
            @if index > 0 { "_" wbr; }
            (part)
        }
    }
}

/// The deviation may go below the mean where there is little room.
fn value(summary: &Summary) -> Markup {
    let text = mean_and_deviation(summary);
    match text.split_once(" ± ") {
        Some((mean, deviation)) => html! { (mean) " " span { "± " (deviation) } },
        None => html! { (text) },
    }
}

/// A curve to draw for each run, and what to call it.
struct Term {
    title: String,
    unit: &'static str,
    ink: Ink,
    value: Box<dyn Fn(&EpochRecord) -> Option<f64>>,
}

impl Term {
    fn new(
        title: impl Into<String>,
        unit: &'static str,
        ink: Ink,
        value: impl Fn(&EpochRecord) -> Option<f64> + 'static,
    ) -> Self {
        Self {
            title: title.into(),
            unit,
            ink,
            value: Box::new(value),
        }
    }
}

/// Everything in the history that is a term of the loss, an error or a norm, in the order of the page.
fn terms(record: &EpochRecord) -> Vec<Term> {
    let mut terms = vec![
        Term::new(
            "Validation MAE (chooses the epoch)",
            "MAE",
            Ink::Fused,
            |record| Some(record.valid_loss),
        ),
        Term::new("Total loss", "loss", Ink::Fused, |record| {
            Some(record.train.total)
        }),
        Term::new("Fused task", "loss", Ink::Fused, |record| {
            Some(record.train.multimodal)
        }),
    ];
    for (index, &(modality, _)) in record.train.unimodal.iter().enumerate() {
        let title = format!("{} task, weighted", capital(modality));
        terms.push(Term::new(title, "loss", ink(modality), move |record| {
            record.train.unimodal.get(index).map(|term| term.1)
        }));
    }
    terms.push(Term::new(
        "Shared information, weighted",
        "loss",
        Ink::Shared,
        |record| Some(record.train.shared_information),
    ));
    for (index, &(left, right, _)) in record.train.pairs.iter().enumerate() {
        let title = format!("Distance {left}–{right}, unweighted");
        terms.push(Term::new(title, "distance", Ink::Shared, move |record| {
            record.train.pairs.get(index).map(|pair| pair.2)
        }));
    }
    terms.push(Term::new("Gradient norm", "norm", Ink::Fused, |record| {
        Some(record.gradient_norm)
    }));
    terms
}

fn losses(outcome: &Outcome<'_>) -> Result<Markup, PlotError> {
    let runs = &outcome.experiment.runs;
    let Some(record) = runs.first().and_then(|run| run.history.first()) else {
        return Ok(Markup::default());
    };
    let mut figures = Vec::new();
    for term in terms(record) {
        let lines: Vec<Vec<(f64, f64)>> = runs.iter().map(|run| line(run, &term)).collect();
        if lines.iter().flatten().all(|point| point.1 == 0.0) {
            continue;
        }
        let curve = |points, thick| Curve {
            points,
            ink: term.ink,
            thick,
        };
        let mut drawn = vec![curve(mean(&lines), true)];
        if lines.len() > 1 {
            drawn.extend(lines.iter().map(|points| curve(points.clone(), false)));
        }
        if figures.is_empty() {
            drawn.extend(runs.iter().map(|run| curve(chosen(run), true)));
        }
        let axes = Axes {
            title: &term.title,
            x: "epoch",
            y: term.unit,
        };
        figures.push(figure(&term.title, &curves(axes, &drawn)?));
    }
    let several = runs.len() > 1;
    Ok(html! {
        section {
            h2 { "Loss terms and gradient by epoch" }
            p.note {
                "Means over the batches of an epoch, each as it enters the total, and the mean norm of "
                "the gradient of a step before clipping. "
                @if several {
                    "Thin: one line a run. Thick: their mean, as far as all runs go. "
                }
                "Dots: the epochs whose parameters were kept."
            }
            div.figures { @for figure in figures { (figure) } }
        }
    })
}

fn line(run: &RunResult, term: &Term) -> Vec<(f64, f64)> {
    let value = |record: &EpochRecord| Some((record.epoch as f64, (term.value)(record)?));
    run.history.iter().filter_map(value).collect()
}

/// The kept epoch on the first plot, that of the validation error.
fn chosen(run: &RunResult) -> Vec<(f64, f64)> {
    let kept = run
        .history
        .iter()
        .filter(|record| record.epoch == run.best_epoch);
    kept.map(|record| (record.epoch as f64, record.valid_loss))
        .collect()
}

/// Point by point, up to the end of the shortest line.
fn mean(lines: &[Vec<(f64, f64)>]) -> Vec<(f64, f64)> {
    let shortest = lines.iter().map(Vec::len).min().unwrap_or(0);
    let at = |index: usize| {
        let sum: f64 = lines.iter().map(|line| line[index].1).sum();
        (lines[0][index].0, sum / lines.len() as f64)
    };
    (0..shortest).map(at).collect()
}

fn predictions(outcome: &Outcome<'_>) -> Result<Markup, PlotError> {
    let run = outcome.best_run();
    let rows = &run.test_predictions;
    let labels: Vec<_> = rows.iter().map(|row| f64::from(row.label)).collect();
    let mut scores = vec![(
        "Fused".to_owned(),
        Ink::Fused,
        rows.iter()
            .map(|row| f64::from(row.fused))
            .collect::<Vec<_>>(),
    )];
    // A unimodal head that no task has trained predicts nothing.
    if outcome.config.uses_label_generator() {
        for (index, &modality) in outcome.config.data.modalities.iter().enumerate() {
            let own = rows
                .iter()
                .map(|row| f64::from(row.unimodal[index].1))
                .collect();
            scores.push((format!("{} alone", capital(modality)), ink(modality), own));
        }
    }
    let predictions = scores.iter().flat_map(|(_, _, scores)| scores);
    let range = extent(labels.iter().chain(predictions).copied());
    let figures = scores
        .iter()
        .map(|(title, ink, scores)| {
            let points: Vec<_> = labels.iter().copied().zip(scores.iter().copied()).collect();
            let axes = Axes {
                title,
                x: "label",
                y: "prediction",
            };
            Ok(figure(
                title,
                &scatter(axes, range.clone(), &thin(&points), *ink)?,
            ))
        })
        .collect::<Result<Vec<_>, PlotError>>()?;
    Ok(html! {
        section {
            h2 { "Predicted against true" }
            p.note {
                "Test rows, " (run.name) ", the run with the lowest validation MAE. On the line, "
                "prediction and label are equal." (thinned(rows.len()))
            }
            div.figures.pairs { @for figure in figures { (figure) } }
        }
    })
}

fn labels(outcome: &Outcome<'_>) -> Result<Markup, PlotError> {
    let run = outcome.best_run();
    if run.final_labels.is_empty() {
        return Ok(html! {
            section {
                h2 { "How the generated labels moved" }
                p.note { "The label generator was off." }
            }
        });
    }
    let mut figures = Vec::new();
    let neutral = f64::from(outcome.config.data.neutral_label);
    for (modality, generated) in &run.final_labels {
        let rows: Vec<_> = run
            .history
            .iter()
            .filter_map(|record| {
                let of = |label: &&modalign::train::LabelMovement| label.modality == *modality;
                Some((
                    record.epoch as f64,
                    record.labels.iter().find(of)?.quantiles,
                ))
            })
            .collect();
        let title = format!("{}: shift by epoch", capital(*modality));
        let axes = Axes {
            title: &title,
            x: "epoch",
            y: "generated − multimodal",
        };
        figures.push(figure(&title, &bands(axes, &rows, ink(*modality))?));

        let points: Vec<_> = run
            .train_labels
            .iter()
            .zip(generated)
            .map(|(&label, &own)| (f64::from(label) + neutral, f64::from(own) + neutral))
            .collect();
        let range = extent(points.iter().flat_map(|point| [point.0, point.1]));
        let title = format!("{}: at the end", capital(*modality));
        let axes = Axes {
            title: &title,
            x: "multimodal label",
            y: "generated label",
        };
        figures.push(figure(
            &title,
            &scatter(axes, range, &thin(&points), ink(*modality))?,
        ));
    }
    Ok(html! {
        section {
            h2 { "How the generated labels moved" }
            p.note {
                "Training rows, " (run.name) ". By epoch: the median shift as a line, half of the "
                "rows in the dark band, nine tenths in the light one. At the end: each row's "
                "generated label against its multimodal one." (thinned(run.train_labels.len()))
            }
            div.figures.pairs { @for figure in figures { (figure) } }
        }
    })
}

fn figure(caption: &str, svg: &str) -> Markup {
    html! {
        figure {
            figcaption { (caption) }
            (PreEscaped(svg))
        }
    }
}

fn stride(points: usize) -> usize {
    points.div_ceil(MOST_POINTS).max(1)
}

fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    points
        .iter()
        .step_by(stride(points.len()))
        .copied()
        .collect()
}

fn thinned(points: usize) -> String {
    match stride(points) {
        1 => String::new(),
        stride => format!(" One row in {stride} is drawn."),
    }
}

fn ink(modality: Modality) -> Ink {
    match modality {
        Modality::Text => Ink::Text,
        Modality::Audio => Ink::Audio,
        Modality::Vision => Ink::Vision,
    }
}

fn capital(modality: Modality) -> String {
    let name = modality.to_string();
    name[..1].to_uppercase() + &name[1..]
}

/// The style sheet: the colours of marks are those in the SVG on a light page and replaced by
/// lighter ones on a dark page.
fn style() -> String {
    let marks = Ink::ALL.map(|ink| (ink.light(), ink.dark()));
    let dark: String = marks
        .into_iter()
        .chain([WORDS, GRID])
        .map(|(light, dark)| {
            format!(
                "svg [fill=\"{light}\"]{{fill:{dark}}}svg [stroke=\"{light}\"]{{stroke:{dark}}}"
            )
        })
        .collect();
    format!(
        "{}@media (prefers-color-scheme:dark){{{dark}}}",
        include_str!("report.css")
    )
}
