//! A folder of root's alone, in which an image is built.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use goloo_core::name::VmId;
use goloo_os::lock::Mode;
use rustix::process::geteuid;

use super::ImageError;
use super::cache::fails_at;
use crate::files::{self, Lock};

/// Where there is room for large files until the next reboot and beyond. Only their owner can move what lies there.
const PLACE: &str = "/var/tmp";
const PREFIX: &str = "goloo-build-";
const LOCK: &str = "lock";

/// The folder, which is removed with this value. One of a process that was killed is removed by the next build.
#[derive(Debug)]
pub(super) struct Workshop {
    above: PathBuf,
    _lock: Lock,
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
        let lock = Lock::try_file(&above.join(LOCK), Mode::Exclusive).map_err(&failed)?;
        let busy = || ImageError::Busy { what: above.display().to_string(), limit: Duration::ZERO };
        let lock = lock.ok_or_else(busy)?;
        let workshop = Self { above: above.clone(), _lock: lock };
        fs::create_dir(workshop.folder()).map_err(&failed)?;
        Ok(workshop)
    }

    /// Where the work is done.
    pub(super) fn folder(&self) -> PathBuf {
        self.above.join("work")
    }

    /// Removes it, and says when that fails.
    pub(super) fn close(self) -> Result<(), ImageError> {
        files::remove_tree(&self.above).map_err(fails_at(&self.above))
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        let _ = files::remove_tree(&self.above);
    }
}

/// Removes what killed builds left. Names in a place where everybody writes say nothing: only this user's own folders
/// count, which nobody else can have made.
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
    Ok(Lock::try_file(&lock, Mode::Exclusive)?.is_some())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names(place: &Path) -> usize {
        fs::read_dir(place).unwrap().count()
    }

    #[test]
    fn what_a_killed_build_left_goes_and_one_under_way_stays() {
        let place = tempfile::tempdir().unwrap();
        let under_way = Workshop::open_in(place.path()).unwrap();
        let dead = place.path().join("goloo-build-dead");
        fs::create_dir_all(dead.join("work/root")).unwrap();
        fs::write(dead.join(LOCK), "").unwrap();
        std::os::unix::fs::symlink("/etc", place.path().join("goloo-build-link")).unwrap();
        let second = Workshop::open_in(place.path()).unwrap();
        assert!(!dead.exists() && under_way.folder().is_dir());
        assert_eq!(fs::metadata(&second.above).unwrap().mode() & 0o777, 0o700);
        drop(under_way);
        second.close().unwrap();
        assert_eq!(names(place.path()), 1, "the link that isn't a folder");
    }
}
