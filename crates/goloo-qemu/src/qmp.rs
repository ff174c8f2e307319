//! QEMU's control socket (QMP): one question, one answer, and away again.
//!
//! QEMU talks to one client at a time and lets the next one wait. So nobody keeps a connection while
//! waiting for something, and every call has a limit.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use goloo_core::guest::excerpt;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::args::QMP_SOCKET;

/// The longest line that is taken for an answer, in bytes.
const LINE_MAX: u64 = 4 << 20;

/// Why QEMU could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// Nobody listens.
    #[error("QEMU's control socket in {} can't be reached", folder.display())]
    Connect {
        /// The machine's folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The connection broke.
    #[error("QEMU's control socket broke off")]
    Broken(#[source] io::Error),
    /// QEMU closed the connection without an answer.
    #[error("QEMU went away without an answer")]
    Closed,
    /// No answer in time.
    #[error("QEMU doesn't answer on its control socket within {} ms", limit.as_millis())]
    Silent {
        /// How long it was waited for.
        limit: Duration,
    },
    /// What came is no QMP.
    #[error("what answers on QEMU's control socket isn't QEMU: \"{start}\"")]
    Garbage {
        /// The start of what came.
        start: String,
    },
    /// QEMU refused.
    #[error("QEMU refuses {command}: {reason}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's words.
        reason: String,
    },
}

/// What QEMU says of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// The virtual CPUs run, or will.
    Up,
    /// The guest has powered off, or can't go on.
    Down,
}

/// A connection, past its greeting.
#[derive(Debug)]
pub struct Qmp {
    stream: BufReader<UnixStream>,
}

/// Asks one thing of the QEMU of the machine in `folder`.
pub async fn ask(folder: &Path, command: &str, limit: Duration) -> Result<Value, QmpError> {
    let talk = async { Qmp::connect(folder).await?.execute(command).await };
    timeout(limit, talk).await.unwrap_or(Err(QmpError::Silent { limit }))
}

/// Whether the guest is up.
pub async fn run_state(folder: &Path, limit: Duration) -> Result<RunState, QmpError> {
    let answer = ask(folder, "query-status", limit).await?;
    let status = answer["status"].as_str().ok_or_else(|| garbage(&answer.to_string()))?;
    Ok(match status {
        "shutdown" | "guest-panicked" | "internal-error" | "io-error" => RunState::Down,
        _ => RunState::Up,
    })
}

/// How often the guest has written to its disks: the sign that its userspace is on the way.
pub async fn disk_writes(folder: &Path, limit: Duration) -> Result<u64, QmpError> {
    let answer = ask(folder, "query-blockstats", limit).await?;
    let devices = answer.as_array().ok_or_else(|| garbage(&answer.to_string()))?;
    Ok(devices.iter().filter_map(|device| device["stats"]["wr_operations"].as_u64()).sum())
}

impl Qmp {
    async fn connect(folder: &Path) -> Result<Self, QmpError> {
        let stream = connect_in(folder)
            .await
            .map_err(|source| QmpError::Connect { folder: folder.to_owned(), source })?;
        let mut qmp = Self { stream: BufReader::new(stream) };
        let greeting = qmp.receive().await?;
        if greeting.get("QMP").is_none() {
            return Err(garbage(&greeting.to_string()));
        }
        qmp.execute("qmp_capabilities").await?;
        Ok(qmp)
    }

    async fn execute(&mut self, command: &str) -> Result<Value, QmpError> {
        let mut line = json!({ "execute": command }).to_string();
        line.push('\n');
        self.stream.write_all(line.as_bytes()).await.map_err(QmpError::Broken)?;
        loop {
            let mut answer = self.receive().await?;
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = answer.get("error") {
                let reason = excerpt(error["desc"].as_str().unwrap_or("without a reason"));
                return Err(QmpError::Refused { command: command.to_owned(), reason });
            }
            if answer.get("event").is_none() {
                return Err(garbage(&answer.to_string()));
            }
        }
    }

    async fn receive(&mut self) -> Result<Value, QmpError> {
        use tokio::io::AsyncReadExt;
        let mut line = Vec::new();
        let mut limited = (&mut self.stream).take(LINE_MAX);
        let read = limited.read_until(b'\n', &mut line).await.map_err(QmpError::Broken)?;
        if read == 0 {
            return Err(QmpError::Closed);
        }
        serde_json::from_slice(&line).map_err(|_| garbage(&String::from_utf8_lossy(&line)))
    }
}

fn garbage(text: &str) -> QmpError {
    QmpError::Garbage { start: text.trim_end().chars().take(60).collect() }
}

/// Reaches the socket through the folder's descriptor, so that the path stays short.
#[cfg(target_os = "linux")]
async fn connect_in(folder: &Path) -> io::Result<UnixStream> {
    use std::os::fd::AsRawFd;
    let folder = std::fs::File::open(folder)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{QMP_SOCKET}", folder.as_raw_fd())).await
}

#[cfg(not(target_os = "linux"))]
async fn connect_in(folder: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(folder.join(QMP_SOCKET)).await
}
