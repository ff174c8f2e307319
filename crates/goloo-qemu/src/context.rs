//! The provider's value: its settings, and what all operations derive from them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use goloo_images::Arch;
use goloo_model::provider::ProviderError;
use goloo_model::record::Record;

use crate::accel::Accel;
use crate::args::{self, Files, Start};
use crate::machine::{self, MachineFile};
use crate::ports::Listener;
use crate::settings::Settings;
use crate::virtiofs::Virtiofs;

/// QEMU on this machine. Its futures need a tokio runtime with I/O and time enabled.
#[derive(Debug)]
pub struct QemuProvider {
    pub(crate) settings: Settings,
}

impl QemuProvider {
    /// A provider; nothing is checked yet.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    pub(crate) fn qemu_img(&self) -> &Path {
        self.settings.cache.qemu_img()
    }

    pub(crate) fn files(&self, record: &Record) -> Files {
        machine::folder_of(&self.settings.vms, &record.id)
    }

    pub(crate) fn program(&self) -> Result<PathBuf, ProviderError> {
        let arch = Arch::host();
        let name = self.settings.qemu.clone().unwrap_or_else(|| format!("qemu-system-{arch}").into());
        goloo_command::find_program(&name).ok_or_else(|| ProviderError::Unavailable {
            what: format!("{} isn't installed", name.to_string_lossy()),
            hint: match arch {
                _ if cfg!(target_os = "macos") => "brew install qemu",
                Arch::X86_64 => "sudo apt-get install --no-install-recommends qemu-system-x86 qemu-utils",
                Arch::Aarch64 => {
                    "sudo apt-get install --no-install-recommends qemu-system-arm qemu-efi-aarch64 qemu-utils"
                }
            }
            .into(),
        })
    }

    pub(crate) fn supervisor(&self) -> Result<PathBuf, ProviderError> {
        self.settings.supervisor.clone().ok_or_else(|| {
            ProviderError::failed(
                "the path of the goloo executable can't be determined",
                "run goloo by its full path",
            )
        })
    }

    pub(crate) fn argv(
        &self,
        machine: &MachineFile,
        files: &Files,
        accel: Accel,
        sandbox: bool,
        ssh_port: u16,
    ) -> Vec<OsString> {
        let slots = machine.private_slots();
        args::argv(&Start {
            name: &machine.name,
            arch: machine.arch,
            accel,
            sandbox,
            cpus: machine.cpus,
            memory_mib: machine.memory_mib,
            any_cpu: machine.any_cpu,
            ssh: Listener::tcp(machine.address(), ssh_port),
            ports: if machine.template.is_some() { &[] } else { &machine.ports },
            mounts: &machine.mounts,
            virtiofs: machine.virtiofs == Virtiofs::Used,
            firmware: machine.firmware.as_deref(),
            private_port: slots.port,
            private_nic: machine.private_nic.as_ref().filter(|_| slots.nic),
            files,
            saved_as: machine.suspended.as_ref().map(|suspended| suspended.machine_type.as_str()),
        })
    }
}
