//! The machine from inside, over SSH: the port that the engine waits through.

use std::time::Duration;

use async_trait::async_trait;

use crate::access::{Address, LoginName, PublicHostKey};
use crate::name::VmId;
use crate::printable::is_printable;
use crate::record::Record;
use crate::text::shortened;

/// Where and how to log in; the host key is always checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshTarget {
    /// Address or name.
    pub host: Address,
    /// TCP port.
    pub port: u16,
    /// Login user.
    pub user: LoginName,
    /// The only host key that is accepted.
    pub host_key: PublicHostKey,
    /// Under which name the host key is known: the VM's id, since ports and addresses are used again.
    pub alias: String,
}

impl SshTarget {
    /// The way into a recorded machine for goloo's own commands; `None` while it has no address or no pinned key.
    pub fn of(record: &Record) -> Option<Self> {
        let ssh = record.ssh.as_ref()?;
        Self::with_user(record, ssh.account.as_ref().unwrap_or(&ssh.user))
    }

    /// The way in for a person: as the login user.
    pub fn login(record: &Record) -> Option<Self> {
        Self::with_user(record, &record.ssh.as_ref()?.user)
    }

    fn with_user(record: &Record, user: &LoginName) -> Option<Self> {
        Some(Self {
            host: record.address()?.clone(),
            port: record.ssh_port()?,
            user: user.clone(),
            host_key: record.ssh.as_ref()?.host_key.clone(),
            alias: alias(&record.id),
        })
    }
}

/// Under which name a VM's host key is known.
pub fn alias(id: &VmId) -> String {
    format!("goloo-{}", id.as_str().to_ascii_lowercase())
}

/// What a remote command may use. A guest is not trusted: both hold however much it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunLimits {
    /// From the connection to the command's end.
    pub time: Duration,
    /// Bytes that are read of its output.
    pub output: u64,
}

impl RunLimits {
    /// For a command whose answer is short: at most 1 MiB is read.
    pub fn answer(time: Duration) -> Self {
        Self { time, output: 1 << 20 }
    }

    /// For a command whose output is shown as it comes and kept nowhere: at most 1 GiB is read.
    pub fn stream(time: Duration) -> Self {
        Self { time, output: 1 << 30 }
    }
}

/// What a remote command left.
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
    /// How much is kept of each stream, in bytes.
    pub const KEPT: usize = 64 << 10;
}

/// How many characters of one line of a guest's are kept and shown.
pub const LINE_MAX: usize = 1000;

/// A line of a guest's, cut where it is too long.
pub fn excerpt(line: &str) -> String {
    shortened(line, LINE_MAX)
}

/// A line of a guest's without what a terminal would take for a command: escape sequences, control characters, and
/// those that change the direction of text. What isn't UTF-8 is replaced.
pub fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut shown = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            // A control sequence goes as a whole (ECMA-48): ESC [, parameters, a final byte.
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
    /// Nothing answers yet, or the connection broke: worth another try.
    #[error("SSH doesn't answer on {host}:{port}: {reason}")]
    Unreachable {
        /// Address.
        host: String,
        /// Port.
        port: u16,
        /// What was seen.
        reason: String,
    },
    /// Another machine answers: never worth another try.
    #[error("the machine at {host}:{port} shows another host key than the one that goloo gave it")]
    WrongHostKey {
        /// Address.
        host: String,
        /// Port.
        port: u16,
    },
    /// The machine is right and doesn't let goloo in.
    #[error("{user}@{host}:{port} refuses goloo's key: {reason}")]
    Denied {
        /// Login user.
        user: String,
        /// Address.
        host: String,
        /// Port.
        port: u16,
        /// What was seen.
        reason: String,
    },
    /// The machine answers without end: never worth another try.
    #[error("{host}:{port} sent more than {limit} bytes")]
    TooMuch {
        /// Address.
        host: String,
        /// Port.
        port: u16,
        /// How much was read, in bytes.
        limit: u64,
    },
    /// The `ssh` command itself can't be run.
    #[error("can't run ssh: {reason}")]
    NoClient {
        /// What the system said.
        reason: String,
    },
}

/// Gets each line of a command's output as it comes, without its end.
pub type OnLine<'a> = dyn FnMut(&str) + Send + 'a;

/// Runs commands in a machine.
#[async_trait]
pub trait Guest: Send + Sync {
    /// Runs `command` by `/bin/sh`, whatever the user's shell is, with nothing on standard input. `line` gets
    /// each line of its standard output as it comes. Ends with [`GuestError::Unreachable`] when it takes longer than
    /// `limits` allow, and with [`GuestError::TooMuch`] when it writes more.
    async fn run(
        &self,
        target: &SshTarget,
        command: &str,
        limits: RunLimits,
        line: &mut OnLine<'_>,
    ) -> Result<Output, GuestError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_no_commands_for_the_terminal() {
        assert_eq!(printable(b"[\x1b[0;32m  OK  \x1b[0m] Started\x07 sshd.\r\n"), "[  OK  ] Started sshd.");
        let hostile = "a\u{1b}]0;title\u{7}b\u{9b}31mc\u{202e}d\u{2066}e\u{1b}[\u{1b}[2Jf\u{1b}";
        assert_eq!(printable(hostile.as_bytes()), "a]0;titleb31mcdef");
        assert_eq!(printable(b"\x1b[999999999999999999;\xff\n"), "\u{fffd}");
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        assert_eq!(excerpt("short"), "short");
        let long = "ä".repeat(LINE_MAX + 1);
        assert_eq!(excerpt(&long), format!("{}…", "ä".repeat(LINE_MAX)));
    }
}
