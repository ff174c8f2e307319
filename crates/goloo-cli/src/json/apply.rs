//! Changes of VMs.

use goloo::actions::PlannedApply;
use goloo_engine::{Applied, Replaced};
use goloo_model::change::{Cost, Setting, SettingChange};
use goloo_model::name::{ArchiveId, VmId, VmName};
use goloo_model::record::{Overrides, ProvisioningResult, Record};
use schemars::JsonSchema;
use serde::Serialize;

use super::vm::as_output;

/// What an apply would change.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ApplyPlanned<'a> {
    name: &'a VmName,
    changes: Vec<PlannedChange<'a>>,
    /// Values over those of config.json, by the paths of their keys
    overrides: &'a Overrides,
    /// Whether the machine is provisioned again: all that its documents do is done once more
    reprovision: bool,
    /// Whether the VM would be replaced by a new one
    replaces: bool,
}

/// A difference between a VM and its stack.
#[derive(Debug, Serialize, JsonSchema)]
struct PlannedChange<'a> {
    setting: Setting,
    /// The key in config.json, or the file
    key: &'static str,
    /// What the VM has; of a list, what is removed
    before: Option<&'a str>,
    /// What it is to have; of a list, what is added
    after: Option<&'a str>,
    cost: Cost,
}

impl<'a> ApplyPlanned<'a> {
    pub fn new(planned: &'a PlannedApply) -> Self {
        Self {
            reprovision: planned.reprovisions(),
            ..Self::of(&planned.record().name, &planned.changes, &planned.overrides)
        }
    }

    /// Of changes for which the VM would be replaced.
    pub fn of_replacement(name: &'a VmName, changes: &'a [SettingChange], overrides: &'a Overrides) -> Self {
        Self { replaces: true, ..Self::of(name, changes, overrides) }
    }

    fn of(name: &'a VmName, changes: &'a [SettingChange], overrides: &'a Overrides) -> Self {
        let change = |change: &'a SettingChange| PlannedChange {
            setting: change.setting,
            key: change.setting.key(),
            before: change.before.as_deref(),
            after: change.after.as_deref(),
            cost: change.cost,
        };
        let changes = changes.iter().map(change).collect();
        Self { name, changes, overrides, reprovision: false, replaces: false }
    }
}

/// What an apply has changed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AppliedChanges<'a> {
    /// The record, without private keys
    #[serde(serialize_with = "as_output")]
    vm: &'a Record,
    /// What was changed
    done: &'a [Setting],
    /// What will be so at the machine's next start
    pending: &'a [Setting],
    /// What takes a running machine, a restart or a new VM, and wasn't changed
    left: Vec<Setting>,
    /// The result of provisioning the machine again, if that was done
    reprovisioned: Option<ProvisioningResult>,
    /// The VM that was replaced by this one, if a new one was needed
    replaced: Option<ReplacedVm<'a>>,
}

/// A VM that was replaced.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ReplacedVm<'a> {
    id: &'a VmId,
    /// Its record in the archive; null if an interrupted attempt archived it
    archive_id: Option<&'a ArchiveId>,
}

impl<'a> AppliedChanges<'a> {
    pub fn new(applied: &'a Applied, impossible: &[SettingChange]) -> Self {
        let Applied { record, done, pending, left, verdict } = applied;
        let left = left.iter().copied().chain(impossible.iter().map(|change| change.setting));
        let reprovisioned = verdict.as_ref().map(|verdict| verdict.result);
        Self { vm: record, done, pending, left: left.collect(), reprovisioned, replaced: None }
    }

    /// Of a VM that has replaced another one, with what differs between them.
    pub fn of_replaced(replaced: &'a Replaced, done: &'a [Setting]) -> Self {
        let old = ReplacedVm { id: &replaced.old, archive_id: replaced.archived.as_ref() };
        Self {
            vm: &replaced.record,
            done,
            pending: &[],
            left: Vec::new(),
            reprovisioned: None,
            replaced: Some(old),
        }
    }

    /// Of a VM that was created to replace another one and isn't ready.
    pub fn of_unready(record: &'a Record, left: Vec<Setting>) -> Self {
        Self { vm: record, done: &[], pending: &[], left, reprovisioned: None, replaced: None }
    }
}
