//! The command `goloo` with one more provider.
//!
//!     cargo run -p goloo-cli --example with-null -- create hello --provider null --no-wait

use std::process::ExitCode;

fn main() -> ExitCode {
    let argv = std::env::args_os().collect();
    goloo_cli::run(argv, goloo::providers().with(goloo_null::provider()))
}
