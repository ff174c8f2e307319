//! Runs the `multipass` command: with a timeout, and shielded from the terminal's Ctrl-C, which is meant for goloo.

use std::ffi::{OsStr, OsString};
use std::io;
use std::process::Stdio;
use std::time::Duration;

use goloo_command::{Finished, RunError};
use goloo_model::events::Event;
use goloo_model::provider::{ProviderError, Work};
use tokio::process::Command;

use crate::errors::{CallError, Refusal};
use crate::settings::Limits;

/// The maximum size of a response, in bytes: enough for `info` of some thousand instances. `exec` returns untrusted
/// guest output.
const STDOUT_MAX: u64 = 4 << 20;
/// How much of standard error is kept, in bytes.
const STDERR_KEPT: usize = 64 << 10;

#[derive(Debug, Clone)]
pub(crate) struct Cli {
    pub(crate) program: OsString,
}

/// The result of a call.
pub(crate) struct Said {
    /// The exit status; `None` if it was killed by a signal.
    pub(crate) status: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Cli {
    /// The program with arguments, in its own process group.
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

    /// Runs it to completion, whatever its status. The process is killed after `limit` or when the future is dropped;
    /// whatever the daemon has begun continues.
    pub(crate) async fn run<S: AsRef<OsStr>>(
        &self,
        command: &'static str,
        arguments: impl IntoIterator<Item = S>,
        limit: Duration,
    ) -> Result<Said, CallError> {
        self.finish(command, self.command([command]).args(arguments).stdin(Stdio::null()), limit).await
    }

    /// Like [`Self::run`], for a prepared command, including its standard input.
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

    /// Runs it and returns its standard output if it succeeded.
    pub(crate) async fn call<S: AsRef<OsStr>>(
        &self,
        command: &'static str,
        arguments: impl IntoIterator<Item = S>,
        limit: Duration,
    ) -> Result<Vec<u8>, CallError> {
        self.run(command, arguments, limit).await?.success(command)
    }

    /// Like [`Self::call`], but ends when the user interrupts.
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

    /// Like [`Self::call`], for requests that must get through. A daemon that waits for a guest to power off does
    /// nothing else, even if the client that requested it has exited: goloo waits for it as long as Multipass does, and
    /// reports that.
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
            "Multipass doesn't answer: it may be waiting for a guest to power off, which blocks it for up to 5 \
             minutes; goloo waits up to {} s for it",
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
