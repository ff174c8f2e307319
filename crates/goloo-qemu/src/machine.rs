//! A machine's folder, `vms/<id>/`, and the files in it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use goloo_images::Arch;
use goloo_model::name::VmId;
use goloo_model::record::{MachineLocation, Record};
use goloo_model::spec::PortForward;
use goloo_sys::{durable, read};
use serde::{Deserialize, Serialize};

use crate::accel::Accel;
use crate::args::Files;
use crate::process::{self, QemuProcess};

/// The resource kind under which a machine's folder is recorded.
pub const RESOURCE: &str = "qemu-directory";

/// `machine.json`: everything later starts need. Only this version of goloo and later ones read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MachineFile {
    pub(crate) schema: u32,
    pub(crate) id: VmId,
    pub(crate) name: String,
    pub(crate) arch: Arch,
    pub(crate) cpus: u32,
    pub(crate) memory_mib: u64,
    /// Whether the image was selected by name: those images run on any CPU of their architecture.
    #[serde(default)]
    pub(crate) any_cpu: bool,
    pub(crate) ports: Vec<Forward>,
    pub(crate) mounts: Vec<PathBuf>,
    pub(crate) firmware: Option<PathBuf>,
    /// The port on 127.0.0.1 that belongs to this machine, whether or not it is running.
    pub(crate) ssh_port: Option<u16>,
    /// Whether QEMU has been up. From then on the disk may hold user data and is never recreated.
    pub(crate) made: bool,
    pub(crate) accel: Option<Accel>,
    pub(crate) process: Option<QemuProcess>,
}

/// The format version of [`MachineFile`].
pub(crate) const SCHEMA: u32 = 1;

/// A [`PortForward`] as stored.
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
    /// Returns `None` when the file doesn't exist.
    pub(crate) fn load(files: &Files) -> io::Result<Option<Self>> {
        match read::own(&files.machine(), read::FILE_MAX) {
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
        durable::write(&files.machine(), &text)
    }
}

/// The machine's folder in `vms`, which is `STATE/vms`, by its canonical path: a QEMU is identified by the path of its
/// pid file, and symlinks can give a folder many paths.
pub(crate) fn folder_of(vms: &Path, id: &VmId) -> Files {
    Files::new(true_path(vms).join(id.as_str()))
}

/// What the folder of machines `vms` shows about a record's machine. The machine itself isn't queried.
pub fn locate(vms: &Path, record: &Record) -> MachineLocation {
    let files = folder_of(vms, &record.id);
    let described = MachineFile::load(&files).ok().flatten().filter(|file| file.id == record.id);
    match record.resource(RESOURCE) {
        _ if described.as_ref().is_some_and(|file| file.name != record.name.as_str()) => {
            MachineLocation::OtherVm
        }
        _ if described.is_some() => MachineLocation::Machine,
        Some(folder) if Path::new(folder) == files.folder() => MachineLocation::Place,
        Some(_) => MachineLocation::Elsewhere,
        None => MachineLocation::NoPlace,
    }
}

/// Resolves symlinks as far as the path exists; the rest may not exist yet.
fn true_path(path: &Path) -> PathBuf {
    let resolved = path.ancestors().find_map(|there| {
        let rest = path.strip_prefix(there).ok()?;
        Some(there.canonicalize().ok()?.join(rest))
    });
    resolved.unwrap_or_else(|| path.to_owned())
}

/// The SSH ports and forwards that belong to other machines. A machine whose file can't be read is skipped: if it owns
/// the port, QEMU fails to bind it.
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

/// The machine's QEMU process, if it is alive. Checks the record of the last start first, then QEMU's own pid file, in
/// case goloo died before it could write the record.
pub(crate) fn running(files: &Files, machine: &MachineFile) -> io::Result<Option<QemuProcess>> {
    match machine.process {
        Some(process) if process.writes(&files.pid()) => Ok(Some(process)),
        _ => process::of_pid_file(&files.pid()),
    }
}
