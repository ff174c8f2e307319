//! Access to a machine over SSH: the interface through which the engine waits for it.

use std::time::Duration;

use async_trait::async_trait;

use crate::access::{Address, LoginName, PublicHostKey};
use crate::name::{VmId, VmName};
use crate::printable::is_printable;
use crate::record::Record;
use crate::text::shortened;

/// Where and how to log in; the host key is always verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshTarget {
    /// Address or host name.
    pub host: Address,
    /// TCP port.
    pub port: u16,
    /// Login user.
    pub user: LoginName,
    /// The only host key that is accepted.
    pub host_key: PublicHostKey,
    /// The VM's name.
    pub name: VmName,
    /// The name under which the host key is stored: the VM's id, since ports and addresses are reused.
    pub alias: String,
}

impl SshTarget {
    /// The target for goloo's own commands; `None` if the record has no address or no pinned key.
    pub fn of(record: &Record) -> Option<Self> {
        let ssh = record.ssh.as_ref()?;
        Self::with_user(record, ssh.account.as_ref().unwrap_or(&ssh.user))
    }

    /// The target for interactive use: as the login user.
    pub fn login(record: &Record) -> Option<Self> {
        Self::with_user(record, &record.ssh.as_ref()?.user)
    }

    fn with_user(record: &Record, user: &LoginName) -> Option<Self> {
        Some(Self {
            host: record.address()?.clone(),
            port: record.ssh_port()?,
            user: user.clone(),
            host_key: record.ssh.as_ref()?.host_key.clone(),
            name: record.name.clone(),
            alias: alias(&record.id),
        })
    }
}

/// The name under which a VM's host key is stored.
pub fn alias(id: &VmId) -> String {
    format!("goloo-{}", id.as_str().to_ascii_lowercase())
}

/// Limits of a remote command. A guest is not trusted: both hold no matter how much it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunLimits {
    /// From connecting to the end of the command.
    pub time: Duration,
    /// The number of bytes of output that are read.
    pub output: u64,
}

impl RunLimits {
    /// For a command with a short answer: at most 1 MiB is read.
    pub fn answer(time: Duration) -> Self {
        Self { time, output: 1 << 20 }
    }

    /// For a command whose output is shown immediately and not stored: at most 1 GiB is read.
    pub fn stream(time: Duration) -> Self {
        Self { time, output: 1 << 30 }
    }
}

/// The result of a remote command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The remote command's exit status.
    pub status: i32,
    /// The start of its standard output, at most [`Output::KEPT`] bytes.
    pub stdout: String,
    /// The end of its standard error, at most [`Output::KEPT`] bytes.
    pub stderr: String,
}

impl Output {
    /// The number of bytes kept of each stream.
    pub const KEPT: usize = 64 << 10;
}

/// The number of characters of a guest's line that are kept and shown.
pub const LINE_MAX: usize = 1000;

/// A guest's line, truncated if it is too long.
pub fn excerpt(line: &str) -> String {
    shortened(line, LINE_MAX)
}

/// A guest's line without anything that a terminal interprets: escape sequences, control characters, and
/// characters that change the direction of text. Invalid UTF-8 is replaced.
pub fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut shown = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            // A control sequence is removed as a whole (ECMA-48): ESC [, parameters, a final byte.
            '\u{1b}' if characters.peek() == Some(&'[') => {
                characters.next();
                while characters.next_if(|c| matches!(c, ' '..='?')).is_some() {}
                characters.next_if(|c| matches!(c, '@'..='~'));
            }
            '\t' => shown.push(' '),
            character if is_printable(character) => shown.push(character),
            _ => {}
        }
    }
    shown
}

/// Why a machine can't be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GuestError {
    /// No response yet, or the connection broke: worth a retry.
    #[error("SSH doesn't answer on {host}:{port}: {reason}")]
    Unreachable {
        /// Address.
        host: String,
        /// Port.
        port: u16,
        /// The cause.
        reason: String,
    },
    /// Another machine answers: never worth a retry.
    #[error("the machine at {host}:{port} presented a different host key than the one that goloo gave it")]
    WrongHostKey {
        /// Address.
        host: String,
        /// Port.
        port: u16,
    },
    /// The right machine, but it refuses the login.
    #[error("{user}@{host}:{port} refuses goloo's key: {reason}")]
    Denied {
        /// Login user.
        user: String,
        /// Address.
        host: String,
        /// Port.
        port: u16,
        /// The cause.
        reason: String,
    },
    /// The machine sends more output than allowed: never worth a retry.
    #[error("{host}:{port} sent more than {limit} bytes")]
    TooMuch {
        /// Address.
        host: String,
        /// Port.
        port: u16,
        /// The number of bytes read.
        limit: u64,
    },
    /// The `ssh` command can't be run.
    #[error("can't run ssh: {reason}")]
    NoClient {
        /// The system's error message.
        reason: String,
    },
}

/// Receives each line of a command's output as it arrives, without its terminator.
pub type OnLine<'a> = dyn FnMut(&str) + Send + 'a;

/// Runs commands in a machine.
#[async_trait]
pub trait Guest: Send + Sync {
    /// Pins the host key of a VM that is created here, so that a record with a different key is refused later. If this
    /// fails, the first connection pins it.
    fn pin(&self, record: &Record);

    /// Removes the pinned key if the VM will not exist.
    fn unpin(&self, record: &Record);

    /// Ends the connections that are kept for later commands, after the machine was stopped or deleted.
    async fn end_connections(&self, record: &Record);

    /// Ends the connections to a target that isn't used again, and removes its pinned key.
    async fn forget(&self, target: &SshTarget);

    /// Runs `command` with `/bin/sh`, regardless of the user's shell, with empty standard input. `line` receives
    /// each line of its standard output as it arrives. Returns [`GuestError::Unreachable`] if it takes longer than
    /// `limits` allow, and [`GuestError::TooMuch`] if it writes more.
    async fn run(
        &self,
        target: &SshTarget,
        command: &str,
        limits: RunLimits,
        line: &mut OnLine<'_>,
    ) -> Result<Output, GuestError> {
        self.run_with_input(target, command, &[], limits, line).await
    }

    /// As [`Self::run`], with this standard input: the place for secrets, which others could see in a command.
    async fn run_with_input(
        &self,
        target: &SshTarget,
        command: &str,
        input: &[u8],
        limits: RunLimits,
        line: &mut OnLine<'_>,
    ) -> Result<Output, GuestError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_control_sequences_are_removed_from_a_line() {
        assert_eq!(printable(b"[\x1b[0;32m  OK  \x1b[0m] Started\x07 sshd.\r\n"), "[  OK  ] Started sshd.");
        let hostile = "a\u{1b}]0;title\u{7}b\u{9b}31mc\u{202e}d\u{2066}e\u{1b}[\u{1b}[2Jf\u{1b}";
        assert_eq!(printable(hostile.as_bytes()), "a]0;titleb31mcdef");
        assert_eq!(printable(b"\x1b[999999999999999999;\xff\n"), "\u{fffd}");
    }

    #[test]
    fn a_long_line_is_truncated_at_a_character_boundary() {
        assert_eq!(excerpt("short"), "short");
        let long = "ä".repeat(LINE_MAX + 1);
        assert_eq!(excerpt(&long), format!("{}...", "ä".repeat(LINE_MAX)));
    }
}
