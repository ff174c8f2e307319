//! Snapshots of instances' disks. Multipass takes and restores them on stopped instances.

use std::process::Stdio;

use async_trait::async_trait;
use goloo_core::provider::{DiskSnapshot, ProviderError, Snapshots};
use goloo_core::record::Record;

use crate::create::{in_trash, state_word};
use crate::errors::{CallError, Refusal};
use crate::json::{self, State};
use crate::power::{VmInstance, missing};
use crate::provider::{MultipassProvider, instance_name};

#[async_trait]
impl Snapshots for MultipassProvider {
    async fn list(&self, record: &Record) -> Result<Vec<DiskSnapshot>, ProviderError> {
        const INFO: &str = "info";
        let name = instance_name(record);
        let mut command = self.cli().command([INFO, name, "--snapshots", "--format", "json"]);
        // Their times are written in the user's locale and zone.
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
        // An empty label would name the instance itself.
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
    /// Refuses what isn't stopped, before Multipass does, with the command that stops it.
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
            State::Suspended => {
                format!(
                    "goloo start {name} and goloo stop {name}; goloo stop --force {name} loses what is in its memory"
                )
            }
            _ => format!("goloo stop {name}"),
        };
        Err(ProviderError::Unsupported {
            what: format!(
                "Multipass {does} stopped instances only, and {} is {}",
                vm.instance,
                state_word(&instance.state)
            ),
            hint,
        })
    }

    /// A restore takes the daemon's table of the instance's mounts for granted, and ends the daemon where there is
    /// none: after a launch that failed and a forced stop, say. Removing mounts that aren't there makes one.
    async fn init_mount_table(&self, instance: &str) -> Result<(), CallError> {
        match self.cli().call("umount", [instance], self.limits().act).await {
            // The restore will tell what is wrong.
            Ok(_) | Err(CallError::Refused { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Labels follow the rule for instances' names; a dot would part them.
fn check(label: &str) -> Result<(), ProviderError> {
    let bytes = label.as_bytes();
    let sound = bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-');
    if sound {
        return Ok(());
    }
    Err(ProviderError::Unsupported {
        what: format!("\"{label}\" can't be a snapshot's label at Multipass"),
        hint: "letters, digits and \"-\", beginning with a letter, ending with a letter or digit".to_owned(),
    })
}
