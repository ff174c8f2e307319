//! The SSH configuration of VMs: host blocks to print, or a file that `~/.ssh/config` includes and that goloo keeps up to
//! date.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use goloo_model::guest::SshTarget;
use goloo_model::name::VmName;
use goloo_model::record::{ForeignOwner, LocalContext, Record};
use goloo_model::store::{Broken, Listing, StoreError};
use goloo_sys::lock::{self, FileLock, LockTimeouts, Mode};
use goloo_sys::{durable, private, read};

use crate::error::Error;
use crate::session::Session;
use crate::ssh::{SshError, UnreachableError, UserConfig};

/// The SSH configuration of VMs.
#[derive(Default)]
pub struct SshConfig {
    /// The results, in the order of the names.
    pub entries: Vec<Result<SshConfigEntry, Error>>,
    /// Records that can't be read.
    pub broken: Vec<Broken>,
}

/// One VM in the SSH configuration.
pub enum SshConfigEntry {
    /// Its host block.
    Block(String),
    /// Its record doesn't prove that it was created with this state folder, so its name may not refer to it.
    Untrusted(Box<Record>),
    /// It belongs elsewhere.
    Elsewhere(VmName, ForeignOwner),
    /// It has no address yet.
    NoAddress(VmName),
}

/// What was missing of an installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshConfigInstalled {
    /// The user's file.
    pub user_file: PathBuf,
    /// Whether it got goloo's line now.
    pub is_new: bool,
}

/// The first line of goloo's file.
const HEADER: &str = "# Written by goloo after each change of a VM: other changes to this file are lost.\n";

impl Session {
    /// The host block of one VM for `~/.ssh/config`.
    ///
    /// # Errors
    /// Errors of the store; a VM that belongs elsewhere, or whose record is another VM's than before.
    pub fn ssh_config_of(&self, name: &VmName) -> Result<SshConfigEntry, Error> {
        let record = self.record(name)?;
        self.expect_here([&record])?;
        self.ssh_config_block(&record)
    }

    /// The host blocks of all VMs.
    ///
    /// # Errors
    /// As [`Self::ssh_config_of`].
    pub fn ssh_config(&self) -> Result<SshConfig, Error> {
        let Listing { entries, broken } = self.local(self.store.list())?;
        let mut config = SshConfig { entries: Vec::new(), broken };
        let here = self.here();
        for vm in entries {
            match self.recorded(&vm.name) {
                Ok(Some(record)) => config.entries.push(self.ssh_config_entry(record, &here)),
                // It was deleted meanwhile.
                Ok(None) => {}
                Err(StoreError::Broken(broken)) => config.broken.push(broken),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(config)
    }

    fn ssh_config_entry(&self, record: Record, here: &LocalContext) -> Result<SshConfigEntry, Error> {
        match record.elsewhere(here) {
            // The block is for ~/.ssh/config, where a name refers to one of this user's hosts.
            _ if !here.trust.is_trusted(&record) => Ok(SshConfigEntry::Untrusted(Box::new(record))),
            Some(place) => Ok(SshConfigEntry::Elsewhere(record.name, place)),
            None => self.ssh_config_block(&record),
        }
    }

    fn ssh_config_block(&self, record: &Record) -> Result<SshConfigEntry, Error> {
        self.provider_info(record.provider)?;
        self.expect_same_vm(record)?;
        let can_log_in = record.ssh.as_ref().is_some_and(|ssh| ssh.login_problem.is_none());
        match if can_log_in { SshTarget::login(record) } else { SshTarget::of(record) } {
            Some(target) => Ok(SshConfigEntry::Block(self.keys.config_block(record.name.as_str(), &target)?)),
            None => Ok(SshConfigEntry::NoAddress(record.name.clone())),
        }
    }

    /// Fails if other programs can't find a VM by its name, even with an installed configuration.
    ///
    /// # Errors
    /// [`SshError::NoHostBlock`]; [`UnreachableError::NoAddress`]; as [`Self::ssh_config_of`].
    pub fn expect_host_block(&self, name: &VmName) -> Result<(), Error> {
        let record = self.record(name)?;
        self.expect_here([&record])?;
        match self.ssh_config_entry(record, &self.here())? {
            SshConfigEntry::Block(_) => Ok(()),
            SshConfigEntry::NoAddress(name) => Err(UnreachableError::NoAddress { name }.into()),
            SshConfigEntry::Untrusted(_) | SshConfigEntry::Elsewhere(..) => {
                Err(SshError::NoHostBlock { name: name.clone() }.into())
            }
        }
    }

    /// What an installation writes: the user's file, and the line that it gets.
    ///
    /// # Errors
    /// [`SshError::UnusablePath`] if the line can't express the state folder's path.
    pub fn user_ssh_config(&self) -> Result<UserConfig, Error> {
        Ok(UserConfig::new(&self.paths.home, &self.own_ssh_config())?)
    }

    /// Whether `~/.ssh/config` includes goloo's file.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn has_ssh_config(&self) -> Result<bool, Error> {
        Ok(self.own_ssh_config().exists() && self.user_ssh_config()?.has_line()?)
    }

    /// Has `~/.ssh/config` include a file with the host blocks of all VMs, which goloo keeps up to date from now on.
    ///
    /// # Errors
    /// Errors of the store; files that can't be written; [`SshError`] for a file of the user that
    /// goloo doesn't change.
    pub fn install_ssh_config(&self) -> Result<SshConfigInstalled, Error> {
        let user = self.user_ssh_config()?;
        let _lock = self.lock_ssh_config()?;
        // Before the line: then no interruption leaves one that includes nothing.
        self.write_ssh_config()?;
        Ok(SshConfigInstalled { user_file: user.path().to_owned(), is_new: user.add_line()? })
    }

    /// Removes the line from `~/.ssh/config` and goloo's file; returns whether there was one of them.
    ///
    /// # Errors
    /// As [`Self::install_ssh_config`].
    pub fn uninstall_ssh_config(&self) -> Result<bool, Error> {
        let (user, own) = (self.user_ssh_config()?, self.own_ssh_config());
        let _lock = self.lock_ssh_config()?;
        let had_line = user.remove_line()?;
        let had_file = own.exists();
        durable::remove_if_there(&own).map_err(|error| Error::cannot("remove", &own, error))?;
        Ok(had_line || had_file)
    }

    /// Writes goloo's file again if it is installed and this session changed records. A program calls it after its
    /// actions. A failure is only a warning: the VMs themselves are as they should be.
    pub fn update_ssh_config(&self) {
        if !self.changes.take() || !self.own_ssh_config().exists() {
            return;
        }
        let updated = self.lock_ssh_config().and_then(|_lock| match self.own_ssh_config().exists() {
            true => self.write_ssh_config(),
            // It was uninstalled meanwhile.
            false => Ok(()),
        });
        if let Err(error) = updated {
            self.warn(format!("the SSH configuration was not updated: {}", error.in_one_line()));
        }
    }

    fn own_ssh_config(&self) -> PathBuf {
        self.paths.state.join("ssh_config")
    }

    /// Of two updates, the later one has to read the records later.
    fn lock_ssh_config(&self) -> Result<FileLock, Error> {
        let path = self.paths.state.join("ssh_config.lock");
        let locked = private::create_folders(&self.paths.state)
            .and_then(|()| lock::take(&path, Mode::Exclusive, LockTimeouts::default(), || {}));
        locked.map_err(|error| Error::cannot("lock", &path, error))
    }

    fn write_ssh_config(&self) -> Result<(), Error> {
        let path = self.own_ssh_config();
        let text = self.ssh_config_text()?;
        let failed = |error: io::Error| Error::cannot("write", &path, error);
        if read::own_text(&path, read::FILE_MAX).is_ok_and(|before| before == text) {
            return Ok(());
        }
        durable::write(&path, text.as_bytes()).map_err(failed)
    }

    /// The blocks of all VMs that a name in `~/.ssh/config` may refer to.
    fn ssh_config_text(&self) -> Result<String, Error> {
        let mut text = HEADER.to_owned();
        for entry in self.ssh_config()?.entries {
            match entry {
                Ok(SshConfigEntry::Block(block)) => {
                    let _ = write!(text, "\n{block}\n");
                }
                Ok(_) => {}
                Err(error) => self.warn(format!("the SSH configuration lacks a VM: {}", error.in_one_line())),
            }
        }
        Ok(text)
    }
}
