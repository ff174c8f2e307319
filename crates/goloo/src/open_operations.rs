//! The unfinished operations that were started with this state folder: one empty file each in `operations/`. An
//! operation without such a file is treated as somebody else's, so the files needn't survive a power failure.

use std::fs;
use std::path::PathBuf;

use goloo_model::name::OperationId;
use goloo_model::record::OpenOperations;

use crate::files;

/// The unfinished operations of one state folder.
pub struct Folder {
    /// `STATE/operations`.
    pub path: PathBuf,
}

impl Folder {
    fn file(&self, id: &OperationId) -> PathBuf {
        self.path.join(id.as_str())
    }
}

impl OpenOperations for Folder {
    fn add(&self, id: &OperationId) {
        let path = self.file(id);
        if !path.exists() {
            // If this fails, `resume` asks for confirmation.
            let _ = files::ensure_folder(&self.path).and_then(|()| fs::write(&path, ""));
        }
    }

    fn contains(&self, id: &OperationId) -> bool {
        self.file(id).is_file()
    }

    fn remove(&self, id: &OperationId) {
        // A leftover file only allows its operation to be resumed again.
        let _ = fs::remove_file(self.file(id));
    }
}
