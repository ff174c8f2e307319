//! The image cache: files named by their SHA-256, and small JSON files that refer to them.
//!
//! ```text
//! store/<sha256>.img     complete, verified images; never modified
//! store/<sha256>.mem     the memory of the machine that an image was made of
//! names/<key>.json       what an alias, an address or a path refers to
//! parts/<key>.part       downloads and copies in progress
//! roots/<vm id>          which image a machine's overlay needs, where it couldn't be linked
//! locks/                 one for each key, and one that keeps `prune` from running during creates
//! ```
//! An image reaches `store/` by a rename after its digest and header are verified; only then is its JSON file written.
//! So an interruption leaves a partial file, never a broken image.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use goloo_model::events::Event;
use goloo_model::spec::ImageRef;
use goloo_model::time::Timestamp;
use goloo_sys::lock::{self, FileLock, LockTimeouts, Mode};
use goloo_sys::{durable, private, read};

use crate::alias::{self, Published};
use crate::arch::Arch;
use crate::digest::{FileDigest, Hasher, each_piece, find_in_list};
use crate::download::{DownloadTimeouts, Downloader, check_scheme};
use crate::entry::{ImageEntry, ImageOrigin, MemoryEntry, Stamp};
use crate::error::{ImageError, fails_at};
use crate::file::{copy, header, inspect, open_regular};
use crate::qemu_img;
use crate::watch::{Unwatched, Watch};

/// How long to wait for another goloo process that works on the same image.
const LOCK_LIMIT: Duration = Duration::from_secs(60 * 60);
/// How often a lock is retried.
const LOCK_POLL: Duration = Duration::from_millis(100);

const PARTS: [&str; 5] = ["store", "names", "parts", "roots", "locks"];

/// An image that is ready to use: `prune` waits while this value lives.
#[derive(Debug)]
pub struct CachedImage {
    /// Its absolute path.
    pub path: PathBuf,
    /// What the cache knows about it.
    pub entry: ImageEntry,
    _in_use: FileLock,
}

/// The memory of a machine, to be kept beside its image.
#[derive(Debug)]
pub struct NewMemory<'a> {
    /// The file.
    pub file: &'a Path,
    /// What kind of machine can load it; only the provider reads this.
    pub machine: serde_json::Value,
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
    /// The cache in this folder (an absolute path, created when first needed), for guests of this machine's
    /// architecture.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            arch: Arch::host(),
            mirror: None,
            qemu_img: "qemu-img".into(),
            downloader: Downloader::new(DownloadTimeouts::default()),
        }
    }

    /// Like [`Self::new`], with the mirror from `GOLOO_IMAGE_MIRROR`.
    pub fn from_env(folder: impl Into<PathBuf>) -> Self {
        let mirror = std::env::var("GOLOO_IMAGE_MIRROR").ok().filter(|mirror| !mirror.is_empty());
        Self::new(folder).with_mirror(mirror)
    }

    /// Sets a base address that replaces the publishers' hosts.
    #[must_use]
    pub fn with_mirror(self, mirror: Option<String>) -> Self {
        Self { mirror, ..self }
    }

    /// Sets the limits on downloads.
    #[must_use]
    pub fn with_patience(self, patience: DownloadTimeouts) -> Self {
        Self { downloader: Downloader::new(patience), ..self }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the image from the cache or obtains it from its source. `sha256` is the digest it must have. No network
    /// request is made for a cached image.
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

    /// Downloads the publisher's current image, unless it is cached already. If the publisher can't be reached, the
    /// cached image is used and a note says so.
    pub fn pull(&self, name: &str, watch: &dyn Watch) -> Result<CachedImage, ImageError> {
        let in_use = self.enter(watch)?;
        let held = self.entry(&self.key(name, ImageOrigin::Published));
        let entry = match (self.publish(name, watch), held) {
            (Err(ImageError::NotToBeHad { source, .. }), Some(held)) => {
                watch.event(Event::Note(format!("{source}; using {name} from the cache")));
                held
            }
            (result, _) => result?,
        };
        Ok(CachedImage { path: self.stored(&entry.sha256), entry, _in_use: in_use })
    }

    /// Keeps `prune` from running. Without `qemu-img` no image can be verified, so none is downloaded either.
    fn enter(&self, watch: &dyn Watch) -> Result<FileLock, ImageError> {
        goloo_command::find_program(self.qemu_img.as_os_str()).ok_or_else(qemu_img::missing)?;
        self.make_folders()?;
        // Only `prune` holds it exclusively, and only for as long as removing files takes.
        self.lock_within("in-use", Mode::Shared, LockTimeouts::SHORT_SECTIONS, watch)
    }

    pub(super) fn make_folders(&self) -> Result<(), ImageError> {
        for part in PARTS {
            let path = self.folder.join(part);
            private::create_folders(&path).map_err(fails_at(&path))?;
        }
        Ok(())
    }

    /// A lock that may be held for the duration of a download.
    fn lock(&self, key: &str, mode: Mode, watch: &dyn Watch) -> Result<FileLock, ImageError> {
        let timeouts = LockTimeouts { limit: LOCK_LIMIT, ..LockTimeouts::SHORT_SECTIONS };
        self.lock_within(key, mode, timeouts, watch)
    }

    fn lock_within(
        &self,
        key: &str,
        mode: Mode,
        timeouts: LockTimeouts,
        watch: &dyn Watch,
    ) -> Result<FileLock, ImageError> {
        let path = self.folder.join("locks").join(format!("{key}.lock"));
        let tell =
            || watch.event(Event::Note(format!("another goloo process is using {key}; waiting for it")));
        let busy = |_| ImageError::Busy {
            what: format!(
                "another goloo process has been using {key} for more than {} s",
                timeouts.limit.as_secs()
            ),
            limit: timeouts.limit,
        };
        lock::wait(timeouts, LOCK_POLL, tell, busy, || {
            let lock = lock::try_take(&path, mode).map_err(fails_at(&path))?;
            if lock.is_none() && watch.stopped() { Err(ImageError::Stopped) } else { Ok(lock) }
        })
    }

    fn key(&self, name: &str, origin: ImageOrigin) -> String {
        match origin {
            ImageOrigin::Published => format!("{name}-{}", self.arch),
            ImageOrigin::Built => format!("{name}-{}.built", self.arch),
            ImageOrigin::Url | ImageOrigin::Path | ImageOrigin::Baked => {
                let mut hasher = Hasher::new(None);
                hasher.update(name.as_bytes());
                format!("{}-{}", origin.as_str(), &hasher.finish().0.as_str()[..32])
            }
        }
    }

    pub(super) fn stored(&self, sha256: &str) -> PathBuf {
        self.folder.join("store").join(format!("{sha256}.img"))
    }

    pub(super) fn stored_memory(&self, sha256: &str) -> PathBuf {
        self.folder.join("store").join(format!("{sha256}.mem"))
    }

    /// A note whose image is present in full length; anything else counts as absent.
    pub(super) fn entry(&self, key: &str) -> Option<ImageEntry> {
        let text = read::own(&self.folder.join("names").join(format!("{key}.json")), read::FILE_MAX).ok()?;
        let mut entry: ImageEntry = serde_json::from_slice(&text).ok()?;
        let memory = self.stored_memory(&entry.sha256);
        entry.memory = entry.memory.filter(|noted| is_own_with_length(&memory, noted.bytes));
        is_own_with_length(&self.stored(&entry.sha256), entry.bytes).then_some(entry)
    }

    fn entry_with(&self, key: &str, expected: Option<&FileDigest>) -> Option<ImageEntry> {
        self.entry(key).filter(|entry| expected.is_none_or(|digest| digest.as_str() == entry.sha256))
    }

    fn alias(
        &self,
        name: &str,
        expected: Option<&FileDigest>,
        watch: &dyn Watch,
    ) -> Result<ImageEntry, ImageError> {
        if let Some(entry) = self.entry_with(&self.key(name, ImageOrigin::Published), expected) {
            return Ok(entry);
        }
        if let Some(entry) = self.entry_with(&self.key(name, ImageOrigin::Built), expected) {
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

    fn publish(&self, name: &str, watch: &dyn Watch) -> Result<ImageEntry, ImageError> {
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
    ) -> Result<ImageEntry, ImageError> {
        let key = self.key(name, ImageOrigin::Published);
        let _lock = self.lock(&key, Mode::Exclusive, watch)?;
        watch.event(Event::Step { what: format!("downloading the image {name}") });
        let list = self.downloader.text(&place.list_url)?;
        let expected = find_in_list(&list, &place.file, place.algorithm)
            .ok_or_else(|| ImageError::NotListed { url: place.list_url.clone(), file: place.file.clone() })?;
        let held = self.entry(&key);
        if let Some(held) = held.filter(|e| e.published_digest.as_deref() == Some(expected.as_str())) {
            return Ok(held);
        }
        let done = self.downloader.file(&place.url, Some(&expected), &self.part(&key), watch)?;
        let mut entry = self.place(&done.path, &done.sha256, name, ImageOrigin::Published)?;
        entry.published_digest = Some(expected.to_string());
        self.note(&key, &entry)?;
        Ok(entry)
    }

    fn url(
        &self,
        url: &str,
        expected: Option<&FileDigest>,
        watch: &dyn Watch,
    ) -> Result<ImageEntry, ImageError> {
        check_scheme(url)?;
        let key = self.key(url, ImageOrigin::Url);
        let _lock = self.lock(&key, Mode::Exclusive, watch)?;
        if let Some(entry) = self.entry_with(&key, expected) {
            return Ok(entry);
        }
        watch.event(Event::Step { what: format!("downloading {url}") });
        let done = self.downloader.file(url, expected, &self.part(&key), watch)?;
        let entry = self.place(&done.path, &done.sha256, url, ImageOrigin::Url)?;
        self.note(&key, &entry)?;
        Ok(entry)
    }

    fn path(
        &self,
        path: &Path,
        expected: Option<&FileDigest>,
        watch: &dyn Watch,
    ) -> Result<ImageEntry, ImageError> {
        let unreadable = |source| ImageError::Source { path: path.to_owned(), source };
        let name = path.to_string_lossy();
        let mut source = open_regular(path).map_err(unreadable)?;
        let data = source.metadata().map_err(unreadable)?;
        let stamp = Stamp::of(&data);
        let key = self.key(&name, ImageOrigin::Path);
        let _lock = self.lock(&key, Mode::Exclusive, watch)?;
        let held = self.entry(&key).filter(|entry| entry.stamp.as_ref() == Some(&stamp));
        let entry = match held {
            Some(entry) => entry,
            None => {
                // The copy is authoritative and is checked again; this avoids copying an unusable image.
                header(&source, &name)?;
                watch.event(Event::Step { what: format!("adding {name} to the image cache") });
                let part = self.part(&key);
                let sha256 = copy(&mut source, data.len(), &part, watch, unreadable)?;
                let now = source.metadata().map_err(unreadable)?;
                if Stamp::of(&now) != stamp {
                    return Err(unreadable(io::Error::other("it changed while it was being copied")));
                }
                let mut entry = self.place(&part, &sha256, &name, ImageOrigin::Path)?;
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

    /// Imports a finished image that was built elsewhere on this machine, by copying it from `image`.
    pub(super) fn take_built(
        &self,
        name: &str,
        image: &mut File,
        watch: &dyn Watch,
    ) -> Result<CachedImage, ImageError> {
        let in_use = self.enter(watch)?;
        let key = self.key(name, ImageOrigin::Built);
        let _lock = self.lock(&key, Mode::Exclusive, watch)?;
        let part = self.part(&key);
        let unreadable = fails_at(&part);
        let total = image.metadata().map_err(&unreadable)?.len();
        let sha256 = copy(image, total, &part, watch, unreadable)?;
        let entry = self.place(&part, &sha256, name, ImageOrigin::Built)?;
        self.note(&key, &entry)?;
        Ok(CachedImage { path: self.stored(&entry.sha256), entry, _in_use: in_use })
    }

    /// The image built on this machine under this name, if any.
    pub fn built(&self, name: &str) -> Option<ImageEntry> {
        self.entry(&self.key(name, ImageOrigin::Built))
    }

    /// `qemu-img`, as a path or a name in the search path.
    pub fn qemu_img(&self) -> &Path {
        &self.qemu_img
    }

    /// The entry of a stack's image, if it is in the cache: what [`Self::ensure`] would return without a request.
    pub fn cached(&self, image: &ImageRef, sha256: Option<&str>) -> Option<ImageEntry> {
        let expected = sha256.map(|text| parse_digest(text, image)).transpose().ok()?;
        let of = |name: &str, origin| self.entry_with(&self.key(name, origin), expected.as_ref());
        match image {
            ImageRef::Alias(name) => {
                of(name, ImageOrigin::Published).or_else(|| of(name, ImageOrigin::Built))
            }
            ImageRef::Url(url) => of(url, ImageOrigin::Url),
            ImageRef::Path(path) => {
                let stamp = Stamp::of(&open_regular(path).ok()?.metadata().ok()?);
                let held = of(&path.to_string_lossy(), ImageOrigin::Path)?;
                (held.stamp.as_ref() == Some(&stamp)).then_some(held)
            }
        }
    }

    /// The baked image with this key. `prune` waits while the value lives.
    pub fn baked(&self, key: &str) -> Result<Option<CachedImage>, ImageError> {
        let in_use = self.enter(&Unwatched)?;
        let entry = self.entry(&self.key(key, ImageOrigin::Baked));
        Ok(entry.map(|entry| CachedImage { path: self.stored(&entry.sha256), entry, _in_use: in_use }))
    }

    /// The file with the memory that belongs to an image; it exists if the image's entry has memory.
    pub fn memory_of(&self, image: &CachedImage) -> PathBuf {
        self.stored_memory(&image.entry.sha256)
    }

    /// Adds a baked image: `make` writes its file, a qcow2 image without a backing file. One with this key that exists is
    /// left as it is, unless there is memory for the new one: the two belong together.
    pub fn add_baked<E: From<ImageError>>(
        &self,
        key: &str,
        name: &str,
        memory: Option<NewMemory<'_>>,
        watch: &dyn Watch,
        make: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<ImageEntry, E> {
        let _in_use = self.enter(watch)?;
        let key = self.key(key, ImageOrigin::Baked);
        let _lock = self.lock(&key, Mode::Exclusive, watch)?;
        if let Some(entry) = self.entry(&key).filter(|_| memory.is_none()) {
            return Ok(entry);
        }
        let part = self.part(&key);
        durable::remove_if_there(&part).map_err(fails_at(&part))?;
        make(&part)?;
        watch.event(Event::Step { what: "checking the image".to_owned() });
        let digest = digest_of(&part, watch)?;
        let mut entry = self.place(&part, &digest, name, ImageOrigin::Baked)?;
        entry.memory = memory.map(|memory| self.place_memory(&entry.sha256, memory)).transpose()?;
        self.note(&key, &entry)?;
        Ok(entry)
    }

    fn place_memory(&self, sha256: &str, memory: NewMemory<'_>) -> Result<MemoryEntry, ImageError> {
        let target = self.stored_memory(sha256);
        durable::remove_if_there(&target).map_err(fails_at(&target))?;
        // No second copy of it, where the file system lets two folders have the file.
        if fs::hard_link(memory.file, &target).is_err() {
            let part = self.part(&format!("{sha256}.mem"));
            fs::copy(memory.file, &part).map_err(fails_at(memory.file))?;
            fs::rename(&part, &target).map_err(fails_at(&target))?;
        }
        let opened = File::open(&target).map_err(fails_at(&target))?;
        make_read_only(&opened).map_err(fails_at(&target))?;
        opened.sync_all().map_err(fails_at(&target))?;
        let store = self.folder.join("store");
        durable::sync_folder(&store).map_err(fails_at(&store))?;
        let bytes = opened.metadata().map_err(fails_at(&target))?.len();
        Ok(MemoryEntry { bytes, machine: memory.machine })
    }

    fn part(&self, key: &str) -> PathBuf {
        self.folder.join("parts").join(format!("{key}.part"))
    }

    /// Checks the header and moves the file into the store. An unusable file is removed.
    fn place(
        &self,
        file: &Path,
        sha256: &FileDigest,
        name: &str,
        origin: ImageOrigin,
    ) -> Result<ImageEntry, ImageError> {
        let (format, virtual_size) = inspect(&self.qemu_img, file, name).inspect_err(|error| {
            // A check that couldn't run doesn't make the image unusable.
            if !matches!(error, ImageError::CannotRun { .. } | ImageError::Tools { .. }) {
                let _ = fs::remove_file(file);
            }
        })?;
        let opened = File::open(file).map_err(fails_at(file))?;
        let bytes = opened.metadata().map_err(fails_at(file))?.len();
        make_read_only(&opened).map_err(fails_at(file))?;
        opened.sync_all().map_err(fails_at(file))?;
        let target = self.stored(sha256.as_str());
        match fs::metadata(&target) {
            // The same bytes under another name; a machine may have the file open.
            Ok(data) if data.len() == bytes => fs::remove_file(file).map_err(fails_at(file))?,
            _ => fs::rename(file, &target).map_err(fails_at(&target))?,
        }
        let store = self.folder.join("store");
        durable::sync_folder(&store).map_err(fails_at(&store))?;
        Ok(ImageEntry {
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
            memory: None,
        })
    }

    fn note(&self, key: &str, entry: &ImageEntry) -> Result<(), ImageError> {
        let path = self.folder.join("names").join(format!("{key}.json"));
        let text = serde_json::to_vec_pretty(entry).map_err(|error| fails_at(&path)(error.into()))?;
        durable::write(&path, &text).map_err(fails_at(&path))
    }
}

/// Another user may have replaced the file while the folder was accessible to them.
fn is_own_with_length(path: &Path, bytes: u64) -> bool {
    fs::metadata(path).is_ok_and(|data| data.len() == bytes) && private::check_within(path).is_ok()
}

fn digest_of(path: &Path, watch: &dyn Watch) -> Result<FileDigest, ImageError> {
    let mut file = File::open(path).map_err(fails_at(path))?;
    let mut hasher = Hasher::new(None);
    let piece = |piece: &[u8]| {
        hasher.update(piece);
        if watch.stopped() { Err(ImageError::Stopped) } else { Ok(()) }
    };
    each_piece(&mut file, piece, fails_at(path))?;
    Ok(hasher.finish().0)
}

/// Makes a file read-only: a base image must not change beneath an overlay.
fn make_read_only(file: &File) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(0o400))
}

fn parse_digest(text: &str, image: &ImageRef) -> Result<FileDigest, ImageError> {
    FileDigest::parse(text).filter(|digest| digest.as_str().len() == 64).ok_or_else(|| ImageError::Unusable {
        what: match image {
            ImageRef::Alias(name) | ImageRef::Url(name) => name.clone(),
            ImageRef::Path(path) => path.display().to_string(),
        },
        reason: format!("\"{text}\" is not a SHA-256 digest"),
    })
}

pub(super) fn names_in(folder: &Path) -> Result<Vec<std::ffi::OsString>, ImageError> {
    match fs::read_dir(folder) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<io::Result<_>>()
            .map_err(fails_at(folder)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(fails_at(folder)(error)),
    }
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

    /// Without it no image can be verified, so the download would be wasted.
    #[test]
    fn images_are_not_fetched_without_qemu_img() {
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
