//! The layout of the store's folder.
//!
//! ```text
//! active/NAME/        state.json, state.json.prev, the snapshot's files
//!                     files-DIGEST/        the files of a snapshot that replaced the first one; none is ever changed
//!                     state.json.tmp       a save in progress; a leftover when nobody holds the lock
//!                     state.json.broken-N  an unreadable record, kept aside when it was replaced
//! active/.new-NAME/   a claim in progress; a leftover when nobody holds the lock
//! archive/ID/         as in active
//! archive/.new-ID/    a record being copied from another store; a leftover when nobody holds the archive
//! archive/.trash-ID/  being removed
//! locks/NAME.lock     never renamed, never unlinked
//! locks/.archive      held exclusively to add to the archive or remove from it
//! locks/.store        shared by all writers; held exclusively to mark the store as moved
//! moved.json          the marker of a moved store; moved.json.tmp is one in progress
//! ```
//!
//! In `active` and `archive`, plain files and names that begin with a dot (`.DS_Store`) aren't goloo's
//! and are skipped. A folder is never skipped: one without a valid record, or whose name
//! isn't a valid VM name, is reported as broken, since it may be the only reference to a machine.

use std::path::{Path, PathBuf};

use goloo_model::name::{ArchiveId, VmName};
use goloo_model::record::Record;

pub(super) const STATE: &str = "state.json";
pub(super) const PREVIOUS: &str = "state.json.prev";
pub(super) const TEMPORARY: &str = "state.json.tmp";

/// The folder of a record's snapshot, in the record's own folder.
pub(super) fn files(folder: &Path, record: &Record) -> PathBuf {
    match &record.reprovisioned {
        None => folder.to_owned(),
        Some(with) => folder.join(format!("files-{}", with.files.as_str())),
    }
}

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

    /// Begins with a dot, unlike the name of any VM.
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

/// Whether a file is the marker of a moved store, or its temporary file.
pub(super) fn is_mark(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == MARK || name == STAGED_MARK)
}

/// The suffix of the files in `locks` that represent a VM's name.
pub(super) const LOCK_SUFFIX: &str = ".lock";

/// The prefix of the names of incomplete records.
pub(super) const STAGED_PREFIX: &str = ".new-";

/// The prefix of the names of archived records that are being removed.
pub(super) const TRASH_PREFIX: &str = ".trash-";

/// The name under which the `n`th unreadable record is kept aside.
pub(super) fn broken(n: u32) -> String {
    format!("{STATE}.broken-{n}")
}

/// Whether a name in `active` or `archive` isn't goloo's own.
pub(super) fn is_foreign(name: &str) -> bool {
    name.starts_with('.')
}
