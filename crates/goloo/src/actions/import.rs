//! Imports a VM from a file, which may come from anyone.

use std::path::Path;

use goloo_cloudinit::with_client_key;
use goloo_engine::{ImportRequest, RebuildError};
use goloo_model::events::{Event, EventContext, Events, InContext};
use goloo_model::hint::Hint;
use goloo_model::name::VmName;
use goloo_model::provider::{ImportSource, MachineExport, Provider, ProviderError};
use goloo_model::provider_id::ProviderId;
use goloo_model::record::{ExportOrigin, ImportInputs, OperationKind, Record};
use goloo_model::text::SourcePath;

use crate::error::{Error, VmFileError};
use crate::operation::RunOptions;
use crate::session::Session;
use crate::stack;
use crate::vm_file::ExportFile;

impl Session {
    /// Creates a stopped VM from a file, under its own name or another one. It gets an id of its own, and this computer's
    /// client key; its host key stays.
    ///
    /// # Errors
    /// [`VmFileError`] if the file can't be used: then nothing is created. Errors of the store, the provider and the
    /// operation.
    pub fn import_vm(
        &self,
        file: &Path,
        as_name: Option<&VmName>,
        run: &RunOptions<'_>,
    ) -> Result<Record, Error> {
        let file = stack::absolute(file);
        let recorded = SourcePath::parse(&file)
            .map_err(|_| Error::from(VmFileError::Unrecordable { file: file.clone() }))?;
        let vm = ExportFile::read(&file)?;
        let name = as_name.unwrap_or(&vm.record.name).clone();
        self.expect_free(&name)?;
        let provider = self.importer(&vm.record)?;
        let context = EventContext::of(&name, Some(OperationKind::Import));
        let events = InContext::new(self.events.clone(), context.clone());
        let source = self.import_source(&vm)?;
        let disk = match provider.exports() {
            Some(exports) => self.wait_for(exports.check_source(&source))??,
            None => return Err(unsupported(provider.id()).into()),
        };
        expect_sum(&vm, &events, run)?;
        let request = ImportRequest {
            name,
            export: export_of(&vm),
            snapshot: vm.snapshot,
            source,
            disk,
            file: recorded,
            created_by: self.creator()?,
            exported: vm.record,
        };
        left_out(&request.exported).into_iter().for_each(|note| events.event(Event::Note(note)));
        Ok(self.operate(context, &*provider, run, async |engine| engine.import(request).await)??)
    }

    /// The provider of the exported VM, if its machines are on this computer.
    fn importer(&self, record: &Record) -> Result<Box<dyn Provider>, Error> {
        if !self.provider_info(record.provider)?.is_host_bound() {
            return Err(unsupported(record.provider).into());
        }
        self.provider(record.provider)
    }

    fn import_source(&self, vm: &ExportFile) -> Result<ImportSource, Error> {
        let key = self.keys.client_key()?;
        let user_data = with_client_key(&vm.user_data, &key.0).map_err(|error| VmFileError::Invalid {
            file: vm.disk.file.clone(),
            reason: error.to_string(),
        })?;
        let machine = vm.manifest.machine.clone();
        Ok(ImportSource { export: MachineExport { machine, user_data }, disk: vm.disk.clone() })
    }

    /// Reads the file of an interrupted import again.
    pub(super) fn reopen(&self, inputs: &ImportInputs) -> Result<ImportSource, RebuildError> {
        let read = || {
            let vm = ExportFile::read(&inputs.file)?;
            if vm.disk.sha256 != inputs.sha256 {
                return Err(VmFileError::Changed { file: inputs.file.to_path_buf() }.into());
            }
            self.import_source(&vm)
        };
        read().map_err(|error| RebuildError {
            what: error.in_one_line(),
            hint: Hint::from("put the file back"),
        })
    }
}

fn unsupported(provider: ProviderId) -> ProviderError {
    ProviderError::Unsupported {
        what: format!("{provider} doesn't support imports"),
        hint: "import a VM of another provider".into(),
    }
}

fn export_of(vm: &ExportFile) -> ExportOrigin {
    let by = &vm.manifest.exported_by;
    ExportOrigin {
        id: vm.record.id.clone(),
        at: vm.manifest.exported_at,
        user: by.user.clone(),
        host: by.host.clone(),
    }
}

/// Checks the disk before there is a VM.
fn expect_sum(vm: &ExportFile, events: &dyn Events, run: &RunOptions<'_>) -> Result<(), Error> {
    let file = &vm.disk.file;
    events.event(Event::Step { what: "checking the file".to_owned() });
    let mut sum = vm.disk_sum();
    while let Some(done) = sum.step().map_err(|source| Error::cannot("read", file, source))? {
        if run.interrupt.is_raised() {
            return Err(ProviderError::Interrupted.into());
        }
        events.event(Event::Progress { done, total: Some(vm.disk.length) });
    }
    if sum.digest() == vm.disk.sha256 { Ok(()) } else { Err(vm.altered().into()) }
}

/// What the exported VM had that the new one doesn't get, since it is of another computer.
fn left_out(exported: &Record) -> Vec<String> {
    let mut notes = Vec::new();
    let Some(stack) = exported.resolved.as_deref() else { return notes };
    if !stack.mounts.is_empty() {
        let mounts: Vec<_> =
            stack.mounts.iter().map(|mount| format!("{} at {}", mount.source, mount.target)).collect();
        notes.push(format!(
            "the folders that it had from {} are not mounted: {}",
            exported.created_by.host,
            mounts.join(", ")
        ));
    }
    if stack.ports.iter().any(|port| port.bind.is_some()) {
        notes.push(
            "its ports are forwarded at its own address only, not at those of the other computer".to_owned(),
        );
    }
    if !exported.overrides.is_empty() {
        notes.push("its overrides are part of the machine, and no longer recorded as overrides".to_owned());
    }
    notes
}
