//! Runs commands in a machine through the `ssh` command.

use std::io::ErrorKind;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use goloo_core::guest::{Guest, GuestError, OnLine, Output, SshTarget};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

use super::KeyFolder;

/// The machine's inside, reached with the files in `keys`.
#[derive(Debug, Clone)]
pub struct SshGuest {
    /// goloo's keys.
    pub keys: KeyFolder,
}

/// A guest that listens sends its banner within this time, even under emulation.
const BANNER_LIMIT: Duration = Duration::from_secs(10);
/// ssh's own exit status for "could not connect or log in".
const SSH_FAILED: i32 = 255;

#[async_trait]
impl Guest for SshGuest {
    async fn run(
        &self,
        target: &SshTarget,
        command: &str,
        limit: Duration,
        line: &mut OnLine<'_>,
    ) -> Result<Output, GuestError> {
        banner(target).await?;
        let session = self.session(target, command, line);
        timeout(limit, session)
            .await
            .unwrap_or_else(|_| Err(unreachable(target, &format!("no answer within {} s", limit.as_secs()))))
    }
}

impl SshGuest {
    async fn session(
        &self,
        target: &SshTarget,
        command: &str,
        line: &mut OnLine<'_>,
    ) -> Result<Output, GuestError> {
        let no_client = |reason: String| GuestError::NoClient { reason };
        let options = self.keys.options(target).map_err(|error| no_client(error.message))?;
        let child = Command::new("ssh")
            .args(options)
            .args(["-o", "BatchMode=yes", "-o", "ServerAliveInterval=15"])
            .args(["-T", "--", &target.host, &super::by_sh(command)])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        let mut child = child.map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                no_client("it isn't installed (Debian: apt-get install openssh-client)".into())
            }
            _ => no_client(error.to_string()),
        })?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (stdout, stderr) = tokio::join!(lines(stdout, line), whole(stderr));
        let status = child.wait().await.map_err(|error| unreachable(target, &error.to_string()))?;
        match status.code() {
            Some(SSH_FAILED) | None => Err(refusal(target, &stderr)),
            Some(status) => Ok(Output { status, stdout, stderr }),
        }
    }
}

/// Waits for the server's first words. A TCP connection proves nothing: QEMU's user-mode network
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
        Ok(Ok(_)) => Err(unreachable(target, "something else than SSH answers")),
        Ok(Err(error)) => Err(unreachable(target, &error.to_string())),
        Err(_) => Err(unreachable(target, "the machine accepts the connection and says nothing")),
    }
}

async fn lines(stream: Option<tokio::process::ChildStdout>, line: &mut OnLine<'_>) -> String {
    let mut all = String::new();
    let Some(stream) = stream else { return all };
    let mut reader = BufReader::new(stream);
    let mut bytes = Vec::new();
    while reader.read_until(b'\n', &mut bytes).await.is_ok_and(|count| count > 0) {
        let text = String::from_utf8_lossy(&bytes);
        line(text.trim_end_matches(['\n', '\r']));
        all.push_str(&text);
        bytes.clear();
    }
    all
}

async fn whole(stream: Option<tokio::process::ChildStderr>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        // What was read before an error is still worth showing.
        let _ = stream.read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What kind of failure ssh's words are: it has one exit status for all of them.
fn refusal(target: &SshTarget, stderr: &str) -> GuestError {
    let (host, port) = (target.host.to_string(), target.port);
    let reason = stderr.trim().lines().last().unwrap_or("ssh ended without a word").to_owned();
    if stderr.contains("Host key verification failed") || stderr.contains("HOST IDENTIFICATION HAS CHANGED") {
        return GuestError::WrongHostKey { host, port };
    }
    if stderr.contains("Permission denied") || stderr.contains("Too many authentication failures") {
        return GuestError::Denied { user: target.user.to_string(), host, port, reason };
    }
    GuestError::Unreachable { host, port, reason }
}

fn unreachable(target: &SshTarget, reason: &str) -> GuestError {
    GuestError::Unreachable { host: target.host.to_string(), port: target.port, reason: reason.to_owned() }
}
