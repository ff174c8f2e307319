//! Names of VMs in this computer's hosts file: /etc/hosts, or in tests what `GOLOO_HOSTS_FILE` names.

mod file;
mod sudo;
mod text;

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use goloo_core::host_names::{HostNames, HostNamesError};
use goloo_core::name::VmName;

use crate::output::Ui;
use file::Done;
use text::Change;

pub use sudo::answer as answer_sudo;

/// The file that a computer's names are in.
const HOSTS: &str = "/etc/hosts";

/// The hosts file, changed with sudo where this user may not.
pub struct HostsFile {
    path: PathBuf,
    ui: Ui,
}

impl HostsFile {
    /// The hosts file of this computer.
    pub fn from_env(ui: Ui) -> Self {
        let named = std::env::var_os("GOLOO_HOSTS_FILE").filter(|value| !value.is_empty());
        let path = named.map_or_else(|| HOSTS.into(), PathBuf::from);
        Self { path: std::path::absolute(&path).unwrap_or(path), ui }
    }

    /// Where it lies.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    fn edit(&self, change: &Change) -> Result<(), HostNamesError> {
        self.check_own()?;
        let done = match file::edit(&self.path, change, |lock| self.ui.waiting_for_lock(lock)) {
            Err(HostNamesError::Denied { .. }) => sudo::edit(&self.path, change, &self.ui)?,
            other => other?,
        };
        if done == Done::Mended {
            let path = self.path.display();
            self.ui.warning(&format!(
                "{path}: the end of goloo's block was missing; it is back, look whether all is as it was"
            ));
        }
        Ok(())
    }
}

impl HostsFile {
    /// A file that a variable names is the user's own: nothing else may be changed by way of it.
    fn check_own(&self) -> Result<(), HostNamesError> {
        if self.path == Path::new(HOSTS) {
            return Ok(());
        }
        let me = rustix::process::geteuid().as_raw();
        match std::fs::metadata(&self.path) {
            Ok(metadata) if metadata.uid() != me || !metadata.is_file() => Err(HostNamesError::Denied {
                place: self.path.clone(),
                reason: "GOLOO_HOSTS_FILE names a file that isn't your own".to_owned(),
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
