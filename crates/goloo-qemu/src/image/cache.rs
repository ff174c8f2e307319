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

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use goloo_core::events::Event;
use goloo_core::spec::ImageRef;
use goloo_core::time::Timestamp;
use goloo_os::lock::{self, LockTimeouts, Mode};
use goloo_os::{private, read};

use super::alias::{self, Published};
use super::digest::{Digest, Hasher, find_in_list};
use super::download::{Downloader, Patience, check_scheme};
use super::entry::{Entry, Origin, Stamp};
use super::file::{copy, header, inspect, open_regular};
use super::{ImageError, Watch};
use crate::arch::Arch;
use crate::files::{self, Lock};
use crate::launch;

/// How long another goloo's work on the same image is waited for.
const LOCK_LIMIT: Duration = Duration::from_secs(60 * 60);
/// How often a lock is asked for again.
const LOCK_POLL: Duration = Duration::from_millis(100);

const PARTS: [&str; 5] = ["store", "names", "parts", "roots", "locks"];

/// An image that may be used: `prune` waits while this value lives.
#[derive(Debug)]
pub struct CachedImage {
    /// Where it lies, absolute.
    pub path: PathBuf,
    /// What is known of it.
    pub entry: Entry,
    _in_use: Lock,
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

    /// Keeps `prune` away. Without `qemu-img` nothing could be checked, so nothing is fetched either.
    fn enter(&self, watch: &dyn Watch) -> Result<Lock, ImageError> {
        launch::find_program(self.qemu_img.as_os_str()).ok_or_else(qemu_img_is_missing)?;
        self.make_folders()?;
        // It is held alone by `prune` only, which takes no longer than removing files does.
        self.lock_within("in-use", Mode::Shared, LockTimeouts::SHORT_SECTIONS, watch)
    }

    pub(super) fn make_folders(&self) -> Result<(), ImageError> {
        for part in PARTS {
            let path = self.folder.join(part);
            private::create_folders(&path).map_err(fails_at(&path))?;
        }
        Ok(())
    }

    /// A download may be waited for as long as it may take.
    fn lock(&self, key: &str, mode: Mode, watch: &dyn Watch) -> Result<Lock, ImageError> {
        let timeouts = LockTimeouts { limit: LOCK_LIMIT, ..LockTimeouts::SHORT_SECTIONS };
        self.lock_within(key, mode, timeouts, watch)
    }

    fn lock_within(
        &self,
        key: &str,
        mode: Mode,
        timeouts: LockTimeouts,
        watch: &dyn Watch,
    ) -> Result<Lock, ImageError> {
        let path = self.folder.join("locks").join(format!("{key}.lock"));
        let tell = || watch.event(Event::Note(format!("another goloo is working on {key}; waiting for it")));
        let busy = |_| ImageError::Busy {
            what: format!("another goloo has been working on {key}"),
            limit: timeouts.limit,
        };
        lock::wait(timeouts, LOCK_POLL, tell, busy, || {
            let lock = Lock::try_file(&path, mode).map_err(fails_at(&path))?;
            if lock.is_none() && watch.stopped() { Err(ImageError::Stopped) } else { Ok(lock) }
        })
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

    pub(super) fn stored(&self, sha256: &str) -> PathBuf {
        self.folder.join("store").join(format!("{sha256}.img"))
    }

    /// A note whose image is there in full length; anything else is as if it weren't there.
    pub(super) fn entry(&self, key: &str) -> Option<Entry> {
        let text = read::file(&self.folder.join("names").join(format!("{key}.json")), read::FILE_MAX).ok()?;
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
        let mut entry = self.place(&done.path, &done.sha256, name, Origin::Published)?;
        entry.published_digest = Some(expected.to_string());
        self.note(&key, &entry)?;
        Ok(entry)
    }

    fn url(&self, url: &str, expected: Option<&Digest>, watch: &dyn Watch) -> Result<Entry, ImageError> {
        check_scheme(url)?;
        let key = self.key(url, Origin::Url);
        let _lock = self.lock(&key, Mode::Exclusive, watch)?;
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
        let mut source = open_regular(path).map_err(unreadable)?;
        let data = source.metadata().map_err(unreadable)?;
        let stamp = Stamp::of(&data);
        let key = self.key(&name, Origin::Path);
        let _lock = self.lock(&key, Mode::Exclusive, watch)?;
        let held = self.entry(&key).filter(|entry| entry.stamp.as_ref() == Some(&stamp));
        let entry = match held {
            Some(entry) => entry,
            None => {
                // The copy is what counts, and it is read again; this spares copying what can't be used.
                header(&source, &name)?;
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

    /// Takes a finished image that was built elsewhere on this machine: a copy of it, from where the file is read.
    pub(super) fn take_built(
        &self,
        name: &str,
        image: &mut File,
        watch: &dyn Watch,
    ) -> Result<CachedImage, ImageError> {
        let in_use = self.enter(watch)?;
        let key = self.key(name, Origin::Built);
        let _lock = self.lock(&key, Mode::Exclusive, watch)?;
        let part = self.part(&key);
        let unreadable = fails_at(&part);
        let total = image.metadata().map_err(&unreadable)?.len();
        let sha256 = copy(image, total, &part, watch, unreadable)?;
        let entry = self.place(&part, &sha256, name, Origin::Built)?;
        self.note(&key, &entry)?;
        Ok(CachedImage { path: self.stored(&entry.sha256), entry, _in_use: in_use })
    }

    /// The image built here under this name, if there is one.
    pub fn built(&self, name: &str) -> Option<Entry> {
        self.entry(&self.key(name, Origin::Built))
    }

    pub(crate) fn qemu_img(&self) -> &Path {
        &self.qemu_img
    }

    fn part(&self, key: &str) -> PathBuf {
        self.folder.join("parts").join(format!("{key}.part"))
    }

    /// Checks the header and moves the file to its place. One that can't be used doesn't stay.
    fn place(&self, file: &Path, sha256: &Digest, name: &str, origin: Origin) -> Result<Entry, ImageError> {
        let (format, virtual_size) = inspect(&self.qemu_img, file, name).inspect_err(|error| {
            // That it can't be checked now says nothing against it.
            if !matches!(error, ImageError::CannotRun { .. } | ImageError::Tools { .. }) {
                let _ = fs::remove_file(file);
            }
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
