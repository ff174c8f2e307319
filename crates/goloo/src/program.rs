//! Runs programs of the system that goloo asks to do something, with limits.

use std::process::{Command, Stdio};

use goloo_command::Limits;
use goloo_model::guest::{excerpt, printable};

/// What the program prints; if it fails, the last line of its errors, or why it couldn't be run.
pub fn run(mut command: Command, limits: Limits) -> Result<Vec<u8>, String> {
    command.stdin(Stdio::null());
    let finished = goloo_command::run_blocking(command, limits).map_err(|error| error.to_string())?;
    if finished.status.success() {
        return Ok(finished.stdout);
    }
    let last = finished.stderr.split(|byte| *byte == b'\n').rfind(|line| !line.trim_ascii().is_empty());
    Err(last.map_or_else(|| finished.status.to_string(), |line| excerpt(&printable(line))))
}
