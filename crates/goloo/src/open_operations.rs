//! The operations that were started with a state folder and aren't over: an empty file for each in `operations/`. An
//! operation of a record without one counts as somebody else's, so nothing here needs to survive a power failure.

use std::fs;
use std::path::PathBuf;

use goloo_core::name::OperationId;
use goloo_core::record::OpenOperations;

use crate::files;

/// Those of one state folder.
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
            // What can't be added is asked for at resume.
            let _ = files::ensure_folder(&self.path).and_then(|()| fs::write(&path, ""));
        }
    }

    fn contains(&self, id: &OperationId) -> bool {
        self.file(id).is_file()
    }

    fn remove(&self, id: &OperationId) {
        // One that stays lets its operation be resumed once more.
        let _ = fs::remove_file(self.file(id));
    }
}
