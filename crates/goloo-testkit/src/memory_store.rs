//! An in-memory store that implements the whole contract of [`goloo_model::store`], for tests of code that uses a
//! store.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use goloo_model::name::{ArchiveId, VmName};
use goloo_model::record::{self, Owner, Phase, Record, SCHEMA};
use goloo_model::store::{
    Archived, Broken, HeldLock, Listing, Loaded, SNAPSHOT_FILES, Snapshot, Store, StoreError, Summary,
    VmLock, check_mark,
};
use goloo_model::time::Timestamp;

/// An in-memory store; a clone is another handle on it.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    active: BTreeMap<String, Stored>,
    archive: BTreeMap<ArchiveId, Stored>,
    locks: BTreeMap<VmName, Holder>,
    /// The former owners of broken locks, until the lock is taken again.
    broken_locks: BTreeMap<VmName, Owner>,
    moved: Option<String>,
    /// How many locks have been taken in total.
    taken: u64,
}

#[derive(Debug, Clone)]
struct Holder {
    owner: Owner,
    /// Distinguishes this lock from a later one of the same owner.
    number: u64,
}

/// Stored as text, so that everything read has been through the format, and can be corrupted.
#[derive(Debug, Clone)]
struct Stored {
    json: Vec<u8>,
    snapshot: Snapshot,
}

impl MemoryStore {
    /// Replaces an active record's text; the record need not exist.
    pub fn plant(&self, name: &VmName, json: &[u8]) {
        let mut shared = self.shared();
        let stored = shared.active.entry(name.as_str().to_owned());
        stored.or_insert(Stored { json: Vec::new(), snapshot: Snapshot::default() }).json = json.to_vec();
    }

    /// Replaces an archived record's text; the record need not exist.
    pub fn plant_archived(&self, id: &ArchiveId, json: &[u8]) {
        let mut shared = self.shared();
        let stored = shared.archive.entry(id.clone());
        stored.or_insert(Stored { json: Vec::new(), snapshot: Snapshot::default() }).json = json.to_vec();
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("no holder panics")
    }
}

impl Stored {
    fn new(record: &Record, snapshot: &Snapshot) -> Self {
        Self { json: record::to_json(record), snapshot: snapshot.clone() }
    }

    fn read(&self, part: &str, key: &str, name: &str) -> Result<Record, Broken> {
        let error = match record::from_json(&self.json) {
            Ok(record) if record.name.as_str() == name => return Ok(record),
            Ok(record) => format!("it is the record of \"{}\", not of \"{name}\"", record.name),
            Err(error) => error.to_string(),
        };
        Err(Broken { name: key.to_owned(), path: format!("memory:{part}/{key}"), error })
    }
}

fn half_archived(record: &Record) -> bool {
    record.phase == Phase::Destroyed && record.schema <= SCHEMA
}

impl Shared {
    fn check_unmoved(&self) -> Result<(), StoreError> {
        match &self.moved {
            None => Ok(()),
            Some(to) => Err(StoreError::Moved { place: "memory:".to_owned(), to: to.clone() }),
        }
    }

    fn held(&self, name: &VmName) -> Option<HeldLock> {
        let owner = Some(self.locks.get(name)?.owner.clone());
        Some(HeldLock { name: name.clone(), owner, lease_end: None })
    }

    fn find(&self, name: &VmName) -> Result<Option<Record>, StoreError> {
        let name = name.as_str();
        let stored = self.active.get(name).map(|stored| stored.read("active", name, name));
        stored.transpose().map_err(StoreError::Broken)
    }

    /// Refuses unless `record` is the one that is stored under its name.
    fn expect_stored(&self, record: &Record) -> Result<(), StoreError> {
        let stored = self.find(&record.name)?;
        let stored = stored.ok_or_else(|| StoreError::NotFound { name: record.name.clone() })?;
        check_schema(&stored)?;
        if (stored.serial, &stored.id) != (record.serial, &record.id) {
            return Err(stale(record, stored.serial));
        }
        Ok(())
    }

    fn load(&self, name: &VmName) -> Result<Option<Loaded>, StoreError> {
        let record = self.find(name)?.filter(|record| !half_archived(record));
        Ok(record.map(|record| Loaded { record, recovered: None }))
    }

    fn snapshot(&self, name: &VmName) -> Result<Snapshot, StoreError> {
        let stored = self.active.get(name.as_str());
        stored
            .map(|stored| stored.snapshot.clone())
            .ok_or_else(|| StoreError::NotFound { name: name.clone() })
    }

    fn archived(&self, id: &ArchiveId) -> Result<Option<Archived>, Broken> {
        let Some(stored) = self.archive.get(id) else { return Ok(None) };
        let record = stored.read("archive", id.as_str(), id.name())?;
        Ok(Some(Archived { id: id.clone(), deleted_at: id.deleted_at(), record }))
    }

    fn move_to_archive(&mut self, record: &Record, at: Timestamp) -> ArchiveId {
        let mut time = at;
        let id = loop {
            let id = ArchiveId::new(&record.name, time, &record.id);
            if !self.archive.contains_key(&id) {
                break id;
            }
            time = Timestamp::from_unix(time.unix() + 1).expect("tests end before the year 9999");
        };
        let stored = self.active.remove(record.name.as_str()).expect("the caller has found it");
        self.archive.insert(id.clone(), stored);
        id
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn location(&self) -> String {
        "memory:".to_owned()
    }

    async fn names(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.shared().active.keys().cloned().collect())
    }

    async fn list(&self) -> Result<Listing<Summary>, StoreError> {
        let mut listing = Listing::default();
        for (name, stored) in &self.shared().active {
            match stored.read("active", name, name) {
                Ok(record) if half_archived(&record) => {}
                Ok(record) => listing.entries.push(Summary::from(&record)),
                Err(broken) => listing.broken.push(broken),
            }
        }
        Ok(listing)
    }

    async fn load(&self, name: &VmName) -> Result<Option<Loaded>, StoreError> {
        self.shared().load(name)
    }

    async fn snapshot(&self, name: &VmName) -> Result<Snapshot, StoreError> {
        self.shared().snapshot(name)
    }

    async fn lock(&self, name: &VmName, owner: &Owner) -> Result<Box<dyn VmLock>, StoreError> {
        let mut shared = self.shared();
        shared.check_unmoved()?;
        if let Some(held) = shared.held(name) {
            return Err(held.refusal());
        }
        if let Ok(Some(record)) = shared.find(name)
            && half_archived(&record)
        {
            shared.move_to_archive(&record, record.updated_at);
        }
        shared.taken += 1;
        let number = shared.taken;
        shared.locks.insert(name.clone(), Holder { owner: owner.clone(), number });
        let taken_over = shared.broken_locks.remove(name);
        Ok(Box::new(MemoryLock { store: self.clone(), name: name.clone(), number, taken_over }))
    }

    async fn archive_list(&self) -> Result<Listing<Archived>, StoreError> {
        let shared = self.shared();
        let mut listing = Listing::default();
        for id in shared.archive.keys() {
            match shared.archived(id) {
                Ok(archived) => listing.entries.extend(archived),
                Err(broken) => listing.broken.push(broken),
            }
        }
        listing.entries.sort_by(|a, b| (b.deleted_at, &b.id).cmp(&(a.deleted_at, &a.id)));
        Ok(listing)
    }

    async fn archive_load(&self, id: &ArchiveId) -> Result<Option<Archived>, StoreError> {
        self.shared().archived(id).map_err(StoreError::Broken)
    }

    async fn archive_snapshot(&self, id: &ArchiveId) -> Result<Snapshot, StoreError> {
        let shared = self.shared();
        let stored = shared.archive.get(id).map(|stored| stored.snapshot.clone());
        stored.ok_or_else(|| StoreError::NotArchived { id: id.clone() })
    }

    async fn archive_delete(&self, id: &ArchiveId, _by: &Owner) -> Result<(), StoreError> {
        let mut shared = self.shared();
        shared.check_unmoved()?;
        if let Ok(Some(archived)) = shared.archived(id) {
            check_schema(&archived.record)?;
        }
        let removed = shared.archive.remove(id);
        removed.map(drop).ok_or_else(|| StoreError::NotArchived { id: id.clone() })
    }

    async fn archive_put(&self, archived: &Archived, snapshot: &Snapshot) -> Result<(), StoreError> {
        let mut shared = self.shared();
        shared.check_unmoved()?;
        let (id, record) = (&archived.id, &archived.record);
        if record.name.as_str() != id.name() {
            return Err(refused(&record.name, format!("it is no record of \"{}\"", id.name())));
        }
        check_snapshot(&record.name, snapshot)?;
        let stored = shared.archived(id).map_err(StoreError::Broken)?.map(|archived| archived.record);
        let stale = |stored: &Record| stale(record, stored.serial);
        if is_newer(stored.as_ref(), record, stale)? {
            shared.archive.insert(id.clone(), Stored::new(record, snapshot));
        }
        Ok(())
    }

    async fn records(&self) -> Result<Listing<Loaded>, StoreError> {
        let mut listing = Listing::default();
        for (name, stored) in &self.shared().active {
            match stored.read("active", name, name) {
                Ok(record) if half_archived(&record) => {}
                Ok(record) => listing.entries.push(Loaded { record, recovered: None }),
                Err(broken) => listing.broken.push(broken),
            }
        }
        Ok(listing)
    }

    async fn locks(&self) -> Result<Vec<HeldLock>, StoreError> {
        let shared = self.shared();
        Ok(shared.locks.keys().filter_map(|name| shared.held(name)).collect())
    }

    async fn break_lock(&self, name: &VmName) -> Result<Option<HeldLock>, StoreError> {
        let mut shared = self.shared();
        let held = shared.held(name);
        if let Some(holder) = shared.locks.remove(name) {
            shared.broken_locks.insert(name.clone(), holder.owner);
        }
        Ok(held)
    }

    async fn moved_to(&self) -> Result<Option<String>, StoreError> {
        Ok(self.shared().moved.clone())
    }

    async fn set_moved(&self, replaces: Option<&str>, to: Option<&str>) -> Result<(), StoreError> {
        let mut shared = self.shared();
        check_mark("memory:", shared.moved.as_deref(), replaces, to)?;
        shared.moved = to.map(str::to_owned);
        Ok(())
    }
}

/// Whether a record from another store may replace `stored`: the rule of [`VmLock::put`].
fn is_newer(
    stored: Option<&Record>,
    record: &Record,
    other: impl Fn(&Record) -> StoreError,
) -> Result<bool, StoreError> {
    check_schema(record)?;
    let Some(stored) = stored else { return Ok(true) };
    check_schema(stored)?;
    if stored.id != record.id {
        return Err(other(stored));
    }
    if stored.serial > record.serial {
        return Err(stale(record, stored.serial));
    }
    Ok(stored.serial < record.serial)
}

fn check_snapshot(name: &VmName, snapshot: &Snapshot) -> Result<(), StoreError> {
    match snapshot.files.keys().find(|file| !SNAPSHOT_FILES.contains(&file.as_str())) {
        None => Ok(()),
        Some(odd) => Err(refused(name, format!("a snapshot holds no file \"{odd}\""))),
    }
}

fn stale(record: &Record, found: u64) -> StoreError {
    StoreError::Stale { name: record.name.clone(), expected: record.serial, found }
}

fn refused(name: &VmName, text: String) -> StoreError {
    let source = io::Error::new(ErrorKind::InvalidInput, text);
    StoreError::Io { action: "write", path: format!("memory:active/{name}").into(), source }
}

fn check_schema(record: &Record) -> Result<(), StoreError> {
    if record.schema > SCHEMA {
        let name = record.name.clone();
        return Err(StoreError::Newer { name, found: record.schema, known: SCHEMA });
    }
    Ok(())
}

struct MemoryLock {
    store: MemoryStore,
    name: VmName,
    number: u64,
    taken_over: Option<Owner>,
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        let mut shared = self.store.shared();
        if shared.locks.get(&self.name).is_some_and(|holder| holder.number == self.number) {
            shared.locks.remove(&self.name);
        }
    }
}

impl MemoryLock {
    /// The store, if this lock still permits writing.
    fn writable(&self) -> Result<MutexGuard<'_, Shared>, StoreError> {
        let shared = self.store.shared();
        shared.check_unmoved()?;
        match shared.locks.get(&self.name) {
            Some(holder) if holder.number == self.number => Ok(shared),
            other => {
                let by = other.map(|holder| holder.owner.to_string());
                Err(StoreError::LockLost { name: self.name.clone(), by })
            }
        }
    }

    fn check_writable(&self, record: &Record) -> Result<(), StoreError> {
        if record.name != self.name {
            return Err(refused(&self.name, format!("it is the record of \"{}\"", record.name)));
        }
        check_schema(record)
    }
}

#[async_trait]
impl VmLock for MemoryLock {
    fn name(&self) -> &VmName {
        &self.name
    }

    async fn load(&mut self) -> Result<Option<Loaded>, StoreError> {
        self.store.shared().load(&self.name)
    }

    async fn snapshot(&mut self) -> Result<Snapshot, StoreError> {
        self.store.shared().snapshot(&self.name)
    }

    async fn create(&mut self, record: &mut Record, snapshot: &Snapshot) -> Result<(), StoreError> {
        self.check_writable(record)?;
        if record.serial != 0 {
            return Err(stale(record, 0));
        }
        check_snapshot(&self.name, snapshot)?;
        let mut shared = self.writable()?;
        if shared.active.contains_key(self.name.as_str()) {
            return Err(StoreError::NameTaken { name: self.name.clone() });
        }
        record.serial = 1;
        shared.active.insert(self.name.as_str().to_owned(), Stored::new(record, snapshot));
        Ok(())
    }

    async fn save(&mut self, record: &mut Record) -> Result<(), StoreError> {
        self.check_writable(record)?;
        let mut shared = self.writable()?;
        shared.expect_stored(record)?;
        record.serial += 1;
        record.updated_at = Timestamp::now();
        let stored = shared.active.get_mut(self.name.as_str()).expect("it was found above");
        stored.json = record::to_json(record);
        Ok(())
    }

    async fn save_with_snapshot(
        &mut self,
        record: &mut Record,
        snapshot: &Snapshot,
    ) -> Result<(), StoreError> {
        check_snapshot(&self.name, snapshot)?;
        if !record.has_files(snapshot) {
            return Err(refused(&self.name, "the record doesn't name these files".to_owned()));
        }
        self.save(record).await?;
        let mut shared = self.writable()?;
        let stored = shared.active.get_mut(self.name.as_str()).expect("it has just been saved");
        stored.snapshot = snapshot.clone();
        Ok(())
    }

    async fn archive(&mut self, record: &mut Record, at: Timestamp) -> Result<ArchiveId, StoreError> {
        if record.phase != Phase::Destroyed {
            let text = format!("only a destroyed VM is archived; this one is {}", record.phase);
            return Err(refused(&self.name, text));
        }
        self.save(record).await?;
        Ok(self.writable()?.move_to_archive(record, at))
    }

    async fn put(&mut self, record: &Record, snapshot: &Snapshot) -> Result<(), StoreError> {
        self.check_writable(record)?;
        check_snapshot(&self.name, snapshot)?;
        let mut shared = self.writable()?;
        let stored = shared.find(&self.name)?;
        let taken = |_: &Record| StoreError::NameTaken { name: self.name.clone() };
        if is_newer(stored.as_ref(), record, taken)? {
            shared.active.insert(self.name.as_str().to_owned(), Stored::new(record, snapshot));
        }
        Ok(())
    }

    async fn remove(&mut self, record: &Record) -> Result<(), StoreError> {
        self.check_writable(record)?;
        let mut shared = self.writable()?;
        shared.expect_stored(record)?;
        shared.active.remove(self.name.as_str());
        Ok(())
    }

    fn taken_over(&self) -> Option<&Owner> {
        self.taken_over.as_ref()
    }

    fn lease_end(&self) -> Option<Timestamp> {
        None
    }
}
