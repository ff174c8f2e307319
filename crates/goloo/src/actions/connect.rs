//! How to connect to a running machine: the command lines of `ssh` and `scp`, or the provider's own session.

use std::ffi::OsString;
use std::io::{self, Read};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use goloo_model::guest::SshTarget;
use goloo_model::name::VmName;
use goloo_model::provider::{ConsolePiece, GuestRequest, LiveState, Provider};
use goloo_model::record::{Provisioning, ProvisioningResult, Record};

use crate::error::Error;
use crate::session::Session;
use crate::ssh::{Connection, SCP_USER, Scp, UnreachableError, by_sh};

/// How to connect to a running machine.
pub enum Route {
    /// SSH answers. The record lists the accounts.
    Ssh(Box<Record>, SshTarget),
    /// goloo has no key for the machine: the provider's own program and its arguments.
    Native(Vec<OsString>),
}

/// One path of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyPath<'p> {
    /// On this computer.
    Here(&'p str),
    /// In the VM.
    Guest(&'p str),
}

impl CopyPath<'_> {
    fn argument(&self, host: &str) -> OsString {
        match self {
            // scp reads what precedes a colon before the first slash as a host.
            Self::Here(path) if path.contains(':') && !path.starts_with(['/', '.']) => {
                format!("./{path}").into()
            }
            Self::Here(path) => path.into(),
            Self::Guest(path) => format!("{host}:{path}").into(),
        }
    }
}

/// A VM's console.
pub struct Console {
    record: Record,
    provider: Box<dyn Provider>,
}

impl Console {
    /// What it has from this offset on, in bytes.
    ///
    /// # Errors
    /// As the provider's.
    pub async fn read(&self, offset: u64) -> Result<ConsolePiece, Error> {
        Ok(self.provider.console(&self.record, offset).await?)
    }

    /// Whether the machine is known to be running.
    pub async fn is_running(&self) -> bool {
        let live = self.provider.observe(&[&self.record]).await;
        live.first().is_some_and(|live| live.state == LiveState::Running)
    }
}

impl Session {
    /// How goloo connects to a machine for this request: over SSH as goloo's account, with the pinned host key, else
    /// with a program of its provider.
    ///
    /// # Errors
    /// [`UnreachableError`] when that isn't possible now; errors of the store.
    pub fn route(&self, name: &VmName, request: GuestRequest<'_>) -> Result<Route, Error> {
        let record = self.record(name)?;
        self.refuse_what_is_off(&record)?;
        match SshTarget::of(&record) {
            Some(target) => {
                self.expect_same_vm(&record)?;
                self.expect_banner(&record, &target)?;
                Ok(Route::Ssh(Box::new(record), target))
            }
            None if record.ssh.is_none() => {
                let provider = self.provider_of(&record)?;
                let words = provider.native_session_command(&record, request);
                Ok(Route::Native(words.ok_or_else(|| no_route(&record))?))
            }
            None => Err(no_route(&record).into()),
        }
    }

    /// Fails when the machine is known to be off, or can't be reached at all.
    ///
    /// # Errors
    /// [`UnreachableError`]; errors of the store.
    pub fn expect_reachable(&self, name: &VmName) -> Result<(), Error> {
        let record = self.record(name)?;
        // First: a copy that was never started has no address yet.
        self.refuse_what_is_off(&record)?;
        Ok(SshTarget::of(&record).map(drop).ok_or_else(|| no_route(&record))?)
    }

    /// The connection to the machine that is kept for the next commands; connects if there is none.
    ///
    /// # Errors
    /// As [`KeyFolder::options`](crate::ssh::KeyFolder::options).
    pub fn connect(&self, target: &SshTarget) -> Result<Connection, Error> {
        // First: a record with another host key than before is refused.
        self.keys.pin(target)?;
        Ok(self.connections.open_blocking(&self.keys, target))
    }

    /// The `ssh` command line for the machine, over this connection; the remote command is appended.
    ///
    /// # Errors
    /// As [`KeyFolder::options`](crate::ssh::KeyFolder::options).
    pub fn ssh_command(&self, target: &SshTarget, connection: &Connection) -> Result<Vec<OsString>, Error> {
        let mut words = vec!["ssh".into()];
        words.extend(self.keys.options(target)?);
        words.extend(connection.options());
        words.extend(["--".into(), OsString::from(target.host.as_str())]);
        Ok(words)
    }

    /// The same for a script, which `/bin/sh` runs as goloo's account over the connection that is kept.
    ///
    /// # Errors
    /// As [`Self::ssh_command`].
    pub fn ssh_script(&self, target: &SshTarget, script: &str) -> Result<Vec<OsString>, Error> {
        let mut words = self.ssh_command(target, &self.connect(target)?)?;
        words.push(by_sh(script).into());
        Ok(words)
    }

    /// The `scp` command line of a copy.
    ///
    /// # Errors
    /// [`UnreachableError::UnsafeScp`]; as [`Self::ssh_command`].
    pub fn scp_command(
        &self,
        record: &Record,
        target: &SshTarget,
        (from, to): (CopyPath<'_>, CopyPath<'_>),
        recursive: bool,
    ) -> Result<Vec<OsString>, Error> {
        let protocol = Scp::installed().protocol(matches!(from, CopyPath::Guest(_)))?;
        let mut words: Vec<OsString> = Vec::new();
        if let Some(ssh) = record.ssh.as_ref().filter(|ssh| ssh.account.is_some()) {
            let transport = self.keys.scp_transport()?;
            words.extend(["env".into(), format!("{SCP_USER}={}", ssh.user).into()]);
            words.extend(["scp".into(), "-S".into(), transport.into()]);
        } else {
            words.push("scp".into());
        }
        words.extend(protocol.map(OsString::from));
        words.extend(self.keys.options(target)?);
        words.extend(self.connect(target)?.options());
        if recursive {
            words.push("-r".into());
        }
        words.extend(["--".into(), from.argument(target.host.as_str()), to.argument(target.host.as_str())]);
        Ok(words)
    }

    /// Whether a VM's provider shows its console.
    pub fn has_console(&self, record: &Record) -> bool {
        self.provider(record.provider).is_ok_and(|provider| provider.capabilities().console)
    }

    /// A VM's console, which works without SSH.
    ///
    /// # Errors
    /// Errors of the store, and of the provider's settings.
    pub fn console(&self, name: &VmName) -> Result<Console, Error> {
        let record = self.record(name)?;
        let provider = self.provider_of(&record)?;
        Ok(Console { record, provider })
    }

    /// Multipass would start the machine, and `ssh` would wait in vain.
    fn refuse_what_is_off(&self, record: &Record) -> Result<(), Error> {
        let name = || record.name.clone();
        match self.observe(record)?.state {
            LiveState::Stopped => Err(UnreachableError::Stopped { name: name() }.into()),
            LiveState::Suspended => Err(UnreachableError::Suspended { name: name() }.into()),
            LiveState::Missing => Err(UnreachableError::Missing { name: name() }.into()),
            LiveState::Running | LiveState::Unknown => Ok(()),
        }
    }

    /// `ssh` would wait silently for a machine that boots for the first time. Later `ssh` has its own limit: a newer
    /// sshd takes such a probe for a scan, and after some of them refuses all clients for a while.
    fn expect_banner(&self, record: &Record, target: &SshTarget) -> Result<(), UnreachableError> {
        let is_known = |provisioning: &Provisioning| provisioning.result != ProvisioningResult::Unknown;
        if record.provisioning.as_ref().is_some_and(is_known) {
            return Ok(());
        }
        banner(target).map_err(|source| UnreachableError::Booting {
            name: record.name.clone(),
            has_console: self.has_console(record),
            source,
        })
    }
}

fn no_route(record: &Record) -> UnreachableError {
    let name = record.name.clone();
    if record.ssh.is_some() { UnreachableError::NoAddress { name } } else { UnreachableError::NoKey { name } }
}

/// How long a running machine may take to accept the connection and send its banner.
const BANNER_LIMIT: Duration = Duration::from_secs(5);

fn banner(target: &SshTarget) -> io::Result<()> {
    let mut addresses = (target.host.as_str(), target.port).to_socket_addrs()?;
    let address = addresses.next().ok_or(io::ErrorKind::NotFound)?;
    let mut stream = TcpStream::connect_timeout(&address, BANNER_LIMIT)?;
    stream.set_read_timeout(Some(BANNER_LIMIT))?;
    let mut start = [0; 4];
    stream.read_exact(&mut start)
}
