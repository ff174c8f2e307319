//! Lists thousands of records as fast as their files can be read: each is parsed directly into what
//! a list shows, and large stores are processed by several threads.

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use goloo_model::name::VmName;
use goloo_model::store::{Broken, Listing, StoreError, Summary};

use super::durable::failed;
use super::fs::{Entry, Folder};
use super::layout::{self, Layout, STATE};
use super::read::{self, Found, RecordReader};
use crate::summary_decode::{self, DecodedSummary};
use goloo_sys::error_chain::in_one_line;

/// With fewer records, a thread costs more than it saves.
const RECORDS_PER_HELPER: usize = 512;
/// More threads than this block each other in the file system.
const HELPERS_MAX: usize = 3;
/// The number of records that a thread takes at a time.
const BATCH: usize = 32;
/// The expected maximum size of a record; a longer one makes the buffer grow.
const ROOM: usize = 4096;

/// The result for one folder.
#[expect(clippy::large_enum_variant, reason = "boxing would cost a list of thousands more")]
enum Shown {
    Entry(Summary),
    Broken(Broken),
    /// A deleted VM; the archive shows it.
    HalfArchived,
    Nothing,
}

/// The contents of `active`.
#[derive(Default)]
pub(super) struct Active {
    /// The active VMs.
    pub listing: Listing<Summary>,
    /// The names of deleted VMs that are still in it.
    pub half_archived: Vec<String>,
}

/// The number of additional threads. The number of cores isn't queried: that requires reading several kernel
/// files, and a thread that finds nothing left to do costs less.
fn helpers(records: usize) -> usize {
    (records / RECORDS_PER_HELPER).min(HELPERS_MAX)
}

/// All active VMs, sorted by name; `entries` are the entries of `active`, sorted.
///
/// Each thread reads and parses one batch after the other, while a record's bytes are in the cache.
pub(super) fn list(
    records: RecordReader<'_>,
    layout: &Layout,
    entries: &[Entry],
) -> Result<Active, StoreError> {
    if entries.is_empty() {
        return Ok(Active::default());
    }
    let active = layout.active();
    let folder = records.fs.open_folder(&active).map_err(failed("open", &active))?;
    let reader = Reader { records, active, folder: &*folder, entries, next: AtomicUsize::new(0) };
    let mut parts = thread::scope(|scope| {
        let helpers: Vec<_> = (0..helpers(entries.len())).map(|_| scope.spawn(|| reader.parts())).collect();
        let mut parts = reader.parts();
        for helper in helpers {
            parts.extend(helper.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        parts
    });
    parts.sort_unstable_by_key(|part| part.first);
    let mut all = Active::default();
    all.listing.entries.reserve_exact(entries.len());
    for Part { active, .. } in parts {
        all.listing.entries.extend(active.listing.entries);
        all.listing.broken.extend(active.listing.broken);
        all.half_archived.extend(active.half_archived);
    }
    Ok(all)
}

/// The results of one batch.
struct Part {
    /// The index of its first entry.
    first: usize,
    active: Active,
}

/// Whether an entry can be a record: folders with a prefix that no VM name has aren't the store's.
fn is_record(entry: &Entry) -> bool {
    entry.is_folder && !layout::is_foreign(&entry.name)
}

struct Reader<'f> {
    records: RecordReader<'f>,
    active: PathBuf,
    folder: &'f dyn Folder,
    entries: &'f [Entry],
    /// The index of the first entry that no thread has taken.
    next: AtomicUsize,
}

impl Reader<'_> {
    /// Reads batches until none is left.
    fn parts(&self) -> Vec<Part> {
        let mut parts = Vec::with_capacity(self.entries.len() / BATCH + 1);
        let (mut path, mut bytes) = (PathBuf::with_capacity(128), Vec::with_capacity(ROOM));
        loop {
            let first = self.next.fetch_add(BATCH, Ordering::Relaxed);
            let Some(rest) = self.entries.get(first..).filter(|rest| !rest.is_empty()) else { return parts };
            let mut active = Active::default();
            active.listing.entries.reserve_exact(BATCH);
            for entry in rest.iter().take(BATCH).filter(|entry| is_record(entry)) {
                path.push(&entry.name);
                path.push(STATE);
                bytes.clear();
                if self.folder.append(&path, &mut bytes).is_err() {
                    bytes.clear();
                }
                path.clear();
                self.show(&entry.name, &bytes, &mut active);
            }
            parts.push(Part { first, active });
        }
    }

    fn show(&self, name: &str, bytes: &[u8], active: &mut Active) {
        match self.show_one(name, bytes) {
            Shown::Entry(summary) => active.listing.entries.push(summary),
            Shown::Broken(broken) => active.listing.broken.push(broken),
            Shown::HalfArchived => active.half_archived.push(name.to_owned()),
            Shown::Nothing => {}
        }
    }

    fn show_one(&self, name: &str, bytes: &[u8]) -> Shown {
        match summary_decode::read(name, bytes) {
            Some(DecodedSummary::Active(summary)) => Shown::Entry(summary),
            Some(DecodedSummary::HalfArchived) => Shown::HalfArchived,
            None => self.show_unsound(name),
        }
    }

    /// The slow path for the few records that are recovered from the copy before the last save, or reported as broken.
    fn show_unsound(&self, name: &str) -> Shown {
        let folder = self.active.join(name);
        let broken = |error: String| {
            let path = folder.join(STATE).display().to_string();
            Shown::Broken(Broken { name: name.to_owned(), path, error })
        };
        if let Err(error) = VmName::parse(name) {
            return broken(error.to_string());
        }
        match self.records.find(&folder, name) {
            Ok(Found::Absent) => Shown::Nothing,
            Ok(Found::Sound(record, _)) if read::is_half_archived(&record) => Shown::HalfArchived,
            Ok(Found::Sound(record, _) | Found::Recovered(record, _)) => {
                Shown::Entry(Summary::from(&*record))
            }
            Ok(Found::Broken(found) | Found::Newer(found, _)) => Shown::Broken(found),
            Err(error) => broken(in_one_line(&error)),
        }
    }
}
