//! `qemu-img`, which reads files that others made, with limits on what it may use.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::ImageError;

/// The exit status of a command from [`command`] when the program doesn't exist: sh's own.
pub const NOT_FOUND: i32 = 127;

/// The processor time that a command may use, in seconds, as OpenStack limits it.
const PROCESSOR_TIME: u64 = 600;

/// The start of a command of `qemu-img`, with a limit on its processor time and its memory (KiB), as OpenStack has them.
/// Where the system knows no such limit, it runs without.
pub fn command(program: &Path) -> Command {
    command_within(program, PROCESSOR_TIME)
}

/// As [`command`], with another limit on the processor time, in seconds.
pub fn command_within(program: &Path, seconds: u64) -> Command {
    let limited = format!(
        "ulimit -t {seconds} 2>/dev/null; ulimit -v 4194304 2>/dev/null; ulimit -c 0 2>/dev/null; exec \"$@\""
    );
    let mut command = Command::new("/bin/sh");
    command.stdin(Stdio::null()).args(["-c", &limited, "sh"]).arg(program);
    command
}

/// The error when it isn't installed.
pub fn missing() -> ImageError {
    ImageError::Tools { programs: vec!["qemu-img".to_owned()], packages: vec!["qemu-utils".to_owned()] }
}
