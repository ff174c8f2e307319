//! What the store and its locks share: the file system, the layout, and what both read there.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use goloo_model::name::{ArchiveId, VmName};
use goloo_model::store::{Archived, Broken, HeldLock, Listing, Loaded, Snapshot, StoreError};

use super::durable::{self, failed};
use super::fs::{Entry, Fs, LockAttempt};
use super::layout::{self, Layout};
use super::list;
use super::read::{self, Found, RecordReader};
use crate::fs_check;
use crate::options::Options;
use goloo_sys::error_chain::in_one_line;

pub(super) struct Inner {
    pub fs: Arc<dyn Fs>,
    pub layout: Layout,
    pub options: Options,
}

impl Inner {
    pub fn fs(&self) -> &dyn Fs {
        &*self.fs
    }

    pub fn reader(&self) -> RecordReader<'_> {
        RecordReader { fs: self.fs(), check: &self.options.record_check }
    }

    /// The names in `active` or `archive`, sorted; empty if the folder doesn't exist.
    pub fn entries(&self, folder: &Path) -> Result<Vec<Entry>, StoreError> {
        let mut entries = match self.fs.read_folder(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            other => other.map_err(failed("read", folder))?,
        };
        entries.sort_unstable();
        Ok(entries)
    }

    pub fn check_suitable(&self) -> Result<(), StoreError> {
        fs_check::check(self.fs(), self.layout.root(), self.options.allow_network)
    }

    /// The active record under a name, except one with an incomplete move to the archive.
    pub fn load(&self, name: &VmName) -> Result<Option<Loaded>, StoreError> {
        match self.reader().find(&self.layout.vm(name.as_str()), name.as_str())? {
            Found::Absent => Ok(None),
            Found::Sound(record, _) if read::is_half_archived(&record) => Ok(None),
            Found::Sound(record, _) => Ok(Some(Loaded { record: *record, recovered: None })),
            Found::Recovered(record, broken) => Ok(Some(Loaded { record: *record, recovered: Some(broken) })),
            Found::Broken(broken) | Found::Newer(broken, _) => Err(StoreError::Broken(broken)),
        }
    }

    pub fn snapshot(&self, name: &VmName) -> Result<Snapshot, StoreError> {
        self.reader()
            .snapshot(&self.layout.vm(name.as_str()), name.as_str())?
            .ok_or_else(|| StoreError::NotFound { name: name.clone() })
    }

    /// A deleted VM that is still in `active` because a process died: with the id that it will get from
    /// the next process that takes its lock.
    pub fn half_archived(&self, name: &str) -> Result<Option<Archived>, StoreError> {
        let found = self.reader().find(&self.layout.vm(name), name)?;
        let Found::Sound(record, _) = found else { return Ok(None) };
        if !read::is_half_archived(&record) {
            return Ok(None);
        }
        for id in read::archive_ids(&record, record.updated_at) {
            let place = self.layout.archived(&id);
            if self.fs().folder_id(&place).map_err(failed("access", &place))?.is_none() {
                return Ok(Some(Archived { deleted_at: id.deleted_at(), id, record: *record }));
            }
        }
        Ok(None)
    }

    /// The same, if it has this id.
    pub fn half_archived_as(&self, id: &ArchiveId) -> Result<Option<Archived>, StoreError> {
        Ok(self.half_archived(id.name())?.filter(|archived| archived.id == *id))
    }

    /// The record in the archive folder itself.
    pub fn archived(&self, id: &ArchiveId) -> Result<Option<Archived>, StoreError> {
        match self.reader().find(&self.layout.archived(id), id.name())? {
            Found::Absent => Ok(None),
            Found::Sound(record, _) | Found::Recovered(record, _) => {
                Ok(Some(Archived { id: id.clone(), deleted_at: id.deleted_at(), record: *record }))
            }
            Found::Broken(broken) | Found::Newer(broken, _) => Err(StoreError::Broken(broken)),
        }
    }

    pub fn archive_list(&self) -> Result<Listing<Archived>, StoreError> {
        let mut listing = Listing::default();
        // Before the archive itself: a record that is moved between the two reads is seen at least once.
        let halves = self.active()?.half_archived;
        let halves: Vec<_> = halves.iter().map(|name| self.half_archived(name)).collect::<Result<_, _>>()?;
        for entry in self.entries(&self.layout.archive())? {
            if !entry.is_folder || layout::is_foreign(&entry.name) {
                continue;
            }
            let found = match ArchiveId::parse(&entry.name) {
                Ok(id) => self.archived(&id).map_err(|error| in_one_line(&error)),
                Err(error) => Err(error.to_string()),
            };
            match found {
                Ok(found) => listing.entries.extend(found),
                Err(error) => {
                    let path = self.layout.archive().join(&entry.name).display().to_string();
                    listing.broken.push(Broken { name: entry.name, path, error });
                }
            }
        }
        for half in halves.into_iter().flatten() {
            if listing.entries.iter().all(|moved| moved.record.id != half.record.id) {
                listing.entries.push(half);
            }
        }
        listing.entries.sort_by(|a, b| (b.deleted_at, &b.id).cmp(&(a.deleted_at, &a.id)));
        Ok(listing)
    }

    /// All entries of `active`.
    pub fn active(&self) -> Result<list::Active, StoreError> {
        list::list(self.reader(), &self.layout, &self.entries(&self.layout.active())?)
    }

    /// Removes what a dead process left of a claim or a removal. The name that it had is gone durably first, or a power
    /// loss could bring back an emptied folder.
    pub fn remove_staged(&self, name: &VmName) -> Result<(), StoreError> {
        let staged = self.layout.staged(name);
        if !matches!(self.fs.folder_id(&staged), Ok(None)) {
            durable::sync_folder(self.fs(), &self.layout.active())?;
        }
        durable::remove_tree(self.fs(), &staged)
    }

    /// Removes leftovers of dead processes' claims on other names. Not essential, so failures are left
    /// to the next writer.
    pub fn sweep_staged(&self) {
        for entry in self.entries(&self.layout.active()).unwrap_or_default() {
            let name =
                entry.name.strip_prefix(layout::STAGED_PREFIX).and_then(|name| VmName::parse(name).ok());
            let Some(name) = name else { continue };
            // A process that is claiming the name holds its lock.
            if let Ok(LockAttempt::Held(_held)) = self.fs.lock(&self.layout.lock(&name), b"") {
                let _ = self.remove_staged(&name);
            }
        }
    }

    /// Removes leftovers of a dead process that was deleting archived records. Their move to the trash is
    /// made durable first, or a power loss could bring back an emptied folder.
    pub fn remove_leftovers(&self) -> Result<(), StoreError> {
        let archive = self.layout.archive();
        let mut left = self.entries(&archive)?;
        left.retain(|entry| {
            [layout::TRASH_PREFIX, layout::STAGED_PREFIX].iter().any(|prefix| entry.name.starts_with(prefix))
        });
        if !left.is_empty() {
            durable::sync_folder(self.fs(), &archive)?;
        }
        left.iter().try_for_each(|entry| durable::remove_tree(self.fs(), &archive.join(&entry.name)))
    }

    pub fn records(&self) -> Result<Listing<Loaded>, StoreError> {
        let mut listing = Listing::default();
        for Entry { name, is_folder } in self.entries(&self.layout.active())? {
            if !is_folder || layout::is_foreign(&name) {
                continue;
            }
            let found = match VmName::parse(&name) {
                Ok(name) => self.load(&name),
                Err(error) => Err(StoreError::Broken(self.broken(&name, error.to_string()))),
            };
            match found {
                Ok(found) => listing.entries.extend(found),
                Err(StoreError::Broken(broken)) => listing.broken.push(broken),
                Err(error) => listing.broken.push(self.broken(&name, in_one_line(&error))),
            }
        }
        Ok(listing)
    }

    pub fn broken(&self, name: &str, error: String) -> Broken {
        let path = self.layout.vm(name).join(layout::STATE).display().to_string();
        Broken { name: name.to_owned(), path, error }
    }

    pub fn locks(&self) -> Result<Vec<HeldLock>, StoreError> {
        let entries = self.entries(&self.layout.locks())?;
        let names = entries.iter().filter_map(|entry| entry.name.strip_suffix(layout::LOCK_SUFFIX));
        let held = names.filter_map(|name| VmName::parse(name).ok()).map(|name| self.held_lock(&name));
        held.filter_map(Result::transpose).collect()
    }

    pub fn held_lock(&self, name: &VmName) -> Result<Option<HeldLock>, StoreError> {
        let path = self.layout.lock(name);
        let holder = self.fs.lock_holder(&path).map_err(failed("access", &path))?;
        Ok(holder.map(|holder| HeldLock {
            name: name.clone(),
            owner: serde_json::from_slice(&holder).ok(),
            lease_end: None,
        }))
    }
}
