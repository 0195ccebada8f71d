//! `modalign convert`

use modalign::data::{DataError, ReadOptions, write_npz};

use crate::arguments::Convert;
use crate::error::CliError;
use crate::folder::print;
use crate::input::read;

pub fn run(arguments: &Convert) -> Result<(), CliError> {
    if arguments.output.exists() {
        return Err(CliError::Exists {
            path: arguments.output.clone(),
        });
    }
    let options = ReadOptions {
        label_column: arguments.label_column,
        ..ReadOptions::default()
    };
    let (dataset, report) = read(&arguments.input, &options)?;
    write_npz(&arguments.output, &dataset).map_err(|error| match error {
        DataError::Io { path, source } => CliError::Write { path, source },
        error => error.into(),
    })?;
    let mut text = format!("{}: written\n", arguments.output.display());
    for array in report.ignored_arrays {
        text.push_str(&format!("left out: {array}\n"));
    }
    print(&text)
}
