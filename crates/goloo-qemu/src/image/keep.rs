//! Which images machines need, and what can go.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use goloo_core::name::StateId;

use super::ImageError;
use super::cache::{Cache, CachedImage, fails_at, names_in};
use super::entry::Entry;
use crate::files::{self, Lock};
use goloo_os::lock::Mode;
use goloo_os::read;

/// The file in a state folder that tells it from others.
const STATE_ID: &str = "state-id";
/// More than it holds, in bytes.
const STATE_ID_MAX: u64 = 128;

/// One line of `image list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The image.
    pub entry: Entry,
    /// Whether a machine's disk builds on it.
    pub in_use: bool,
}

/// What `prune` did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Freed {
    /// Images and leftovers removed.
    pub files: usize,
    /// Bytes freed.
    pub bytes: u64,
    /// Machines that aren't where they were, and may be elsewhere: their images stay.
    pub out_of_sight: Vec<OutOfSight>,
}

/// A machine whose state folder isn't at its place, so that nothing tells whether the machine is gone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OutOfSight {
    /// Its folder as it was.
    pub machine: PathBuf,
    /// The note that keeps its image.
    pub note: PathBuf,
}

impl Cache {
    /// All images, by name.
    pub fn list(&self) -> Result<Vec<Listed>, ImageError> {
        let roots = self.roots()?;
        let mut all: Vec<Listed> = Vec::new();
        for name in names_in(&self.folder().join("names"))? {
            let Some(entry) = name.to_str().and_then(|n| n.strip_suffix(".json")).and_then(|k| self.entry(k))
            else {
                continue;
            };
            let in_use =
                self.is_linked(&entry.sha256)? || roots.iter().any(|(_, root)| root.image == entry.sha256);
            all.push(Listed { entry, in_use });
        }
        all.sort_by(|a, b| a.entry.name.cmp(&b.entry.name));
        Ok(all)
    }

    /// Removes every image that no machine's disk builds on, and what broken-off work left. `vms` is the caller's own
    /// folder of machines; the cache has images for other state folders too, and for those that were moved.
    pub fn prune(&self, vms: &Path) -> Result<Freed, ImageError> {
        self.make_folders()?;
        let lock = self.folder().join("locks/in-use.lock");
        let taken = Lock::try_file(&lock, Mode::Exclusive).map_err(fails_at(&lock))?;
        let Some(_alone) = taken else {
            return Err(ImageError::Busy {
                what: "another goloo is using the image cache".to_owned(),
                limit: Duration::ZERO,
            });
        };
        let roots = self.roots()?;
        let mut freed = Freed::default();
        for name in names_in(&self.folder().join("store"))? {
            let path = self.folder().join("store").join(&name);
            let digest = name.to_str().and_then(|name| name.strip_suffix(".img")).unwrap_or_default();
            let mut users = roots.iter().filter(|(_, root)| root.image == digest);
            let is_needed =
                self.is_linked(digest)? || users.any(|(_, root)| root.state(vms) != RootState::Gone);
            if !is_needed {
                freed.take(&path).map_err(fails_at(&path))?;
            }
        }
        for (note, root) in roots {
            match root.state(vms) {
                RootState::OutOfSight => {
                    freed.out_of_sight.push(OutOfSight { machine: root.machine, note });
                }
                RootState::Gone => files::remove_if_there(&note).map_err(fails_at(&note))?,
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

    /// Notes that a machine's overlay builds on an image by its path in the cache. `machine` is the
    /// machine's folder: as long as it is there, the image stays.
    pub fn hold(&self, image: &CachedImage, machine: &Path) -> Result<(), ImageError> {
        let state = machine.parent().and_then(state_of);
        self.note_root(&Root { image: image.entry.sha256.clone(), machine: machine.to_owned(), state })
    }

    /// A copy of a machine needs what the machine needs.
    pub(crate) fn hold_too(&self, machine: &Path, copy: &Path) -> Result<(), ImageError> {
        let path = self.root_path(machine);
        let text = read::file(&path, read::FILE_MAX).map_err(fails_at(&path))?;
        let root: Root = serde_json::from_slice(&text).map_err(|error| fails_at(&path)(error.into()))?;
        self.note_root(&Root { machine: copy.to_owned(), ..root })
    }

    fn note_root(&self, root: &Root) -> Result<(), ImageError> {
        let path = self.root_path(&root.machine);
        let text = serde_json::to_vec(root).map_err(|error| fails_at(&path)(error.into()))?;
        files::write_durably(&path, &text).map_err(fails_at(&path))
    }

    /// The machine is gone.
    pub fn release(&self, machine: &Path) {
        let _ = fs::remove_file(self.root_path(machine));
    }

    fn root_path(&self, machine: &Path) -> PathBuf {
        self.folder().join("roots").join(machine.file_name().unwrap_or_default())
    }

    /// Whether a machine's folder has a link to the image.
    fn is_linked(&self, sha256: &str) -> Result<bool, ImageError> {
        let path = self.stored(sha256);
        Ok(fs::metadata(&path).map_err(fails_at(&path))?.nlink() > 1)
    }

    /// All notes. An unreadable one is an error, so that nothing goes that may be needed.
    fn roots(&self) -> Result<Vec<(PathBuf, Root)>, ImageError> {
        let names = names_in(&self.folder().join("roots"))?;
        let read = |name| {
            let path = self.folder().join("roots").join(name);
            let text = read::file(&path, read::FILE_MAX).map_err(fails_at(&path))?;
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
    /// The state folder's id, which moves with it. Earlier versions, and state folders without one, note none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<StateId>,
}

/// What is known of a machine that is noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RootState {
    There,
    /// Its state folder is there without it.
    Gone,
    /// Its state folder is elsewhere, or was removed: a disk that isn't mounted hides machines and doesn't end them,
    /// and another state folder may be in the place of one that was moved.
    OutOfSight,
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
            None => RootState::OutOfSight,
        }
    }
}

/// The id of the state folder that a folder of machines lies in.
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
