//! Exports a VM to a file.

use std::path::{Path, PathBuf};

use goloo_cloudinit::has_client_key;
use goloo_engine::VmAtRest;
use goloo_model::events::{Event, EventContext};
use goloo_model::name::{VmId, VmName};
use goloo_model::provider::{ProviderError, Work};
use goloo_model::time::Timestamp;

use crate::error::{Error, VmFileError};
use crate::operation::RunOptions;
use crate::session::Session;
use crate::vm_file::{ExportedBy, Manifest, VmFileContent, VmFileWriter};
use crate::{identity, stack};

/// A VM that was exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedVm {
    /// Its name.
    pub name: VmName,
    /// Its id.
    pub id: VmId,
    /// The file.
    pub file: PathBuf,
    /// The file's size in bytes.
    pub bytes: u64,
}

impl Session {
    /// Writes a stopped VM to a new file: its record, the files that it was created from, and its disk. Nobody else can
    /// start it meanwhile.
    ///
    /// # Errors
    /// [`VmFileError`]; errors of the store and the provider.
    pub fn export_vm(&self, name: &VmName, file: &Path, run: &RunOptions<'_>) -> Result<ExportedVm, Error> {
        let vm = self.managed(name)?;
        let file = new_file(file).map_err(|source| Error::cannot("write", file, source))?;
        self.operate(EventContext::of(name, None), &*vm.provider, run, async |engine| {
            engine.export(name, async |vm, work| self.write_vm(&vm, &file, work).await).await?
        })?
    }

    async fn write_vm(
        &self,
        vm: &VmAtRest<'_>,
        file: &Path,
        work: &mut dyn Work,
    ) -> Result<ExportedVm, Error> {
        let VmAtRest { record, snapshot, exports } = vm;
        let export = exports.describe(record).await?;
        if !has_client_key(&export.user_data) {
            return Err(VmFileError::TooOld { name: record.name.clone() }.into());
        }
        let mut writer = VmFileWriter::begin(file)?;
        warn_of_room(file, exports.largest_disk(record).await?, work);
        let by = identity::owner();
        let manifest = Manifest {
            schema: 1,
            goloo: env!("CARGO_PKG_VERSION").into(),
            exported_at: Timestamp::now(),
            exported_by: ExportedBy { user: by.user, host: by.host },
            machine: export.machine,
        };
        let content = VmFileContent { manifest: &manifest, record, snapshot, user_data: &export.user_data };
        let offset = writer.write_head(&content)?;
        exports.write_disk(record, writer.path(), offset, work).await?;
        work.step("computing its checksum");
        let (mut sum, length) = writer.disk_sum()?;
        while let Some(done) = sum.step().map_err(|source| Error::cannot("read", writer.path(), source))? {
            if work.interrupted() {
                return Err(ProviderError::Interrupted.into());
            }
            work.events().event(Event::Progress { done, total: Some(length) });
            // The lock's lease is renewed meanwhile.
            tokio::task::yield_now().await;
        }
        let digest = sum.digest();
        let bytes = writer.publish(digest, length)?;
        Ok(ExportedVm { name: record.name.clone(), id: record.id.clone(), file: file.to_owned(), bytes })
    }
}

/// The absolute path of a file that doesn't exist yet, in a folder that does.
fn new_file(file: &Path) -> std::io::Result<PathBuf> {
    let file = std::path::absolute(file)?;
    let name = file.file_name().ok_or(std::io::ErrorKind::InvalidInput)?;
    let folder = file.parent().ok_or(std::io::ErrorKind::InvalidInput)?;
    std::fs::metadata(folder)?;
    Ok(stack::absolute(folder).join(name))
}

/// How much the disk takes is known only once it is compressed.
fn warn_of_room(file: &Path, largest: u64, work: &dyn Work) {
    let Some(folder) = file.parent() else { return };
    let Ok(space) = rustix::fs::statvfs(folder) else { return };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    if free < largest {
        work.events().event(Event::Warning(format!(
            "{} has {} MiB free, and the export takes up to {} MiB",
            folder.display(),
            free >> 20,
            largest.div_ceil(1 << 20)
        )));
    }
}
