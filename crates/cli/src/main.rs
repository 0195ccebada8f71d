//! The program `modalign`.
//!
//! Arguments become a configuration ([`settings`]) and a data set ([`input`]), these become an
//! experiment, and the experiment becomes a table, files and a report. Nothing flows back.

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

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Command};
use crate::error::{CliError, INTERRUPTED};

fn main() -> ExitCode {
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
