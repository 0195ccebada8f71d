//! The program `modalign`.
//!
//! Arguments become a configuration (`settings`) and a data set (`input`), these become an
//! experiment, and the experiment becomes a table, files and a report. Nothing flows back.
//!
//! It is a library so that tests and fuzzers reach what the program reads from strangers; whoever
//! writes another program starts from the crate `modalign`.

#![forbid(unsafe_code)]

mod arguments;
mod commands;
mod error;
mod explanation;
mod files;
mod folder;
mod input;
mod keys;
mod outcome;
mod progress;
mod report;
mod settings;
mod states;
mod table;

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use modalign::train::{ExperimentConfig, Predictor};

use crate::arguments::{Arguments, Command, SettingsArguments};
use crate::error::{CliError, INTERRUPTED};

/// Runs the program on the arguments of the process.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = error.exit_code();
            if code != 0 {
                // Nobody is left to hear that standard error is closed.
                let prefix = if code == INTERRUPTED { "" } else { "error: " };
                let _ = writeln!(std::io::stderr(), "{prefix}{error}");
            }
            ExitCode::from(code)
        }
    }
}

fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Train(arguments) => commands::train::run(&arguments),
        Command::Evaluate(arguments) => commands::evaluate::run(&arguments),
        Command::Predict(arguments) => commands::predict::run(&arguments),
        Command::Inspect(arguments) => commands::inspect::run(&arguments),
        Command::Config(arguments) => commands::config::run(&arguments),
        Command::Ablate(arguments) => commands::ablate::run(&arguments),
        Command::Convert(arguments) => commands::convert::run(&arguments),
    }
}

/// The configuration of `train --config FILE`, checked.
///
/// # Errors
///
/// What the program would say.
pub fn configuration(file: impl Into<PathBuf>) -> Result<ExperimentConfig, Box<dyn Error>> {
    let arguments = SettingsArguments {
        config: Some(file.into()),
        ..SettingsArguments::default()
    };
    Ok(settings::resolve(&arguments, &[])?)
}

/// `predict --stdin`: scores each line of `input` and writes its line to `output`.
///
/// # Errors
///
/// What the program would say.
pub fn score_lines(
    predictor: &Predictor,
    input: impl BufRead,
    output: impl Write,
) -> Result<(), Box<dyn Error>> {
    Ok(commands::predict::score_lines(predictor, input, output)?)
}
