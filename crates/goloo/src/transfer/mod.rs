//! All that a store holds, on its way into another one: by `state move`, as one document, or as a backup.

pub mod bundle;
mod compare;
pub mod document;
mod write;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, stream};
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
    /// All records, active and archived.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.vms.iter().map(|vm| &vm.record).chain(self.archive.iter().map(|gone| &gone.archived.record))
    }

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

/// How many records are read or written at once: a store in the network answers each only after a while.
const AT_ONCE: usize = 32;

/// Does all of it, in its order, many at once. After a failure what is under way comes to its end and nothing else
/// is begun: a lock that is held then is given back.
async fn all<T>(
    work: impl Iterator<Item = impl Future<Output = Result<T, StoreError>>>,
) -> Result<Vec<T>, StoreError> {
    let failed = Cell::new(false);
    let failed = &failed;
    let jobs = work.map(|job| async move {
        if failed.get() {
            return None;
        }
        let done = job.await;
        failed.set(failed.get() || done.is_err());
        Some(done)
    });
    let done: Vec<_> = stream::iter(jobs).buffered(AT_ONCE).collect().await;
    done.into_iter().flatten().collect()
}

/// Reads all that can be read, and says what can't: also of a record that was taken from the copy before
/// its last save.
pub async fn read(store: &dyn Store) -> Result<(Whole, Vec<Broken>), StoreError> {
    let records = store.records().await?;
    let mut broken = records.broken;
    let recovered = records.entries.iter().filter_map(|loaded| loaded.recovered.clone());
    broken.extend(recovered);
    let vms = all(records.entries.into_iter().map(|loaded| vm(store, loaded.record))).await?;
    // After the active ones: who was deleted meanwhile is in it.
    let archive = store.archive_list().await?;
    broken.extend(archive.broken);
    let archive = all(archive.entries.into_iter().map(|archived| gone(store, archived))).await?;
    let mut whole =
        Whole { vms: vms.into_iter().flatten().collect(), archive: archive.into_iter().flatten().collect() };
    let gone: BTreeSet<_> = whole.archive.iter().map(|gone| &gone.archived.record.id).collect();
    whole.vms.retain(|vm| !gone.contains(&vm.record.id));
    Ok((whole, broken))
}

/// An active VM with its files; nothing when it was deleted just now.
async fn vm(store: &dyn Store, record: Record) -> Result<Option<Vm>, StoreError> {
    match store.snapshot(&record.name).await {
        Ok(snapshot) => Ok(Some(Vm { record, snapshot })),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn gone(store: &dyn Store, archived: Archived) -> Result<Option<Gone>, StoreError> {
    match store.archive_snapshot(&archived.id).await {
        Ok(snapshot) => Ok(Some(Gone { archived, snapshot })),
        Err(StoreError::NotArchived { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
