//! The machines: a file each.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use goloo_model::name::{VmId, VmName};
use goloo_model::provider::{Endpoints, ProviderError};
use goloo_model::record::{Endpoint, Extra};
use serde::{Deserialize, Serialize};

/// The folder of all machines.
#[derive(Debug)]
pub struct Machines {
    /// It is made with the first one.
    pub folder: PathBuf,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineFile {
    /// The VM's name.
    pub name: VmName,
    /// The note of its stack.
    pub note: Option<String>,
    /// Whether it is running.
    pub is_running: bool,
}

impl MachineFile {
    /// What the record is to say of it: there is no SSH.
    pub fn endpoints(&self) -> Endpoints {
        let mut details = Extra::new();
        details.extend(self.note.clone().map(|note| ("note".to_owned(), note.into())));
        let endpoint = Endpoint { ssh_port: None, ..Endpoint::loopback(0) };
        Endpoints { endpoint, details }
    }
}

impl Machines {
    /// A machine's file.
    pub fn path(&self, id: &VmId) -> PathBuf {
        self.folder.join(id.as_str())
    }

    /// A machine; `None` where there is none.
    pub fn read(&self, id: &VmId) -> Result<Option<MachineFile>, ProviderError> {
        let path = self.path(id);
        match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map(Some).map_err(|error| failed(&path, error.into()))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&path, error)),
        }
    }

    /// Writes a machine in one step.
    pub fn write(&self, id: &VmId, file: &MachineFile) -> Result<(), ProviderError> {
        let (path, new) = (self.path(id), self.folder.join(format!("{id}.new")));
        let write = || -> io::Result<()> {
            fs::create_dir_all(&self.folder)?;
            fs::write(&new, serde_json::to_vec(file)?)?;
            fs::rename(&new, &path)
        };
        write().map_err(|error| failed(&path, error))
    }

    /// Removes a machine; one that is gone already is none.
    pub fn remove(&self, id: &VmId) -> Result<(), ProviderError> {
        match fs::remove_file(self.path(id)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(&self.path(id), error)),
            _ => Ok(()),
        }
    }

    /// All machines, sorted by their ids.
    pub fn all(&self) -> Result<Vec<(VmId, MachineFile)>, ProviderError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(&self.folder, error)),
        };
        let mut all = Vec::new();
        for entry in entries {
            let name = entry.map_err(|error| failed(&self.folder, error))?.file_name();
            let Some(id) = name.to_str().and_then(|name| VmId::parse(name).ok()) else { continue };
            all.extend(self.read(&id)?.map(|file| (id, file)));
        }
        all.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
        Ok(all)
    }
}

fn failed(path: &Path, error: io::Error) -> ProviderError {
    ProviderError::caused(format!("{} can't be used", path.display()), "check its permissions", error)
}
