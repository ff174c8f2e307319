//! The `goloo` command.

fn main() -> std::process::ExitCode {
    goloo_cli::main(std::env::args_os().collect())
}
