//! The default back end: a folder with one subfolder per VM.
//!
//! Every method blocks inline and needs no runtime: a caller may drive the
//! futures with any executor that polls once.

mod archive;
pub(crate) mod durable;
pub mod fs;
mod inner;
mod layout;
mod links;
mod list;
mod lock;
mod moved;
mod put;
mod read;
mod sealed;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use goloo_model::name::{ArchiveId, VmName};
use goloo_model::record::Owner;
use goloo_model::store::{Archived, HeldLock, Listing, Loaded, Snapshot, Store, StoreError, Summary, VmLock};

use crate::options::Options;
use fs::{Entry, Fs, RealFs};
use inner::Inner;
use layout::{Layout, STATE};
use lock::{DirLock, to_json};
use sealed::SealedFs;

/// The store in a folder. Clones share it.
#[derive(Clone)]
pub struct DirStore {
    inner: Arc<Inner>,
}

impl DirStore {
    /// The store at `root`. Touches nothing: a missing folder is treated as an empty store until
    /// something is written.
    pub fn open(root: &Path, options: Options) -> Self {
        Self::with_fs(root, options, Arc::new(RealFs::below(root)))
    }

    /// Like [`Self::open`], on another file system.
    pub fn with_fs(root: &Path, options: Options, fs: Arc<dyn Fs>) -> Self {
        let fs = Arc::new(SealedFs::new(fs, options.seal.clone()));
        Self { inner: Arc::new(Inner { fs, layout: Layout::new(root), options }) }
    }
}

#[async_trait]
impl Store for DirStore {
    fn location(&self) -> String {
        self.inner.layout.root().display().to_string()
    }

    fn record_location(&self, key: &str) -> String {
        let layout = &self.inner.layout;
        let folder = ArchiveId::parse(key).map_or_else(|_| layout.vm(key), |id| layout.archived(&id));
        folder.join(STATE).display().to_string()
    }

    async fn names(&self) -> Result<Vec<String>, StoreError> {
        let entries = self.inner.entries(&self.inner.layout.active())?;
        let ours =
            |entry: Entry| (entry.is_folder && VmName::parse(&entry.name).is_ok()).then_some(entry.name);
        Ok(entries.into_iter().filter_map(ours).collect())
    }

    async fn list(&self) -> Result<Listing<Summary>, StoreError> {
        Ok(self.inner.active()?.listing)
    }

    async fn load(&self, name: &VmName) -> Result<Option<Loaded>, StoreError> {
        self.inner.load(name)
    }

    async fn snapshot(&self, name: &VmName) -> Result<Snapshot, StoreError> {
        self.inner.snapshot(name)
    }

    async fn lock(&self, name: &VmName, owner: &Owner) -> Result<Box<dyn VmLock>, StoreError> {
        Ok(Box::new(DirLock::acquire(&self.inner, name, &to_json(owner))?))
    }

    async fn archive_list(&self) -> Result<Listing<Archived>, StoreError> {
        self.inner.archive_list()
    }

    async fn archive_load(&self, id: &ArchiveId) -> Result<Option<Archived>, StoreError> {
        match self.inner.half_archived_as(id)? {
            None => self.inner.archived(id),
            half => Ok(half),
        }
    }

    async fn archive_snapshot(&self, id: &ArchiveId) -> Result<Snapshot, StoreError> {
        let (reader, layout) = (self.inner.reader(), &self.inner.layout);
        if let Some(half) = self.inner.half_archived_as(id)?
            && let Some(snapshot) = reader.snapshot(&layout.vm(half.record.name.as_str()), id.name())?
        {
            return Ok(snapshot);
        }
        let snapshot = reader.snapshot(&layout.archived(id), id.name())?;
        snapshot.ok_or_else(|| StoreError::NotArchived { id: id.clone() })
    }

    async fn archive_delete(&self, id: &ArchiveId, by: &Owner) -> Result<(), StoreError> {
        archive::delete(&self.inner, id, by)
    }

    async fn archive_put(&self, archived: &Archived, snapshot: &Snapshot) -> Result<(), StoreError> {
        archive::put(&self.inner, archived, snapshot)
    }

    async fn records(&self) -> Result<Listing<Loaded>, StoreError> {
        self.inner.records()
    }

    async fn locks(&self) -> Result<Vec<HeldLock>, StoreError> {
        self.inner.locks()
    }

    async fn break_lock(&self, name: &VmName) -> Result<Option<HeldLock>, StoreError> {
        let Some(held) = self.inner.held_lock(name)? else { return Ok(None) };
        let holder = held.owner.map_or_else(|| "another process".to_owned(), |owner| owner.to_string());
        Err(StoreError::Unbreakable { name: name.clone(), holder })
    }

    async fn moved_to(&self) -> Result<Option<String>, StoreError> {
        self.inner.moved_to()
    }

    async fn set_moved(&self, replaces: Option<&str>, to: Option<&str>) -> Result<(), StoreError> {
        self.inner.set_moved(replaces, to)
    }
}
