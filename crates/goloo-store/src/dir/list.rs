//! Lists thousands of records as fast as their files can be read: each is parsed straight into what
//! a list shows, and large stores are shared over threads.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use goloo_core::name::VmName;
use goloo_core::store::{Broken, Listing, StoreError, Summary};

use super::durable::failed;
use super::fs::{Entry, Folder, Fs};
use super::layout::{self, Layout, STATE};
use super::read::{self, Found};
use crate::line::{self, Line};

/// Below this a thread costs more than it saves.
const RECORDS_PER_READER: usize = 256;
/// More than this wait for each other in the file system.
const READERS_MAX: usize = 4;
/// How many records are read in one go.
const BATCH: usize = 64;
/// So many batches may wait to be parsed: what is read ahead is bounded.
const BATCHES_READY: usize = 16;
/// Bytes that a record is thought to have.
const ROOM: usize = 1536;

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

/// How many threads read ahead. A small store doesn't ask how many cores there are: the answer comes
/// from files of the kernel's, and costs more than reading a few records.
fn readers(records: usize) -> usize {
    if records < RECORDS_PER_READER {
        return 0;
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    (cores - 1).clamp(1, READERS_MAX).min(records / RECORDS_PER_READER)
}

/// All active VMs; `entries` are what lies in `active`, sorted.
///
/// Waiting for the file system is shared: some threads read ahead, and this one parses what is ready, or
/// reads too while nothing is.
pub(super) fn list(fs: &dyn Fs, layout: &Layout, entries: &[Entry]) -> Result<Active, StoreError> {
    if entries.is_empty() {
        return Ok(Active::default());
    }
    let active = layout.active();
    let folder = fs.open_folder(&active).map_err(failed("open", &active))?;
    let reader = Reader { fs, active, folder: &*folder, entries, next: AtomicUsize::new(0) };
    let mut all = Active::default();
    all.listing.entries.reserve(entries.len());
    thread::scope(|scope| {
        let (send, ready) = mpsc::sync_channel(BATCHES_READY);
        for _ in 0..readers(entries.len()) {
            let (reader, send) = (&reader, send.clone());
            scope.spawn(move || while reader.read().is_some_and(|batch| send.send(batch).is_ok()) {});
        }
        drop(send);
        while let Some(batch) = ready.try_recv().ok().or_else(|| reader.read()) {
            reader.show(&batch, &mut all);
        }
        ready.iter().for_each(|batch| reader.show(&batch, &mut all));
    });
    all.listing.entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    all.listing.broken.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    all.half_archived.sort_unstable();
    Ok(all)
}

/// Some of the records, as they lie on the disk.
struct Batch<'e> {
    entries: &'e [Entry],
    bytes: Vec<u8>,
    /// Where each record ends in `bytes`. What couldn't be read has nothing.
    ends: Vec<usize>,
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

impl<'f> Reader<'f> {
    /// The next records that nobody has read.
    fn read(&self) -> Option<Batch<'f>> {
        let first = self.next.fetch_add(BATCH, Ordering::Relaxed);
        let entries = self.entries.get(first..)?;
        let entries = &entries[..entries.len().min(BATCH)];
        if entries.is_empty() {
            return None;
        }
        let (bytes, ends) = (Vec::with_capacity(entries.len() * ROOM), Vec::with_capacity(entries.len()));
        let mut batch = Batch { entries, bytes, ends };
        let mut path = PathBuf::with_capacity(128);
        for entry in entries {
            let start = batch.bytes.len();
            path.push(&entry.name);
            path.push(STATE);
            if !is_record(entry) || self.folder.append(&path, &mut batch.bytes).is_err() {
                batch.bytes.truncate(start);
            }
            path.clear();
            batch.ends.push(batch.bytes.len());
        }
        Some(batch)
    }

    fn show(&self, batch: &Batch<'_>, all: &mut Active) {
        let mut start = 0;
        for (entry, end) in batch.entries.iter().zip(&batch.ends) {
            let bytes = &batch.bytes[start..*end];
            start = *end;
            if !is_record(entry) {
                continue;
            }
            match self.show_one(&entry.name, bytes) {
                Shown::Entry(summary) => all.listing.entries.push(summary),
                Shown::Broken(broken) => all.listing.broken.push(broken),
                Shown::HalfArchived => all.half_archived.push(entry.name.clone()),
                Shown::Nothing => {}
            }
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
            Err(error) => broken(describe(&error)),
        }
    }
}

/// An error with its causes, in one line.
pub(super) fn describe(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
