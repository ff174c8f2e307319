//! What lies where in the store's folder.
//!
//! ```text
//! active/NAME/        state.json, state.json.prev, the snapshot's files
//!                     state.json.tmp       a save under way; a leftover when nobody holds the lock
//!                     state.json.broken-N  an unreadable record, kept aside when it was replaced
//! active/.new-NAME/   a claim under way; a leftover when nobody holds the lock
//! archive/ID/         as in active
//! archive/.trash-ID/  being removed
//! locks/NAME.lock     never renamed, never unlinked
//! ```
//!
//! In `active` and `archive`, plain files and names that begin with a dot (`.DS_Store`) aren't goloo's
//! and are passed over. A folder is never passed over: one that holds no sound record, or whose name
//! can't be a VM's, is shown as broken, since it may be all that leads to a machine.

use std::path::{Path, PathBuf};

use goloo_core::name::{ArchiveId, VmName};

pub(super) const STATE: &str = "state.json";
pub(super) const PREVIOUS: &str = "state.json.prev";
pub(super) const TEMPORARY: &str = "state.json.tmp";

/// The paths in one store.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn active(&self) -> PathBuf {
        self.root.join("active")
    }

    pub fn vm(&self, name: &str) -> PathBuf {
        self.active().join(name)
    }

    pub fn staged(&self, name: &VmName) -> PathBuf {
        self.active().join(format!(".new-{name}"))
    }

    pub fn archive(&self) -> PathBuf {
        self.root.join("archive")
    }

    pub fn archived(&self, id: &ArchiveId) -> PathBuf {
        self.archive().join(id.as_str())
    }

    pub fn trash(&self, id: &ArchiveId) -> PathBuf {
        self.archive().join(format!("{TRASH_PREFIX}{id}"))
    }

    pub fn locks(&self) -> PathBuf {
        self.root.join("locks")
    }

    pub fn lock(&self, name: &VmName) -> PathBuf {
        self.locks().join(format!("{name}.lock"))
    }
}

/// Begins the names of archived records that are being removed.
pub(super) const TRASH_PREFIX: &str = ".trash-";

/// The name under which the `n`th unreadable record is kept aside.
pub(super) fn broken(n: u32) -> String {
    format!("{STATE}.broken-{n}")
}

/// Whether a name in `active` or `archive` can't be goloo's own.
pub(super) fn is_foreign(name: &str) -> bool {
    name.starts_with('.')
}
