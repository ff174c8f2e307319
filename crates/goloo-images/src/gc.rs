//! Which images machines need, and which can be removed.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use goloo_model::name::StateId;
use goloo_sys::lock::{self, FileLock, Mode};
use goloo_sys::{durable, files, read};
use serde::{Deserialize, Serialize};

use crate::cache::{Cache, CachedImage, names_in};
use crate::entry::ImageEntry;
use crate::error::{ImageError, fails_at};

/// The file that identifies a state folder.
const STATE_ID: &str = "state-id";
/// An upper bound on its size, in bytes.
const STATE_ID_MAX: u64 = 128;

/// One line of `image list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedImage {
    /// The image.
    pub entry: ImageEntry,
    /// Whether a machine's disk depends on it.
    pub in_use: bool,
}

/// What `prune` did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Freed {
    /// Images and leftovers removed.
    pub files: usize,
    /// Bytes freed.
    pub bytes: u64,
    /// Machines that aren't at their recorded place and may exist elsewhere: their images are kept.
    pub out_of_sight: Vec<UnknownUses>,
}

/// A machine whose state folder isn't at its recorded place, so it is unknown whether the machine still exists.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnknownUses {
    /// The recorded path of its folder.
    pub machine: PathBuf,
    /// The note that keeps its image in the cache.
    pub note: PathBuf,
}

impl Cache {
    /// All images, sorted by name.
    pub fn list(&self) -> Result<Vec<ListedImage>, ImageError> {
        let roots = self.roots()?;
        let mut all: Vec<ListedImage> = Vec::new();
        for (_, entry) in self.entries()? {
            let in_use =
                self.is_linked(&entry.sha256)? || roots.iter().any(|(_, root)| root.image == entry.sha256);
            all.push(ListedImage { entry, in_use });
        }
        all.sort_by(|a, b| a.entry.name.cmp(&b.entry.name));
        Ok(all)
    }

    /// Removes one image by its name in the list. `vms` is as for [`Self::prune`].
    ///
    /// # Errors
    /// [`ImageError::NotCached`] and [`ImageError::InUse`]; nothing is removed then.
    pub fn remove(&self, name: &str, vms: &Path) -> Result<Freed, ImageError> {
        let _alone = self.alone()?;
        let (named, others): (Vec<_>, Vec<_>) =
            self.entries()?.into_iter().partition(|(_, entry)| entry.name == name);
        if named.is_empty() {
            let known = others.into_iter().map(|(_, entry)| entry.name).collect();
            return Err(ImageError::NotCached { name: name.to_owned(), known });
        }
        let roots = self.roots()?;
        // One image can have several names.
        let unshared = |digest: &str| others.iter().all(|(_, other)| other.sha256 != digest);
        for (_, entry) in named.iter().filter(|(_, entry)| unshared(&entry.sha256)) {
            self.refuse_in_use(entry, &roots, vms)?;
        }
        let mut freed = Freed::default();
        for (key, entry) in &named {
            let note = self.folder().join("names").join(format!("{key}.json"));
            fs::remove_file(&note).map_err(fails_at(&note))?;
            if !unshared(&entry.sha256) {
                continue;
            }
            for stored in [self.stored(&entry.sha256), self.stored_memory(&entry.sha256)] {
                if stored.exists() {
                    freed.take(&stored).map_err(fails_at(&stored))?;
                }
            }
        }
        Ok(freed)
    }

    fn refuse_in_use(
        &self,
        entry: &ImageEntry,
        roots: &[(PathBuf, Root)],
        vms: &Path,
    ) -> Result<(), ImageError> {
        let mut users = roots.iter().map(|(_, root)| root).filter(|root| root.image == entry.sha256);
        let user = users.find(|root| root.state(vms) != RootState::Gone);
        if user.is_none() && !self.is_linked(&entry.sha256)? {
            return Ok(());
        }
        Err(ImageError::InUse { name: entry.name.clone(), machine: user.map(|root| root.machine.clone()) })
    }

    /// The images with the keys of their notes.
    fn entries(&self) -> Result<Vec<(String, ImageEntry)>, ImageError> {
        let names = names_in(&self.folder().join("names"))?;
        let key = |name: OsString| Some(name.to_str()?.strip_suffix(".json")?.to_owned());
        let entry = |key: String| Some((self.entry(&key)?, key));
        Ok(names.into_iter().filter_map(key).filter_map(entry).map(|(entry, key)| (key, entry)).collect())
    }

    /// Excludes all other users of the cache.
    fn alone(&self) -> Result<FileLock, ImageError> {
        self.make_folders()?;
        let lock = self.folder().join("locks/in-use.lock");
        let taken = lock::try_take(&lock, Mode::Exclusive).map_err(fails_at(&lock))?;
        taken.ok_or_else(|| ImageError::Busy {
            what: "another goloo process is using the image cache".to_owned(),
            limit: Duration::ZERO,
        })
    }

    /// Removes every image that no machine's disk depends on, and the leftovers of interrupted work. `vms` is the
    /// caller's own folder of machines; the cache also serves other state folders, including moved ones.
    pub fn prune(&self, vms: &Path) -> Result<Freed, ImageError> {
        let _alone = self.alone()?;
        let roots = self.roots()?;
        let mut freed = Freed::default();
        for name in names_in(&self.folder().join("store"))? {
            let path = self.folder().join("store").join(&name);
            // Memory is kept as long as its image.
            let digest = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
            let mut users = roots.iter().filter(|(_, root)| root.image == digest);
            let is_needed = (self.stored(digest).exists() && self.is_linked(digest)?)
                || users.any(|(_, root)| root.state(vms) != RootState::Gone);
            if !is_needed {
                freed.take(&path).map_err(fails_at(&path))?;
            }
        }
        for (note, root) in roots {
            match root.state(vms) {
                RootState::UnknownUses => {
                    freed.out_of_sight.push(UnknownUses { machine: root.machine, note });
                }
                RootState::Gone => durable::remove_if_there(&note).map_err(fails_at(&note))?,
                RootState::There => {}
            }
        }
        freed.out_of_sight.sort();
        for name in names_in(&self.folder().join("names"))? {
            let key = name.to_str().and_then(|name| name.strip_suffix(".json")).unwrap_or_default();
            if self.entry(key).is_none() {
                let path = self.folder().join("names").join(&name);
                fs::remove_file(&path).map_err(fails_at(&path))?;
            }
        }
        for name in names_in(&self.folder().join("parts"))? {
            let path = self.folder().join("parts").join(&name);
            freed.take(&path).map_err(fails_at(&path))?;
        }
        Ok(freed)
    }

    /// Records that a machine's overlay refers to an image by its path in the cache. `machine` is the machine's folder:
    /// the image is kept as long as that folder exists.
    pub fn hold(&self, image: &CachedImage, machine: &Path) -> Result<(), ImageError> {
        let state = machine.parent().and_then(state_of);
        self.note_root(&Root { image: image.entry.sha256.clone(), machine: machine.to_owned(), state })
    }

    /// A copy of a machine needs the same image.
    pub fn hold_too(&self, machine: &Path, copy: &Path) -> Result<(), ImageError> {
        let path = self.root_path(machine);
        let text = read::own(&path, read::FILE_MAX).map_err(fails_at(&path))?;
        let root: Root = serde_json::from_slice(&text).map_err(|error| fails_at(&path)(error.into()))?;
        self.note_root(&Root { machine: copy.to_owned(), ..root })
    }

    fn note_root(&self, root: &Root) -> Result<(), ImageError> {
        let path = self.root_path(&root.machine);
        let text = serde_json::to_vec(root).map_err(|error| fails_at(&path)(error.into()))?;
        durable::write(&path, &text).map_err(fails_at(&path))
    }

    /// Drops the reference of a deleted machine.
    pub fn release(&self, machine: &Path) {
        let _ = fs::remove_file(self.root_path(machine));
    }

    fn root_path(&self, machine: &Path) -> PathBuf {
        self.folder().join("roots").join(machine.file_name().unwrap_or_default())
    }

    /// Whether a machine's folder links to the image.
    fn is_linked(&self, sha256: &str) -> Result<bool, ImageError> {
        let path = self.stored(sha256);
        Ok(fs::metadata(&path).map_err(fails_at(&path))?.nlink() > 1)
    }

    /// All notes. An unreadable one is an error, so that no image is removed that may be needed.
    fn roots(&self) -> Result<Vec<(PathBuf, Root)>, ImageError> {
        let names = names_in(&self.folder().join("roots"))?;
        let read = |name| {
            let path = self.folder().join("roots").join(name);
            let text = read::own(&path, read::FILE_MAX).map_err(fails_at(&path))?;
            let root = serde_json::from_slice(&text).map_err(|error| fails_at(&path)(error.into()))?;
            Ok((path, root))
        };
        names.into_iter().map(read).collect()
    }
}

/// A machine that needs an image by its path in the cache.
#[derive(Debug, Serialize, Deserialize)]
struct Root {
    image: String,
    machine: PathBuf,
    /// The id of the state folder, which survives moving it. Absent for earlier versions and for state folders without
    /// an id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<StateId>,
}

/// What is known about a recorded machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RootState {
    There,
    /// Its state folder exists, but the machine doesn't.
    Gone,
    /// Its state folder isn't there: it may have been moved, removed or not mounted, and another state folder may have
    /// taken its place.
    UnknownUses,
}

impl Root {
    fn state(&self, own_vms: &Path) -> RootState {
        let folders = [self.machine.parent(), Some(own_vms)];
        let name = self.machine.file_name().unwrap_or_default();
        let homes =
            folders.into_iter().flatten().filter(|vms| self.state.is_some() && state_of(vms) == self.state);
        match homes.map(|vms| vms.join(name).exists()).reduce(|one, other| one || other) {
            Some(true) => RootState::There,
            _ if self.machine.exists() => RootState::There,
            Some(false) => RootState::Gone,
            None => RootState::UnknownUses,
        }
    }
}

/// The id of the state folder that contains a folder of machines.
fn state_of(vms: &Path) -> Option<StateId> {
    let text = read::text(&vms.parent()?.join(STATE_ID), STATE_ID_MAX).ok()?;
    StateId::parse(text.trim_end()).ok()
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
