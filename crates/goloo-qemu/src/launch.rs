//! Starting QEMU and understanding what it says when it doesn't start.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use goloo_core::provider::ProviderError;
use tokio::process::Command;

use crate::args::Files;
use crate::process::{self, Process};

/// Why QEMU didn't start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    /// It could not bind a port.
    #[error("port {port} is taken")]
    PortTaken {
        /// The port of this machine.
        port: u16,
    },
    /// It ended, or hung.
    #[error("QEMU doesn't start: {message}")]
    Qemu {
        /// The end of what it said.
        message: String,
        /// Where all of it is, when that stays.
        log: Option<PathBuf>,
    },
    /// Something around it.
    #[error(transparent)]
    Provider(#[from] ProviderError),
}

impl From<LaunchError> for ProviderError {
    fn from(error: LaunchError) -> Self {
        match error {
            LaunchError::Provider(error) => error,
            LaunchError::Qemu { ref log, .. } => {
                let way_out = "GOLOO_QEMU_ACCEL=tcg does without acceleration";
                let hint = match log {
                    Some(log) => format!("all that QEMU said is in {}; {way_out}", log.display()),
                    None => format!("goloo doctor checks QEMU; {way_out}"),
                };
                Self::failed(error.to_string(), hint)
            }
            LaunchError::PortTaken { .. } => Self::failed(error.to_string(), "try again"),
        }
    }
}

/// So many lines of what a program said are in its error: of a create that fails there is nothing else left.
const LAST_LINES: usize = 8;

/// A program by its path, or by its name in the search path.
pub fn find_program(name: &OsStr) -> Option<PathBuf> {
    let executable = |path: &Path| {
        path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    };
    let path = Path::new(name);
    if path.components().count() > 1 {
        return executable(path).then(|| path.to_owned());
    }
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|path| executable(path))
}

/// Starts QEMU in the machine's folder and returns once it has put itself into the background, with
/// all sockets and ports bound.
///
/// Until then it is in a process group of its own, so that a Ctrl-C meant for goloo doesn't end it;
/// after that in a session of its own. It inherits no descriptors but these three: see
/// [`keep_descriptors`].
pub(crate) async fn run(
    program: &Path,
    argv: &[OsString],
    files: &Files,
    limit: Duration,
) -> Result<Process, LaunchError> {
    let broken = |source: io::Error| {
        ProviderError::caused(
            format!("{} can't be run", program.display()),
            "look at GOLOO_QEMU and at the installation of QEMU",
            source,
        )
    };
    let log = open_log(&files.log()).map_err(broken)?;
    keep_descriptors();
    let mut child = Command::new(program)
        .args(argv)
        .current_dir(files.folder())
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(broken)?)
        .stderr(log)
        .spawn()
        .map_err(broken)?;
    let status = match tokio::time::timeout(limit, child.wait()).await {
        Ok(status) => status.map_err(broken)?,
        Err(_) => {
            child.start_kill().map_err(broken)?;
            child.wait().await.map_err(broken)?;
            let message = format!("it hasn't set itself up within {} s", limit.as_secs());
            return Err(LaunchError::Qemu { message, log: Some(files.log()) });
        }
    };
    let said = std::fs::read_to_string(files.log()).unwrap_or_default();
    if !status.success() {
        if let Some(port) = refused_port(&said) {
            return Err(LaunchError::PortTaken { port });
        }
        let last = last_lines(&said);
        let message = if last.is_empty() { status.to_string() } else { format!("{last} ({status})") };
        return Err(LaunchError::Qemu { message, log: Some(files.log()) });
    }
    let process = process::of_pid_file(&files.pid()).map_err(broken)?;
    process.ok_or_else(|| LaunchError::Qemu {
        message: "it ended right after it had set itself up".to_owned(),
        log: Some(files.log()),
    })
}

/// What goloo opens is close-on-exec; what it was given need not be. A script that holds a lock while
/// it runs goloo, or a pipe whose end someone waits for, would otherwise stay with QEMU for as long
/// as the machine runs.
fn keep_descriptors() {
    close_fds::set_fds_cloexec(3, &[]);
}

fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// The port of this machine in QEMU's `Could not set up host forwarding rule
/// 'tcp:127.0.0.1:20022-:22'`.
fn refused_port(said: &str) -> Option<u16> {
    let rule = said.split("Could not set up host forwarding rule '").nth(1)?.split('\'').next()?;
    rule.split_once("-:")?.0.rsplit(':').next()?.parse().ok()
}

fn last_lines(said: &str) -> String {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("; ")
}

/// A program that does a short piece of work. It is in a process group of its own, so that a Ctrl-C
/// meant for goloo doesn't end it midway.
pub(crate) fn tool(program: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(program);
    command.process_group(0).stdin(Stdio::null());
    command
}

/// Makes the disk that the guest writes to, on top of a base image that stays as it is. `base` counts
/// from the disk's own folder.
pub(crate) fn make_overlay(
    program: &Path,
    base: &Path,
    format: &str,
    disk: &Path,
    bytes: u64,
) -> Result<(), ProviderError> {
    let mut command = tool(program);
    command.args(["create", "-q", "-f", "qcow2", "-F", format, "-b"]).arg(base).arg(disk);
    command.arg(bytes.to_string());
    qemu_img(command, &format!("the disk {} can't be made", disk.display())).map(drop)
}

/// Runs `qemu-img` to its end and returns what it printed; `failed` is the error's beginning.
pub(crate) fn qemu_img(mut command: std::process::Command, failed: &str) -> Result<Vec<u8>, ProviderError> {
    let failed = |message: String| {
        ProviderError::failed(
            format!("{failed}: {message}"),
            "look at the room on the file system, then run the same command again",
        )
    };
    match command.output() {
        Ok(output) if output.status.success() => Ok(output.stdout),
        Ok(output) => {
            let said = last_lines(&String::from_utf8_lossy(&output.stderr));
            Err(failed(if said.is_empty() { output.status.to_string() } else { said }))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let missing = crate::image::cache::qemu_img_is_missing();
            Err(ProviderError::Unavailable { what: missing.to_string(), hint: missing.hint() })
        }
        Err(error) => Err(failed(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_that_qemu_could_not_bind_is_read_from_its_words() {
        let said = "qemu-system-x86_64: -netdev user,id=net0,hostfwd=tcp:127.0.0.1:20022-:22: Could not set up \
                    host forwarding rule 'tcp:127.0.0.1:20022-:22'\n";
        assert_eq!(refused_port(said), Some(20022));
        assert_eq!(refused_port("qemu-system-x86_64: no such disk"), None);
    }

    #[test]
    fn a_tool_does_not_hear_a_ctrl_c_meant_for_goloo() {
        let output = tool(Path::new("sh")).args(["-c", "ps -o pgid= -p $$"]).output().expect("sh is there");
        let group: i32 = String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number");
        assert_ne!(group, rustix::process::getpgrp().as_raw_pid());
    }

    #[test]
    fn a_program_is_found_by_name_and_by_path() {
        let shell = find_program(OsStr::new("sh"));
        assert!(shell.as_ref().is_some_and(|path| path.is_absolute()));
        assert_eq!(find_program(shell.unwrap_or_default().as_os_str()), find_program(OsStr::new("sh")));
        assert_eq!(find_program(OsStr::new("no-such-program")), None);
        assert_eq!(find_program(OsStr::new("/etc/passwd")), None);
    }
}
