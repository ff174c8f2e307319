//! Runs the `multipass` command: with a limit, and deaf to the terminal's Ctrl-C, which is goloo's.

use std::ffi::{OsStr, OsString};
use std::io;
use std::process::Stdio;
use std::time::Duration;

use goloo_command::{Finished, RunError};
use goloo_core::events::Event;
use goloo_core::provider::{ProviderError, Work};
use tokio::process::Command;

use crate::errors::{CallError, Refusal};
use crate::settings::Limits;

/// The longest answer that is read, in bytes: `info` of some thousand instances. What `exec` runs is a guest's.
const STDOUT_MAX: u64 = 4 << 20;
/// How much of standard error is kept, in bytes.
const STDERR_KEPT: usize = 64 << 10;

/// The command.
#[derive(Debug, Clone)]
pub(crate) struct Cli {
    pub(crate) program: OsString,
}

/// What a call left.
pub(crate) struct Said {
    /// The exit status; `None` when it was ended by a signal.
    pub(crate) status: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Cli {
    /// The program with arguments, in a process group of its own.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).process_group(0);
        command
    }

    pub(crate) fn cannot_run(&self, source: io::Error) -> CallError {
        let program = self.program.to_string_lossy().into_owned();
        match source.kind() {
            io::ErrorKind::NotFound => CallError::NotInstalled { program },
            _ => CallError::CannotRun { program, source },
        }
    }

    /// Runs it to its end, whatever its status. After `limit`, or when the future is dropped, its process
    /// is ended; what the daemon has begun goes on.
    pub(crate) async fn run<S: AsRef<OsStr>>(
        &self,
        command: &'static str,
        arguments: impl IntoIterator<Item = S>,
        limit: Duration,
    ) -> Result<Said, CallError> {
        self.finish(command, self.command([command]).args(arguments).stdin(Stdio::null()), limit).await
    }

    /// The same for a command that was put together elsewhere, its standard input too.
    pub(crate) async fn finish(
        &self,
        command: &'static str,
        whole: &mut Command,
        limit: Duration,
    ) -> Result<Said, CallError> {
        let limits = goloo_command::Limits { time: limit, stdout: STDOUT_MAX, stderr: STDERR_KEPT };
        match goloo_command::run(whole, limits).await {
            Ok(Finished { status, stdout, stderr }) => Ok(Said { status: status.code(), stdout, stderr }),
            Err(RunError::TimedOut { limit }) => Err(CallError::NoAnswer { command, limit }),
            Err(RunError::TooMuch { limit }) => Err(CallError::TooMuch { command, limit }),
            Err(RunError::Start(source) | RunError::Read(source)) => Err(self.cannot_run(source)),
        }
    }

    /// Runs it and gives its standard output, when it succeeded.
    pub(crate) async fn call<S: AsRef<OsStr>>(
        &self,
        command: &'static str,
        arguments: impl IntoIterator<Item = S>,
        limit: Duration,
    ) -> Result<Vec<u8>, CallError> {
        self.run(command, arguments, limit).await?.success(command)
    }

    /// The same, unless the user wants to stop first.
    pub(crate) async fn call_unless_stopped<S: AsRef<OsStr>>(
        &self,
        command: &'static str,
        arguments: impl IntoIterator<Item = S>,
        limit: Duration,
        work: &mut dyn Work,
    ) -> Result<Result<Vec<u8>, CallError>, ProviderError> {
        tokio::select! {
            result = self.call(command, arguments, limit) => Ok(result),
            () = work.interruption() => Err(ProviderError::Interrupted),
        }
    }

    /// The same for what must get through. A daemon that waits for a guest to power off does nothing else, also
    /// when the client that asked for that is gone: it is waited for as long as Multipass waits, and that is said.
    pub(crate) async fn call_when_free<S: AsRef<OsStr>>(
        &self,
        command: &'static str,
        arguments: impl IntoIterator<Item = S>,
        limits: &Limits,
        work: &mut dyn Work,
    ) -> Result<Result<Vec<u8>, CallError>, ProviderError> {
        let mut call = std::pin::pin!(self.call(command, arguments, limits.busy));
        tokio::select! {
            result = &mut call => return Ok(result),
            () = work.interruption() => return Err(ProviderError::Interrupted),
            () = tokio::time::sleep(limits.answer) => {}
        }
        let text = format!(
            "Multipass gives no answer: it may be waiting for a guest to power off, which it does for at most 5 \
             minutes and beside nothing else; goloo waits up to {} s for it",
            limits.busy.as_secs()
        );
        work.events().event(Event::Warning(text));
        tokio::select! {
            result = call => Ok(result),
            () = work.interruption() => Err(ProviderError::Interrupted),
        }
    }
}

impl Said {
    pub(crate) fn success(self, command: &'static str) -> Result<Vec<u8>, CallError> {
        if self.status == Some(0) {
            return Ok(self.stdout);
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let refusal = Refusal::of(self.status, &text(&self.stdout), &text(&self.stderr));
        Err(CallError::Refused { command, refusal })
    }
}
