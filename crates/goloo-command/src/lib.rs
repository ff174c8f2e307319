//! Runs other programs with limits: on the bytes that are read from them, while they are read, and on their time.
//!
//! A program that passes a limit is killed with its whole process group, and reaped. It is in a process group of its
//! own, so that a Ctrl-C meant for goloo doesn't end it midway.

mod lines;
mod shortage;

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

pub use lines::Lines;
pub use shortage::shortage_hint;

/// How much is read at once, in bytes.
const PIECE: usize = 64 << 10;

/// What a program may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From its start to its end.
    pub time: Duration,
    /// Bytes on standard output. More than that is an error.
    pub stdout: u64,
    /// Bytes of standard error that are kept, the last ones. More than that is no error, until it is more than
    /// [`STDERR_MAX`] and more than `stdout`.
    pub stderr: usize,
}

/// The most that any program may write on standard error, in bytes.
pub const STDERR_MAX: u64 = 1 << 20;

/// How a program came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output; empty where it was handed on line by line.
    pub stdout: Vec<u8>,
    /// The end of its standard error.
    pub stderr: Vec<u8>,
}

/// Why a program didn't come to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It can't be started.
    #[error("it can't be started: {0}")]
    Start(io::Error),
    /// It took too long, and was killed.
    #[error("no answer within {} s", limit.as_secs_f64())]
    TimedOut {
        /// The time that it had.
        limit: Duration,
    },
    /// It wrote too much, and was killed.
    #[error("the answer has more than {limit} bytes")]
    TooMuch {
        /// How many bytes it may write.
        limit: u64,
    },
    /// Its output or its exit status can't be read.
    #[error("its output can't be read: {0}")]
    Read(io::Error),
}

impl RunError {
    /// What to do where the system is short of something; `None` where it is the program's fault.
    pub fn shortage_hint(&self) -> Option<&'static str> {
        match self {
            Self::Start(error) | Self::Read(error) => shortage_hint(error),
            _ => None,
        }
    }
}

/// Gets each line as it comes, without its end. What isn't UTF-8 is replaced.
pub type OnLine<'a> = dyn FnMut(&str) + Send + 'a;

/// Runs a program to its end, whatever its exit status, and returns its standard output as a whole.
///
/// When the future is dropped, the program is killed.
pub async fn run(command: &mut Command, limits: Limits) -> Result<Finished, RunError> {
    let mut stdout = Vec::new();
    let mut finished = run_with(command, limits, &mut |piece| stdout.extend_from_slice(piece)).await?;
    finished.stdout = stdout;
    Ok(finished)
}

/// The same, with each line of standard output handed on as it comes. A line has at most `line_max` bytes; what
/// follows them is left out.
pub async fn run_lines(
    command: &mut Command,
    limits: Limits,
    line_max: usize,
    line: &mut OnLine<'_>,
) -> Result<Finished, RunError> {
    let mut lines = Lines::new(line_max);
    let finished = run_with(command, limits, &mut |piece| lines.take(piece, line)).await?;
    lines.end(line);
    Ok(finished)
}

/// The same as [`run`], for callers that aren't asynchronous, also inside a runtime.
pub fn run_blocking(command: std::process::Command, limits: Limits) -> Result<Finished, RunError> {
    let work = move || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(RunError::Start)?;
        runtime.block_on(run(&mut Command::from(command), limits))
    };
    // A runtime can't be entered from within another one on the same thread.
    let thread = std::thread::Builder::new().spawn(work).map_err(RunError::Start)?;
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

async fn run_with(
    command: &mut Command,
    limits: Limits,
    on_piece: &mut (dyn FnMut(&[u8]) + Send),
) -> Result<Finished, RunError> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    let mut program = Program(command.spawn().map_err(RunError::Start)?);
    let ended = tokio::time::timeout(limits.time, program.communicate(limits, on_piece)).await;
    let ended = ended.unwrap_or(Err(RunError::TimedOut { limit: limits.time }));
    if ended.is_err() {
        program.kill_group();
        // Reaps it. A killed process ends, unless it hangs in the kernel: then it isn't waited for.
        let _ = tokio::time::timeout(REAP_LIMIT, program.0.wait()).await;
    }
    ended
}

/// How long a killed process is waited for.
const REAP_LIMIT: Duration = Duration::from_secs(2);

/// A running program, which ends with this value.
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
        // Without an id it has been reaped, and the number may be another's.
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

/// Reads to the end, a piece at a time.
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

/// The last bytes of a stream.
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
    use std::time::Instant;

    use super::*;

    const LIMITS: Limits = Limits { time: Duration::from_secs(30), stdout: 1 << 20, stderr: 64 << 10 };

    fn sh(script: &str) -> std::process::Command {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null());
        command
    }

    #[test]
    fn output_and_status_are_returned_whatever_the_status_is() {
        let finished = run_blocking(sh("echo out; echo err >&2; exit 3"), LIMITS).unwrap();
        assert_eq!((finished.stdout.as_slice(), finished.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
        assert_eq!(finished.status.code(), Some(3));
    }

    #[test]
    fn a_program_that_can_not_be_started_is_an_error() {
        let error = run_blocking(std::process::Command::new("/no/such/program"), LIMITS).unwrap_err();
        assert!(matches!(error, RunError::Start(source) if source.kind() == io::ErrorKind::NotFound));
    }

    #[test]
    fn endless_output_ends_at_the_limit_on_both_streams() {
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

    /// The time is kept while it floods, and what it started goes with it.
    #[test]
    fn a_program_that_takes_too_long_is_killed_with_its_children() {
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
    fn lines_come_one_by_one_and_have_a_limit() {
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
