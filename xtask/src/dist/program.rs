//! How other programs are run: an error has what the program printed.

use std::process::Command;

use super::Result;

/// The standard output of a program that must succeed, without the line end.
pub fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("can't run {program}: {error}"))?;
    if !output.status.success() {
        let printed = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{program} failed ({}): {}", output.status, printed.trim()).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim_end_matches('\n').to_owned())
}
