//! Names of VMs in this computer's hosts file: /etc/hosts, or in tests what `GOLOO_HOSTS_FILE` names.

mod file;
mod sudo;
mod text;

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use goloo_model::events::{Event, Events};
use goloo_model::host_names::{HostNames, HostNamesError};
use goloo_model::name::VmName;

use file::{Done, HOSTS};
use text::Change;

pub use sudo::answer as answer_sudo;

/// The hosts file, changed with sudo if this user isn't allowed to.
pub struct HostsFile {
    path: PathBuf,
    events: Arc<dyn Events>,
}

impl HostsFile {
    /// The hosts file of this computer.
    pub fn from_env(events: Arc<dyn Events>) -> Self {
        let named = std::env::var_os("GOLOO_HOSTS_FILE").filter(|value| !value.is_empty());
        let path = named.map_or_else(|| HOSTS.into(), PathBuf::from);
        Self { path: std::path::absolute(&path).unwrap_or(path), events }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn edit(&self, change: &Change) -> Result<(), HostNamesError> {
        self.check_own()?;
        let waiting = |lock: &Path| self.events.event(Event::WaitingForLock { path: lock.to_owned() });
        let done = match file::edit(&self.path, change, waiting) {
            Err(HostNamesError::Denied { .. }) => sudo::edit(&self.path, change, &*self.events)?,
            other => other?,
        };
        if done == Done::Mended {
            let path = self.path.display();
            self.events.event(Event::Warning(format!(
                "{path}: the end marker of goloo's block was missing and has been restored; check the file"
            )));
        }
        Ok(())
    }
}

impl HostsFile {
    /// A file named by the environment variable must be the user's own: otherwise any file could be changed that way.
    fn check_own(&self) -> Result<(), HostNamesError> {
        if self.path == Path::new(HOSTS) {
            return Ok(());
        }
        let me = rustix::process::geteuid().as_raw();
        match std::fs::metadata(&self.path) {
            Ok(metadata) if metadata.uid() != me || !metadata.is_file() => Err(HostNamesError::Denied {
                place: self.path.clone(),
                reason: "GOLOO_HOSTS_FILE names a file that another user owns".to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

impl HostNames for HostsFile {
    fn set(&self, name: &VmName, ip: IpAddr) -> Result<(), HostNamesError> {
        self.edit(&Change::Set(name.clone(), ip))
    }

    fn remove(&self, name: &VmName) -> Result<(), HostNamesError> {
        self.edit(&Change::Remove(name.clone()))
    }
}
