//! The image cache: files named by their SHA-256, and small notes that lead to them.
//!
//! ```text
//! store/<sha256>.img     whole, checked images; never written again
//! names/<key>.json       what an alias, an address or a path stands for
//! parts/<key>.part       downloads and copies under way
//! roots/<vm id>          which image a machine's overlay needs, where it couldn't be linked
//! locks/                 one for each key, and one that keeps `prune` away from creates
//! ```
//! An image reaches `store/` by a rename, after its digest and its header have been checked. A note
//! is written after that. So whatever stops goloo midway leaves a part, never a broken image.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use goloo_core::events::Event;
use goloo_core::spec::ImageRef;
use goloo_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::alias::{self, Published};
use super::digest::{Digest, Hasher, each_piece, find_in_list};
use super::download::{Downloader, Patience, check_scheme};
use super::{ImageError, Watch};
use crate::arch::Arch;
use crate::files::{self, Lock, Sharing};
use crate::launch;

/// How long another goloo's work on the same image is waited for.
const LOCK_LIMIT: Duration = Duration::from_secs(60 * 60);
/// How often a lock is asked for again.
const LOCK_POLL: Duration = Duration::from_millis(100);

const PARTS: [&str; 5] = ["store", "names", "parts", "roots", "locks"];

/// How an image came into the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Downloaded from its publisher, by its alias.
    Published,
    /// Built on this machine from packages.
    Built,
    /// Downloaded from an address that the user gave.
    Url,
    /// Copied from a file of the user.
    Path,
}

impl Origin {
    /// The word in tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Built => "built",
            Self::Url => "url",
            Self::Path => "path",
        }
    }
}

/// A disk image's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// QEMU's own.
    Qcow2,
    /// The disk's bytes as they are.
    Raw,
}

impl Format {
    /// As QEMU names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
        }
    }
}

/// A user's file as it was when it was copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stamp {
    size: u64,
    modified_s: i64,
    modified_ns: i64,
    inode: u64,
}

impl Stamp {
    fn of(data: &fs::Metadata) -> Self {
        Self { size: data.len(), modified_s: data.mtime(), modified_ns: data.mtime_nsec(), inode: data.ino() }
    }
}

/// What the cache knows of one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Alias, address or path.
    pub name: String,
    /// The guest's architecture.
    pub arch: Arch,
    /// How it came here.
    pub origin: Origin,
    /// Its SHA-256.
    pub sha256: String,
    /// Its format.
    pub format: Format,
    /// Its size as a file, in bytes.
    pub bytes: u64,
    /// The size of the disk that it holds, in bytes.
    pub virtual_size: u64,
    /// When it came here.
    pub taken_at: Timestamp,
    /// The digest in the publisher's list, to see whether there is a newer one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    published_digest: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stamp: Option<Stamp>,
}

/// An image that may be used: `prune` waits while this value lives.
#[derive(Debug)]
pub struct CachedImage {
    /// Where it lies, absolute.
    pub path: PathBuf,
    /// What is known of it.
    pub entry: Entry,
    _in_use: Lock,
}

/// One line of `image list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The image.
    pub entry: Entry,
    /// Whether a machine's disk builds on it.
    pub in_use: bool,
}

/// What `prune` did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freed {
    /// Images and leftovers removed.
    pub files: usize,
    /// Bytes freed.
    pub bytes: u64,
}

/// The cache.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
    arch: Arch,
    mirror: Option<String>,
    qemu_img: PathBuf,
    downloader: Downloader,
}

impl Cache {
    /// The cache in this folder (absolute; made when first needed), for guests of this machine's
    /// architecture.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            arch: Arch::host(),
            mirror: None,
            qemu_img: "qemu-img".into(),
            downloader: Downloader::new(Patience::default()),
        }
    }

    /// The same, as the environment says: `GOLOO_IMAGE_MIRROR`.
    pub fn from_env(folder: impl Into<PathBuf>) -> Self {
        let mirror = std::env::var("GOLOO_IMAGE_MIRROR").ok().filter(|mirror| !mirror.is_empty());
        Self::new(folder).with_mirror(mirror)
    }

    /// With another base address in front of the publishers' hosts.
    #[must_use]
    pub fn with_mirror(self, mirror: Option<String>) -> Self {
        Self { mirror, ..self }
    }

    /// With other limits on downloads.
    #[must_use]
    pub fn with_patience(self, patience: Patience) -> Self {
        Self { downloader: Downloader::new(patience), ..self }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The image, from the cache or from where it comes from. `sha256` is the digest that it must
    /// have. Nobody on the network is asked for an image that is there.
    pub fn ensure(
        &self,
        image: &ImageRef,
        sha256: Option<&str>,
        watch: &dyn Watch,
    ) -> Result<CachedImage, ImageError> {
        let in_use = self.enter(watch)?;
        let expected = sha256.map(|text| parse_digest(text, image)).transpose()?;
        let entry = match image {
            ImageRef::Alias(name) => self.alias(name, expected.as_ref(), watch)?,
            ImageRef::Url(url) => self.url(url, expected.as_ref(), watch)?,
            ImageRef::Path(path) => self.path(path, expected.as_ref(), watch)?,
        };
        Ok(CachedImage { path: self.stored(&entry.sha256), entry, _in_use: in_use })
    }

    /// Gets what the publisher offers now, unless it is there already. Without a way to the
    /// publisher, what the cache has is good enough, and a note says so.
    pub fn pull(&self, name: &str, watch: &dyn Watch) -> Result<CachedImage, ImageError> {
        let in_use = self.enter(watch)?;
        let held = self.entry(&self.key(name, Origin::Published));
        let entry = match (self.publish(name, watch), held) {
            (Err(ImageError::NotToBeHad { source, .. }), Some(held)) => {
                watch.event(Event::Note(format!("{source}; {name} from the cache is used")));
                held
            }
            (result, _) => result?,
        };
        Ok(CachedImage { path: self.stored(&entry.sha256), entry, _in_use: in_use })
    }

    /// All images, by name.
    pub fn list(&self) -> Result<Vec<Listed>, ImageError> {
        let mut all: Vec<Listed> = Vec::new();
        for name in names_in(&self.folder.join("names"))? {
            let Some(entry) = name.to_str().and_then(|n| n.strip_suffix(".json")).and_then(|k| self.entry(k))
            else {
                continue;
            };
            let in_use = self.is_needed(&entry.sha256)?;
            all.push(Listed { entry, in_use });
        }
        all.sort_by(|a, b| a.entry.name.cmp(&b.entry.name));
        Ok(all)
    }

    /// Removes every image that no machine's disk builds on, and what broken-off work left.
    pub fn prune(&self) -> Result<Freed, ImageError> {
        self.make_folders()?;
        let lock = self.folder.join("locks/in-use.lock");
        let taken = Lock::try_file(&lock, Sharing::Exclusive).map_err(fails_at(&lock))?;
        let Some(_alone) = taken else {
            return Err(ImageError::Busy {
                what: "another goloo is using the image cache".to_owned(),
                limit: Duration::ZERO,
            });
        };
        let mut freed = Freed::default();
        for name in names_in(&self.folder.join("store"))? {
            let path = self.folder.join("store").join(&name);
            let digest = name.to_str().and_then(|name| name.strip_suffix(".img")).unwrap_or_default();
            if !self.is_needed(digest)? {
                freed.take(&path).map_err(fails_at(&path))?;
            }
        }
        for name in names_in(&self.folder.join("names"))? {
            let key = name.to_str().and_then(|name| name.strip_suffix(".json")).unwrap_or_default();
            if self.entry(key).is_none() {
                let path = self.folder.join("names").join(&name);
                fs::remove_file(&path).map_err(fails_at(&path))?;
            }
        }
        for name in names_in(&self.folder.join("parts"))? {
            let path = self.folder.join("parts").join(&name);
            freed.take(&path).map_err(fails_at(&path))?;
        }
        Ok(freed)
    }

    /// Notes that a machine's overlay builds on an image by its path in the cache. `machine` is the
    /// machine's folder: as long as it is there, the image stays.
    pub fn hold(&self, image: &CachedImage, machine: &Path) -> Result<(), ImageError> {
        let root = Root { image: image.entry.sha256.clone(), machine: machine.to_owned() };
        let path = self.root_path(machine);
        let text = serde_json::to_vec(&root).map_err(|error| fails_at(&path)(error.into()))?;
        files::write_durably(&path, &text).map_err(fails_at(&path))
    }

    /// A copy of a machine needs what the machine needs.
    pub(crate) fn hold_too(&self, machine: &Path, copy: &Path) -> Result<(), ImageError> {
        let path = self.root_path(machine);
        let text = fs::read(&path).map_err(fails_at(&path))?;
        let root: Root = serde_json::from_slice(&text).map_err(|error| fails_at(&path)(error.into()))?;
        let path = self.root_path(copy);
        let text = serde_json::to_vec(&Root { machine: copy.to_owned(), ..root })
            .map_err(|error| fails_at(&path)(error.into()))?;
        files::write_durably(&path, &text).map_err(fails_at(&path))
    }

    /// The machine is gone.
    pub fn release(&self, machine: &Path) {
        let _ = fs::remove_file(self.root_path(machine));
    }

    fn root_path(&self, machine: &Path) -> PathBuf {
        self.folder.join("roots").join(machine.file_name().unwrap_or_default())
    }

    /// Whether a machine's folder has a link to the image, or a note of one names it. An unreadable
    /// note is an error, so that nothing goes that may be needed.
    fn is_needed(&self, sha256: &str) -> Result<bool, ImageError> {
        let path = self.stored(sha256);
        if fs::metadata(&path).map_err(fails_at(&path))?.nlink() > 1 {
            return Ok(true);
        }
        for name in names_in(&self.folder.join("roots"))? {
            let path = self.folder.join("roots").join(name);
            let text = fs::read(&path).map_err(fails_at(&path))?;
            let root: Root = serde_json::from_slice(&text).map_err(|error| fails_at(&path)(error.into()))?;
            if root.image == sha256 && root.may_be_there() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Keeps `prune` away. Without `qemu-img` nothing could be checked, so nothing is fetched either.
    fn enter(&self, watch: &dyn Watch) -> Result<Lock, ImageError> {
        launch::find_program(self.qemu_img.as_os_str()).ok_or_else(qemu_img_is_missing)?;
        self.make_folders()?;
        self.lock("in-use", Sharing::Shared, watch)
    }

    /// The cache's folders and the files in them.
    pub(super) fn files(&self) -> Result<Vec<PathBuf>, ImageError> {
        let mut all = vec![self.folder.clone()];
        for part in PARTS {
            let folder = self.folder.join(part);
            all.extend(names_in(&folder)?.into_iter().map(|name| folder.join(name)));
            all.push(folder);
        }
        Ok(all)
    }

    fn make_folders(&self) -> Result<(), ImageError> {
        for part in PARTS {
            let path = self.folder.join(part);
            files::private_folder(&path).map_err(fails_at(&path))?;
        }
        Ok(())
    }

    fn lock(&self, key: &str, sharing: Sharing, watch: &dyn Watch) -> Result<Lock, ImageError> {
        let path = self.folder.join("locks").join(format!("{key}.lock"));
        let begun = Instant::now();
        let mut said = false;
        loop {
            if let Some(lock) = Lock::try_file(&path, sharing).map_err(fails_at(&path))? {
                return Ok(lock);
            }
            if watch.stopped() {
                return Err(ImageError::Stopped);
            }
            if begun.elapsed() > LOCK_LIMIT {
                return Err(ImageError::Busy {
                    what: format!("another goloo has been working on {key}"),
                    limit: LOCK_LIMIT,
                });
            }
            if !said {
                watch.event(Event::Note(format!("another goloo is working on {key}; waiting for it")));
                said = true;
            }
            std::thread::sleep(LOCK_POLL);
        }
    }

    fn key(&self, name: &str, origin: Origin) -> String {
        match origin {
            Origin::Published => format!("{name}-{}", self.arch),
            Origin::Built => format!("{name}-{}.built", self.arch),
            Origin::Url | Origin::Path => {
                let mut hasher = Hasher::new(None);
                hasher.update(name.as_bytes());
                format!("{}-{}", origin.as_str(), &hasher.finish().0.as_str()[..32])
            }
        }
    }

    fn stored(&self, sha256: &str) -> PathBuf {
        self.folder.join("store").join(format!("{sha256}.img"))
    }

    /// A note whose image is there in full length; anything else is as if it weren't there.
    fn entry(&self, key: &str) -> Option<Entry> {
        let text = fs::read(self.folder.join("names").join(format!("{key}.json"))).ok()?;
        let entry: Entry = serde_json::from_slice(&text).ok()?;
        let data = fs::metadata(self.stored(&entry.sha256)).ok()?;
        (data.len() == entry.bytes).then_some(entry)
    }

    fn entry_with(&self, key: &str, expected: Option<&Digest>) -> Option<Entry> {
        self.entry(key).filter(|entry| expected.is_none_or(|digest| digest.as_str() == entry.sha256))
    }

    fn alias(&self, name: &str, expected: Option<&Digest>, watch: &dyn Watch) -> Result<Entry, ImageError> {
        if let Some(entry) = self.entry_with(&self.key(name, Origin::Published), expected) {
            return Ok(entry);
        }
        if let Some(entry) = self.entry_with(&self.key(name, Origin::Built), expected) {
            watch.event(Event::Note(format!("{name} is the image that was built on this machine")));
            return Ok(entry);
        }
        let entry = self.publish(name, watch)?;
        match expected {
            Some(expected) if expected.as_str() != entry.sha256 => Err(ImageError::Digest {
                what: name.to_owned(),
                expected: expected.to_string(),
                found: entry.sha256,
            }),
            _ => Ok(entry),
        }
    }

    fn publish(&self, name: &str, watch: &dyn Watch) -> Result<Entry, ImageError> {
        let place = alias::published(name, self.arch, self.mirror.as_deref())
            .ok_or_else(|| ImageError::UnknownAlias { name: name.to_owned() })?;
        self.download_published(name, &place, watch).map_err(|source| match source {
            ImageError::Download { .. } | ImageError::Status { .. } | ImageError::NotListed { .. } => {
                ImageError::NotToBeHad { name: name.to_owned(), source: Box::new(source) }
            }
            other => other,
        })
    }

    fn download_published(
        &self,
        name: &str,
        place: &Published,
        watch: &dyn Watch,
    ) -> Result<Entry, ImageError> {
        let key = self.key(name, Origin::Published);
        let _lock = self.lock(&key, Sharing::Exclusive, watch)?;
        watch.event(Event::Step { what: format!("downloading the image {name}") });
        let list = self.downloader.text(&place.list_url)?;
        let expected = find_in_list(&list, &place.file, place.algorithm)
            .ok_or_else(|| ImageError::NotListed { url: place.list_url.clone(), file: place.file.clone() })?;
        let held = self.entry(&key);
        if let Some(held) = held.filter(|e| e.published_digest.as_deref() == Some(expected.as_str())) {
            return Ok(held);
        }
        let done = self.downloader.file(&place.url, Some(&expected), &self.part(&key), watch)?;
        let mut entry = self.place(&done.path, &done.sha256, name, Origin::Published)?;
        entry.published_digest = Some(expected.to_string());
        self.note(&key, &entry)?;
        Ok(entry)
    }

    fn url(&self, url: &str, expected: Option<&Digest>, watch: &dyn Watch) -> Result<Entry, ImageError> {
        check_scheme(url)?;
        let key = self.key(url, Origin::Url);
        let _lock = self.lock(&key, Sharing::Exclusive, watch)?;
        if let Some(entry) = self.entry_with(&key, expected) {
            return Ok(entry);
        }
        watch.event(Event::Step { what: format!("downloading {url}") });
        let done = self.downloader.file(url, expected, &self.part(&key), watch)?;
        let entry = self.place(&done.path, &done.sha256, url, Origin::Url)?;
        self.note(&key, &entry)?;
        Ok(entry)
    }

    fn path(&self, path: &Path, expected: Option<&Digest>, watch: &dyn Watch) -> Result<Entry, ImageError> {
        let unreadable = |source| ImageError::Source { path: path.to_owned(), source };
        let name = path.to_string_lossy();
        let mut source = File::open(path).map_err(unreadable)?;
        let data = source.metadata().map_err(unreadable)?;
        if !data.is_file() {
            return Err(unreadable(io::Error::other("it is no file")));
        }
        let stamp = Stamp::of(&data);
        let key = self.key(&name, Origin::Path);
        let _lock = self.lock(&key, Sharing::Exclusive, watch)?;
        let held = self.entry(&key).filter(|entry| entry.stamp.as_ref() == Some(&stamp));
        let entry = match held {
            Some(entry) => entry,
            None => {
                watch.event(Event::Step { what: format!("taking {name} into the image cache") });
                let part = self.part(&key);
                let sha256 = copy(&mut source, data.len(), &part, watch, unreadable)?;
                let now = source.metadata().map_err(unreadable)?;
                if Stamp::of(&now) != stamp {
                    return Err(unreadable(io::Error::other("it changed while it was being copied")));
                }
                let mut entry = self.place(&part, &sha256, &name, Origin::Path)?;
                entry.stamp = Some(stamp);
                self.note(&key, &entry)?;
                entry
            }
        };
        match expected {
            Some(expected) if expected.as_str() != entry.sha256 => Err(ImageError::Digest {
                what: name.into_owned(),
                expected: expected.to_string(),
                found: entry.sha256,
            }),
            _ => Ok(entry),
        }
    }

    /// Takes a finished image that was built here; `file` is moved.
    pub(super) fn place_built(
        &self,
        name: &str,
        file: &Path,
        watch: &dyn Watch,
    ) -> Result<CachedImage, ImageError> {
        let in_use = self.enter(watch)?;
        let mut hasher = Hasher::new(None);
        let reader = File::open(file).map_err(fails_at(file))?;
        let hash = |piece: &[u8]| {
            hasher.update(piece);
            Ok(())
        };
        each_piece(reader, hash, fails_at(file))?;
        let entry = self.place(file, &hasher.finish().0, name, Origin::Built)?;
        self.note(&self.key(name, Origin::Built), &entry)?;
        Ok(CachedImage { path: self.stored(&entry.sha256), entry, _in_use: in_use })
    }

    /// The image built here under this name, if there is one.
    pub fn built(&self, name: &str) -> Option<Entry> {
        self.entry(&self.key(name, Origin::Built))
    }

    /// One build of an image at a time, and no `prune` beside it.
    pub(super) fn lock_build(&self, name: &str, watch: &dyn Watch) -> Result<[Lock; 2], ImageError> {
        let in_use = self.enter(watch)?;
        Ok([in_use, self.lock(&self.key(name, Origin::Built), Sharing::Exclusive, watch)?])
    }

    pub(super) fn build_folder(&self, name: &str) -> PathBuf {
        self.folder.join("parts").join(format!("{name}.build"))
    }

    pub(crate) fn qemu_img(&self) -> &Path {
        &self.qemu_img
    }

    fn part(&self, key: &str) -> PathBuf {
        self.folder.join("parts").join(format!("{key}.part"))
    }

    /// Checks the header and moves the file to its place. One that can't be used doesn't stay.
    fn place(&self, file: &Path, sha256: &Digest, name: &str, origin: Origin) -> Result<Entry, ImageError> {
        let (format, virtual_size) = self.inspect(file, name).inspect_err(|_| {
            let _ = fs::remove_file(file);
        })?;
        let opened = File::open(file).map_err(fails_at(file))?;
        let bytes = opened.metadata().map_err(fails_at(file))?.len();
        files::make_read_only(&opened).map_err(fails_at(file))?;
        opened.sync_all().map_err(fails_at(file))?;
        let target = self.stored(sha256.as_str());
        match fs::metadata(&target) {
            // The same bytes by another name; a machine may have it open.
            Ok(data) if data.len() == bytes => fs::remove_file(file).map_err(fails_at(file))?,
            _ => fs::rename(file, &target).map_err(fails_at(&target))?,
        }
        let store = self.folder.join("store");
        files::sync_folder(&store).map_err(fails_at(&store))?;
        Ok(Entry {
            name: name.to_owned(),
            arch: self.arch,
            origin,
            sha256: sha256.to_string(),
            format,
            bytes,
            virtual_size,
            taken_at: Timestamp::now(),
            published_digest: None,
            stamp: None,
        })
    }

    fn note(&self, key: &str, entry: &Entry) -> Result<(), ImageError> {
        let path = self.folder.join("names").join(format!("{key}.json"));
        let text = serde_json::to_vec_pretty(entry).map_err(|error| fails_at(&path)(error.into()))?;
        files::write_durably(&path, &text).map_err(fails_at(&path))
    }

    /// Format and size of the disk. An image that names other files is refused: a guest could read
    /// any file of this machine through it.
    fn inspect(&self, file: &Path, name: &str) -> Result<(Format, u64), ImageError> {
        let unusable =
            |reason: &str| ImageError::Unusable { what: name.to_owned(), reason: reason.to_owned() };
        let head = head(file).map_err(fails_at(file))?;
        if let Some(packer) = packer(&head) {
            return Err(unusable(&format!("it is packed with {packer}; unpack it first")));
        }
        let output = launch::tool(&self.qemu_img)
            .args(["info", "--output=json"])
            .arg(file)
            .output()
            .map_err(|_| qemu_img_is_missing())?;
        if !output.status.success() {
            return Err(unusable(String::from_utf8_lossy(&output.stderr).trim()));
        }
        let info: Value =
            serde_json::from_slice(&output.stdout).map_err(|error| unusable(&error.to_string()))?;
        let other_files = info.get("backing-filename").is_some()
            || info["format-specific"]["data"].get("data-file").is_some();
        if other_files {
            return Err(unusable("it builds on another file"));
        }
        let format = match info["format"].as_str() {
            Some("qcow2") => Format::Qcow2,
            Some("raw") if head.get(510..512) == Some(&[0x55, 0xaa]) => Format::Raw,
            Some("raw") => return Err(unusable("it has neither a qcow2 header nor a partition table")),
            Some(other) => return Err(unusable(&format!("its format is {other}"))),
            None => return Err(unusable("its format can't be told")),
        };
        let size = info["virtual-size"].as_u64().ok_or_else(|| unusable("its size can't be told"))?;
        Ok((format, size))
    }
}

/// A machine that needs an image by its path in the cache.
#[derive(Debug, Serialize, Deserialize)]
struct Root {
    image: String,
    machine: PathBuf,
}

impl Root {
    /// The machine is gone for certain only when the folder around it is there without it: a disk
    /// that isn't mounted hides machines and doesn't end them.
    fn may_be_there(&self) -> bool {
        self.machine.exists() || !self.machine.parent().is_some_and(Path::exists)
    }
}

impl Freed {
    fn take(&mut self, path: &Path) -> io::Result<()> {
        let data = fs::symlink_metadata(path)?;
        if data.is_dir() {
            self.files += 1;
            return files::remove_tree(path);
        }
        fs::remove_file(path)?;
        self.files += 1;
        self.bytes += data.blocks() * 512;
        Ok(())
    }
}

pub(super) fn fails_at(path: &Path) -> impl Fn(io::Error) -> ImageError + use<> {
    let path = path.to_owned();
    move |source| ImageError::Cache { path: path.clone(), source }
}

pub(crate) fn qemu_img_is_missing() -> ImageError {
    ImageError::Tools { programs: vec!["qemu-img".to_owned()], packages: vec!["qemu-utils".to_owned()] }
}

fn parse_digest(text: &str, image: &ImageRef) -> Result<Digest, ImageError> {
    Digest::parse(text).filter(|digest| digest.as_str().len() == 64).ok_or_else(|| ImageError::Unusable {
        what: match image {
            ImageRef::Alias(name) | ImageRef::Url(name) => name.clone(),
            ImageRef::Path(path) => path.display().to_string(),
        },
        reason: format!("\"{text}\" is no SHA-256 digest"),
    })
}

fn names_in(folder: &Path) -> Result<Vec<std::ffi::OsString>, ImageError> {
    match fs::read_dir(folder) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<io::Result<_>>()
            .map_err(fails_at(folder)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(fails_at(folder)(error)),
    }
}

fn head(file: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(file)?.take(512).read_to_end(&mut head)?;
    Ok(head)
}

fn packer(head: &[u8]) -> Option<&'static str> {
    let magics: [(&[u8], &str); 4] =
        [(b"\x1f\x8b", "gzip"), (b"\xfd7zXZ", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bzip2")];
    magics.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, name)| *name)
}

/// Copies a file and computes its digest on the way; by reflink where the file system can, and with
/// its holes.
fn copy(
    source: &mut File,
    total: u64,
    target: &Path,
    watch: &dyn Watch,
    unreadable: impl Fn(io::Error) -> ImageError,
) -> Result<Digest, ImageError> {
    let mut copy = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(target)
        .map_err(fails_at(target))?;
    let cloned = files::reflink(&copy, source);
    let mut hasher = Hasher::new(None);
    let mut done = 0;
    let piece = |piece: &[u8]| {
        if watch.stopped() {
            return Err(ImageError::Stopped);
        }
        hasher.update(piece);
        if !cloned {
            files::write_or_skip(&mut copy, piece).map_err(fails_at(target))?;
        }
        done += piece.len() as u64;
        watch.event(Event::Progress { done, total: Some(total) });
        Ok(())
    };
    each_piece(source, piece, unreadable)?;
    copy.set_len(done).map_err(fails_at(target))?;
    Ok(hasher.finish().0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Seen(Mutex<Vec<Event>>);

    impl Watch for Seen {
        fn event(&self, event: Event) {
            self.0.lock().unwrap().push(event);
        }

        fn stopped(&self) -> bool {
            false
        }
    }

    /// Without it nothing can be checked, so megabytes would come for nothing.
    #[test]
    fn without_qemu_img_nothing_is_fetched() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image.raw");
        fs::write(&image, [0; 512]).unwrap();
        let cache = Cache { qemu_img: "no-such-qemu-img".into(), ..Cache::new(folder.path().join("cache")) };
        let seen = Seen::default();
        let error = cache.ensure(&ImageRef::Path(image), None, &seen).unwrap_err();
        assert!(matches!(error, ImageError::Tools { .. }), "{error}");
        assert_eq!(*seen.0.lock().unwrap(), [], "it was fetched");
    }
}
