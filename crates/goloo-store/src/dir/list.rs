//! Lists thousands of records as fast as their files can be read: each is parsed straight into what
//! a list shows, and large stores are shared over threads.

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use goloo_core::name::VmName;
use goloo_core::store::{Broken, Listing, StoreError, Summary};

use super::durable::failed;
use super::fs::{Entry, Folder, Fs};
use super::layout::{self, Layout, STATE};
use super::read::{self, Found};
use crate::line::{self, Line};
use crate::rules::in_one_line;

/// With fewer of them for each, a thread costs more than it saves.
const RECORDS_PER_HELPER: usize = 512;
/// More than this wait for each other in the file system.
const HELPERS_MAX: usize = 3;
/// How many records a thread takes in one go.
const BATCH: usize = 32;
/// Bytes that a record is thought to have at most; a longer one makes the buffer grow.
const ROOM: usize = 4096;

/// What is shown of one folder.
enum Shown {
    Entry(Summary),
    Broken(Broken),
    /// A VM that is gone; the archive shows it.
    HalfArchived,
    Nothing,
}

/// What lies in `active`.
#[derive(Default)]
pub(super) struct Active {
    /// The active VMs.
    pub listing: Listing<Summary>,
    /// The names of VMs that are gone and still lie there.
    pub half_archived: Vec<String>,
}

/// How many threads help. It doesn't ask how many cores there are: the answer comes from several files of the
/// kernel's, and a thread that finds nothing left to do costs less.
fn helpers(records: usize) -> usize {
    (records / RECORDS_PER_HELPER).min(HELPERS_MAX)
}

/// All active VMs, sorted by name; `entries` are what lies in `active`, sorted.
///
/// Each thread reads and parses one batch after the other, while the bytes of a record are near.
pub(super) fn list(fs: &dyn Fs, layout: &Layout, entries: &[Entry]) -> Result<Active, StoreError> {
    if entries.is_empty() {
        return Ok(Active::default());
    }
    let active = layout.active();
    let folder = fs.open_folder(&active).map_err(failed("open", &active))?;
    let reader = Reader { fs, active, folder: &*folder, entries, next: AtomicUsize::new(0) };
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

/// What was read of one batch.
struct Part {
    /// The place of its first entry among all.
    first: usize,
    active: Active,
}

/// Folders whose names begin in a way that no VM's does aren't the store's.
fn is_record(entry: &Entry) -> bool {
    entry.is_folder && !layout::is_foreign(&entry.name)
}

struct Reader<'f> {
    fs: &'f dyn Fs,
    active: PathBuf,
    folder: &'f dyn Folder,
    entries: &'f [Entry],
    /// The first of the entries that nobody has taken.
    next: AtomicUsize,
}

impl Reader<'_> {
    /// Reads batches that nobody has taken, until there are none.
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
        match line::read(name, bytes) {
            Some(Line::Active(summary)) => Shown::Entry(summary),
            Some(Line::HalfArchived) => Shown::HalfArchived,
            None => self.show_unsound(name),
        }
    }

    /// The slow way, for the few that need it: from the copy before the last save, or shown as broken.
    fn show_unsound(&self, name: &str) -> Shown {
        let folder = self.active.join(name);
        let broken = |error: String| {
            let path = folder.join(STATE).display().to_string();
            Shown::Broken(Broken { name: name.to_owned(), path, error })
        };
        if let Err(error) = VmName::parse(name) {
            return broken(error.to_string());
        }
        match read::find(self.fs, &folder, name) {
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
