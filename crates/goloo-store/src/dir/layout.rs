//! What lies where in the store's folder.
//!
//! ```text
//! active/NAME/        state.json, state.json.prev, the snapshot's files
//!                     state.json.tmp       a save under way; a leftover when nobody holds the lock
//!                     state.json.broken-N  an unreadable record, kept aside when it was replaced
//! active/.new-NAME/   a claim under way; a leftover when nobody holds the lock
//! archive/ID/         as in active
//! archive/.new-ID/    a record from another store on its way in; a leftover when nobody holds the archive
//! archive/.trash-ID/  being removed
//! locks/NAME.lock     never renamed, never unlinked
//! locks/.archive      held alone by whoever puts into the archive or removes from it
//! locks/.store        shared by all who may write; held alone by whoever marks the store as moved
//! moved.json          the mark of a store that was moved; moved.json.tmp is one under way
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
        self.active().join(format!("{STAGED_PREFIX}{name}"))
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

    pub fn staged_archive(&self, id: &ArchiveId) -> PathBuf {
        self.archive().join(format!("{STAGED_PREFIX}{id}"))
    }

    pub fn locks(&self) -> PathBuf {
        self.root.join("locks")
    }

    pub fn lock(&self, name: &VmName) -> PathBuf {
        self.locks().join(format!("{name}{LOCK_SUFFIX}"))
    }

    /// No name of a VM begins with a dot.
    pub fn archive_lock(&self) -> PathBuf {
        self.locks().join(".archive")
    }

    pub fn store_lock(&self) -> PathBuf {
        self.locks().join(".store")
    }

    pub fn mark(&self) -> PathBuf {
        self.root.join(MARK)
    }

    pub fn staged_mark(&self) -> PathBuf {
        self.root.join(STAGED_MARK)
    }
}

const MARK: &str = "moved.json";
const STAGED_MARK: &str = "moved.json.tmp";

/// Whether a file is the mark of a store that was moved, or is to become it.
pub(super) fn is_mark(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == MARK || name == STAGED_MARK)
}

/// Ends the names of the files in `locks` that stand for a VM's name.
pub(super) const LOCK_SUFFIX: &str = ".lock";

/// Begins the names of records that aren't wholly there yet.
pub(super) const STAGED_PREFIX: &str = ".new-";

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
