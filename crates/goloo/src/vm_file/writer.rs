//! Writes the file under another name, and gives it its own when it is complete.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use goloo_model::record::{self, Digest, Record};
use goloo_model::store::Snapshot;
use goloo_model::time::Timestamp;
use goloo_sys::{durable, read};
use rustix::fs::{CWD, RenameFlags};

use super::format::{BLOCK, DISK, END, MANIFEST, Manifest, STATE, SUMS, USER_DATA};
use super::sum::{self, DiskSum};
use crate::error::{Error, VmFileError};

/// All of the file but the disk.
pub struct VmFileContent<'a> {
    /// The manifest.
    pub manifest: &'a Manifest,
    /// The VM's record.
    pub record: &'a Record,
    /// The files that the VM was created from.
    pub snapshot: &'a Snapshot,
    /// The user-data that its machine reads at each boot.
    pub user_data: &'a [u8],
}

/// A file that isn't complete. It is removed unless it is published.
pub struct VmFileWriter {
    file: File,
    staged: PathBuf,
    target: PathBuf,
    /// The sums of the members so far.
    sums: Vec<(&'static str, Digest)>,
    at: Timestamp,
    /// Where the disk begins.
    disk: u64,
}

impl VmFileWriter {
    /// Begins a file, which only this user can read: it has the disk, and so what is secret in it.
    ///
    /// # Errors
    /// [`VmFileError::Exists`] and [`VmFileError::Busy`]; errors of the system.
    pub fn begin(target: &Path) -> Result<Self, Error> {
        expect_free(target)?;
        let cannot = |source| Error::cannot("write", target, source);
        let staged = staged_path(target).ok_or_else(|| cannot(ErrorKind::InvalidInput.into()))?;
        // Again if another process has removed this one, taking it for a leftover.
        for _ in 0..3 {
            let mut options = OpenOptions::new();
            match options.read(true).write(true).create_new(true).mode(0o600).open(&staged) {
                Ok(file) if lock(&file) && is_at(&file, &staged) => {
                    let (target, at) = (target.to_owned(), Timestamp::now());
                    return Ok(Self { file, staged, target, sums: Vec::new(), at, disk: 0 });
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    if !remove_leftover(&staged).map_err(|error| Error::cannot("remove", &staged, error))? {
                        break;
                    }
                }
                Err(error) => return Err(cannot(error)),
            }
        }
        Err(VmFileError::Busy { file: target.to_owned() }.into())
    }

    /// Its current path.
    pub fn path(&self) -> &Path {
        &self.staged
    }

    /// Writes all but the disk. Returns where the disk is to begin, in bytes; whatever is there later counts as it.
    ///
    /// # Errors
    /// Errors of the system.
    pub fn write_head(&mut self, content: &VmFileContent<'_>) -> Result<u64, Error> {
        self.at = content.manifest.exported_at;
        let manifest = serde_json::to_vec_pretty(content.manifest).expect("it has only string keys");
        let written = self.head(&manifest, content);
        written.map_err(|source| Error::cannot("write", &self.target, source))
    }

    fn head(&mut self, manifest: &[u8], content: &VmFileContent<'_>) -> io::Result<u64> {
        self.member(MANIFEST, manifest)?;
        self.member(STATE, &record::to_json(content.record))?;
        for name in goloo_model::store::SNAPSHOT_FILES {
            if let Some(bytes) = content.snapshot.files.get(name) {
                self.member(name, bytes)?;
            }
        }
        self.member(USER_DATA, content.user_data)?;
        self.disk = self.file.stream_position()? + BLOCK;
        Ok(self.disk)
    }

    fn member(&mut self, name: &'static str, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(self.header(name, bytes.len() as u64)?.as_bytes())?;
        self.file.write_all(bytes)?;
        self.file.write_all(&vec![0; padding(bytes.len() as u64)])?;
        self.sums.push((name, sum::of(bytes)));
        Ok(())
    }

    fn header(&self, name: &str, size: u64) -> io::Result<tar::Header> {
        let mut header = tar::Header::new_gnu();
        header.set_path(name)?;
        header.set_size(size);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(self.at.unix()).unwrap_or(0));
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        Ok(header)
    }

    /// The checksum of the disk, which is complete.
    ///
    /// # Errors
    /// Errors of the system.
    pub fn disk_sum(&self) -> Result<(DiskSum<'_>, u64), Error> {
        let end = self.file.metadata().map_err(|source| Error::cannot("read", &self.staged, source))?.len();
        let length = end.saturating_sub(self.disk);
        Ok((DiskSum::new(&self.file, self.disk, length), length))
    }

    /// Completes the file and gives it its name. Returns its size in bytes.
    ///
    /// # Errors
    /// [`VmFileError::Exists`] if there is one by now; errors of the system.
    pub fn publish(mut self, disk: Digest, length: u64) -> Result<u64, Error> {
        let cannot = |source| Error::cannot("write", &self.target, source);
        self.sums.push((DISK, disk));
        let header = self.header(DISK, length).map_err(cannot)?;
        let sums: String =
            self.sums.iter().map(|(name, sum)| format!("{}  {name}\n", sum.as_str())).collect();
        let tail = self.header(SUMS, sums.len() as u64).map_err(cannot)?;
        let mut end = vec![0; padding(length)];
        end.extend(tail.as_bytes());
        end.extend(sums.as_bytes());
        end.extend(vec![0; padding(sums.len() as u64) + usize::try_from(END).unwrap_or_default()]);
        let mut write = || {
            self.file.write_all_at(header.as_bytes(), self.disk - BLOCK)?;
            let size = self.file.seek(SeekFrom::Start(self.disk + length))? + end.len() as u64;
            self.file.write_all(&end)?;
            self.file.sync_all()?;
            Ok(size)
        };
        let size = write().map_err(cannot)?;
        rename_to_free(&self.staged, &self.target)?;
        durable::sync_folder(self.target.parent().unwrap_or(Path::new("/"))).map_err(cannot)?;
        Ok(size)
    }
}

impl Drop for VmFileWriter {
    /// Only what is still this file: after publishing, the name is free for others.
    fn drop(&mut self) {
        if is_at(&self.file, &self.staged) {
            let _ = fs::remove_file(&self.staged);
        }
    }
}

fn padding(size: u64) -> usize {
    usize::try_from(size.next_multiple_of(BLOCK) - size).unwrap_or_default()
}

fn expect_free(target: &Path) -> Result<(), VmFileError> {
    match fs::symlink_metadata(target) {
        Ok(_) => Err(VmFileError::Exists { file: target.to_owned() }),
        Err(_) => Ok(()),
    }
}

/// `.NAME.partial` beside it.
fn staged_path(target: &Path) -> Option<PathBuf> {
    let mut name = OsString::from(".");
    name.push(target.file_name()?);
    name.push(".partial");
    Some(target.with_file_name(name))
}

/// Whether this process has it now. File systems without locks have no other process to tell apart.
fn lock(file: &File) -> bool {
    !matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

/// Whether a path still names this file.
fn is_at(file: &File, path: &Path) -> bool {
    let id = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let ids = (file.metadata().map(id), fs::symlink_metadata(path).map(id));
    matches!(ids, (Ok(own), Ok(there)) if own == there)
}

/// Removes what a killed export has left; `false` if a process is still writing it.
fn remove_leftover(staged: &Path) -> io::Result<bool> {
    let file = match read::open(staged) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        file => file?,
    };
    read::expect_own(file.metadata()?.uid())?;
    if !lock(&file) {
        return Ok(false);
    }
    durable::remove_if_there(staged)?;
    Ok(true)
}

/// Never replaces another file. Some file systems can't promise that.
fn rename_to_free(from: &Path, to: &Path) -> Result<(), Error> {
    use rustix::io::Errno;
    let cannot = |source: io::Error| Error::cannot("write", to, source);
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => Err(VmFileError::Exists { file: to.to_owned() }.into()),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            expect_free(to)?;
            fs::rename(from, to).map_err(cannot)
        }
        Err(error) => Err(cannot(error.into())),
    }
}
