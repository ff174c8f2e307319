//! Finds conflicts between the contents of a store and the records to be written to it.

use std::collections::{BTreeMap, BTreeSet};

use goloo_model::record::{Phase, Record, SCHEMA, to_json};

use super::contents::{ArchivedVm, StoreContents, Vm};
use crate::providers::Providers;

/// A conflict with an existing record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conflict {
    /// The record there is newer; it may be replaced with `--force`.
    Newer {
        /// The VM's name.
        name: String,
        /// The serial of the record there.
        there: u64,
        /// The serial of the record to be written.
        here: u64,
    },
    /// Any other conflict; can't be overridden.
    Other(String),
}

impl Conflict {
    /// Whether it can be overridden.
    pub fn is_newer(&self) -> bool {
        matches!(self, Self::Newer { .. })
    }
}

impl std::fmt::Display for Conflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Newer { name, there, here } => {
                write!(
                    f,
                    "{name} is newer in the target store: its serial is {there}, this record's is {here}"
                )
            }
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// All conflicts of writing `contents` to a store that contains `there`.
pub fn conflicts(contents: &StoreContents, there: &StoreContents) -> Vec<Conflict> {
    let active: BTreeMap<_, _> = there.vms.iter().map(|vm| (&vm.record.name, vm)).collect();
    let by_id: BTreeMap<_, _> = there.vms.iter().map(|vm| (&vm.record.id, vm)).collect();
    let deleted: BTreeMap<_, _> = there.archive.iter().map(|gone| (&gone.archived.record.id, gone)).collect();
    let archive: BTreeMap<_, _> = there.archive.iter().map(|gone| (&gone.archived.id, gone)).collect();
    let gone: BTreeSet<_> = contents.archive.iter().map(|gone| &gone.archived.record.id).collect();
    let mut found = unsound(contents);
    for vm in &contents.vms {
        if let Some(gone) = deleted.get(&vm.record.id) {
            found.push(Conflict::Other(format!(
                "{} was deleted in the target store; its archived record is {}",
                vm.record.name, gone.archived.id
            )));
        } else if let Some(other) =
            active.get(&vm.record.name).filter(|other| !gone.contains(&other.record.id))
        {
            found.extend(of_active(vm, other));
        } else if let Some(other) =
            by_id.get(&vm.record.id).filter(|other| other.record.name != vm.record.name)
        {
            found.push(Conflict::Other(format!(
                "{} is called {} in the target store, where it was renamed",
                vm.record.name, other.record.name
            )));
        }
    }
    for gone in &contents.archive {
        let record = &gone.archived.record;
        let newer =
            by_id.get(&record.id).map(|vm| vm.record.serial).filter(|serial| *serial >= record.serial);
        if let Some(there) = newer {
            found.push(Conflict::Other(format!(
                "{} is active in the target store with serial {there}, but archived in the source with serial {}",
                record.name, record.serial
            )));
        } else if let Some(other) = archive.get(&gone.archived.id) {
            found.extend(of_archived(gone, other));
        }
    }
    found
}

/// Records in `there` that provably belong to VMs of this state folder and would be replaced or archived by unproven
/// ones. Anyone who knows a VM's id can write such a document.
pub fn displaced(
    contents: &StoreContents,
    there: &StoreContents,
    is_proven: impl Fn(&Record) -> bool,
) -> Vec<Conflict> {
    let proven = there.vms.iter().map(|vm| &vm.record).filter(|record| is_proven(record));
    let proven: BTreeSet<_> = proven.map(|record| &record.id).collect();
    let records = contents.records().filter(|record| proven.contains(&record.id) && !is_proven(record));
    let text = |record: &Record| {
        format!(
            "{} was created with this state folder, but the new record of it does not prove that",
            record.name
        )
    };
    records.map(|record| Conflict::Other(text(record))).collect()
}

/// Records that their providers refuse: somebody else may have written them.
pub fn refused_by_providers(contents: &StoreContents, providers: &Providers) -> Vec<Conflict> {
    let refused = |record: &Record| Some(format!("{}: {}", record.name, providers.check(record).err()?));
    contents.records().filter_map(refused).map(Conflict::Other).collect()
}

/// Records that no store could accept: a document may have been edited.
fn unsound(contents: &StoreContents) -> Vec<Conflict> {
    let mut found = Vec::new();
    let (mut names, mut ids) = (BTreeSet::new(), BTreeSet::new());
    let active = contents.vms.iter().map(|vm| (&vm.record, false));
    let all = active.chain(contents.archive.iter().map(|gone| (&gone.archived.record, true)));
    for (record, archived) in all {
        let name = &record.name;
        if record.schema > SCHEMA {
            found.push(format!("{name} was written by a newer goloo (format {})", record.schema));
        }
        if archived != (record.phase == Phase::Destroyed) {
            let place = if archived { "archived" } else { "active" };
            found.push(format!("{name} is {place}, but its phase is {}", record.phase));
        }
        if !archived && !names.insert(name) || !ids.insert(&record.id) {
            found.push(format!("{name} appears twice"));
        }
    }
    found.into_iter().map(Conflict::Other).collect()
}

fn of_active(vm: &Vm, other: &Vm) -> Option<Conflict> {
    let (name, here, there) = (vm.record.name.to_string(), &vm.record, &other.record);
    if here.id != there.id {
        let text = format!(
            "{name} is another VM in the target store (its id is {}, this record's is {})",
            there.id, here.id
        );
        return Some(Conflict::Other(text));
    }
    if there.serial > here.serial {
        return Some(Conflict::Newer { name, there: there.serial, here: here.serial });
    }
    if there.serial == here.serial && there != here {
        return Some(Conflict::Other(format!(
            "{name} has the same serial in the target store, but different content"
        )));
    }
    let text = || format!("the files that {name} was created from are different in the target store");
    (vm.snapshot != other.snapshot).then(|| Conflict::Other(text()))
}

fn of_archived(gone: &ArchivedVm, other: &ArchivedVm) -> Option<Conflict> {
    let (here, there) = (&gone.archived.record, &other.archived.record);
    let id = &gone.archived.id;
    if here.id != there.id || gone.snapshot != other.snapshot {
        return Some(Conflict::Other(format!("{id} is another archived record in the target store")));
    }
    (there.serial > here.serial).then(|| Conflict::Newer {
        name: id.to_string(),
        there: there.serial,
        here: here.serial,
    })
}

/// Records in `there` that `contents` lacks, both by name and as a VM that was deleted since.
pub fn foreign(contents: &StoreContents, there: &StoreContents) -> Vec<String> {
    let gone = contents.archive.iter().map(|gone| &gone.archived.record.id);
    let known: BTreeSet<_> = contents.vms.iter().map(|vm| &vm.record.id).chain(gone).collect();
    there
        .vms
        .iter()
        .filter(|vm| !known.contains(&vm.record.id))
        .map(|vm| vm.record.name.to_string())
        .collect()
}

/// The records of `contents` that `there` lacks or has with different content.
pub fn missing(contents: &StoreContents, there: &StoreContents) -> Vec<String> {
    let same = |vm: &Vm, other: &Vm| vm == other && to_json(&vm.record) == to_json(&other.record);
    let active: BTreeMap<_, _> = there.vms.iter().map(|vm| (&vm.record.name, vm)).collect();
    let archive: BTreeMap<_, _> = there.archive.iter().map(|gone| (&gone.archived.id, gone)).collect();
    let differs = |vm: &&Vm| !active.get(&vm.record.name).is_some_and(|other| same(vm, other));
    let lost = |gone: &&ArchivedVm| archive.get(&gone.archived.id) != Some(gone);
    let mut found: Vec<_> =
        contents.vms.iter().filter(differs).map(|vm| vm.record.name.to_string()).collect();
    found.extend(contents.archive.iter().filter(lost).map(|gone| gone.archived.id.to_string()));
    found
}
