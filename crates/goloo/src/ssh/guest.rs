//! Runs commands in a machine through the `ssh` command.

use std::io::{ErrorKind, Seek, Write};
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use goloo_command::{Limits, RunError};
use goloo_model::guest::{self, Guest, GuestError, OnLine, Output, RunLimits, SshTarget, excerpt};
use goloo_model::record::Record;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{Instant, timeout};

use super::connections::{Connection, KeptConnections};
use super::key_folder::{KeyFolder, by_sh};
use super::own_log::OwnLog;

/// Access to the guest, with the files in `keys`.
#[derive(Debug, Clone)]
pub struct SshGuest {
    /// goloo's keys.
    pub keys: KeyFolder,
    /// The connections that are kept.
    pub connections: KeptConnections,
}

/// A listening guest sends its banner within this time, even under emulation.
const BANNER_LIMIT: Duration = Duration::from_secs(10);
/// How many bytes a line may have. cloud-init's status may be one line.
const LINE_BYTES: usize = 1 << 20;
/// ssh's own exit status for "could not connect or log in".
const SSH_FAILED: i32 = 255;

#[async_trait]
impl Guest for SshGuest {
    fn pin(&self, record: &Record) {
        if let Some(ssh) = &record.ssh {
            let alias = guest::alias(&record.id);
            let _ = self.keys.pin_key(&alias, &record.name, &ssh.host_key);
        }
    }

    fn unpin(&self, record: &Record) {
        self.keys.unpin(&guest::alias(&record.id));
    }

    async fn end_connections(&self, record: &Record) {
        self.connections.end(&guest::alias(&record.id)).await;
    }

    async fn forget(&self, target: &SshTarget) {
        self.connections.end(&target.alias).await;
        self.keys.unpin(&target.alias);
    }

    async fn run_with_input(
        &self,
        target: &SshTarget,
        command: &str,
        input: &[u8],
        limits: RunLimits,
        line: &mut OnLine<'_>,
    ) -> Result<Output, GuestError> {
        let begun = Instant::now();
        let left = || limits.time.saturating_sub(begun.elapsed());
        let connection = match self.connections.find(&self.keys, target) {
            Some(kept) => kept,
            None => {
                banner(target).await?;
                self.connections.open(&self.keys, target, left()).await
            }
        };
        if let Connection::Failed(said) = connection {
            return Err(refusal(target, &said));
        }
        let stdin =
            standard_input(input).map_err(|error| no_client(format!("no temporary file: {error}")))?;
        let limits = RunLimits { time: left(), ..limits };
        self.session(target, &connection, (command, stdin), limits, line).await
    }
}

impl SshGuest {
    async fn session(
        &self,
        target: &SshTarget,
        connection: &Connection,
        (command, stdin): (&str, Stdio),
        limits: RunLimits,
        line: &mut OnLine<'_>,
    ) -> Result<Output, GuestError> {
        let options = self.keys.options(target).map_err(|error| no_client(error.to_string()))?;
        let log = OwnLog::new().map_err(|error| no_client(format!("no temporary file: {error}")))?;
        let mut ssh = Command::new("ssh");
        ssh.args(log.arguments())
            .args(options)
            .args(connection.options())
            .args(["-o", "BatchMode=yes", "-o", "ServerAliveInterval=15"])
            .args(["-T", "--", &target.host, &by_sh(command)])
            .stdin(stdin);
        let mut stdout = String::new();
        let mut on_line = |text: &str| {
            line(text);
            if stdout.len() + text.len() < Output::KEPT {
                stdout.push_str(text);
                stdout.push('\n');
            }
        };
        let limits = Limits { time: limits.time, stdout: limits.output, stderr: Output::KEPT };
        let finished = goloo_command::run_lines(&mut ssh, limits, LINE_BYTES, &mut on_line).await;
        let finished = finished.map_err(|error| failure(target, error))?;
        let (own, stderr) = (log.end(), String::from_utf8_lossy(&finished.stderr).into_owned());
        match finished.status.code() {
            // A connection that the machine drops while it powers off may end without a message.
            Some(SSH_FAILED) | None => Err(refusal(target, &own)),
            Some(status) => Ok(Output { status, stdout, stderr }),
        }
    }
}

/// Through a file without a name: a pipe would have to be written to while the output is read.
fn standard_input(input: &[u8]) -> std::io::Result<Stdio> {
    if input.is_empty() {
        return Ok(Stdio::null());
    }
    let mut file = tempfile::tempfile()?;
    file.write_all(input)?;
    file.rewind()?;
    Ok(file.into())
}

fn no_client(reason: String) -> GuestError {
    GuestError::NoClient { reason }
}

/// Why `ssh` couldn't be run.
fn failure(target: &SshTarget, error: RunError) -> GuestError {
    match error {
        RunError::Start(error) if error.kind() == ErrorKind::NotFound => {
            no_client("it is not installed (Debian: apt-get install openssh-client)".into())
        }
        RunError::Start(error) => match goloo_command::shortage_hint(&error) {
            Some(hint) => no_client(format!("{error}; {hint}")),
            None => no_client(error.to_string()),
        },
        RunError::TooMuch { limit } => {
            GuestError::TooMuch { host: target.host.to_string(), port: target.port, limit }
        }
        RunError::TimedOut { .. } | RunError::Read(_) => unreachable(target, &error.to_string()),
    }
}

/// Waits for the server's banner. A TCP connection proves nothing: QEMU's user-mode network
/// accepts it before the guest listens.
async fn banner(target: &SshTarget) -> Result<(), GuestError> {
    let greeting = async {
        let mut stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
        let mut start = [0; 4];
        stream.read_exact(&mut start).await?;
        Ok::<_, std::io::Error>(start)
    };
    match timeout(BANNER_LIMIT, greeting).await {
        Ok(Ok(start)) if start == *b"SSH-" => Ok(()),
        Ok(Ok(_)) => Err(unreachable(target, "the service on that port doesn't speak SSH")),
        Ok(Err(error)) => Err(unreachable(target, &error.to_string())),
        Err(_) => Err(unreachable(target, "the machine accepts the connection but sends nothing")),
    }
}

/// Determines the kind of failure from ssh's messages: ssh has one exit status for all of them.
fn refusal(target: &SshTarget, said: &str) -> GuestError {
    let (host, port) = (target.host.to_string(), target.port);
    let reason = excerpt(said.lines().last().unwrap_or("ssh exited without a message"));
    if said.contains("Host key verification failed") || said.contains("HOST IDENTIFICATION HAS CHANGED") {
        return GuestError::WrongHostKey { host, port };
    }
    if said.contains("Permission denied") || said.contains("Too many authentication failures") {
        return GuestError::Denied { user: target.user.to_string(), host, port, reason };
    }
    GuestError::Unreachable { host, port, reason }
}

fn unreachable(target: &SshTarget, reason: &str) -> GuestError {
    GuestError::Unreachable { host: target.host.to_string(), port: target.port, reason: reason.to_owned() }
}
