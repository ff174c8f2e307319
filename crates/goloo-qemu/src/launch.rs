//! Starting QEMU and understanding what it says when it doesn't start.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use goloo_command::Limits;
use goloo_core::guest::excerpt;
use goloo_core::provider::ProviderError;
use tokio::process::Command;

use crate::args::{Files, QMP_SOCKET};
use crate::process::{self, Process};
use crate::{qmp, supervise};

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

/// How often a QEMU that starts is asked whether it is ready.
const READY_POLL: Duration = Duration::from_millis(10);
/// How much of QEMU's own log is read, in bytes.
const LOG_MAX: u64 = 64 << 10;

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

/// What a start of QEMU takes.
pub(crate) struct Start<'a> {
    /// The program beside QEMU.
    pub(crate) supervisor: &'a Path,
    /// QEMU.
    pub(crate) program: &'a Path,
    /// QEMU's arguments.
    pub(crate) argv: &'a [OsString],
    /// The machine's files.
    pub(crate) files: &'a Files,
    /// For QEMU to have set itself up.
    pub(crate) limit: Duration,
    /// For one answer on the control socket.
    pub(crate) answer: Duration,
}

/// Starts QEMU in the machine's folder, with its [supervisor](crate::supervise), and returns once it answers on its
/// control socket: then all sockets and ports are bound.
///
/// Both are in a session of their own, so that a Ctrl-C meant for goloo doesn't end them, and inherit no descriptors but
/// standard ones: see [`keep_descriptors`]. After an error either may still be there.
pub(crate) async fn run(start: &Start<'_>) -> Result<Process, LaunchError> {
    let Start { program, files, limit, .. } = start;
    let broken = |source: io::Error| {
        let hint =
            goloo_command::shortage_hint(&source).unwrap_or("check GOLOO_QEMU and the installation of QEMU");
        ProviderError::caused(format!("{} can't be run", program.display()), hint, source)
    };
    // What is in it is of this start alone.
    open_log(&files.log()).map_err(broken)?;
    crate::files::remove_if_there(&files.folder().join(QMP_SOCKET)).map_err(broken)?;
    let mut supervisor = spawn(start).map_err(broken)?;
    let status = tokio::select! {
        status = supervisor.wait() => status.map_err(broken)?,
        () = is_ready(files, start.answer) => return its_process(files).map_err(broken)?,
        () = tokio::time::sleep(*limit) => {
            let message = format!("it hasn't set itself up within {} s", limit.as_secs());
            return Err(LaunchError::Qemu { message, log: Some(files.log()) });
        }
    };
    let said = read_log(&files.log());
    if let Some(port) = refused_port(&said) {
        return Err(LaunchError::PortTaken { port });
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
    supervise::send(writer, start.program, start.argv)?;
    Ok(child)
}

/// Commands are answered only once the machine is set up as a whole.
async fn is_ready(files: &Files, limit: Duration) {
    let socket = files.folder().join(QMP_SOCKET);
    while !socket.exists() || qmp::run_state(files.folder(), limit).await.is_err() {
        tokio::time::sleep(READY_POLL).await;
    }
}

fn its_process(files: &Files) -> io::Result<Result<Process, LaunchError>> {
    let process = process::of_pid_file(&files.pid())?;
    Ok(process.ok_or_else(|| LaunchError::Qemu {
        message: "it ended right after it had set itself up".to_owned(),
        log: Some(files.log()),
    }))
}

/// The log of a start that failed; what comes after its beginning is QEMU's trouble alone.
fn read_log(path: &Path) -> String {
    let mut said = Vec::new();
    // It is an extra: the exit status says something too.
    let _ = File::open(path).and_then(|log| log.take(LOG_MAX).read_to_end(&mut said));
    String::from_utf8_lossy(&said).into_owned()
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
    excerpt(&lines[lines.len().saturating_sub(LAST_LINES)..].join("; "))
}

/// A program that does a short piece of work, with nothing on its standard input.
pub(crate) fn tool(program: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(program);
    command.stdin(Stdio::null());
    command
}

/// `qemu-img`, which reads files that others made: with a limit on its processor time (seconds) and its memory
/// (KiB), as OpenStack has them. Where the system knows no such limit, it runs without.
pub(crate) fn qemu_img_command(program: &Path) -> std::process::Command {
    const LIMITED: &str =
        "ulimit -t 600 2>/dev/null; ulimit -v 4194304 2>/dev/null; ulimit -c 0 2>/dev/null; exec \"$@\"";
    let mut command = tool(Path::new("/bin/sh"));
    command.args(["-c", LIMITED, "sh"]).arg(program);
    command
}

/// What a tool may say, and how long it may take: copies of whole disks take their time.
pub(crate) const TOOL_LIMITS: Limits =
    Limits { time: Duration::from_secs(3600), stdout: 4 << 20, stderr: 64 << 10 };

/// Makes the disk that the guest writes to, on top of a base image that stays as it is. `base` counts
/// from the disk's own folder.
pub(crate) fn make_overlay(
    program: &Path,
    base: &Path,
    format: &str,
    disk: &Path,
    bytes: u64,
) -> Result<(), ProviderError> {
    let mut command = qemu_img_command(program);
    command.args(["create", "-q", "-f", "qcow2", "-F", format, "-b"]).arg(base).arg(disk);
    command.arg(bytes.to_string());
    qemu_img(command, &format!("the disk {} can't be made", disk.display())).map(drop)
}

/// Runs `qemu-img` to its end and returns what it printed; `failed` is the error's beginning.
pub(crate) fn qemu_img(command: std::process::Command, failed: &str) -> Result<Vec<u8>, ProviderError> {
    let failed = |message: String, shortage: Option<&str>| {
        let usual = "check the free space of the file system, then run the same command again";
        ProviderError::failed(format!("{failed}: {message}"), shortage.unwrap_or(usual))
    };
    match goloo_command::run_blocking(command, TOOL_LIMITS) {
        Ok(finished) if finished.status.success() => Ok(finished.stdout),
        // sh's own, as the program isn't there.
        Ok(finished) if finished.status.code() == Some(127) => {
            let missing = crate::image::cache::qemu_img_is_missing();
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
    fn the_port_that_qemu_could_not_bind_is_read_from_its_words() {
        let said = "qemu-system-x86_64: -netdev user,id=net0,hostfwd=tcp:127.0.0.1:20022-:22: Could not set up \
                    host forwarding rule 'tcp:127.0.0.1:20022-:22'\n";
        assert_eq!(refused_port(said), Some(20022));
        assert_eq!(refused_port("qemu-system-x86_64: no such disk"), None);
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
