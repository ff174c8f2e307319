//! Import: claims the name, builds the machine from a file, saves the result.

use std::collections::BTreeMap;

use goloo_model::hint::Hint;
use goloo_model::name::{VmId, VmName};
use goloo_model::provider::{Exports, ImportSource, ProviderError};
use goloo_model::record::{
    Creator, ExportOrigin, Extra, ImportInputs, NewRecord, Operation, OperationKind, Origin, OriginKind,
    Outcome, Phase, Record, RecordedStack, SshAccess,
};
use goloo_model::store::Snapshot;
use goloo_model::text::SourcePath;

use crate::create::taken;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::machine_name::free_machine_name;
use crate::rebuild::{RebuildError, Reopen};
use crate::work::{LockedOperation, leaves_work};

/// What is imported. Somebody else may have written all but the name, the file's path and the creator.
pub struct ImportRequest {
    /// The name of the new VM.
    pub name: VmName,
    /// The record of the VM that was exported.
    pub exported: Record,
    /// When it was exported, and by whom.
    pub export: ExportOrigin,
    /// The files that it was created from.
    pub snapshot: Snapshot,
    /// Its machine, which the provider has checked.
    pub source: ImportSource,
    /// The size of its disk, in bytes.
    pub disk: u64,
    /// The file, as the record can have it.
    pub file: SourcePath,
    /// The user who imports it.
    pub created_by: Creator,
}

impl<'a> Engine<'a> {
    /// Creates a stopped VM from an export. The name is claimed before the provider is called.
    pub async fn import(&self, request: ImportRequest) -> Result<Record, EngineError> {
        self.imports(&request.name)?;
        let mut lock = self.store.lock(&request.name, self.owner).await?;
        if let Some(other) = crate::engine::record_under(&mut *lock).await? {
            return Err(taken(&other));
        }
        let mut record = self.imported_record(&request);
        record.set_machine_name(free_machine_name(self.store, &request.name, &record.id).await?);
        // The machine will be from this state folder, but its files are somebody else's: they aren't trusted.
        record.prove(self.here, Snapshot::default().digest());
        self.ready(&mut record, true, &*lock);
        lock.create(&mut record, &request.snapshot).await?;
        LockedOperation::new(self, lock, record, true).build_from(&request.source).await
    }

    fn imports(&self, name: &VmName) -> Result<&'a dyn Exports, EngineError> {
        self.provider.exports().ok_or_else(|| EngineError::Provider {
            name: name.clone(),
            kind: OperationKind::Import,
            source: ProviderError::Unsupported {
                what: format!("{} doesn't support imports", self.provider.id()),
                hint: Hint::from("import it with the provider that it was exported from"),
            },
        })
    }

    /// Of the exported record only what describes the machine: nothing that names a folder, a user's keys or another
    /// host, and nothing that would make goloo do something by itself.
    fn imported_record(&self, request: &ImportRequest) -> Record {
        let exported = &request.exported;
        let inputs = ImportInputs { file: request.file.clone(), sha256: request.source.disk.sha256.clone() };
        let operation = Operation { import: Some(inputs), ..self.operation(OperationKind::Import) };
        let mut record = Record::new(NewRecord {
            id: VmId::generate(),
            name: request.name.clone(),
            stack: exported.stack.clone(),
            provider: self.provider.id(),
            host_bound: self.provider.info().is_host_bound(),
            phase: Phase::Creating,
            created_by: request.created_by.clone(),
        });
        record.origin = Some(Origin {
            how: OriginKind::Imported,
            from: exported.name.as_str().into(),
            checked: true,
            export: Some(request.export.clone()),
            extra: Extra::new(),
        });
        record.tags.clone_from(&exported.tags);
        record.ssh = exported.ssh.clone().map(|ssh| SshAccess { extra: Extra::new(), ..ssh });
        record.provisioning.clone_from(&exported.provisioning);
        record.resolved =
            exported.resolved.as_deref().map(|stack| Box::new(without_other_computer(stack, request.disk)));
        record.begin(operation);
        record
    }
}

/// The stack on this computer: without folders and addresses of the other one.
fn without_other_computer(stack: &RecordedStack, disk: u64) -> RecordedStack {
    let (mounts, sections, extra) = (Vec::new(), BTreeMap::new(), Extra::new());
    let mut stack = RecordedStack { disk, mounts, sections, extra, ..stack.clone() };
    stack.ports.iter_mut().for_each(|port| port.bind = None);
    stack
}

impl LockedOperation<'_, '_> {
    /// From the durable intent to the durable result.
    async fn build_from(&mut self, source: &ImportSource) -> Result<Record, EngineError> {
        self.stop_if_interrupted(OperationKind::Import)?;
        let imports = self.engine.imports(&self.record.name)?;
        let (record, mut work) = self.lend();
        match imports.import_machine(&record, source, &mut work).await {
            Ok(()) => {}
            Err(error) if leaves_work(&error) => return Err(self.midway(OperationKind::Import, error)),
            Err(error) => return Err(self.undo(OperationKind::Import, error).await),
        }
        self.record.phase = crate::create::phase_after(self.record.provisioning.as_ref());
        self.record.end(Outcome::Done, self.record.origin.as_ref().and_then(Origin::of_export));
        self.save_result().await?;
        Ok(self.record.clone())
    }

    /// Continues an interrupted import.
    pub(super) async fn build_again(&mut self, reopen: &Reopen<'_>) -> Result<Record, EngineError> {
        let inputs = self.record.operation.as_ref().and_then(|operation| operation.import.as_ref());
        let what = || "the record lacks its file".to_owned();
        let source = inputs
            .ok_or_else(|| RebuildError { what: what(), hint: Hint::default() })
            .and_then(|inputs| reopen(&self.record, inputs))
            .map_err(|error| error.refused(OperationKind::Import, &self.record.name))?;
        self.build_from(&source).await
    }
}
