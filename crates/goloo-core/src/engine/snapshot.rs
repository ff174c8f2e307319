//! Snapshots of a VM's disk. The provider alone knows them; the VM's lock keeps others off the machine
//! while one is taken.

use super::{Engine, EngineError};
use crate::name::{SnapshotLabel, VmName};
use crate::provider::{DiskSnapshot, ProviderError, Snapshots};
use crate::record::Record;
use crate::store::StoreError;

impl<'a> Engine<'a> {
    /// All snapshots of a VM, oldest first.
    pub async fn snapshots(&self, name: &VmName) -> Result<Vec<DiskSnapshot>, EngineError> {
        let loaded = self.store.load(name).await?;
        let record = loaded.ok_or_else(|| StoreError::NotFound { name: name.clone() })?.record;
        super::refuse_elsewhere(&record, self.here)?;
        self.disk()?.list(&record).await.map_err(EngineError::Unrecorded)
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

    /// Puts a stopped VM's disk back as it was.
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
        let disk = self.disk()?;
        let under_way = self.take(name).await?;
        super::refuse_unfinished(&under_way.record)?;
        act(disk, &under_way.record).await
    }

    fn disk(&self) -> Result<&'a dyn Snapshots, EngineError> {
        self.provider.snapshots().ok_or_else(|| {
            let kind = self.provider.kind();
            EngineError::Unrecorded(ProviderError::Unsupported {
                what: format!("{kind} can't take snapshots of its machines"),
                hint: "copy what you need with goloo cp".to_owned(),
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
