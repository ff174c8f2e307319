//! Runs other programs with limits on their output, which are enforced while it is read, and on their time.
//!
//! A program that exceeds a limit is killed with its whole process group, and reaped. It has its own process
//! group, so that a Ctrl-C meant for goloo doesn't interrupt it.

#![warn(missing_docs)]

mod find;
mod lines;
mod shortage;

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

pub use find::find_program;
pub use lines::{Lines, OnOutputLine};
pub use shortage::shortage_hint;

/// The size of one read, in bytes.
const PIECE: usize = 64 << 10;

/// The limits of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From its start to its exit.
    pub time: Duration,
    /// The maximum number of bytes on standard output. Exceeding it is an error.
    pub stdout: u64,
    /// How many of the last bytes of standard error are kept. Exceeding this is an error only beyond both
    /// [`STDERR_MAX`] and `stdout`.
    pub stderr: usize,
}

/// The maximum that any program may write to standard error, in bytes.
pub const STDERR_MAX: u64 = 1 << 20;

/// The result of a program that exited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output; empty if it was handled line by line.
    pub stdout: Vec<u8>,
    /// The end of its standard error.
    pub stderr: Vec<u8>,
}

/// Why a program failed to run or was killed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It can't be started.
    #[error("it can't be started: {0}")]
    Start(io::Error),
    /// It exceeded the time limit, and was killed.
    #[error("no answer within {} s", limit.as_secs_f64())]
    TimedOut {
        /// The time limit.
        limit: Duration,
    },
    /// It exceeded the output limit, and was killed.
    #[error("its output is larger than {limit} bytes")]
    TooMuch {
        /// The limit in bytes.
        limit: u64,
    },
    /// Its output or its exit status can't be read.
    #[error("its output can't be read: {0}")]
    Read(io::Error),
}

impl RunError {
    /// What to do if a system resource is exhausted; `None` for other errors.
    pub fn shortage_hint(&self) -> Option<&'static str> {
        match self {
            Self::Start(error) | Self::Read(error) => shortage_hint(error),
            _ => None,
        }
    }
}

/// Runs a program until it exits, with any status, and returns its entire standard output.
///
/// When the future is dropped, the program is killed.
pub async fn run(command: &mut Command, limits: Limits) -> Result<Finished, RunError> {
    let mut stdout = Vec::new();
    let mut finished = run_with(command, limits, &mut |piece| stdout.extend_from_slice(piece)).await?;
    finished.stdout = stdout;
    Ok(finished)
}

/// Like [`run`], but passes on each line of standard output as it arrives. A line is truncated after
/// `line_max` bytes.
pub async fn run_lines(
    command: &mut Command,
    limits: Limits,
    line_max: usize,
    line: &mut OnOutputLine<'_>,
) -> Result<Finished, RunError> {
    let mut lines = Lines::new(line_max);
    let finished = run_with(command, limits, &mut |piece| lines.take(piece, line)).await?;
    lines.end(line);
    Ok(finished)
}

/// Like [`run`], but passes on each piece of standard output as it arrives, wherever a line ends.
pub async fn run_pieces(
    command: &mut Command,
    limits: Limits,
    on_piece: &mut (dyn FnMut(&[u8]) + Send),
) -> Result<Finished, RunError> {
    run_with(command, limits, on_piece).await
}

/// Like [`run`], for synchronous callers, even inside a runtime.
pub fn run_blocking(command: std::process::Command, limits: Limits) -> Result<Finished, RunError> {
    on_own_runtime(async move || run(&mut Command::from(command), limits).await)
}

fn on_own_runtime<T, F>(work: F) -> Result<T, RunError>
where
    T: Send + 'static,
    F: AsyncFnOnce() -> Result<T, RunError> + Send + 'static,
{
    let work = move || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(RunError::Start)?;
        runtime.block_on(work())
    };
    // A runtime can't be entered from within another one on the same thread.
    let thread = std::thread::Builder::new().spawn(work).map_err(RunError::Start)?;
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Runs a program without input or output until it exits, with any status. A process that it leaves in the background
/// isn't waited for, and survives a kill if it has a process group of its own.
///
/// When the future is dropped, the program is killed.
pub async fn run_silent(command: &mut Command, limit: Duration) -> Result<ExitStatus, RunError> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut program = Program(command.process_group(0).kill_on_drop(true).spawn().map_err(RunError::Start)?);
    match tokio::time::timeout(limit, program.0.wait()).await {
        Ok(status) => status.map_err(RunError::Read),
        Err(_) => {
            program.kill_group();
            let _ = tokio::time::timeout(REAP_LIMIT, program.0.wait()).await;
            Err(RunError::TimedOut { limit })
        }
    }
}

/// Like [`run_silent`], for synchronous callers, even inside a runtime.
pub fn run_silent_blocking(command: std::process::Command, limit: Duration) -> Result<ExitStatus, RunError> {
    on_own_runtime(async move || run_silent(&mut Command::from(command), limit).await)
}

async fn run_with(
    command: &mut Command,
    limits: Limits,
    on_piece: &mut (dyn FnMut(&[u8]) + Send),
) -> Result<Finished, RunError> {
    // Excludes the arguments, which may contain secrets.
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let begun = Instant::now();
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    let mut program = Program(command.spawn().map_err(RunError::Start)?);
    let ended = tokio::time::timeout(limits.time, program.communicate(limits, on_piece)).await;
    let ended = ended.unwrap_or(Err(RunError::TimedOut { limit: limits.time }));
    if ended.is_err() {
        program.kill_group();
        // Reaps it. A killed process ends, unless it hangs in the kernel: then there is no point in waiting.
        let _ = tokio::time::timeout(REAP_LIMIT, program.0.wait()).await;
    }
    let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    match &ended {
        Ok(finished) => tracing::debug!(program = name, status = %finished.status, ms, "ran a program"),
        Err(error) => tracing::debug!(program = name, %error, ms, "a program failed"),
    }
    ended
}

/// How long to wait for a killed process.
const REAP_LIMIT: Duration = Duration::from_secs(2);

/// A running program, which is killed when this value is dropped.
struct Program(Child);

impl Program {
    async fn communicate(
        &mut self,
        limits: Limits,
        on_piece: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<Finished, RunError> {
        let (stdout, stderr) = (self.0.stdout.take(), self.0.stderr.take());
        let mut tail = Tail::new(limits.stderr);
        let said = read(stdout, limits.stdout, on_piece);
        let mut keep = |piece: &[u8]| tail.take(piece);
        let complained = read(stderr, limits.stdout.max(STDERR_MAX), &mut keep);
        tokio::try_join!(said, complained)?;
        let status = self.0.wait().await.map_err(RunError::Read)?;
        Ok(Finished { status, stdout: Vec::new(), stderr: tail.bytes })
    }

    fn kill_group(&self) {
        // Without an id it has been reaped, and the pid may have been reused.
        let pid = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill_group();
    }
}

/// Reads to the end in chunks.
async fn read(
    stream: Option<impl AsyncRead + Unpin>,
    limit: u64,
    on_piece: &mut (dyn FnMut(&[u8]) + Send),
) -> Result<(), RunError> {
    let Some(mut stream) = stream else { return Ok(()) };
    let mut piece = vec![0; PIECE];
    let mut total: u64 = 0;
    loop {
        let count = stream.read(&mut piece).await.map_err(RunError::Read)?;
        if count == 0 {
            return Ok(());
        }
        total += count as u64;
        if total > limit {
            return Err(RunError::TooMuch { limit });
        }
        on_piece(&piece[..count]);
    }
}

struct Tail {
    bytes: Vec<u8>,
    limit: usize,
}

impl Tail {
    fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit }
    }

    fn take(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
        let surplus = self.bytes.len().saturating_sub(self.limit);
        self.bytes.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::*;

    const LIMITS: Limits = Limits { time: Duration::from_secs(30), stdout: 1 << 20, stderr: 64 << 10 };

    fn sh(script: &str) -> std::process::Command {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null());
        command
    }

    #[test]
    fn output_and_status_are_returned_for_any_exit_status() {
        let finished = run_blocking(sh("echo out; echo err >&2; exit 3"), LIMITS).unwrap();
        assert_eq!((finished.stdout.as_slice(), finished.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
        assert_eq!(finished.status.code(), Some(3));
    }

    #[test]
    fn a_program_that_cannot_be_started_is_an_error() {
        let error = run_blocking(std::process::Command::new("/no/such/program"), LIMITS).unwrap_err();
        assert!(matches!(error, RunError::Start(source) if source.kind() == io::ErrorKind::NotFound));
    }

    #[test]
    fn endless_output_is_cut_off_at_the_limit_on_both_streams() {
        for script in ["cat /dev/zero", "cat /dev/zero >&2", "cat /dev/zero & cat /dev/zero"] {
            let begun = Instant::now();
            let error = run_blocking(sh(script), LIMITS).unwrap_err();
            assert!(matches!(error, RunError::TooMuch { limit } if limit == 1 << 20), "{script}: {error}");
            assert!(begun.elapsed() < LIMITS.time, "{script}");
        }
    }

    #[test]
    fn the_end_of_standard_error_is_kept() {
        let finished = run_blocking(sh("head -c 500000 /dev/zero >&2; echo last >&2"), LIMITS).unwrap();
        assert_eq!(finished.stderr.len(), LIMITS.stderr);
        assert!(finished.stderr.ends_with(b"\0last\n"));
    }

    fn is_alive(pid_file: &Path) -> bool {
        let pid = std::fs::read_to_string(pid_file).unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    }

    /// The time limit applies even while it floods its output, and its children are killed too.
    #[test]
    fn a_program_that_exceeds_its_time_limit_is_killed_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let (parent, child) = (folder.path().join("parent"), folder.path().join("child"));
        let script = format!(
            "echo $$ > {}; sh -c 'echo $$ > {}; while :; do echo x; done'; true",
            parent.display(),
            child.display()
        );
        let limits = Limits { time: Duration::from_millis(500), stdout: u64::MAX, ..LIMITS };
        let begun = Instant::now();
        let error = run_blocking(sh(&script), limits).unwrap_err();
        assert!(matches!(error, RunError::TimedOut { .. }), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert!(!Path::new(&format!("/proc/{}", std::fs::read_to_string(&parent).unwrap().trim())).exists());
        let end = Instant::now() + Duration::from_secs(5);
        while is_alive(&child) {
            assert!(Instant::now() < end, "the program's child lives on");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_silent_program_is_not_waited_for_by_what_it_leaves_in_the_background() {
        let status = run_silent_blocking(sh("sleep 5 & exit 3"), LIMITS.time).unwrap();
        assert_eq!(status.code(), Some(3));
        let late = run_silent_blocking(sh("exec sleep 600"), Duration::from_millis(50)).unwrap_err();
        assert!(matches!(late, RunError::TimedOut { .. }), "{late}");
    }

    #[test]
    fn lines_are_passed_on_one_by_one_with_limited_length() {
        let script = "printf 'one\\r\\ntwo\\n'; head -c 100000 /dev/zero | tr '\\0' A; printf '\\nlast'";
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut seen = Vec::new();
        let mut command = Command::from(sh(script));
        let mut line = |line: &str| seen.push(line.to_owned());
        let run = run_lines(&mut command, LIMITS, 1000, &mut line);
        assert_eq!(runtime.block_on(run).unwrap().stdout, b"");
        let long = "A".repeat(1000);
        assert_eq!(seen, ["one", "two", long.as_str(), "last"]);
    }
}
