//! Snapshots of a VM's disk. Only the provider stores them; the VM's lock prevents other operations on the machine
//! meanwhile.

use crate::engine::Engine;
use crate::error::EngineError;
use goloo_model::hint::{Hint, NextStep};
use goloo_model::name::{SnapshotLabel, VmName};
use goloo_model::provider::{DiskSnapshot, ProviderError, Snapshots};
use goloo_model::record::Record;
use goloo_model::store::StoreError;

impl<'a> Engine<'a> {
    /// All snapshots of a VM, oldest first.
    pub async fn snapshots(&self, name: &VmName) -> Result<Vec<DiskSnapshot>, EngineError> {
        let loaded = self.store.load(name).await?;
        let record = loaded.ok_or_else(|| StoreError::NotFound { name: name.clone() })?.record;
        crate::engine::refuse_elsewhere(&record, self.here)?;
        self.disk(name)?.list(&record).await.map_err(EngineError::Unrecorded)
    }

    /// Takes a snapshot of a stopped VM.
    pub async fn take_snapshot(&self, name: &VmName, label: &SnapshotLabel) -> Result<(), EngineError> {
        self.with_disk(name, async |disk, record| {
            if is_there(disk, record, label).await? {
                return Err(EngineError::Snapshot { name: name.clone(), label: label.clone(), taken: true });
            }
            disk.take(record, label.as_str()).await.map_err(EngineError::Unrecorded)
        })
        .await
    }

    /// Restores a stopped VM's disk from a snapshot.
    pub async fn restore_snapshot(&self, name: &VmName, label: &SnapshotLabel) -> Result<(), EngineError> {
        self.with_disk(name, async |disk, record| {
            expect(disk, record, label).await?;
            disk.restore(record, label.as_str()).await.map_err(EngineError::Unrecorded)
        })
        .await
    }

    /// Removes a snapshot.
    pub async fn remove_snapshot(&self, name: &VmName, label: &SnapshotLabel) -> Result<(), EngineError> {
        self.with_disk(name, async |disk, record| {
            expect(disk, record, label).await?;
            disk.remove(record, label.as_str()).await.map_err(EngineError::Unrecorded)
        })
        .await
    }

    async fn with_disk(
        &self,
        name: &VmName,
        act: impl AsyncFnOnce(&dyn Snapshots, &Record) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let disk = self.disk(name)?;
        let locked = self.take(name).await?;
        crate::engine::refuse_unfinished(&locked.record)?;
        act(disk, &locked.record).await
    }

    fn disk(&self, name: &VmName) -> Result<&'a dyn Snapshots, EngineError> {
        self.provider.snapshots().ok_or_else(|| {
            let kind = self.provider.id();
            EngineError::Unrecorded(ProviderError::Unsupported {
                what: format!("{kind} doesn't support snapshots"),
                hint: Hint::from("copy what you need: ").step(NextStep::CopyFrom(name.clone())),
            })
        })
    }
}

async fn is_there(disk: &dyn Snapshots, record: &Record, label: &SnapshotLabel) -> Result<bool, EngineError> {
    let all = disk.list(record).await.map_err(EngineError::Unrecorded)?;
    Ok(all.iter().any(|snapshot| snapshot.label == label.as_str()))
}

async fn expect(disk: &dyn Snapshots, record: &Record, label: &SnapshotLabel) -> Result<(), EngineError> {
    if is_there(disk, record, label).await? {
        return Ok(());
    }
    Err(EngineError::Snapshot { name: record.name.clone(), label: label.clone(), taken: false })
}
