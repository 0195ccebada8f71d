//! The program `modalign`.

fn main() -> std::process::ExitCode {
    modalign_cli::main()
}
