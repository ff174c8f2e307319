//! Which images machines need, and what can go.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ImageError;
use super::cache::{Cache, CachedImage, fails_at, names_in};
use super::entry::Entry;
use crate::files::{self, Lock};
use goloo_os::lock::Mode;
use goloo_os::read;

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

impl Cache {
    /// All images, by name.
    pub fn list(&self) -> Result<Vec<Listed>, ImageError> {
        let mut all: Vec<Listed> = Vec::new();
        for name in names_in(&self.folder().join("names"))? {
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
        let lock = self.folder().join("locks/in-use.lock");
        let taken = Lock::try_file(&lock, Mode::Exclusive).map_err(fails_at(&lock))?;
        let Some(_alone) = taken else {
            return Err(ImageError::Busy {
                what: "another goloo is using the image cache".to_owned(),
                limit: Duration::ZERO,
            });
        };
        let mut freed = Freed::default();
        for name in names_in(&self.folder().join("store"))? {
            let path = self.folder().join("store").join(&name);
            let digest = name.to_str().and_then(|name| name.strip_suffix(".img")).unwrap_or_default();
            if !self.is_needed(digest)? {
                freed.take(&path).map_err(fails_at(&path))?;
            }
        }
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
        self.note_root(&Root { image: image.entry.sha256.clone(), machine: machine.to_owned() })
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

    /// Whether a machine's folder has a link to the image, or a note of one names it. An unreadable
    /// note is an error, so that nothing goes that may be needed.
    fn is_needed(&self, sha256: &str) -> Result<bool, ImageError> {
        let path = self.stored(sha256);
        if fs::metadata(&path).map_err(fails_at(&path))?.nlink() > 1 {
            return Ok(true);
        }
        for name in names_in(&self.folder().join("roots"))? {
            let path = self.folder().join("roots").join(name);
            let text = read::file(&path, read::FILE_MAX).map_err(fails_at(&path))?;
            let root: Root = serde_json::from_slice(&text).map_err(|error| fails_at(&path)(error.into()))?;
            if root.image == sha256 && root.may_be_there() {
                return Ok(true);
            }
        }
        Ok(false)
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
