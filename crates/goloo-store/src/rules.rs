//! Rules that every back end keeps in the same words.

use goloo_core::name::ArchiveId;
use goloo_core::record::{Phase, Record, SCHEMA};
use goloo_core::time::Timestamp;

/// A record of a VM that is gone, on its way to the archive when somebody died. One of a newer format
/// isn't ours to move.
pub(crate) fn is_half_archived(record: &Record) -> bool {
    record.phase == Phase::Destroyed && record.schema <= SCHEMA
}

/// The ids that a record may get in the archive, the first of them first. Two VMs of one name can't share
/// four random characters and the second of their end, save by the rarest chance; the later one then
/// gets the next second.
pub(crate) fn archive_ids(record: &Record, at: Timestamp) -> impl Iterator<Item = ArchiveId> + use<> {
    let (name, id) = (record.name.clone(), record.id.clone());
    let times = std::iter::successors(Some(at), |time| Timestamp::from_unix(time.unix() + 1));
    times.map(move |time| ArchiveId::new(&name, time, &id))
}

/// What is wrong with a record that belongs elsewhere.
pub(crate) fn other_name(found: &str, expected: &str) -> String {
    format!("it is the record of \"{found}\", not of \"{expected}\"")
}
