//! The contents of a store.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, stream};
use goloo_model::record::Record;
use goloo_model::store::{Archived, Broken, Snapshot, Store, StoreError};

/// The suffix of the mark of an unfinished move: the new store may be incomplete.
pub const UNFINISHED: &str = " (unfinished)";

/// An active VM, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vm {
    /// Its record.
    pub record: Record,
    /// The files that it was created from.
    pub snapshot: Snapshot,
}

/// An archived VM, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedVm {
    /// Its record and its id there.
    pub archived: Archived,
    /// The files that it was created from.
    pub snapshot: Snapshot,
}

/// The contents of a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreContents {
    /// The active VMs, sorted by name.
    pub vms: Vec<Vm>,
    /// The archive, newest first.
    pub archive: Vec<ArchivedVm>,
}

impl StoreContents {
    /// All records, active and archived.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.vms.iter().map(|vm| &vm.record).chain(self.archive.iter().map(|gone| &gone.archived.record))
    }

    /// The part that `other` doesn't have, or has with different content.
    pub fn without(&self, other: &Self) -> Self {
        let vms: BTreeMap<_, _> = other.vms.iter().map(|vm| (&vm.record.id, vm)).collect();
        let archive: BTreeMap<_, _> = other.archive.iter().map(|gone| (&gone.archived.id, gone)).collect();
        let new = |vm: &&Vm| vms.get(&vm.record.id) != Some(vm);
        let gone_new = |gone: &&ArchivedVm| archive.get(&gone.archived.id) != Some(gone);
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

/// How many records are read or written concurrently: a remote store has latency for each one.
const AT_ONCE: usize = 32;

/// Runs all futures in order, with limited concurrency. After a failure those in progress are finished and no others
/// are started, so that held locks are released.
pub(super) async fn all<T>(
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

/// Reads all readable records, and returns the broken ones separately, including any record that was recovered from the
/// copy before its last save.
pub async fn read(store: &dyn Store) -> Result<(StoreContents, Vec<Broken>), StoreError> {
    let records = store.records().await?;
    let mut broken = records.broken;
    let recovered = records.entries.iter().filter_map(|loaded| loaded.recovered.clone());
    broken.extend(recovered);
    let vms = all(records.entries.into_iter().map(|loaded| vm(store, loaded.record))).await?;
    // Read after the active VMs, so that it includes a VM that is deleted meanwhile.
    let archive = store.archive_list().await?;
    broken.extend(archive.broken);
    let archive = all(archive.entries.into_iter().map(|archived| gone(store, archived))).await?;
    let mut contents = StoreContents {
        vms: vms.into_iter().flatten().collect(),
        archive: archive.into_iter().flatten().collect(),
    };
    let gone: BTreeSet<_> = contents.archive.iter().map(|gone| &gone.archived.record.id).collect();
    contents.vms.retain(|vm| !gone.contains(&vm.record.id));
    Ok((contents, broken))
}

/// An active VM with its files; `None` when it was deleted meanwhile.
async fn vm(store: &dyn Store, record: Record) -> Result<Option<Vm>, StoreError> {
    match store.snapshot(&record.name).await {
        Ok(snapshot) => Ok(Some(Vm { record, snapshot })),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn gone(store: &dyn Store, archived: Archived) -> Result<Option<ArchivedVm>, StoreError> {
    match store.archive_snapshot(&archived.id).await {
        Ok(snapshot) => Ok(Some(ArchivedVm { archived, snapshot })),
        Err(StoreError::NotArchived { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
