//! A machine's folder, `vms/<id>/`, and the files in it.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use goloo_images::Arch;
use goloo_model::access::PublicHostKey;
use goloo_model::name::{VmId, VmName};
use goloo_model::provider::{LiveState, MemoryTemplate};
use goloo_model::record::{Endpoint, MachineLocation, Record, Trust};
use goloo_sys::{durable, read};
use serde::{Deserialize, Serialize};

use crate::accel::Accel;
use crate::args::Files;
use crate::ports::{Forward, Listener};
use crate::private_nic::PrivateNic;
use crate::process::{self, QemuProcess};
use crate::shared_folder::SharedFolder;
use crate::virtiofs::Virtiofs;

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
    /// Whether ports on which the guest listens are forwarded too.
    #[serde(default)]
    pub(crate) auto_ports: bool,
    pub(crate) mounts: Vec<SharedFolder>,
    /// Whether they are shared over virtiofs too.
    #[serde(default)]
    pub(crate) virtiofs: Virtiofs,
    pub(crate) firmware: Option<PathBuf>,
    /// The loopback address of its own. Machines of earlier versions have 127.0.0.1.
    #[serde(default)]
    pub(crate) address: Option<Ipv4Addr>,
    /// What the guest's SSH server proves itself with. Machines of earlier versions have none here until their next start.
    #[serde(default)]
    pub(crate) host_key: Option<PublicHostKey>,
    /// The port of its address that belongs to this machine, whether or not it is running.
    pub(crate) ssh_port: Option<u16>,
    /// Whether QEMU has been up. From then on the disk may hold user data and is never recreated.
    pub(crate) made: bool,
    pub(crate) accel: Option<Accel>,
    pub(crate) process: Option<QemuProcess>,
    /// Its network card in the private network of its environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) private_nic: Option<PrivateNic>,
    /// That its memory is saved, and the next start continues from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) suspended: Option<Suspended>,
    /// Whose identity its guest has: set while it continues from the memory of a baked machine, until it has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) template: Option<TemplateFile>,
}

/// What a suspended machine needs to continue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Suspended {
    /// QEMU's full name of its type, such as `pc-q35-7.2`: later versions of QEMU have this type too.
    pub(crate) machine_type: String,
    /// What it had of a private network's devices. Machines that earlier versions suspended had none.
    #[serde(default)]
    pub(crate) private: PrivateSlots,
}

/// The devices of a machine for a private network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PrivateSlots {
    /// The PCIe port.
    pub(crate) port: bool,
    /// The network card in it.
    pub(crate) nic: bool,
}

/// [`MemoryTemplate`] in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TemplateFile {
    id: VmId,
    name: VmName,
    host_key: PublicHostKey,
}

impl From<MemoryTemplate> for TemplateFile {
    fn from(MemoryTemplate { id, name, host_key }: MemoryTemplate) -> Self {
        Self { id, name, host_key }
    }
}

impl From<TemplateFile> for MemoryTemplate {
    fn from(TemplateFile { id, name, host_key }: TemplateFile) -> Self {
        Self { id, name, host_key }
    }
}

/// The format version of [`MachineFile`].
pub(crate) const SCHEMA: u32 = 1;

impl MachineFile {
    /// The address of this host at which it is reached.
    pub(crate) fn address(&self) -> Ipv4Addr {
        self.address.unwrap_or(Ipv4Addr::LOCALHOST)
    }

    /// What its next start has of a private network's devices: those that its saved memory knows, or all.
    pub(crate) fn private_slots(&self) -> PrivateSlots {
        let all = PrivateSlots { port: true, nic: true };
        self.suspended.as_ref().map_or(all, |suspended| suspended.private)
    }

    /// Its state while no QEMU runs it.
    pub(crate) fn resting_state(&self) -> LiveState {
        if self.suspended.is_some() { LiveState::Suspended } else { LiveState::Stopped }
    }

    /// What belongs to it, whether or not it is running.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = Listener> {
        let ssh = self.ssh_port.map(|port| Listener::tcp(self.address(), port));
        ssh.into_iter().chain(self.ports.iter().map(Forward::listener))
    }

    /// Where it is reached with this SSH port.
    pub(crate) fn endpoint(&self, ssh_port: u16) -> Endpoint {
        let active = self.ports.iter().filter(|forward| forward.is_active());
        Endpoint {
            ports: active.map(Into::into).collect(),
            ..Endpoint::new(IpAddr::from(self.address()).into(), ssh_port)
        }
    }

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

/// What the folder of machines `vms` shows about a record's machine. The machine itself isn't queried. An untrusted
/// record may name a machine of another VM, so there the VM's own name must be the machine's.
pub fn locate(vms: &Path, record: &Record, trust: &Trust) -> MachineLocation {
    let files = folder_of(vms, &record.id);
    let name = if trust.is_trusted(record) { record.machine_name() } else { &record.name };
    let described = MachineFile::load(&files).ok().flatten().filter(|file| file.id == record.id);
    match record.resource(RESOURCE) {
        _ if described.as_ref().is_some_and(|file| file.name != name.as_str()) => MachineLocation::OtherVm,
        _ if described.is_some() => MachineLocation::Machine,
        Some(folder) if Path::new(folder) == files.folder() => MachineLocation::Place,
        Some(_) => MachineLocation::Elsewhere,
        None => MachineLocation::NoPlace,
    }
}

/// Resolves symlinks as far as the path exists; the rest may not exist yet.
pub(crate) fn true_path(path: &Path) -> PathBuf {
    let resolved = path.ancestors().find_map(|there| {
        let rest = path.strip_prefix(there).ok()?;
        Some(there.canonicalize().ok()?.join(rest))
    });
    resolved.unwrap_or_else(|| path.to_owned())
}

/// All machines except this one. A machine whose file can't be read is skipped: if it owns a port, QEMU fails to bind it.
pub(crate) fn others(vms: &Path, id: &VmId) -> io::Result<Vec<MachineFile>> {
    folders_except(vms, id.as_str())
}

/// All machines whose files can be read.
pub(crate) fn all(vms: &Path) -> io::Result<Vec<MachineFile>> {
    folders_except(vms, "")
}

fn folders_except(vms: &Path, name: &str) -> io::Result<Vec<MachineFile>> {
    let entries = match fs::read_dir(vms) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut others = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_name() != name {
            others.extend(MachineFile::load(&Files::new(entry.path())).ok().flatten());
        }
    }
    Ok(others)
}

/// The ports that belong to machines, at any address.
pub(crate) fn ports(machines: &[MachineFile]) -> impl Iterator<Item = u16> {
    machines.iter().flat_map(MachineFile::listeners).map(|listener| listener.port)
}

/// The machine's QEMU process, if it is alive. Checks the record of the last start first, then QEMU's own pid file, in
/// case goloo died before it could write the record.
pub(crate) fn running(files: &Files, machine: &MachineFile) -> io::Result<Option<QemuProcess>> {
    match machine.process {
        Some(process) if process.writes(&files.pid()) => Ok(Some(process)),
        _ => process::of_pid_file(&files.pid()),
    }
}

/// The description of a machine that isn't running.
#[cfg(test)]
pub(crate) fn sample(id: &VmId, name: &str, made: bool) -> MachineFile {
    MachineFile {
        schema: SCHEMA,
        id: id.clone(),
        name: name.to_owned(),
        arch: Arch::host(),
        cpus: 1,
        memory_mib: 512,
        any_cpu: false,
        ports: Vec::new(),
        auto_ports: false,
        mounts: Vec::new(),
        virtiofs: Virtiofs::Unused,
        firmware: None,
        address: None,
        host_key: None,
        ssh_port: Some(20_022),
        made,
        accel: None,
        process: None,
        private_nic: None,
        suspended: None,
        template: None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use goloo_testkit::samples::{name, ready};

    use super::*;

    #[test]
    fn only_a_trusted_record_can_name_a_machine_that_is_not_called_like_its_vm() {
        let folder = tempfile::tempdir().unwrap();
        let record = ready(&name("web"));
        let files = folder_of(folder.path(), &record.id);
        fs::create_dir_all(files.folder()).unwrap();
        sample(&record.id, "web", true).save(&files).unwrap();
        let renamed = record.with_name(&name("shop"));
        let forged = Record { name: name("shop"), ..record.clone() };
        let private = Trust { store_is_private: true, ..Trust::default() };
        let located = |record: &Record, trust: &Trust| locate(folder.path(), record, trust);
        assert_eq!(located(&record, &Trust::default()), MachineLocation::Machine);
        assert_eq!(located(&renamed, &private), MachineLocation::Machine);
        assert_eq!(located(&renamed, &Trust::default()), MachineLocation::OtherVm);
        assert_eq!(located(&forged, &private), MachineLocation::OtherVm);
    }
}
