//! The machine from inside, over SSH: the port that the engine waits through.

use std::time::Duration;

use async_trait::async_trait;

use crate::access::{Address, LoginName, PublicHostKey};
use crate::name::VmId;
use crate::record::Record;

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

/// What a remote command left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The remote command's exit status.
    pub status: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
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
    /// each line of its standard output as it comes. Ends with [`GuestError::Unreachable`] when it takes longer
    /// than `limit`.
    async fn run(
        &self,
        target: &SshTarget,
        command: &str,
        limit: Duration,
        line: &mut OnLine<'_>,
    ) -> Result<Output, GuestError>;
}
