//! Files whose content is encrypted when written and decrypted when read.

use std::borrow::Cow;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use super::fs::{Entry, Folder, Fs, LockAttempt, LockGuard, NewFile};
use super::layout;
use crate::seal::{Seal, SealError};

/// A file system that encrypts each file.
pub(super) struct SealedFs {
    fs: Arc<dyn Fs>,
    seal: Seal,
}

impl SealedFs {
    pub fn new(fs: Arc<dyn Fs>, seal: Seal) -> Self {
        Self { fs, seal }
    }
}

/// Why a file couldn't be decrypted, if that is the cause of an error.
pub(super) fn unopened(error: &io::Error) -> Option<&SealError> {
    error.get_ref()?.downcast_ref()
}

fn refused(error: SealError) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

/// Decrypts the part of `bytes` from `start` on, in place.
fn open_tail(seal: &Seal, bytes: &mut Vec<u8>, start: usize) -> io::Result<()> {
    if let Cow::Owned(document) = seal.open(&bytes[start..]).map_err(refused)? {
        bytes.truncate(start);
        bytes.extend_from_slice(&document);
    }
    Ok(())
}

struct SealedFile {
    file: Box<dyn NewFile>,
    seal: Seal,
}

impl NewFile for SealedFile {
    /// A document is written in one call: each call creates a separate encrypted document.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.seal.seals() {
            return self.file.write(bytes);
        }
        self.file.write(&self.seal.seal(bytes.to_vec()).map_err(refused)?)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }
}

struct SealedFolder<'f> {
    folder: Box<dyn Folder + 'f>,
    seal: &'f Seal,
}

impl Folder for SealedFolder<'_> {
    fn append(&self, path: &Path, into: &mut Vec<u8>) -> io::Result<()> {
        let start = into.len();
        self.folder.append(path, into)?;
        open_tail(self.seal, into, start)
    }
}

impl Fs for SealedFs {
    fn read(&self, path: &Path, into: &mut Vec<u8>) -> io::Result<()> {
        self.fs.read(path, into)?;
        open_tail(&self.seal, into, 0)
    }

    fn open_folder<'f>(&'f self, path: &Path) -> io::Result<Box<dyn Folder + 'f>> {
        Ok(Box::new(SealedFolder { folder: self.fs.open_folder(path)?, seal: &self.seal }))
    }

    fn create_file(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        let file = self.fs.create_file(path)?;
        // Everyone who opens a moved store must be able to read its new location.
        if layout::is_mark(path) {
            return Ok(file);
        }
        Ok(Box::new(SealedFile { file, seal: self.seal.clone() }))
    }

    fn read_folder(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.fs.read_folder(path)
    }

    fn folder_id(&self, path: &Path) -> io::Result<Option<u64>> {
        self.fs.folder_id(path)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.fs.create_folder(path)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.fs.link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.fs.rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.fs.rename_new(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.fs.remove_file(path)
    }

    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        self.fs.remove_tree(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.fs.sync_folder(path)
    }

    fn lock(&self, path: &Path, holder: &[u8]) -> io::Result<LockAttempt> {
        self.fs.lock(path, holder)
    }

    fn lock_holder(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        self.fs.lock_holder(path)
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        self.fs.lock_shared(path)
    }

    fn lock_alone(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        self.fs.lock_alone(path)
    }

    fn network_filesystem(&self, path: &Path) -> io::Result<Option<&'static str>> {
        self.fs.network_filesystem(path)
    }
}
