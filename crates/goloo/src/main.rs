//! The `goloo` command.

fn main() -> std::process::ExitCode {
    goloo::main(std::env::args_os().collect())
}
