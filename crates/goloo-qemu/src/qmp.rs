//! QEMU's control socket (QMP), with one connection per question.
//!
//! QEMU serves one client at a time and makes others wait. So goloo never keeps a connection open while it waits for
//! something, and every call has a timeout.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use goloo_model::guest::excerpt;
use goloo_sys::socket_path::SocketPath;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::args::{DISK, QMP_SOCKET};

/// The maximum length of a response line, in bytes.
const LINE_MAX: u64 = 4 << 20;

/// Why a request to QEMU failed.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// Nothing is listening.
    #[error("QEMU's control socket in {} can't be reached", folder.display())]
    Connect {
        /// The machine's folder.
        folder: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The connection was lost.
    #[error("the connection to QEMU's control socket was lost")]
    Broken(#[source] io::Error),
    /// QEMU closed the connection without a response.
    #[error("QEMU closed the connection without an answer")]
    Closed,
    /// No response in time.
    #[error("QEMU doesn't answer on its control socket within {} ms", limit.as_millis())]
    Silent {
        /// How long goloo waited.
        limit: Duration,
    },
    /// The response isn't QMP.
    #[error("the program that answers on QEMU's control socket isn't QEMU: \"{start}\"")]
    Garbage {
        /// The start of the response.
        start: String,
    },
    /// QEMU refused the command.
    #[error("QEMU refuses {command}: {reason}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's reason.
        reason: String,
    },
}

/// The guest's state, as QEMU reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// The virtual CPUs are running or will run.
    Up,
    /// They are halted, and continue when asked to.
    Paused,
    /// The guest has powered off, or can't continue.
    Down,
}

/// The state of a migration, by which a machine's memory is saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Migration {
    /// It is in progress.
    Active,
    /// All of the memory was sent.
    Completed,
    /// It ended otherwise, for this reason.
    Failed(String),
}

/// A connection after its greeting.
#[derive(Debug)]
pub struct Qmp {
    stream: BufReader<UnixStream>,
}

/// Sends one command to the QEMU of the machine in `folder`.
pub async fn ask(folder: &Path, command: &str, limit: Duration) -> Result<Value, QmpError> {
    ask_with(folder, command, Value::Null, limit).await
}

/// Sends one command of QEMU's monitor for people, which QMP has no equivalent of, and returns what it prints.
pub(crate) async fn ask_monitor(folder: &Path, line: &str, limit: Duration) -> Result<String, QmpError> {
    let arguments = json!({ "command-line": line });
    match ask_with(folder, "human-monitor-command", arguments, limit).await? {
        Value::String(printed) => Ok(printed),
        other => Err(garbage(&other.to_string())),
    }
}

/// Sends one command with its arguments.
pub(crate) async fn ask_with(
    folder: &Path,
    command: &str,
    arguments: Value,
    limit: Duration,
) -> Result<Value, QmpError> {
    let talk = async { Qmp::connect(folder).await?.execute(command, arguments).await };
    timeout(limit, talk).await.unwrap_or(Err(QmpError::Silent { limit }))
}

/// Whether the guest is up.
pub async fn run_state(folder: &Path, limit: Duration) -> Result<RunState, QmpError> {
    let answer = ask(folder, "query-status", limit).await?;
    let status = answer["status"].as_str().ok_or_else(|| garbage(&answer.to_string()))?;
    Ok(match status {
        "shutdown" | "guest-panicked" | "internal-error" | "io-error" => RunState::Down,
        "paused" | "postmigrate" | "finish-migrate" => RunState::Paused,
        _ => RunState::Up,
    })
}

/// Why QEMU can't migrate the machine now; `None` if it can.
pub(crate) async fn migration_blocker(folder: &Path, limit: Duration) -> Result<Option<String>, QmpError> {
    let answer = ask(folder, "query-migrate", limit).await?;
    let reasons = answer["blocked-reasons"].as_array().into_iter().flatten();
    Ok(reasons.filter_map(Value::as_str).next().map(excerpt))
}

/// How far the migration is.
pub(crate) async fn migration(folder: &Path, limit: Duration) -> Result<Migration, QmpError> {
    let answer = ask(folder, "query-migrate", limit).await?;
    Ok(match answer["status"].as_str() {
        Some("completed") => Migration::Completed,
        Some("failed" | "cancelled" | "cancelling") => {
            Migration::Failed(excerpt(answer["error-desc"].as_str().unwrap_or("no reason given")))
        }
        _ => Migration::Active,
    })
}

/// Whether QEMU is still waiting for the machine's memory.
pub(crate) async fn is_receiving(folder: &Path, limit: Duration) -> Result<bool, QmpError> {
    let answer = ask(folder, "query-status", limit).await?;
    Ok(answer["status"] == "inmigrate")
}

/// The ids of the machine's devices that have one.
pub(crate) async fn devices(folder: &Path, limit: Duration) -> Result<BTreeSet<String>, QmpError> {
    let answer = ask_with(folder, "qom-list", json!({ "path": "/machine/peripheral" }), limit).await?;
    let all = answer.as_array().ok_or_else(|| garbage(&answer.to_string()))?;
    Ok(all.iter().filter_map(|device| device["name"].as_str()).map(str::to_owned).collect())
}

/// The full name of the machine type, such as `pc-q35-7.2`: an alias such as `q35` means another one in each version.
pub(crate) async fn machine_type(folder: &Path, alias: &str, limit: Duration) -> Result<String, QmpError> {
    let answer = ask(folder, "query-machines", limit).await?;
    let all = answer.as_array().ok_or_else(|| garbage(&answer.to_string()))?;
    let found = all.iter().find(|machine| machine["alias"] == alias);
    Ok(found.and_then(|machine| machine["name"].as_str()).unwrap_or(alias).to_owned())
}

/// How often the guest has written to its disks, which shows that its userspace is starting.
pub async fn disk_writes(folder: &Path, limit: Duration) -> Result<u64, QmpError> {
    let answer = ask(folder, "query-blockstats", limit).await?;
    let devices = answer.as_array().ok_or_else(|| garbage(&answer.to_string()))?;
    Ok(devices.iter().filter_map(|device| device["stats"]["wr_operations"].as_u64()).sum())
}

/// Makes the machine's disk larger; one that is as large stays as it is.
pub(crate) async fn grow_disk(folder: &Path, bytes: u64, limit: Duration) -> Result<(), QmpError> {
    let answer = ask(folder, "query-block", limit).await?;
    let devices = answer.as_array().ok_or_else(|| garbage(&answer.to_string()))?;
    let disk = devices.iter().find(|device| device["device"] == DISK);
    let size = disk.and_then(|disk| disk["inserted"]["image"]["virtual-size"].as_u64());
    if size.ok_or_else(|| garbage(&answer.to_string()))? >= bytes {
        return Ok(());
    }
    let arguments = json!({ "device": DISK, "size": bytes });
    ask_with(folder, "block_resize", arguments, limit).await.map(drop)
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
        qmp.execute("qmp_capabilities", Value::Null).await?;
        Ok(qmp)
    }

    /// Without arguments if they are null.
    async fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        let mut request = json!({ "execute": command });
        if !arguments.is_null() {
            request["arguments"] = arguments;
        }
        let mut line = request.to_string();
        line.push('\n');
        self.stream.write_all(line.as_bytes()).await.map_err(QmpError::Broken)?;
        loop {
            let mut answer = self.receive().await?;
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = answer.get("error") {
                let reason = excerpt(error["desc"].as_str().unwrap_or("no reason given"));
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

async fn connect_in(folder: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(&SocketPath::of(folder, QMP_SOCKET)?).await
}
