//! The switch alone, for this crate's tests. Real networks use `goloo` itself.

use std::process::ExitCode;

fn main() -> ExitCode {
    let argv: Vec<_> = std::env::args_os().collect();
    goloo_switch::answer(&argv).unwrap_or(ExitCode::FAILURE)
}
