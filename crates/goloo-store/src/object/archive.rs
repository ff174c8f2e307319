//! The archive: one object per deleted VM, created once and never changed.
//!
//! A record is archived in steps: it is marked as deleted, with its archive id; it is copied, if the copy doesn't
//! exist yet; it is removed from its old place. The next process that takes the lock completes the steps, and until
//! then the archive shows it as if it were there.

use goloo_model::name::{ArchiveId, VmName};
use goloo_model::record::{Record, SCHEMA};
use goloo_model::store::{Archived, Broken, Listing, Snapshot, StoreError};

use super::bucket::{Bucket, Found, Listed, WriteError};
use super::envelope::{Envelope, Kept, Unsound};
use super::error::backend;
use super::place::{ACTIVE, ARCHIVE, Place};
use crate::rules::{BrokenRecords, archive_ids, is_half_archived, newer};

/// How often a change is attempted while others change the same object.
const ATTEMPTS: usize = 16;

fn broken(bucket: &Bucket, id: &ArchiveId, error: String) -> Broken {
    bucket.broken(ARCHIVE, id.as_str(), error)
}

/// The content of an object in the archive; `None` if it is the remainder of a removed one.
fn kept(bucket: &Bucket, id: &ArchiveId, found: Found) -> Result<Option<Kept>, Broken> {
    Ok(found.envelope.map_err(|error| broken(bucket, id, error))?.vm)
}

fn archived(place: &Place, id: &ArchiveId, found: Found) -> Result<Option<Archived>, Broken> {
    let Some(vm) = kept(&place.bucket, id, found)? else { return Ok(None) };
    let record = vm.record(id.name(), &place.seal);
    let record = record.map_err(|unsound| broken(&place.bucket, id, unsound.text()))?;
    Ok(Some(Archived { id: id.clone(), deleted_at: id.deleted_at(), record }))
}

/// Creates the copy under this id, unless it exists; `false` if another VM's record has the id.
pub(super) async fn copy(
    place: &Place,
    id: &ArchiveId,
    record: &Record,
    vm: &Kept,
) -> Result<bool, StoreError> {
    let bucket = &place.bucket;
    let copy = Envelope::in_archive(Some(vm.clone()));
    let mut replaces = None;
    for _ in 0..ATTEMPTS {
        match bucket.write(ARCHIVE, id.as_str(), &copy, replaces.as_ref()).await {
            Ok(_) => return Ok(true),
            Err(WriteError::InDoubt(error)) => return Err(error),
            Err(WriteError::Refused) => {}
        }
        let Some(found) = bucket.read(ARCHIVE, id.as_str()).await? else {
            replaces = None;
            continue;
        };
        let version = found.version.clone();
        match archived(place, id, found) {
            Ok(Some(there)) if there.record.id == record.id && there.record.serial >= record.serial => {
                return Ok(true);
            }
            // An earlier attempt to archive it, before its record was saved again.
            Ok(Some(there)) if there.record.id == record.id => replaces = Some(version),
            _ => return Ok(false),
        }
    }
    Err(backend("write", &bucket.place, format!("\"{id}\" is being changed continuously")))
}

/// A deleted VM that is still among the active ones.
struct Half {
    /// With the id that it will get.
    archived: Archived,
    vm: Kept,
    /// Whether the archive contains its copy already, and shows that.
    copied: bool,
}

async fn half(place: &Place, name: &str) -> Result<Option<Half>, StoreError> {
    let found = place.bucket.read(ACTIVE, name).await?;
    let Some(Envelope { vm: Some(vm), archiving, .. }) = found.and_then(|found| found.envelope.ok()) else {
        return Ok(None);
    };
    let record = match vm.record(name, &place.seal) {
        Ok(record) if is_half_archived(&record) => record,
        _ => return Ok(None),
    };
    let at = archiving.map_or(record.updated_at, |id| id.deleted_at());
    for id in archive_ids(&record, at) {
        let copied = match place.bucket.read(ARCHIVE, id.as_str()).await? {
            None => false,
            Some(found) => match archived(place, &id, found) {
                Ok(Some(there)) if there.record.id == record.id => true,
                _ => continue,
            },
        };
        return Ok(Some(Half { archived: Archived { deleted_at: id.deleted_at(), id, record }, vm, copied }));
    }
    Ok(None)
}

/// The one with this id, unless the archive itself contains it.
async fn half_as(place: &Place, id: &ArchiveId) -> Result<Option<Half>, StoreError> {
    Ok(half(place, id.name()).await?.filter(|half| !half.copied && half.archived.id == *id))
}

/// The archive, newest first.
pub(super) async fn list(place: &Place) -> Result<Listing<Archived>, StoreError> {
    let bucket = &place.bucket;
    // Before the archive itself: a record that is moved between the two reads is seen at least once.
    let mut gone = Vec::new();
    let show = |name: String, found: Found| {
        let vm = found.envelope.ok().and_then(|envelope| envelope.vm);
        let record = vm.and_then(|vm| vm.record(&name, &place.seal).ok());
        gone.extend(record.is_some_and(|record| is_half_archived(&record)).then_some(name));
    };
    bucket.read_each(ACTIVE, bucket.entries(ACTIVE).await?, show).await?;
    let mut halves = Vec::new();
    for name in gone {
        halves.extend(uncopied(place, &name).await?);
    }
    listing(place, halves, bucket.listed(ARCHIVE).await?).await
}

/// The entries that had this name: nothing else is read.
pub(super) async fn list_of(place: &Place, name: &VmName) -> Result<Listing<Archived>, StoreError> {
    let halves = uncopied(place, name.as_str()).await?;
    let mut entries = place.bucket.entries(ARCHIVE).await?;
    entries.retain(|entry| ArchiveId::parse(&entry.name).is_ok_and(|id| id.name() == name.as_str()));
    let listed = Listed { entries, broken: BrokenRecords::default() };
    listing(place, halves.into_iter().collect(), listed).await
}

/// A deleted VM that is still among the active ones and isn't in the archive yet.
async fn uncopied(place: &Place, name: &str) -> Result<Option<Archived>, StoreError> {
    Ok(half(place, name).await?.filter(|half| !half.copied).map(|half| half.archived))
}

async fn listing(
    place: &Place,
    halves: Vec<Archived>,
    listed: Listed,
) -> Result<Listing<Archived>, StoreError> {
    let bucket = &place.bucket;
    let (mut entries, mut broken) = (Vec::new(), listed.broken);
    let show = |name: String, found| {
        let shown = match ArchiveId::parse(&name) {
            Ok(id) => archived(place, &id, found),
            Err(error) => Err(bucket.broken(ARCHIVE, &name, error.to_string())),
        };
        match shown {
            Ok(entry) => entries.extend(entry),
            Err(one) => broken.push(one),
        }
    };
    bucket.read_each(ARCHIVE, listed.entries, show).await?;
    for half in halves {
        if entries.iter().all(|moved| moved.record.id != half.record.id) {
            entries.push(half);
        }
    }
    entries.sort_by(|a, b| (b.deleted_at, &b.id).cmp(&(a.deleted_at, &a.id)));
    Ok(Listing { entries, broken: broken.in_place(&bucket.folder_address(ARCHIVE)) })
}

/// One archived record. The archive is read again after the active VMs: a move may complete in between.
pub(super) async fn load(place: &Place, id: &ArchiveId) -> Result<Option<Archived>, StoreError> {
    let look = async || match place.bucket.read(ARCHIVE, id.as_str()).await? {
        Some(found) => archived(place, id, found).map_err(StoreError::Broken),
        None => Ok(None),
    };
    if let Some(archived) = look().await? {
        return Ok(Some(archived));
    }
    match half_as(place, id).await? {
        Some(half) => Ok(Some(half.archived)),
        None => look().await,
    }
}

/// The files of an archived VM.
pub(super) async fn snapshot(place: &Place, id: &ArchiveId) -> Result<Snapshot, StoreError> {
    let look = async || match place.bucket.read(ARCHIVE, id.as_str()).await? {
        Some(found) => kept(&place.bucket, id, found).map_err(StoreError::Broken),
        None => Ok(None),
    };
    let vm = match look().await? {
        Some(vm) => Some(vm),
        None => match half_as(place, id).await? {
            Some(half) => Some(half.vm),
            None => look().await?,
        },
    };
    let vm = vm.ok_or_else(|| StoreError::NotArchived { id: id.clone() })?;
    let files = vm.snapshot(&place.seal);
    files.map_err(|error| StoreError::Broken(broken(&place.bucket, id, error)))
}

/// The name whose lock must be taken first to complete an unfinished move of this record; even if it is already
/// copied, or it would be copied again after its removal.
pub(super) async fn half_way(place: &Place, id: &ArchiveId) -> Result<Option<VmName>, StoreError> {
    let half = half(place, id.name()).await?.filter(|half| half.archived.id == *id);
    Ok(half.map(|half| half.archived.record.name))
}

/// Removes a record permanently: it is replaced by an empty object, which only one of several concurrent callers
/// succeeds in. Then that is removed too, if the service supports it; except for a record that has just been written,
/// since its copy might arrive once more and must not find an empty place.
pub(super) async fn delete(place: &Place, id: &ArchiveId) -> Result<(), StoreError> {
    let bucket = &place.bucket;
    let gone = || StoreError::NotArchived { id: id.clone() };
    for _ in 0..ATTEMPTS {
        let found = bucket.read(ARCHIVE, id.as_str()).await?.ok_or_else(gone)?;
        let (version, settled) = (found.version.clone(), bucket.is_settled(found.modified)?);
        if let Ok(vm) = kept(bucket, id, found) {
            let name = VmName::parse(id.name()).expect("an archive id begins with a name");
            match vm.ok_or_else(gone)?.record(id.name(), &place.seal) {
                Ok(record) if record.schema > SCHEMA => return Err(newer(&name, record.schema)),
                Err(Unsound::Newer(schema, _)) => return Err(newer(&name, schema)),
                _ => {}
            }
        }
        let empty = Envelope::in_archive(None);
        match bucket.write(ARCHIVE, id.as_str(), &empty, Some(&version)).await {
            Ok(version) => {
                if settled {
                    bucket.remove_empty(ARCHIVE, id.as_str(), &version).await;
                }
                return Ok(());
            }
            Err(WriteError::Refused) => {}
            Err(WriteError::InDoubt(error)) => return Err(error),
        }
    }
    Err(backend("delete", &bucket.place, format!("\"{id}\" is being changed continuously")))
}

/// Copies a record from another store into the archive.
pub(super) async fn put(
    place: &Place,
    archived_there: &Archived,
    snapshot: &Snapshot,
) -> Result<(), StoreError> {
    let (bucket, id, record) = (&place.bucket, &archived_there.id, &archived_there.record);
    place.check_document(ARCHIVE, id.as_str(), id.name(), record)?;
    place.check_files(ARCHIVE, id.as_str(), snapshot)?;
    let vm = Kept::new(record, snapshot, &place.seal).map_err(|error| place.sealing(error))?;
    let copy = Envelope::in_archive(Some(vm));
    for _ in 0..ATTEMPTS {
        let found = bucket.read(ARCHIVE, id.as_str()).await?;
        let version = found.as_ref().map(|found| found.version.clone());
        let there = found.map(|found| archived(place, id, found)).transpose().map_err(StoreError::Broken)?;
        if let Some(there) = there.flatten().map(|there| there.record) {
            if (&there.id, there.serial) == (&record.id, record.serial) {
                return Ok(());
            }
            if there.serial >= record.serial {
                let name = record.name.clone();
                return Err(StoreError::Stale { name, expected: record.serial, found: there.serial });
            }
        }
        match bucket.write(ARCHIVE, id.as_str(), &copy, version.as_ref()).await {
            Ok(_) => return Ok(()),
            Err(WriteError::Refused) => {}
            Err(WriteError::InDoubt(error)) => return Err(error),
        }
    }
    Err(backend("write", &bucket.place, format!("\"{id}\" is being changed continuously")))
}
