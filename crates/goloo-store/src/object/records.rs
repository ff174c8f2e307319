//! What is read of the active records.

use goloo_model::name::VmName;
use goloo_model::store::{Broken, HeldLock, Listing, Loaded, StoreError};

use super::bucket::{Found, Listed};
use super::envelope::Envelope;
use super::place::{ACTIVE, Place};
use crate::rules::is_half_archived;

/// The maximum size of an object without a VM; one with a VM may also be smaller. A larger object needn't be
/// read to know that its name is taken.
const EMPTY_BYTES_MAX: u64 = 4096;

/// An active object's record, unless its move to the archive is incomplete.
pub(super) fn loaded(place: &Place, name: &str, envelope: &Envelope) -> Result<Option<Loaded>, Broken> {
    let Some(vm) = &envelope.vm else { return Ok(None) };
    let record = vm.record(name, &place.seal);
    let record = record.map_err(|unsound| place.bucket.broken(ACTIVE, name, unsound.text()))?;
    Ok((!is_half_archived(&record)).then_some(Loaded { record, recovered: None }))
}

pub(super) fn shown(place: &Place, name: &str, found: Found) -> Result<Option<Loaded>, Broken> {
    let broken = |error| place.bucket.broken(ACTIVE, name, error);
    VmName::parse(name).map_err(|error| broken(error.to_string()))?;
    loaded(place, name, &found.envelope.map_err(broken)?)
}

/// All active records.
pub(super) async fn records(place: Place) -> Result<Listing<Loaded>, StoreError> {
    let Listed { mut entries, broken: mut unread } = place.bucket.listed(ACTIVE).await?;
    // A name that begins with a dot is a lock that isn't for a VM.
    entries.retain(|entry| !entry.name.starts_with('.'));
    let mut loaded = Vec::new();
    let show = |name: String, found| match shown(&place, &name, found) {
        Ok(one) => loaded.extend(one),
        Err(broken) => unread.push(broken),
    };
    place.bucket.read_each(ACTIVE, entries, show).await?;
    Ok(Listing { entries: loaded, broken: unread.in_place(&place.bucket.folder_address(ACTIVE)) })
}

pub(super) async fn names(place: Place) -> Result<Vec<String>, StoreError> {
    let entries = place.bucket.entries(ACTIVE).await?;
    let ours = entries.into_iter().filter(|entry| VmName::parse(&entry.name).is_ok());
    let (small, large): (Vec<_>, Vec<_>) = ours.partition(|entry| entry.bytes <= EMPTY_BYTES_MAX);
    let mut names: Vec<_> = large.into_iter().map(|entry| entry.name).collect();
    let is_vm = |found: &Found| found.envelope.as_ref().map_or(true, |envelope| envelope.vm.is_some());
    let show = |name, found| names.extend(is_vm(&found).then_some(name));
    place.bucket.read_each(ACTIVE, small, show).await?;
    names.sort_unstable();
    Ok(names)
}

pub(super) async fn locks(place: Place) -> Result<Vec<HeldLock>, StoreError> {
    let entries = place.bucket.entries(ACTIVE).await?;
    let mut locks = Vec::new();
    let show = |name: String, found: Found| {
        let (Ok(name), Ok(envelope)) = (VmName::parse(&name), found.envelope) else { return };
        locks.extend(envelope.lease.map(|holder| holder.lock(name, found.modified)));
    };
    place.bucket.read_each(ACTIVE, entries, show).await?;
    Ok(locks)
}
