//! A folder accessible only to root, in which an image is built.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use goloo_model::name::VmId;
use goloo_sys::files;
use goloo_sys::lock::{self, FileLock, Mode};
use rustix::process::geteuid;

use crate::error::{ImageError, fails_at};

/// Has room for large files and survives reboots. The sticky bit lets only their owner move its entries.
const PLACE: &str = "/var/tmp";
const PREFIX: &str = "goloo-build-";
const LOCK: &str = "lock";

/// The build folder, removed on drop. If the process is killed, the next build removes it.
#[derive(Debug)]
pub(super) struct Workshop {
    above: PathBuf,
    _lock: FileLock,
}

impl Workshop {
    pub(super) fn open() -> Result<Self, ImageError> {
        Self::open_in(Path::new(PLACE))
    }

    fn open_in(place: &Path) -> Result<Self, ImageError> {
        sweep(place);
        let above = place.join(format!("{PREFIX}{}", VmId::generate()));
        let failed = fails_at(&above);
        DirBuilder::new().mode(0o700).create(&above).map_err(&failed)?;
        let lock = lock::try_take(&above.join(LOCK), Mode::Exclusive).map_err(&failed)?;
        let busy = || ImageError::Busy {
            what: format!("another goloo process has locked {}", above.display()),
            limit: Duration::ZERO,
        };
        let lock = lock.ok_or_else(busy)?;
        let workshop = Self { above: above.clone(), _lock: lock };
        fs::create_dir(workshop.folder()).map_err(&failed)?;
        Ok(workshop)
    }

    /// The working folder.
    pub(super) fn folder(&self) -> PathBuf {
        self.above.join("work")
    }

    /// Removes the folder and reports a failure.
    pub(super) fn close(self) -> Result<(), ImageError> {
        files::remove_tree(&self.above).map_err(fails_at(&self.above))
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        let _ = files::remove_tree(&self.above);
    }
}

/// Removes the leftovers of killed builds. Names in a world-writable folder prove nothing: only folders owned by this
/// user count, which nobody else can have created.
fn sweep(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let is_named = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if is_named && is_abandoned(&entry.path()).unwrap_or(false) {
            let _ = files::remove_tree(&entry.path());
        }
    }
}

fn is_abandoned(folder: &Path) -> io::Result<bool> {
    let data = fs::symlink_metadata(folder)?;
    if !data.is_dir() || data.uid() != geteuid().as_raw() {
        return Ok(false);
    }
    let lock = folder.join(LOCK);
    fs::symlink_metadata(&lock)?;
    Ok(lock::try_take(&lock, Mode::Exclusive)?.is_some())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names(place: &Path) -> usize {
        fs::read_dir(place).unwrap().count()
    }

    #[test]
    fn leftovers_of_killed_builds_are_removed_and_running_builds_are_kept() {
        let place = tempfile::tempdir().unwrap();
        let locked = Workshop::open_in(place.path()).unwrap();
        let dead = place.path().join("goloo-build-dead");
        fs::create_dir_all(dead.join("work/root")).unwrap();
        fs::write(dead.join(LOCK), "").unwrap();
        std::os::unix::fs::symlink("/etc", place.path().join("goloo-build-link")).unwrap();
        let second = Workshop::open_in(place.path()).unwrap();
        assert!(!dead.exists() && locked.folder().is_dir());
        assert_eq!(fs::metadata(&second.above).unwrap().mode() & 0o777, 0o700);
        drop(locked);
        second.close().unwrap();
        assert_eq!(names(place.path()), 1, "the link that isn't a folder");
    }
}
