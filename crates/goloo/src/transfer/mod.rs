//! All that a store holds, on its way into another one: by `state move`, as one document, or as a backup.

pub mod bundle;
mod compare;
pub mod document;
mod write;

use std::collections::{BTreeMap, BTreeSet};

use goloo_core::record::Record;
use goloo_core::store::{Archived, Broken, Snapshot, Store, StoreError};

pub use compare::{Conflict, conflicts, foreign, missing};
pub use write::{overwrite, write};

/// Ends the mark of a store whose move isn't finished: the new one may lack something.
pub const UNFINISHED: &str = " (unfinished)";

/// An active VM, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vm {
    /// Its record.
    pub record: Record,
    /// What it was made from.
    pub snapshot: Snapshot,
}

/// A VM in the archive, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// Its record and its id there.
    pub archived: Archived,
    /// What it was made from.
    pub snapshot: Snapshot,
}

/// All that a store holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Whole {
    /// The active VMs, sorted by name.
    pub vms: Vec<Vm>,
    /// The archive, newest first.
    pub archive: Vec<Gone>,
}

impl Whole {
    /// What isn't in `other` just as it is here.
    pub fn without(&self, other: &Self) -> Self {
        let vms: BTreeMap<_, _> = other.vms.iter().map(|vm| (&vm.record.id, vm)).collect();
        let archive: BTreeMap<_, _> = other.archive.iter().map(|gone| (&gone.archived.id, gone)).collect();
        let new = |vm: &&Vm| vms.get(&vm.record.id) != Some(vm);
        let gone_new = |gone: &&Gone| archive.get(&gone.archived.id) != Some(gone);
        Self {
            vms: self.vms.iter().filter(new).cloned().collect(),
            archive: self.archive.iter().filter(gone_new).cloned().collect(),
        }
    }

    /// `3 VMs and 12 archived records`.
    pub fn count(&self) -> String {
        let count = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
        format!("{} and {}", count(self.vms.len(), "VM"), count(self.archive.len(), "archived record"))
    }
}

/// Reads all that can be read, and says what can't: also of a record that was taken from the copy before
/// its last save.
pub async fn read(store: &dyn Store) -> Result<(Whole, Vec<Broken>), StoreError> {
    let records = store.records().await?;
    let (mut whole, mut broken) = (Whole::default(), records.broken);
    for loaded in records.entries {
        broken.extend(loaded.recovered);
        match store.snapshot(&loaded.record.name).await {
            Ok(snapshot) => whole.vms.push(Vm { record: loaded.record, snapshot }),
            // Deleted just now: it is in the archive, which is looked at next.
            Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let archive = store.archive_list().await?;
    broken.extend(archive.broken);
    for archived in archive.entries {
        match store.archive_snapshot(&archived.id).await {
            Ok(snapshot) => whole.archive.push(Gone { archived, snapshot }),
            Err(StoreError::NotArchived { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let gone: BTreeSet<_> = whole.archive.iter().map(|gone| &gone.archived.record.id).collect();
    whole.vms.retain(|vm| !gone.contains(&vm.record.id));
    Ok((whole, broken))
}
