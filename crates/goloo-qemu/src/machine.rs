//! One machine's folder, `vms/<id>/`, and what is written down in it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use goloo_core::name::VmId;
use goloo_core::record::{Record, Sight};
use goloo_core::spec::PortForward;
use goloo_os::read;
use serde::{Deserialize, Serialize};

use crate::accel::Accel;
use crate::arch::Arch;
use crate::args::Files;
use crate::files;
use crate::process::{self, Process};
use crate::provider::RESOURCE;

/// `machine.json`: all that a later start needs. Only this version of goloo and later ones read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MachineFile {
    pub(crate) schema: u32,
    pub(crate) id: VmId,
    pub(crate) name: String,
    pub(crate) arch: Arch,
    pub(crate) cpus: u32,
    pub(crate) memory_mib: u64,
    pub(crate) ports: Vec<Forward>,
    pub(crate) mounts: Vec<PathBuf>,
    pub(crate) firmware: Option<PathBuf>,
    /// The port on 127.0.0.1 that belongs to this machine, running or not.
    pub(crate) ssh_port: Option<u16>,
    /// Whether QEMU has been up: from then on the disk may hold something of the user's and is never
    /// made anew.
    pub(crate) made: bool,
    pub(crate) accel: Option<Accel>,
    pub(crate) process: Option<Process>,
}

/// [`MachineFile`]'s format.
pub(crate) const SCHEMA: u32 = 1;

/// A [`PortForward`] as it is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Forward {
    pub(crate) host: u16,
    pub(crate) guest: u16,
}

impl From<&PortForward> for Forward {
    fn from(port: &PortForward) -> Self {
        Self { host: port.host, guest: port.guest }
    }
}

impl From<&Forward> for PortForward {
    fn from(port: &Forward) -> Self {
        Self { host: port.host, guest: port.guest }
    }
}

impl MachineFile {
    /// `None` when there is none.
    pub(crate) fn load(files: &Files) -> io::Result<Option<Self>> {
        match read::file(&files.machine(), read::FILE_MAX) {
            Ok(text) => {
                let machine: Self = serde_json::from_slice(&text)?;
                if machine.schema > SCHEMA {
                    return Err(io::Error::other("it was written by a newer goloo"));
                }
                Ok(Some(machine))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn save(&self, files: &Files) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        files::write_durably(&files.machine(), &text)
    }
}

/// The machine's folder in `vms`, which is `STATE/vms`, by its true path: a QEMU is known by the path
/// of its pid file, and through links a folder has many.
pub(crate) fn folder_of(vms: &Path, id: &VmId) -> Files {
    Files::new(true_path(vms).join(id.as_str()))
}

/// What the folder of machines `vms` shows of a record's machine. Nothing is asked of the machine itself.
pub fn sight(vms: &Path, record: &Record) -> Sight {
    let files = folder_of(vms, &record.id);
    let described = MachineFile::load(&files).ok().flatten().filter(|file| file.id == record.id);
    match record.resource(RESOURCE) {
        _ if described.as_ref().is_some_and(|file| file.name != record.name.as_str()) => Sight::OtherVm,
        _ if described.is_some() => Sight::Machine,
        Some(folder) if Path::new(folder) == files.folder() => Sight::Place,
        Some(_) => Sight::Elsewhere,
        None => Sight::NoPlace,
    }
}

/// Links are followed as far as the path exists; the rest is still to be made.
fn true_path(path: &Path) -> PathBuf {
    let resolved = path.ancestors().find_map(|there| {
        let rest = path.strip_prefix(there).ok()?;
        Some(there.canonicalize().ok()?.join(rest))
    });
    resolved.unwrap_or_else(|| path.to_owned())
}

/// The SSH ports and forwards that belong to other machines. A machine whose note can't be read owns
/// none that could be known: should it have the port, QEMU will say so when it binds it.
pub(crate) fn ports_of_others(vms: &Path, id: &VmId) -> io::Result<BTreeSet<u16>> {
    let mut taken = BTreeSet::new();
    for entry in fs::read_dir(vms)? {
        let entry = entry?;
        if entry.file_name() == id.as_str() {
            continue;
        }
        if let Ok(Some(machine)) = MachineFile::load(&Files::new(entry.path())) {
            taken.extend(machine.ssh_port);
            taken.extend(machine.ports.iter().map(|port| port.host));
        }
    }
    Ok(taken)
}

/// The machine's QEMU, when it lives. The note of the last start comes first, then QEMU's own pid
/// file, for a QEMU whose starter died before it could write the note.
pub(crate) fn running(files: &Files, machine: &MachineFile) -> io::Result<Option<Process>> {
    match machine.process {
        Some(process) if process.writes(&files.pid()) => Ok(Some(process)),
        _ => process::of_pid_file(&files.pid()),
    }
}
