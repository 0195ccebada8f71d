//! Placeholder until its crate lands.

use std::process::ExitCode;

fn main() -> ExitCode {
    modalign_oracle_tests::run(Vec::new())
}
