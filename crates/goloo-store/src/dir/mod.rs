//! The default back end: a folder with a folder for each VM.
//!
//! Every method works inline, with blocking calls, and needs no runtime: a caller may drive the
//! futures with whatever polls once.

pub(crate) mod durable;
pub mod fs;
mod layout;
mod list;
mod lock;
mod moved;
mod put;
mod read;
mod sealed;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use goloo_core::name::{ArchiveId, VmName};
use goloo_core::record::{Owner, SCHEMA};
use goloo_core::store::{
    Archived, Broken, HeldLock, Listing, Loaded, Snapshot, Store, StoreError, Summary, VmLock,
};

use crate::rules::{in_one_line, newer};
use crate::{Options, suitable};
use durable::failed;
use fs::{Entry, Fs, LockAttempt, RealFs};
use layout::Layout;
use lock::DirLock;
use read::Found;
use sealed::SealedFs;

/// The store in a folder. Clones share it.
#[derive(Clone)]
pub struct DirStore {
    inner: Arc<Inner>,
}

struct Inner {
    fs: Arc<dyn Fs>,
    layout: Layout,
    options: Options,
}

impl DirStore {
    /// The store at `root`. Touches nothing: a folder that isn't there is an empty store until
    /// something is written.
    pub fn open(root: &Path, options: Options) -> Self {
        Self::with_fs(root, options, Arc::new(RealFs))
    }

    /// The same on another file system.
    pub fn with_fs(root: &Path, options: Options, fs: Arc<dyn Fs>) -> Self {
        let fs = Arc::new(SealedFs::new(fs, options.seal.clone()));
        Self { inner: Arc::new(Inner { fs, layout: Layout::new(root), options }) }
    }
}

impl Inner {
    fn fs(&self) -> &dyn Fs {
        &*self.fs
    }

    /// The names in `active` or `archive`, sorted; none when the folder isn't there.
    fn entries(&self, folder: &Path) -> Result<Vec<Entry>, StoreError> {
        let mut entries = match self.fs.read_folder(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            other => other.map_err(failed("read", folder))?,
        };
        entries.sort_unstable();
        Ok(entries)
    }

    fn check_suitable(&self) -> Result<(), StoreError> {
        suitable::check(self.fs(), self.layout.root(), self.options.allow_network)
    }

    /// The active record under a name, not counting one that is half way to the archive.
    fn load(&self, name: &VmName) -> Result<Option<Loaded>, StoreError> {
        match read::find(self.fs(), &self.layout.vm(name.as_str()), name.as_str())? {
            Found::Absent => Ok(None),
            Found::Sound(record, _) if read::is_half_archived(&record) => Ok(None),
            Found::Sound(record, _) => Ok(Some(Loaded { record: *record, recovered: None })),
            Found::Recovered(record, broken) => Ok(Some(Loaded { record: *record, recovered: Some(broken) })),
            Found::Broken(broken) | Found::Newer(broken, _) => Err(StoreError::Broken(broken)),
        }
    }

    fn snapshot(&self, name: &VmName) -> Result<Snapshot, StoreError> {
        read::snapshot(self.fs(), &self.layout.vm(name.as_str()))?
            .ok_or_else(|| StoreError::NotFound { name: name.clone() })
    }

    /// A VM that is gone and still lies in `active`, since somebody died: under the id that it gets from
    /// whoever takes its lock next.
    fn half_archived(&self, name: &str) -> Result<Option<Archived>, StoreError> {
        let found = read::find(self.fs(), &self.layout.vm(name), name)?;
        let Found::Sound(record, _) = found else { return Ok(None) };
        if !read::is_half_archived(&record) {
            return Ok(None);
        }
        for id in read::archive_ids(&record, record.updated_at) {
            let place = self.layout.archived(&id);
            if self.fs().folder_id(&place).map_err(failed("look at", &place))?.is_none() {
                return Ok(Some(Archived { deleted_at: id.deleted_at(), id, record: *record }));
            }
        }
        Ok(None)
    }

    /// The same, when this is its id.
    fn half_archived_as(&self, id: &ArchiveId) -> Result<Option<Archived>, StoreError> {
        Ok(self.half_archived(id.name())?.filter(|archived| archived.id == *id))
    }

    /// The record in the archive's own folder.
    fn archived(&self, id: &ArchiveId) -> Result<Option<Archived>, StoreError> {
        match read::find(self.fs(), &self.layout.archived(id), id.name())? {
            Found::Absent => Ok(None),
            Found::Sound(record, _) | Found::Recovered(record, _) => {
                Ok(Some(Archived { id: id.clone(), deleted_at: id.deleted_at(), record: *record }))
            }
            Found::Broken(broken) | Found::Newer(broken, _) => Err(StoreError::Broken(broken)),
        }
    }

    fn archive_list(&self) -> Result<Listing<Archived>, StoreError> {
        let mut listing = Listing::default();
        // Before the archive itself: what is moved between the two looks is seen at least once.
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

    /// All that lies in `active`.
    fn active(&self) -> Result<list::Active, StoreError> {
        list::list(self.fs(), &self.layout, &self.entries(&self.layout.active())?)
    }

    fn lock(self: &Arc<Self>, name: &VmName, holder: &[u8]) -> Result<DirLock, StoreError> {
        let entered = self.enter()?;
        let path = self.layout.lock(name);
        match self.fs.lock(&path, holder).map_err(failed("lock", &path))? {
            LockAttempt::Held(held) => DirLock::take(self.clone(), name, entered, held),
            LockAttempt::Busy(holder) => {
                let owner = serde_json::from_slice(&holder).ok();
                Err(HeldLock { name: name.clone(), owner, lease_end: None }.refusal())
            }
        }
    }

    /// Removes what dead processes left of claims on other names. Nothing hangs on it, so what fails here is left
    /// to the next writer.
    fn sweep_staged(&self) {
        for entry in self.entries(&self.layout.active()).unwrap_or_default() {
            let name =
                entry.name.strip_prefix(layout::STAGED_PREFIX).and_then(|name| VmName::parse(name).ok());
            let Some(name) = name else { continue };
            // A process that is claiming the name holds its lock.
            if let Ok(LockAttempt::Held(_held)) = self.fs.lock(&self.layout.lock(&name), b"") {
                let _ = durable::remove_tree(self.fs(), &self.layout.staged(&name));
            }
        }
    }

    fn archive_delete(self: &Arc<Self>, id: &ArchiveId, by: &Owner) -> Result<(), StoreError> {
        self.check_suitable()?;
        if let Some(half) = self.half_archived_as(id)? {
            // Taking the lock moves it.
            self.lock(&half.record.name, &to_json(by))?;
        }
        let gone = || StoreError::NotArchived { id: id.clone() };
        let archive = self.layout.archive();
        if self.fs.folder_id(&archive).map_err(failed("look at", &archive))?.is_none() {
            return Err(gone());
        }
        let _entered = self.enter_archive()?;
        self.remove_leftovers()?;
        match read::find(self.fs(), &self.layout.archived(id), id.name())? {
            Found::Absent => return Err(gone()),
            Found::Sound(record, _) | Found::Recovered(record, _) if record.schema > SCHEMA => {
                return Err(newer(&record.name, record.schema));
            }
            Found::Newer(_, schema) => {
                let name = VmName::parse(id.name()).expect("an archive id begins with a name");
                return Err(newer(&name, schema));
            }
            _ => {}
        }
        let trash = self.layout.trash(id);
        match durable::move_folder(self.fs(), &self.layout.archived(id), &trash) {
            Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Err(gone()),
            other => other?,
        };
        durable::remove_tree(self.fs(), &trash)
    }

    /// Removes what a dead process left of records that it was removing. That they lie in the trash is
    /// made durable first, or a power loss could bring back an emptied folder.
    fn remove_leftovers(&self) -> Result<(), StoreError> {
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

    fn records(&self) -> Result<Listing<Loaded>, StoreError> {
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

    fn broken(&self, name: &str, error: String) -> Broken {
        let path = self.layout.vm(name).join(layout::STATE).display().to_string();
        Broken { name: name.to_owned(), path, error }
    }

    fn locks(&self) -> Result<Vec<HeldLock>, StoreError> {
        let entries = self.entries(&self.layout.locks())?;
        let names = entries.iter().filter_map(|entry| entry.name.strip_suffix(layout::LOCK_SUFFIX));
        let held = names.filter_map(|name| VmName::parse(name).ok()).map(|name| self.held_lock(&name));
        held.filter_map(Result::transpose).collect()
    }

    fn held_lock(&self, name: &VmName) -> Result<Option<HeldLock>, StoreError> {
        let path = self.layout.lock(name);
        let holder = self.fs.lock_holder(&path).map_err(failed("look at", &path))?;
        Ok(holder.map(|holder| HeldLock {
            name: name.clone(),
            owner: serde_json::from_slice(&holder).ok(),
            lease_end: None,
        }))
    }
}

fn to_json(owner: &Owner) -> Vec<u8> {
    serde_json::to_vec(owner).expect("an owner has only string keys")
}

#[async_trait]
impl Store for DirStore {
    fn location(&self) -> String {
        self.inner.layout.root().display().to_string()
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
        Ok(Box::new(self.inner.lock(name, &to_json(owner))?))
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
        let (fs, layout) = (self.inner.fs(), &self.inner.layout);
        if let Some(half) = self.inner.half_archived_as(id)?
            && let Some(snapshot) = read::snapshot(fs, &layout.vm(half.record.name.as_str()))?
        {
            return Ok(snapshot);
        }
        read::snapshot(fs, &layout.archived(id))?.ok_or_else(|| StoreError::NotArchived { id: id.clone() })
    }

    async fn archive_delete(&self, id: &ArchiveId, by: &Owner) -> Result<(), StoreError> {
        self.inner.archive_delete(id, by)
    }

    async fn archive_put(&self, archived: &Archived, snapshot: &Snapshot) -> Result<(), StoreError> {
        self.inner.archive_put(archived, snapshot)
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
