//! Starts QEMU, and interprets its messages when it fails to start.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use goloo_command::{Finished, Limits, RunError};
use goloo_images::qemu_img;
use goloo_model::guest::excerpt;
use goloo_model::hint::NextStep;
use goloo_model::provider::ProviderError;
use tokio::process::Command;

use crate::args::{Files, QMP_SOCKET};
use crate::ports::Listener;
use crate::process::{self, QemuProcess};
use crate::{qmp, supervise};

/// Why QEMU didn't start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    /// It couldn't bind a port of this host.
    #[error("{listener} is taken")]
    PortTaken {
        /// What it couldn't bind.
        listener: Listener,
    },
    /// It exited or hung.
    #[error("QEMU failed to start: {message}")]
    Qemu {
        /// The end of its output.
        message: String,
        /// The complete log, if it is kept.
        log: Option<PathBuf>,
    },
    /// Anything else.
    #[error(transparent)]
    Provider(#[from] ProviderError),
}

impl From<LaunchError> for ProviderError {
    fn from(error: LaunchError) -> Self {
        match error {
            LaunchError::Provider(error) => error,
            LaunchError::Qemu { ref log, .. } => {
                let way_out = "set GOLOO_QEMU_ACCEL=tcg to run without acceleration";
                let hint = match log {
                    Some(log) => format!("see QEMU's output in {}; {way_out}", log.display()).into(),
                    None => NextStep::Doctor.text(format!(" checks QEMU; {way_out}")),
                };
                Self::failed(error.to_string(), hint)
            }
            LaunchError::PortTaken { .. } => Self::failed(error.to_string(), "try again"),
        }
    }
}

/// How many lines of a program's output are quoted in its error: after a failed create nothing else is left.
const LAST_LINES: usize = 8;

/// How often a starting QEMU is asked whether it is ready.
const READY_POLL: Duration = Duration::from_millis(10);
/// How much of QEMU's log is read, in bytes.
const LOG_MAX: u64 = 64 << 10;

pub(crate) struct Start<'a> {
    /// The supervisor program.
    pub(crate) supervisor: &'a Path,
    pub(crate) program: &'a Path,
    pub(crate) argv: &'a [OsString],
    /// The command lines of the processes that share its folders.
    pub(crate) shares: &'a [Vec<OsString>],
    pub(crate) files: &'a Files,
    /// Limit for QEMU to finish its setup.
    pub(crate) limit: Duration,
    /// Limit for one response on the control socket.
    pub(crate) answer: Duration,
}

/// Starts QEMU in the machine's folder, with its [supervisor](crate::supervise), and returns once it responds on its
/// control socket: by then all sockets and ports are bound.
///
/// Both run in a session of their own, so that a Ctrl-C meant for goloo doesn't end them, and inherit only the standard
/// descriptors: see [`keep_descriptors`]. After an error either may still be running.
pub(crate) async fn run(start: &Start<'_>) -> Result<QemuProcess, LaunchError> {
    let Start { program, files, limit, .. } = start;
    let broken = |source: io::Error| {
        let hint =
            goloo_command::shortage_hint(&source).unwrap_or("check GOLOO_QEMU and the installation of QEMU");
        ProviderError::caused(format!("{} can't be run", program.display()), hint, source)
    };
    // The log contains only this start.
    open_log(&files.log()).map_err(broken)?;
    goloo_sys::durable::remove_if_there(&files.folder().join(QMP_SOCKET)).map_err(broken)?;
    let mut supervisor = spawn(start).map_err(broken)?;
    let status = tokio::select! {
        status = supervisor.wait() => status.map_err(broken)?,
        () = is_ready(files, start.answer) => return its_process(files).map_err(broken)?,
        () = tokio::time::sleep(*limit) => {
            let other = if start.shares.is_empty() { "" } else { "; GOLOO_VIRTIOFSD=off starts it without virtiofs" };
            let message = format!("it wasn't ready within {} s{other}", limit.as_secs());
            return Err(LaunchError::Qemu { message, log: Some(files.log()) });
        }
    };
    let said = read_log(&files.log());
    if let Some(listener) = refused_listener(&said) {
        return Err(LaunchError::PortTaken { listener });
    }
    let last = last_lines(&said);
    let message = if last.is_empty() { status.to_string() } else { format!("{last} ({status})") };
    Err(LaunchError::Qemu { message, log: Some(files.log()) })
}

fn spawn(start: &Start<'_>) -> io::Result<tokio::process::Child> {
    keep_descriptors();
    let (reader, writer) = io::pipe()?;
    let child = Command::new(start.supervisor)
        .args(supervise::arguments(&start.files.pid()))
        .current_dir(start.files.folder())
        .stdin(reader)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    supervise::send(writer, start.program, start.argv, start.shares)?;
    Ok(child)
}

/// QEMU responds to commands only once the machine is completely set up.
async fn is_ready(files: &Files, limit: Duration) {
    let socket = files.folder().join(QMP_SOCKET);
    while !socket.exists() || qmp::run_state(files.folder(), limit).await.is_err() {
        tokio::time::sleep(READY_POLL).await;
    }
}

fn its_process(files: &Files) -> io::Result<Result<QemuProcess, LaunchError>> {
    let process = process::of_pid_file(&files.pid())?;
    Ok(process.ok_or_else(|| LaunchError::Qemu {
        message: "it exited right after it became ready".to_owned(),
        log: Some(files.log()),
    }))
}

/// The last of what a machine's QEMU has said.
pub(crate) fn last_words(files: &Files) -> String {
    last_lines(&read_log(&files.log()))
}

/// The log of a failed start. Anything beyond the limit is cut off.
fn read_log(path: &Path) -> String {
    let mut said = Vec::new();
    // Optional: the exit status is reported too.
    let _ = File::open(path).and_then(|log| log.take(LOG_MAX).read_to_end(&mut said));
    String::from_utf8_lossy(&said).into_owned()
}

/// Sets close-on-exec on inherited descriptors; those goloo opens itself have it already. Otherwise QEMU would hold the
/// lock of a script that runs goloo, or a pipe whose reader waits for its end, for as long as the machine runs.
pub(crate) fn keep_descriptors() {
    close_fds::set_fds_cloexec(3, &[]);
}

fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Extracts the port of this host from QEMU's message `Could not set up host forwarding rule 'tcp:127.0.0.1:20022-:22'`.
fn refused_listener(said: &str) -> Option<Listener> {
    Listener::of_rule(said.split("Could not set up host forwarding rule '").nth(1)?.split('\'').next()?)
}

fn last_lines(said: &str) -> String {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    excerpt(&lines[lines.len().saturating_sub(LAST_LINES)..].join("; "))
}

/// Limits on a tool's output and run time: copying whole disks takes a while.
pub(crate) const TOOL_LIMITS: Limits =
    Limits { time: Duration::from_secs(3600), stdout: 4 << 20, stderr: 64 << 10 };

/// The size of a disk's clusters, in bytes: that of `qemu-img`.
pub(crate) const CLUSTER: u32 = 64 << 10;

/// The size where a disk becomes a baked image: that of the guest's blocks. QEMU discards whole clusters only; the rest of
/// a larger one would keep what the guest has removed, keys and secrets included.
pub(crate) const CLUSTER_FOR_BAKING: u32 = 4 << 10;

/// Creates the disk the guest writes to, on top of a base image of a format that isn't modified. The base is relative to
/// the disk's own folder.
pub(crate) fn make_overlay(
    program: &Path,
    (base, format): (&Path, &str),
    disk: &Path,
    bytes: u64,
    cluster: u32,
) -> Result<(), ProviderError> {
    let mut command = qemu_img::command(program);
    command.args(["create", "-q", "-f", "qcow2", "-o", &format!("cluster_size={cluster}")]);
    command.args(["-F", format, "-b"]).arg(base).arg(disk);
    command.arg(bytes.to_string());
    run_qemu_img(command, &format!("can't create the disk {}", disk.display())).map(drop)
}

/// Runs `qemu-img` and returns its output; `failed` is the beginning of the error message.
pub(crate) fn run_qemu_img(command: std::process::Command, failed: &str) -> Result<Vec<u8>, ProviderError> {
    expect_success(goloo_command::run_blocking(command, TOOL_LIMITS), failed)
}

/// The output of a `qemu-img` that succeeded; `failed` is the beginning of the error message.
pub(crate) fn expect_success(
    ended: Result<Finished, RunError>,
    failed: &str,
) -> Result<Vec<u8>, ProviderError> {
    let failed = |message: String, shortage: Option<&str>| {
        let usual = "check the free space of the file system, then run the same command again";
        ProviderError::failed(format!("{failed}: {message}"), shortage.unwrap_or(usual))
    };
    match ended {
        Ok(finished) if finished.status.success() => Ok(finished.stdout),
        Ok(finished) if finished.status.code() == Some(qemu_img::NOT_FOUND) => {
            let missing = qemu_img::missing();
            Err(ProviderError::Unavailable { what: missing.to_string(), hint: missing.hint() })
        }
        Ok(finished) => {
            let said = last_lines(&String::from_utf8_lossy(&finished.stderr));
            Err(failed(if said.is_empty() { finished.status.to_string() } else { said }, None))
        }
        Err(error) => Err(failed(error.to_string(), error.shortage_hint())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_that_qemu_failed_to_bind_is_read_from_its_error() {
        let said = "qemu-system-x86_64: -netdev user,id=net0,hostfwd=tcp:127.0.0.1:20022-:22: Could not set up \
                    host forwarding rule 'tcp:127.0.0.1:20022-:22'\n";
        let ssh = Listener::tcp(std::net::Ipv4Addr::LOCALHOST, 20022);
        assert_eq!(refused_listener(said), Some(ssh));
        assert_eq!(refused_listener("qemu-system-x86_64: no such disk"), None);
    }
}
