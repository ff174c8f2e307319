//! What stands against writing all that one store holds into another.

use std::collections::{BTreeMap, BTreeSet};

use goloo_core::record::{Phase, SCHEMA, to_json};

use super::{Gone, Vm, Whole};

/// A record that isn't to be written over what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conflict {
    /// The record there is newer; it may be replaced on purpose.
    Newer {
        /// The VM's name.
        name: String,
        /// The serial of the record there.
        there: u64,
        /// The serial of the one that was to be written.
        here: u64,
    },
    /// Anything else: told, never overridden.
    Other(String),
}

impl std::fmt::Display for Conflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Newer { name, there, here } => {
                write!(f, "{name} is newer there: its serial is {there}, this one's {here}")
            }
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// All conflicts of writing `whole` where `there` is.
pub fn conflicts(whole: &Whole, there: &Whole) -> Vec<Conflict> {
    let active: BTreeMap<_, _> = there.vms.iter().map(|vm| (&vm.record.name, vm)).collect();
    let by_id: BTreeMap<_, _> = there.vms.iter().map(|vm| (&vm.record.id, vm)).collect();
    let deleted: BTreeMap<_, _> = there.archive.iter().map(|gone| (&gone.archived.record.id, gone)).collect();
    let archive: BTreeMap<_, _> = there.archive.iter().map(|gone| (&gone.archived.id, gone)).collect();
    let gone: BTreeSet<_> = whole.archive.iter().map(|gone| &gone.archived.record.id).collect();
    let mut found = unsound(whole);
    for vm in &whole.vms {
        if let Some(gone) = deleted.get(&vm.record.id) {
            found.push(Conflict::Other(format!(
                "{} was deleted there; its record is in the archive as {}",
                vm.record.name, gone.archived.id
            )));
        } else if let Some(other) =
            active.get(&vm.record.name).filter(|other| !gone.contains(&other.record.id))
        {
            found.extend(of_active(vm, other));
        }
    }
    for gone in &whole.archive {
        let record = &gone.archived.record;
        let newer =
            by_id.get(&record.id).map(|vm| vm.record.serial).filter(|serial| *serial >= record.serial);
        if let Some(there) = newer {
            found.push(Conflict::Other(format!(
                "{} is active there with serial {there}, and archived here with serial {}",
                record.name, record.serial
            )));
        } else if let Some(other) = archive.get(&gone.archived.id) {
            found.extend(of_archived(gone, other));
        }
    }
    found
}

/// What no store could take, whatever is there: a document may have been edited.
fn unsound(whole: &Whole) -> Vec<Conflict> {
    let mut found = Vec::new();
    let (mut names, mut ids) = (BTreeSet::new(), BTreeSet::new());
    let active = whole.vms.iter().map(|vm| (&vm.record, false));
    let all = active.chain(whole.archive.iter().map(|gone| (&gone.archived.record, true)));
    for (record, archived) in all {
        let name = &record.name;
        if record.schema > SCHEMA {
            found.push(format!("{name} was written by a newer goloo (format {})", record.schema));
        }
        if archived != (record.phase == Phase::Destroyed) {
            let place = if archived { "archived" } else { "active" };
            found.push(format!("{name} is {place} and its phase is {}", record.phase));
        }
        if !archived && !names.insert(name) || !ids.insert(&record.id) {
            found.push(format!("{name} is there twice"));
        }
    }
    found.into_iter().map(Conflict::Other).collect()
}

fn of_active(vm: &Vm, other: &Vm) -> Option<Conflict> {
    let (name, here, there) = (vm.record.name.to_string(), &vm.record, &other.record);
    if here.id != there.id {
        let text = format!("{name} is another VM there (its id is {}, this one's {})", there.id, here.id);
        return Some(Conflict::Other(text));
    }
    if there.serial > here.serial {
        return Some(Conflict::Newer { name, there: there.serial, here: here.serial });
    }
    if there.serial == here.serial && there != here {
        return Some(Conflict::Other(format!("{name} has the same serial there and another content")));
    }
    let text = || format!("the files that {name} was made from are others there");
    (vm.snapshot != other.snapshot).then(|| Conflict::Other(text()))
}

fn of_archived(gone: &Gone, other: &Gone) -> Option<Conflict> {
    let (here, there) = (&gone.archived.record, &other.archived.record);
    let id = &gone.archived.id;
    if here.id != there.id || gone.snapshot != other.snapshot {
        return Some(Conflict::Other(format!("{id} in the archive is another record there")));
    }
    (there.serial > here.serial).then(|| Conflict::Newer {
        name: id.to_string(),
        there: there.serial,
        here: here.serial,
    })
}

/// What is there and not in `whole`, neither under its name nor as a VM that was deleted since.
pub fn foreign(whole: &Whole, there: &Whole) -> Vec<String> {
    let gone = whole.archive.iter().map(|gone| &gone.archived.record.id);
    let known: BTreeSet<_> = whole.vms.iter().map(|vm| &vm.record.id).chain(gone).collect();
    there
        .vms
        .iter()
        .filter(|vm| !known.contains(&vm.record.id))
        .map(|vm| vm.record.name.to_string())
        .collect()
}

/// What `there` lacks of `whole`, or holds otherwise.
pub fn missing(whole: &Whole, there: &Whole) -> Vec<String> {
    let same = |vm: &Vm, other: &Vm| vm == other && to_json(&vm.record) == to_json(&other.record);
    let active: BTreeMap<_, _> = there.vms.iter().map(|vm| (&vm.record.name, vm)).collect();
    let archive: BTreeMap<_, _> = there.archive.iter().map(|gone| (&gone.archived.id, gone)).collect();
    let differs = |vm: &&Vm| !active.get(&vm.record.name).is_some_and(|other| same(vm, other));
    let lost = |gone: &&Gone| archive.get(&gone.archived.id) != Some(gone);
    let mut found: Vec<_> = whole.vms.iter().filter(differs).map(|vm| vm.record.name.to_string()).collect();
    found.extend(whole.archive.iter().filter(lost).map(|gone| gone.archived.id.to_string()));
    found
}
