//! Lists thousands of records as fast as their files can be read: each is parsed straight into what
//! a list shows, and large stores are shared over threads.
//!
//! Fields that a list doesn't show are only checked for being JSON, so a record whose damage lies
//! there is listed, and [`load`](goloo_core::store::Store::load) tells of the damage.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::thread;

use goloo_core::name::{VmId, VmName};
use goloo_core::record::{Phase, ProviderKind, SCHEMA};
use goloo_core::store::{Broken, Listing, StoreError, Summary};
use goloo_core::time::Timestamp;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::durable::failed;
use super::fs::{Entry, Folder, Fs};
use super::layout::{self, Layout, STATE};
use super::read::{self, Found};

/// Below this a thread costs more than it saves.
const RECORDS_PER_THREAD: usize = 128;
/// More than this wait for each other in the file system.
const THREADS_MAX: usize = 8;

/// The part of `state.json` that a list shows.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    schema: u32,
    #[serde(rename = "serial")]
    _serial: u64,
    id: VmId,
    #[serde(borrow)]
    name: Cow<'a, str>,
    stack: String,
    provider: ProviderKind,
    phase: Phase,
    #[serde(borrow)]
    created_at: Cow<'a, str>,
    #[serde(default)]
    operation: Option<IgnoredAny>,
    #[serde(default)]
    source_config_path: Option<PathBuf>,
    #[serde(default, deserialize_with = "pairs")]
    tags: Vec<(String, String)>,
    #[serde(default)]
    local: Option<LocalLine>,
    #[serde(default)]
    aws: Option<AwsLine>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LocalLine {
    ip: String,
    ssh_port: u16,
}

#[derive(Deserialize)]
struct AwsLine {
    #[serde(default, rename = "publicIP")]
    public_ip: Option<String>,
    #[serde(default)]
    fqdn: Option<String>,
}

/// A JSON object as sorted pairs; of two with one key the last counts, as in a map.
fn pairs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, String)>, D::Error> {
    struct Pairs;
    impl<'de> Visitor<'de> for Pairs {
        type Value = Vec<(String, String)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of strings")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut pairs: Self::Value = Vec::new();
            while let Some((key, value)) = map.next_entry::<String, String>()? {
                match pairs.binary_search_by(|(known, _)| known.cmp(&key)) {
                    Ok(place) => pairs[place].1 = value,
                    Err(place) => pairs.insert(place, (key, value)),
                }
            }
            Ok(pairs)
        }
    }
    deserializer.deserialize_map(Pairs)
}

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

/// How many threads share the work. A small store doesn't ask how many cores there are: the answer
/// comes from files of the kernel's, and costs more than reading a few records.
fn threads(records: usize) -> usize {
    match records / RECORDS_PER_THREAD {
        0 | 1 => 1,
        useful => thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX).min(useful),
    }
}

/// Reads all of them; `entries` are what lies in `active`, sorted.
pub(super) fn list(fs: &dyn Fs, layout: &Layout, entries: &[Entry]) -> Result<Active, StoreError> {
    let threads = threads(entries.len());
    let parts: Vec<&[Entry]> = entries.chunks(entries.len().div_ceil(threads).max(1)).collect();
    let Some((first, others)) = parts.split_first() else { return Ok(Active::default()) };
    let active = layout.active();
    let folder = fs.open_folder(&active).map_err(failed("open", &active))?;
    let reader = Reader { fs, active, folder: &*folder };
    Ok(thread::scope(|scope| {
        let reader = &reader;
        let others: Vec<_> = others.iter().map(|part| scope.spawn(|| reader.list(part))).collect();
        let mut all = reader.list(first);
        for other in others {
            let part = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            all.listing.entries.extend(part.listing.entries);
            all.listing.broken.extend(part.listing.broken);
            all.half_archived.extend(part.half_archived);
        }
        all
    }))
}

struct Reader<'f> {
    fs: &'f dyn Fs,
    active: PathBuf,
    folder: &'f dyn Folder,
}

impl Reader<'_> {
    fn list(&self, entries: &[Entry]) -> Active {
        let mut listing = Listing { entries: Vec::with_capacity(entries.len()), broken: Vec::new() };
        let mut half_archived = Vec::new();
        let mut bytes = Vec::with_capacity(16 << 10);
        let mut path = PathBuf::with_capacity(128);
        for entry in entries.iter().filter(|entry| entry.is_folder && !layout::is_foreign(&entry.name)) {
            path.push(&entry.name);
            path.push(STATE);
            let shown = self.show(&path, &entry.name, &mut bytes);
            path.clear();
            match shown {
                Shown::Entry(summary) => listing.entries.push(summary),
                Shown::Broken(broken) => listing.broken.push(broken),
                Shown::HalfArchived => half_archived.push(entry.name.clone()),
                Shown::Nothing => {}
            }
        }
        Active { listing, half_archived }
    }

    fn show(&self, state: &Path, name: &str, bytes: &mut Vec<u8>) -> Shown {
        let read = self.folder.read(state, bytes).is_ok();
        // Checked as a whole, text is parsed a sixth faster than bytes.
        let text = read.then(|| std::str::from_utf8(bytes).ok()).flatten();
        let line = text.and_then(|text| serde_json::from_str::<Line<'_>>(text).ok());
        let sound = line.filter(|line| line.name == name && line.schema > 0);
        sound.and_then(summary).unwrap_or_else(|| self.show_unsound(name))
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

fn summary(line: Line<'_>) -> Option<Shown> {
    if line.phase == Phase::Destroyed && line.schema <= SCHEMA {
        return Some(Shown::HalfArchived);
    }
    let ssh_port = match (&line.local, &line.aws) {
        (Some(local), _) => Some(local.ssh_port),
        (None, Some(_)) => Some(22),
        (None, None) => None,
    };
    let (public_ip, fqdn) = line.aws.map_or((None, None), |aws| (aws.public_ip, aws.fqdn));
    Some(Shown::Entry(Summary {
        name: VmName::parse(&line.name).ok()?,
        id: line.id,
        provider: line.provider,
        phase: line.phase,
        operation: line.operation.is_some(),
        stack: line.stack,
        created_at: Timestamp::parse(&line.created_at).ok()?,
        ip: line.local.map(|local| local.ip).or(public_ip),
        ssh_port,
        fqdn,
        source_config_path: line.source_config_path,
        tags: line.tags,
    }))
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
