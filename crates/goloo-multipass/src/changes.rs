//! Changes of instances: `multipass set` while they are stopped, and `mount` and `umount` at any time.

use async_trait::async_trait;
use goloo_model::change::Setting;
use goloo_model::hint::NextStep;
use goloo_model::provider::{ChangeTime, Changes, Endpoints, MachineChange, ProviderError, Work};
use goloo_model::record::{Record, RecordedStack};
use goloo_model::spec::{Mount, Size};

use crate::context::MultipassProvider;
use crate::json::{Instance, State};
use crate::plan;
use crate::power::missing;
use crate::vm_instance::VmInstance;

#[async_trait]
impl Changes for MultipassProvider {
    async fn change(
        &self,
        record: &Record,
        change: MachineChange<'_>,
        work: &mut dyn Work,
    ) -> Result<Endpoints, ProviderError> {
        let vm = &VmInstance::of(record);
        let instance = self.info(vm.instance).await?.ok_or_else(|| missing(vm))?;
        match change.time {
            ChangeTime::Now if change.has(Setting::Mounts) => {
                let had = record.resolved.as_deref();
                self.change_mounts(&instance, had, change.target, work).await?;
            }
            ChangeTime::Now => {}
            ChangeTime::NextStart => self.set(vm, &instance, change, work).await?,
        }
        Ok(Endpoints::of(record))
    }
}

impl MultipassProvider {
    /// Unmounts what the stack no longer has, and mounts the rest. What a person mounted beside it stays.
    async fn change_mounts(
        &self,
        instance: &Instance,
        had: Option<&RecordedStack>,
        target: &RecordedStack,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        let wanted = target.shared_folders()?;
        plan::check_mounts(&wanted)?;
        let had = had.map(RecordedStack::shared_folders).transpose()?.unwrap_or_default();
        for mount in had.iter().filter(|mount| !wanted.contains(mount)) {
            if instance.mounted.contains(&mount.target) {
                work.step(&format!("unmounting {}", mount.target));
                let place = format!("{}:{}", instance.name, mount.target);
                self.cli().call("umount", [place.as_str()], self.limits().copy).await?;
            }
        }
        let is_kept = |mount: &Mount| had.contains(mount) && instance.mounted.contains(&mount.target);
        for mount in wanted.iter().filter(|mount| !is_kept(mount)) {
            self.mount(&instance.name, mount, work).await?;
        }
        Ok(())
    }

    async fn set(
        &self,
        vm: &VmInstance<'_>,
        instance: &Instance,
        change: MachineChange<'_>,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        if instance.state != State::Stopped {
            return Err(ProviderError::Unsupported {
                what: format!("Multipass changes only stopped instances, and {} isn't", vm.instance),
                hint: NextStep::stop(vm.name).into(),
            });
        }
        let target = change.target;
        let size = |bytes| plan::size(Size::bytes(bytes));
        for (setting, key, value) in [
            (Setting::Cpus, "cpus", target.cpus.to_string()),
            (Setting::Memory, "memory", size(target.memory)),
            (Setting::Disk, "disk", size(target.disk)),
        ] {
            if change.has(setting) {
                work.step(&format!("changing {}", setting.key()));
                let assignment = format!("local.{}.{key}={value}", vm.instance);
                self.cli().call("set", [assignment.as_str()], self.limits().act).await?;
            }
        }
        Ok(())
    }
}
