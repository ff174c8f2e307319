//! An in-memory file system that dies or fails at any operation, and then keeps as little or as much of the unsynced
//! data as a real one may.
//!
//! The model follows the findings of ALICE (OSDI '14) about file systems:
//! - A file's content is durable as of its last `sync`. Later writes, or the whole content of a file that was never
//!   synced, may be present, truncated or empty.
//! - A change of names (create, link, rename, remove) is atomic, and durable once an affected folder is synced. Each
//!   change that isn't durable may or may not have reached the disk, independently of the others: even a later one
//!   without an earlier one.
//! - After a failed `sync` the content counts as written although it isn't: the next `sync` of that file reports
//!   success for lost data.
//!
//! ```
//! # use goloo_testkit::sim_fs::{Crash, SimFs};
//! let disk = SimFs::new();
//! disk.stop_after(3);
//! // … the process works until its fourth operation and dies …
//! let after = disk.crash(Crash::Lost);
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use goloo_store::dir::fs::{Entry, Folder, Fs, LockAttempt, LockGuard, NewFile};

/// What remains of unsynced data after a power loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// Nothing.
    Lost,
    /// Everything: only the process died.
    Kept,
    /// Some of it, chosen with this seed.
    Mixed(u64),
}

/// An error returned instead of carrying out the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Which operation fails, counted from 0.
    pub at: usize,
    /// Whether all later operations fail too.
    pub lasting: bool,
    /// The system's error number.
    pub errno: i32,
}

/// "No space left on device".
pub const ENOSPC: i32 = 28;
/// "Input/output error".
pub const EIO: i32 = 5;
/// "Permission denied".
pub const EACCES: i32 = 13;

/// A simulated disk, shared by its clones.
#[derive(Debug, Clone)]
pub struct SimFs {
    disk: Arc<Mutex<Disk>>,
}

type Ino = usize;
const ROOT: Ino = 0;

#[derive(Debug, Clone)]
enum Node {
    File {
        content: Vec<u8>,
        /// As of the last sync; `None` before the first one.
        durable: Option<Vec<u8>>,
        /// A sync has failed: the kernel considers the content written.
        forgotten: bool,
    },
    Folder {
        entries: BTreeMap<String, Ino>,
        durable: BTreeMap<String, Ino>,
    },
}

/// One change of names: the folder, the name, and its new target.
type Change = Vec<(Ino, String, Option<Ino>)>;

#[derive(Debug)]
struct Disk {
    nodes: Vec<Node>,
    /// Changes of names that aren't durable, in order.
    pending: Vec<Change>,
    operations: usize,
    stop_after: Option<usize>,
    fault: Option<Fault>,
    locks: BTreeMap<String, Vec<u8>>,
    /// How many holders share each shared lock.
    shared: BTreeMap<String, usize>,
    network: Option<&'static str>,
}

impl Default for SimFs {
    fn default() -> Self {
        Self::new()
    }
}

impl SimFs {
    /// An empty disk.
    pub fn new() -> Self {
        let root = Node::Folder { entries: BTreeMap::new(), durable: BTreeMap::new() };
        Self::from_nodes(vec![root])
    }

    fn from_nodes(nodes: Vec<Node>) -> Self {
        let disk = Disk {
            nodes,
            pending: Vec::new(),
            operations: 0,
            stop_after: None,
            fault: None,
            locks: BTreeMap::new(),
            shared: BTreeMap::new(),
            network: None,
        };
        Self { disk: Arc::new(Mutex::new(disk)) }
    }

    /// Makes the process die before operation number `count`, counted from 0 starting now: from then on everything
    /// fails and nothing has an effect.
    pub fn stop_after(&self, count: usize) {
        let mut disk = self.disk();
        disk.operations = 0;
        disk.stop_after = Some(count);
    }

    /// Makes one operation fail, counted starting now.
    pub fn fail(&self, fault: Fault) {
        let mut disk = self.disk();
        disk.operations = 0;
        disk.fault = Some(fault);
    }

    /// Ends all failures.
    pub fn heal(&self) {
        self.disk().fault = None;
    }

    /// Makes the disk report that it is a network file system.
    pub fn on_network(&self, name: &'static str) {
        self.disk().network = Some(name);
    }

    /// The number of operations so far that change something or make it durable.
    pub fn operations(&self) -> usize {
        self.disk().operations
    }

    /// The disk after the process has died and the machine has restarted. This disk isn't changed.
    pub fn crash(&self, crash: Crash) -> Self {
        let disk = self.disk();
        let mut dice = Dice::new(crash);
        let mut nodes = disk.nodes.clone();
        for node in &mut nodes {
            node.lose(&mut dice);
        }
        for change in &disk.pending {
            if dice.keeps() {
                apply(&mut nodes, change);
            }
        }
        for node in &mut nodes {
            node.settle();
        }
        Self::from_nodes(nodes)
    }

    /// All file paths, sorted, so that tests can find leftovers.
    pub fn files(&self) -> Vec<String> {
        let disk = self.disk();
        let mut files = Vec::new();
        disk.walk(ROOT, String::new(), &mut files);
        files
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().expect("no holder panics")
    }

    /// Removes an empty folder.
    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operation()?;
        let place = disk.place(path)?;
        let ino = disk.existing(&place)?;
        if !disk.entries(ino)?.is_empty() {
            return Err(error(ErrorKind::DirectoryNotEmpty));
        }
        disk.change(vec![(place.folder, place.name, None)]);
        Ok(())
    }
}

/// Decides which unsynced data is kept.
struct Dice {
    crash: Crash,
    state: u64,
}

impl Dice {
    fn new(crash: Crash) -> Self {
        let seed = if let Crash::Mixed(seed) = crash { seed } else { 0 };
        Self { crash, state: seed }
    }

    /// SplitMix64: small and reproducible everywhere.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn keeps(&mut self) -> bool {
        match self.crash {
            Crash::Lost => false,
            Crash::Kept => true,
            Crash::Mixed(_) => self.next().is_multiple_of(2),
        }
    }

    /// What remains of content that was never synced.
    fn content(&mut self, content: &[u8]) -> Vec<u8> {
        match self.crash {
            Crash::Lost => Vec::new(),
            Crash::Kept => content.to_vec(),
            Crash::Mixed(_) => {
                let length = usize::try_from(self.next()).unwrap_or(usize::MAX) % (content.len() + 1);
                content[..length].to_vec()
            }
        }
    }
}

impl Node {
    /// Reverts to what is durable; names that may have been kept are added afterwards.
    fn lose(&mut self, dice: &mut Dice) {
        match self {
            Self::File { content, durable, .. } => {
                if durable.as_ref() != Some(content) && !(durable.is_some() && dice.keeps()) {
                    *content = durable.clone().unwrap_or_else(|| dice.content(content));
                }
            }
            Self::Folder { entries, durable } => *entries = durable.clone(),
        }
    }

    fn settle(&mut self) {
        match self {
            Self::File { content, durable, forgotten } => {
                *durable = Some(content.clone());
                *forgotten = false;
            }
            Self::Folder { entries, durable } => *durable = entries.clone(),
        }
    }
}

fn apply(nodes: &mut [Node], change: &Change) {
    for (folder, name, target) in change {
        let Node::Folder { entries, .. } = &mut nodes[*folder] else { unreachable!("names lie in folders") };
        match target {
            Some(ino) => drop(entries.insert(name.clone(), *ino)),
            None => drop(entries.remove(name)),
        }
    }
}

fn error(kind: ErrorKind) -> io::Error {
    kind.into()
}

/// The location of a path's last component.
struct Place {
    folder: Ino,
    name: String,
}

impl Disk {
    fn stopped(&self) -> bool {
        self.stop_after.is_some_and(|count| self.operations > count)
    }

    /// Reading works until the process is dead.
    fn reading(&self) -> io::Result<()> {
        if self.stopped() { Err(io::Error::other("the process is dead")) } else { Ok(()) }
    }

    /// Counts an operation and determines whether it is carried out.
    fn operation(&mut self) -> io::Result<()> {
        let number = self.operations;
        self.operations += 1;
        if self.stop_after.is_some_and(|count| number >= count) {
            return Err(io::Error::other("the process is dead"));
        }
        match self.fault {
            Some(fault) if number == fault.at || fault.lasting && number > fault.at => {
                Err(io::Error::from_raw_os_error(fault.errno))
            }
            _ => Ok(()),
        }
    }

    fn walk(&self, folder: Ino, path: String, files: &mut Vec<String>) {
        let Node::Folder { entries, .. } = &self.nodes[folder] else { return files.push(path) };
        for (name, ino) in entries {
            self.walk(*ino, format!("{path}/{name}"), files);
        }
    }

    fn entries(&self, folder: Ino) -> io::Result<&BTreeMap<String, Ino>> {
        match &self.nodes[folder] {
            Node::Folder { entries, .. } => Ok(entries),
            Node::File { .. } => Err(error(ErrorKind::NotADirectory)),
        }
    }

    fn find(&self, path: &Path) -> io::Result<Ino> {
        let mut ino = ROOT;
        for component in path.components() {
            if let Component::Normal(name) = component {
                let name = name.to_string_lossy();
                ino = *self.entries(ino)?.get(&*name).ok_or_else(|| error(ErrorKind::NotFound))?;
            }
        }
        Ok(ino)
    }

    fn place(&self, path: &Path) -> io::Result<Place> {
        let folder = self.find(path.parent().unwrap_or(Path::new("/")))?;
        self.entries(folder)?;
        let name = path.file_name().ok_or_else(|| error(ErrorKind::InvalidInput))?;
        Ok(Place { folder, name: name.to_string_lossy().into_owned() })
    }

    fn at(&self, place: &Place) -> io::Result<Option<Ino>> {
        Ok(self.entries(place.folder)?.get(&place.name).copied())
    }

    fn existing(&self, place: &Place) -> io::Result<Ino> {
        self.at(place)?.ok_or_else(|| error(ErrorKind::NotFound))
    }

    fn free(&self, place: &Place) -> io::Result<()> {
        match self.at(place)? {
            Some(_) => Err(error(ErrorKind::AlreadyExists)),
            None => Ok(()),
        }
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.nodes, &change);
        self.pending.push(change);
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<Ino> {
        let place = self.place(path)?;
        self.free(&place)?;
        let ino = self.nodes.len();
        self.nodes.push(node);
        self.change(vec![(place.folder, place.name, Some(ino))]);
        Ok(ino)
    }

    fn is_folder(&self, ino: Ino) -> bool {
        matches!(self.nodes[ino], Node::Folder { .. })
    }

    fn rename(&mut self, from: &Place, to: Place, ino: Ino) {
        self.change(vec![(from.folder, from.name.clone(), None), (to.folder, to.name, Some(ino))]);
    }

    /// A change becomes durable as a whole, together with earlier changes in any folder it affects.
    fn sync_folder(&mut self, folder: Ino) {
        let mut folders = BTreeSet::from([folder]);
        let mut durable = Vec::new();
        for (n, change) in self.pending.iter().enumerate().rev() {
            if change.iter().any(|(touched, ..)| folders.contains(touched)) {
                folders.extend(change.iter().map(|(touched, ..)| *touched));
                durable.push(n);
            }
        }
        // Collected from newest to oldest: removed in that order, applied in reverse.
        let changes: Vec<_> = durable.into_iter().map(|n| self.pending.remove(n)).collect();
        for change in changes.iter().rev() {
            make_durable(&mut self.nodes, change);
        }
    }

    fn file(&mut self, ino: Ino) -> (&mut Vec<u8>, &mut Option<Vec<u8>>, &mut bool) {
        match &mut self.nodes[ino] {
            Node::File { content, durable, forgotten } => (content, durable, forgotten),
            Node::Folder { .. } => unreachable!("only files are opened"),
        }
    }
}

fn make_durable(nodes: &mut [Node], change: &Change) {
    for (folder, name, target) in change {
        let Node::Folder { durable, .. } = &mut nodes[*folder] else { unreachable!("names lie in folders") };
        match target {
            Some(ino) => drop(durable.insert(name.clone(), *ino)),
            None => drop(durable.remove(name)),
        }
    }
}

struct SimFile {
    fs: SimFs,
    ino: Ino,
}

impl NewFile for SimFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.fs.disk();
        let result = disk.operation();
        if result.is_ok() {
            disk.file(self.ino).0.extend_from_slice(bytes);
        } else if !disk.stopped() {
            // A disk that fills up has stored a part.
            disk.file(self.ino).0.extend_from_slice(&bytes[..bytes.len() / 2]);
        }
        result
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut disk = self.fs.disk();
        let result = disk.operation();
        let dead = disk.stopped();
        let (content, durable, forgotten) = disk.file(self.ino);
        if result.is_ok() && !*forgotten {
            *durable = Some(content.clone());
        }
        *forgotten |= result.is_err() && !dead;
        result
    }
}

struct SimFolder<'f> {
    fs: &'f SimFs,
    path: PathBuf,
}

impl Folder for SimFolder<'_> {
    fn append(&self, path: &Path, into: &mut Vec<u8>) -> io::Result<()> {
        let mut content = Vec::new();
        self.fs.read(&self.path.join(path), &mut content)?;
        into.append(&mut content);
        Ok(())
    }
}

struct SimLock {
    fs: SimFs,
    path: String,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.fs.disk().locks.remove(&self.path);
    }
}

struct SimShare {
    fs: SimFs,
    path: String,
}

impl Drop for SimShare {
    fn drop(&mut self) {
        *self.fs.disk().shared.get_mut(&self.path).expect("it was counted") -= 1;
    }
}

impl Fs for SimFs {
    fn read(&self, path: &Path, into: &mut Vec<u8>) -> io::Result<()> {
        let disk = self.disk();
        disk.reading()?;
        let ino = disk.find(path)?;
        let Node::File { content, .. } = &disk.nodes[ino] else {
            return Err(error(ErrorKind::IsADirectory));
        };
        into.clear();
        into.extend_from_slice(content);
        Ok(())
    }

    fn read_folder(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let disk = self.disk();
        disk.reading()?;
        let entries = disk.entries(disk.find(path)?)?;
        Ok(entries
            .iter()
            .map(|(name, ino)| Entry { name: name.clone(), is_folder: disk.is_folder(*ino) })
            .collect())
    }

    fn open_folder<'f>(&'f self, path: &Path) -> io::Result<Box<dyn Folder + 'f>> {
        let disk = self.disk();
        disk.reading()?;
        disk.entries(disk.find(path)?)?;
        Ok(Box::new(SimFolder { fs: self, path: path.to_owned() }))
    }

    fn folder_id(&self, path: &Path) -> io::Result<Option<u64>> {
        let disk = self.disk();
        disk.reading()?;
        match disk.find(path) {
            Ok(ino) => Ok(Some(ino as u64)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operation()?;
        disk.add(path, Node::Folder { entries: BTreeMap::new(), durable: BTreeMap::new() }).map(drop)
    }

    fn create_file(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        let mut disk = self.disk();
        disk.operation()?;
        let file = Node::File { content: Vec::new(), durable: None, forgotten: false };
        let ino = disk.add(path, file)?;
        Ok(Box::new(SimFile { fs: self.clone(), ino }))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operation()?;
        let ino = disk.find(from)?;
        let to = disk.place(to)?;
        disk.free(&to)?;
        disk.change(vec![(to.folder, to.name, Some(ino))]);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operation()?;
        let (from, to) = (disk.place(from)?, disk.place(to)?);
        let ino = disk.existing(&from)?;
        // As POSIX specifies: two names of the same file are left unchanged.
        if disk.at(&to)? != Some(ino) {
            disk.rename(&from, to, ino);
        }
        Ok(())
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operation()?;
        let (from, to) = (disk.place(from)?, disk.place(to)?);
        let ino = disk.existing(&from)?;
        disk.free(&to)?;
        disk.rename(&from, to, ino);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operation()?;
        let place = disk.place(path)?;
        let ino = disk.existing(&place)?;
        if disk.is_folder(ino) {
            return Err(error(ErrorKind::IsADirectory));
        }
        disk.change(vec![(place.folder, place.name, None)]);
        Ok(())
    }

    /// In steps, as on a real disk: the process may die in between.
    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        let is_missing = |error: &io::Error| error.kind() == ErrorKind::NotFound;
        let entries = match self.read_folder(path) {
            Err(error) if is_missing(&error) => return Ok(()),
            other => other?,
        };
        for entry in entries {
            let inner = path.join(&entry.name);
            match self.remove_file(&inner) {
                Err(error) if is_missing(&error) => {}
                Err(_) if entry.is_folder => self.remove_tree(&inner)?,
                other => other?,
            }
        }
        match self.remove_folder(path) {
            Err(error) if is_missing(&error) => Ok(()),
            other => other,
        }
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operation()?;
        let folder = disk.find(path)?;
        disk.sync_folder(folder);
        Ok(())
    }

    fn lock(&self, path: &Path, holder: &[u8]) -> io::Result<LockAttempt> {
        let mut disk = self.disk();
        disk.reading()?;
        disk.place(path)?;
        let path = path.display().to_string();
        if let Some(held_by) = disk.locks.get(&path) {
            return Ok(LockAttempt::Busy(held_by.clone()));
        }
        disk.locks.insert(path.clone(), holder.to_vec());
        Ok(LockAttempt::Held(Box::new(SimLock { fs: self.clone(), path })))
    }

    fn lock_holder(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let disk = self.disk();
        disk.reading()?;
        Ok(disk.locks.get(&path.display().to_string()).cloned())
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        let mut disk = self.disk();
        disk.reading()?;
        disk.place(path)?;
        let path = path.display().to_string();
        if disk.locks.contains_key(&path) {
            return Ok(None);
        }
        *disk.shared.entry(path.clone()).or_default() += 1;
        Ok(Some(Box::new(SimShare { fs: self.clone(), path })))
    }

    fn lock_alone(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        if self.disk().shared.get(&path.display().to_string()).is_some_and(|shares| *shares > 0) {
            return Ok(None);
        }
        Ok(match self.lock(path, b"")? {
            LockAttempt::Held(held) => Some(held),
            LockAttempt::Busy(_) => None,
        })
    }

    fn network_filesystem(&self, path: &Path) -> io::Result<Option<&'static str>> {
        let disk = self.disk();
        disk.reading()?;
        disk.find(path)?;
        Ok(disk.network)
    }
}
