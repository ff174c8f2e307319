//! Snapshots of instances' disks. Multipass requires a stopped instance to take and restore them.

use std::process::Stdio;

use async_trait::async_trait;
use goloo_model::hint::NextStep;
use goloo_model::provider::{DiskSnapshot, ProviderError, Snapshots};
use goloo_model::record::Record;

use crate::context::{MultipassProvider, instance_name};
use crate::create::{in_trash, state_word};
use crate::errors::{CallError, Refusal};
use crate::json::{self, State};
use crate::power::missing;
use crate::vm_instance::VmInstance;

#[async_trait]
impl Snapshots for MultipassProvider {
    async fn list(&self, record: &Record) -> Result<Vec<DiskSnapshot>, ProviderError> {
        const INFO: &str = "info";
        let name = instance_name(record);
        let mut command = self.cli().command([INFO, name, "--snapshots", "--format", "json"]);
        // Times are printed in the user's locale and time zone.
        command.env("LC_ALL", "C").env("TZ", "UTC").stdin(Stdio::null());
        let said = self.cli().finish(INFO, &mut command, self.limits().answer).await?;
        let bytes = match said.success(INFO) {
            Err(error) if error.refusal() == Some(&Refusal::Missing) => {
                return Err(missing(&VmInstance::of(record)));
            }
            bytes => bytes?,
        };
        let all = json::snapshots(&bytes, name);
        Ok(all.map_err(|source| CallError::Unreadable { command: INFO, source })?)
    }

    async fn take(&self, record: &Record, label: &str) -> Result<(), ProviderError> {
        check(label)?;
        self.expect_ours(record).await?;
        let vm = VmInstance::of(record);
        self.stopped(&vm, "takes snapshots of").await?;
        self.cli().call("snapshot", [vm.instance, "--name", label], self.limits().copy).await?;
        Ok(())
    }

    async fn restore(&self, record: &Record, label: &str) -> Result<(), ProviderError> {
        check(label)?;
        self.expect_ours(record).await?;
        let vm = VmInstance::of(record);
        self.wait_for_launch_end(&vm, None).await?;
        let instance = self.stopped(&vm, "restores").await?;
        if instance.mounted.is_empty() {
            self.init_mount_table(vm.instance).await?;
        }
        let snapshot = format!("{}.{label}", vm.instance);
        self.cli().call("restore", ["--destructive", &snapshot], self.limits().copy).await?;
        Ok(())
    }

    async fn remove(&self, record: &Record, label: &str) -> Result<(), ProviderError> {
        // An empty label would refer to the instance itself.
        check(label)?;
        self.expect_ours(record).await?;
        if !Snapshots::list(self, record).await?.iter().any(|known| known.label == label) {
            return Ok(());
        }
        let snapshot = format!("{}.{label}", instance_name(record));
        self.cli().call("delete", ["--purge", &snapshot], self.limits().copy).await?;
        Ok(())
    }
}

impl MultipassProvider {
    /// Refuses an instance that isn't stopped before Multipass does, with a hint to stop it.
    pub(crate) async fn stopped(
        &self,
        vm: &VmInstance<'_>,
        does: &str,
    ) -> Result<json::Instance, ProviderError> {
        let instance = self.info(vm.instance).await?.ok_or_else(|| missing(vm))?;
        let name = vm.name;
        let hint = match &instance.state {
            State::Stopped => return Ok(instance),
            State::Deleted => return Err(in_trash(vm.instance, "the same command again")),
            State::Suspended => NextStep::Start(name.clone())
                .text(", then ")
                .step(NextStep::stop(name))
                .text("; ")
                .step(NextStep::force_stop(name))
                .text(" discards its memory"),
            _ => NextStep::stop(name).into(),
        };
        Err(ProviderError::Unsupported {
            what: format!(
                "Multipass only {does} stopped instances, and {} is {}",
                vm.instance,
                state_word(&instance.state)
            ),
            hint,
        })
    }

    /// A restore requires the daemon to have a mount table for the instance, and crashes the daemon otherwise: for
    /// example after a failed launch and a forced stop. Removing nonexistent mounts creates one.
    async fn init_mount_table(&self, instance: &str) -> Result<(), CallError> {
        match self.cli().call("umount", [instance], self.limits().act).await {
            // The restore will report what is wrong.
            Ok(_) | Err(CallError::Refused { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Labels follow the same rule as instance names; a dot would separate them.
fn check(label: &str) -> Result<(), ProviderError> {
    let bytes = label.as_bytes();
    let sound = bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-');
    if sound {
        return Ok(());
    }
    Err(ProviderError::Unsupported {
        what: format!("\"{label}\" is not a valid snapshot label for Multipass"),
        hint: "use letters, digits and \"-\"; begin with a letter, and end with a letter or digit".into(),
    })
}
