//! What a person sees while models train, and what the log keeps.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use modalign::metrics::{Metric, Report};
use modalign::train::{EpochRecord, Event, LossTerms, Observer};

use crate::error::CliError;

/// How often a line is printed where there is no terminal to draw bars on.
const PAUSE: Duration = Duration::from_secs(5);

/// Follows all runs of a training.
pub struct Progress {
    started: Instant,
    runs: Mutex<BTreeMap<usize, Run>>,
    screen: Screen,
    log: Option<Mutex<Log>>,
}

/// Where progress is shown.
enum Screen {
    /// Nowhere.
    None,
    /// One bar a run, on a terminal.
    Bars(MultiProgress),
    /// A line now and then.
    Lines(Mutex<Option<Instant>>),
}

struct Run {
    name: String,
    max_epochs: usize,
    steps_per_epoch: usize,
    epoch: usize,
    loss: String,
    valid: Option<f64>,
    best: f64,
    bar: ProgressBar,
}

struct Log {
    file: File,
    failure: Option<io::Error>,
}

impl Progress {
    /// Shows progress on standard error unless `quiet`, and writes every epoch to `log`.
    pub fn new(quiet: bool, log: Option<File>) -> Self {
        let screen = if quiet {
            Screen::None
        } else if io::stderr().is_terminal() {
            Screen::Bars(MultiProgress::with_draw_target(ProgressDrawTarget::stderr()))
        } else {
            Screen::Lines(Mutex::new(None))
        };
        let log = log.map(|file| {
            Mutex::new(Log {
                file,
                failure: None,
            })
        });
        Self {
            started: Instant::now(),
            runs: Mutex::default(),
            screen,
            log,
        }
    }

    /// A line for the person and for the log.
    pub fn note(&self, text: &str) {
        self.log(text);
        self.show(text);
    }

    /// The end: whether the log in `path` could be written.
    pub fn finish(self, path: &Path) -> Result<(), CliError> {
        let log = self
            .log
            .map(|log| log.into_inner().unwrap_or_else(PoisonError::into_inner));
        match log.and_then(|log| log.failure) {
            Some(source) => Err(CliError::Write {
                path: path.to_owned(),
                source,
            }),
            None => Ok(()),
        }
    }

    fn show(&self, text: &str) {
        match &self.screen {
            Screen::None => {}
            // A bar, or the log, is no reason to stop a training: who closed the other end of
            // standard error does not want to read it.
            Screen::Bars(bars) => {
                let _ = bars.println(text);
            }
            Screen::Lines(_) => {
                let _ = writeln!(io::stderr(), "{text}");
            }
        }
    }

    fn log(&self, text: &str) {
        if let Some(log) = &self.log {
            let mut log = lock(log);
            let seconds = self.started.elapsed().as_secs_f64();
            if let Err(error) = writeln!(log.file, "[{seconds:9.3} s] {text}") {
                log.failure.get_or_insert(error);
            }
        }
    }

    fn run_started(&self, index: usize, run: Run, runs: usize, parameters: usize) {
        let Run {
            name,
            max_epochs,
            steps_per_epoch,
            ..
        } = &run;
        let text = format!(
            "at most {max_epochs} epochs of {steps_per_epoch} batches, {parameters} parameters"
        );
        self.log(&format!("{name}: {text}"));
        if index == 0 {
            let plural = if runs == 1 { "run" } else { "runs" };
            self.show(&format!("{runs} {plural} of {text}"));
        }
        lock(&self.runs).insert(index, run);
    }

    fn run_resumed(&self, index: usize, epochs: usize, batches: usize, best: Option<f64>) {
        let mut runs = lock(&self.runs);
        let Some(run) = runs.get_mut(&index) else {
            return;
        };
        run.epoch = epochs;
        run.best = best.unwrap_or(f64::INFINITY);
        let text = format!(
            "{}: goes on after {epochs} epochs and {batches} batches",
            run.name
        );
        drop(runs);
        self.note(&text);
    }

    fn bar(&self, name: &str, steps: usize) -> ProgressBar {
        let Screen::Bars(bars) = &self.screen else {
            return ProgressBar::hidden();
        };
        // The template is a constant: it parses or no test of this program passes.
        let style = ProgressStyle::with_template("{bar:18} {eta:>4} left  {prefix}\n  {wide_msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("━╸─");
        let bar = bars.add(ProgressBar::new(steps as u64).with_style(style));
        bar.set_prefix(name.to_owned());
        bar
    }

    fn step(&self, index: usize, epoch: usize, step: usize, terms: &LossTerms) {
        if matches!(self.screen, Screen::Bars(_))
            && let Some(run) = lock(&self.runs).get_mut(&index)
        {
            run.epoch = epoch;
            run.loss = describe(terms);
            run.bar
                .set_position(((epoch - 1) * run.steps_per_epoch + step) as u64);
            run.draw();
        }
    }

    fn epoch_finished(&self, index: usize, record: &EpochRecord) {
        let mut runs = lock(&self.runs);
        let Some(run) = runs.get_mut(&index) else {
            return;
        };
        run.epoch = record.epoch;
        run.loss = describe(&record.train);
        run.valid = Some(record.valid_loss);
        run.best = run.best.min(record.valid_loss);
        run.draw();
        let best = if record.is_best { ", best so far" } else { "" };
        let mut text = format!(
            "{}: epoch {}, loss {}, gradient norm {:.4}, validation MAE {:.4}{best}",
            run.name, record.epoch, run.loss, record.gradient_norm, record.valid_loss
        );
        // Writing to a string cannot fail, here and below.
        for label in &record.labels {
            let _ = write!(
                text,
                "; {} labels shifted by {:.4} on average, by {:.4} in absolute terms",
                label.modality, label.mean_shift, label.mean_absolute_shift
            );
        }
        if !record.labels.is_empty() {
            let updates = record.label_updates;
            let _ = write!(
                text,
                "; {} labels updated, {} of them clamped, {} skipped for an empty class, {} for a \
                 vanishing distance",
                updates.updated,
                updates.clamped,
                updates.skipped_empty_class,
                updates.skipped_vanishing_distance
            );
        }
        self.log(&text);
        if let Screen::Lines(shown) = &self.screen {
            let mut shown = lock(shown);
            let last = shown.unwrap_or(self.started);
            if last.elapsed() >= PAUSE {
                *shown = Some(Instant::now());
                let states: Vec<_> = runs.values().filter_map(Run::state).collect();
                let seconds = self.started.elapsed().as_secs();
                drop(runs);
                self.show(&format!("{seconds:4} s  {}", states.join(" | ")));
            }
        }
    }

    fn run_finished(&self, index: usize, best_epoch: usize, valid: &Report) {
        let Some(run) = lock(&self.runs).remove(&index) else {
            return;
        };
        run.bar.finish_and_clear();
        let error = valid
            .get(Metric::Mae)
            .map_or("undefined".to_owned(), |mae| format!("{mae:.4}"));
        let epochs = run.epoch;
        self.note(&format!(
            "{}: {epochs} epochs, best {best_epoch} with validation MAE {error}",
            run.name
        ));
    }
}

impl Observer for Progress {
    fn observe(&self, event: &Event<'_>) {
        match *event {
            Event::RunStarted {
                run,
                runs,
                name,
                max_epochs,
                steps_per_epoch,
                parameters,
            } => {
                let bar = self.bar(name, max_epochs * steps_per_epoch);
                let started = Run {
                    name: name.to_owned(),
                    max_epochs,
                    steps_per_epoch,
                    epoch: 0,
                    loss: String::new(),
                    valid: None,
                    best: f64::INFINITY,
                    bar,
                };
                self.run_started(run, started, runs, parameters);
            }
            Event::RunResumed {
                run,
                epochs,
                batches,
                best_loss,
            } => self.run_resumed(run, epochs, batches, best_loss),
            Event::Step {
                run,
                epoch,
                step,
                terms,
            } => self.step(run, epoch, step, terms),
            Event::EpochFinished { run, record } => self.epoch_finished(run, record),
            Event::RunFinished {
                run,
                best_epoch,
                valid,
            } => {
                self.run_finished(run, best_epoch, valid);
            }
            Event::TextsTruncated { texts, rows } => self.note(&format!(
                "{texts} of {rows} transcripts are longer than text_model.max_tokens and lost their \
                 ends"
            )),
            _ => {}
        }
    }
}

impl Run {
    fn draw(&self) {
        let valid = self.valid.map_or(String::new(), |valid| {
            format!(", valid MAE {valid:.3} (best {:.3})", self.best)
        });
        let Self {
            name,
            epoch,
            max_epochs,
            ..
        } = self;
        self.bar
            .set_prefix(format!("{name}: epoch {epoch}/{max_epochs}{valid}"));
        self.bar.set_message(format!("loss {}", self.loss));
    }

    fn state(&self) -> Option<String> {
        let valid = self.valid?;
        let best = self.best;
        Some(format!(
            "{} epoch {}: valid MAE {valid:.3} (best {best:.3})",
            self.name, self.epoch
        ))
    }
}

/// The total and what it is made of.
fn describe(terms: &LossTerms) -> String {
    let mut text = format!("{:.3} = fused {:.3}", terms.total, terms.multimodal);
    for (modality, value) in &terms.unimodal {
        // Writing to a string cannot fail.
        let _ = write!(text, " + {modality} {value:.3}");
    }
    let _ = write!(text, " + shared {:.3}", terms.shared_information);
    text
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A thread that panicked has left nothing half-done behind: each guard covers one assignment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
