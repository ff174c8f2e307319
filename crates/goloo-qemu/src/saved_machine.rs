//! What a saved memory is of: only a machine of the same kind can load it, in the same QEMU.

use std::path::Path;

use goloo_images::Arch;
use goloo_model::access::PublicHostKey;
use goloo_model::name::{VmId, VmName};
use goloo_model::provider::{ProviderError, Template};
use goloo_model::spec::{ImageRef, ResolvedStack, Size};
use serde::{Deserialize, Serialize};

use crate::accel::{self, Accel, ProbeCache};
use crate::context::QemuProvider;
use crate::machine::MachineFile;

/// A machine whose memory is kept in the image cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SavedMachine {
    pub(crate) kind: MachineKind,
    /// QEMU's full name of its type, such as `pc-q35-7.2`.
    pub(crate) machine_type: String,
    pub(crate) template: TemplateFile,
}

/// All that decides whether a memory can be loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MachineKind {
    qemu: String,
    accel: Accel,
    /// With hardware acceleration the guest sees this computer's processor.
    processor: Option<String>,
    any_cpu: bool,
    cpus: u32,
    memory_mib: u64,
    /// Who can log in to it before it has its own identity.
    client_key: Option<String>,
}

/// [`Template`] in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TemplateFile {
    id: VmId,
    name: VmName,
    host_key: PublicHostKey,
}

impl From<Template> for TemplateFile {
    fn from(Template { id, name, host_key }: Template) -> Self {
        Self { id, name, host_key }
    }
}

impl From<TemplateFile> for Template {
    fn from(TemplateFile { id, name, host_key }: TemplateFile) -> Self {
        Self { id, name, host_key }
    }
}

impl MachineKind {
    pub(crate) fn accel(&self) -> Accel {
        self.accel
    }

    /// Why a machine of another kind can't load the memory of this one.
    fn mismatch(&self, other: &Self) -> Option<String> {
        let size = |kind: &Self| {
            let cpus = if kind.cpus == 1 { "1 CPU".to_owned() } else { format!("{} CPUs", kind.cpus) };
            format!("{cpus} and {} of memory", Size::bytes(kind.memory_mib << 20))
        };
        if (self.cpus, self.memory_mib) != (other.cpus, other.memory_mib) {
            return Some(format!("it is of a machine with {}, not {}", size(self), size(other)));
        }
        if self.accel != other.accel {
            return Some(format!("it is of a machine that ran with {}, not {}", self.accel, other.accel));
        }
        if self.client_key != other.client_key {
            return Some("it was saved by a goloo with another client key".to_owned());
        }
        if self.qemu != other.qemu {
            return Some("QEMU was replaced since it was saved".to_owned());
        }
        (self != other).then(|| "it was saved on another processor".to_owned())
    }
}

impl QemuProvider {
    /// Of a machine that has run.
    pub(crate) fn kind_of(&self, machine: &MachineFile) -> Result<MachineKind, ProviderError> {
        let accel = machine.accel.unwrap_or(Accel::Tcg);
        Ok(self.kind(&self.program()?, accel, machine.any_cpu, machine.cpus, machine.memory_mib))
    }

    fn kind(&self, qemu: &Path, accel: Accel, any_cpu: bool, cpus: u32, memory_mib: u64) -> MachineKind {
        MachineKind {
            qemu: accel::identity(qemu),
            accel,
            processor: (accel != Accel::Tcg).then(processor),
            any_cpu,
            cpus,
            memory_mib,
            client_key: self.settings.client_key.clone(),
        }
    }

    /// Why a machine of this stack can't load a saved memory; `None` if it can.
    pub(crate) fn memory_mismatch(
        &self,
        saved: &SavedMachine,
        stack: &ResolvedStack,
    ) -> Result<Option<String>, ProviderError> {
        if !stack.mounts.is_empty() {
            return Ok(Some("the VM has folders of this computer mounted (vm.mounts)".to_owned()));
        }
        let program = self.program()?;
        let choice = ProbeCache::new(self.settings.memory.clone(), &program)
            .choose(self.settings.accel, (self.settings.offered)(Arch::host()));
        let any_cpu = matches!(stack.image, ImageRef::Alias(_));
        let wanted = self.kind(&program, choice.accel(), any_cpu, stack.cpus, stack.memory.as_mib());
        Ok(saved.kind.mismatch(&wanted))
    }
}

/// The model of this computer's processor, and what it can do.
fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let first = info.split("\n\n").next().unwrap_or_default();
    let lines = first.lines().filter(|line| line.starts_with("model name") || line.starts_with("flags"));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_fits_a_machine_of_the_same_kind_only() {
        let kind = || MachineKind {
            qemu: "qemu".to_owned(),
            accel: Accel::Kvm,
            processor: Some("this one".to_owned()),
            any_cpu: true,
            cpus: 2,
            memory_mib: 1024,
            client_key: Some("key".to_owned()),
        };
        assert_eq!(kind().mismatch(&kind()), None);
        for (other, reason) in [
            (
                MachineKind { cpus: 1, ..kind() },
                "it is of a machine with 2 CPUs and 1G of memory, not 1 CPU and 1G of memory",
            ),
            (
                MachineKind { memory_mib: 1536, ..kind() },
                "it is of a machine with 2 CPUs and 1G of memory, not 2 CPUs and 1536M of memory",
            ),
            (MachineKind { accel: Accel::Tcg, ..kind() }, "it is of a machine that ran with kvm, not tcg"),
            (MachineKind { client_key: None, ..kind() }, "it was saved by a goloo with another client key"),
            (MachineKind { qemu: "another".to_owned(), ..kind() }, "QEMU was replaced since it was saved"),
            (
                MachineKind { processor: Some("another".to_owned()), ..kind() },
                "it was saved on another processor",
            ),
            (MachineKind { any_cpu: false, ..kind() }, "it was saved on another processor"),
        ] {
            assert_eq!(kind().mismatch(&other).as_deref(), Some(reason));
        }
    }
}
