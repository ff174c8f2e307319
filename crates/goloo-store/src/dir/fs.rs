//! All file operations of the store as one small trait: implemented here by the real file system, and in
//! `goloo-testkit` by a simulated one that crashes or fails at any step.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use goloo_sys::{lock, read};
use rustix::buffer::spare_capacity;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, RenameFlags};

use super::links;

/// One entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name; invalid UTF-8 is replaced, which goloo's own names don't contain.
    pub name: String,
    /// Whether it is a folder, or a link to one.
    pub is_folder: bool,
}

/// A file that is being written for the first time.
pub trait NewFile: Send {
    /// Appends all bytes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes the content durable. After a failure the state of the content is unknown: the kernel may
    /// drop what it couldn't write and report success the next time.
    fn sync(&mut self) -> io::Result<()>;
}

/// An open folder, so that many reads below it don't have to resolve the path to it.
pub trait Folder: Sync {
    /// Appends the content of the file at `path`, which is relative to the folder. A read that is interrupted by a
    /// signal may be truncated: a caller who notices that reads again with [`Fs::read`].
    fn append(&self, path: &Path, into: &mut Vec<u8>) -> io::Result<()>;
}

/// A lock that is released when the value is dropped or the process ends.
pub type LockGuard = Box<dyn Send + Sync>;

/// The result of an attempt to lock a file.
pub enum LockAttempt {
    /// Locked until the value is dropped or the process ends.
    Held(LockGuard),
    /// Someone else holds it; the content that they wrote to the file.
    Busy(Vec<u8>),
}

/// The file operations that the store needs. Only `durable.rs` renames and syncs.
pub trait Fs: Send + Sync {
    /// Replaces `into` with the file's content.
    fn read(&self, path: &Path, into: &mut Vec<u8>) -> io::Result<()>;

    /// The entries of a folder, unordered.
    fn read_folder(&self, path: &Path) -> io::Result<Vec<Entry>>;

    /// Opens a folder for reading.
    fn open_folder<'f>(&'f self, path: &Path) -> io::Result<Box<dyn Folder + 'f>>;

    /// Distinguishes a folder from another one that is later created under the same name; `None` if
    /// the name isn't in use.
    fn folder_id(&self, path: &Path) -> io::Result<Option<u64>>;

    /// Creates a folder, mode 0700; its parent must exist.
    fn create_folder(&self, path: &Path) -> io::Result<()>;

    /// Creates a file, mode 0600; fails if the name is in use.
    fn create_file(&self, path: &Path) -> io::Result<Box<dyn NewFile>>;

    /// Creates a hard link to a file; fails if the new name is in use.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Renames a file, replacing an existing one.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Renames a folder; fails with [`ErrorKind::AlreadyExists`] if the name is in use.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a folder with its content, or anything else with this name; succeeds if it doesn't exist. Links aren't
    /// followed, and concurrent calls don't fail.
    fn remove_tree(&self, path: &Path) -> io::Result<()>;

    /// Makes a folder's entries durable.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;

    /// Takes an exclusive lock that ends with its holder, without waiting, and writes `holder` to
    /// the file. Two attempts in one process exclude each other too.
    fn lock(&self, path: &Path, holder: &[u8]) -> io::Result<LockAttempt>;

    /// What the holder of such a lock wrote to the file; `None` if it isn't held. Doesn't make an attempt to take
    /// the lock fail.
    fn lock_holder(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;

    /// Takes a shared lock, without waiting; `None` while someone holds it exclusively. The file must not be one
    /// that [`Fs::lock`] is used on.
    fn lock_shared(&self, path: &Path) -> io::Result<Option<LockGuard>>;

    /// Takes such a lock exclusively, without waiting; `None` while anyone holds it.
    fn lock_alone(&self, path: &Path) -> io::Result<Option<LockGuard>>;

    /// The name of the network file system that `path` is on; `None` on a local one, or if
    /// this is unknown.
    fn network_filesystem(&self, path: &Path) -> io::Result<Option<&'static str>>;
}

/// The maximum size of a file in a store, in bytes: the largest document plus the overhead of encryption.
const FILE_MAX: u64 = 2 * read::FILE_MAX;
/// How much is read of the holder's data in a lock file, in bytes.
const HOLDER_MAX: u64 = 4096;

/// The operating system's file system.
#[derive(Debug, Clone, Default)]
pub struct RealFs {
    root: Option<PathBuf>,
}

impl RealFs {
    /// The file system of a store: from `root` on, links of other users aren't followed.
    pub fn below(root: &Path) -> Self {
        Self { root: Some(root.to_owned()) }
    }

    /// A path that is about to be followed completely.
    fn followed<'p>(&self, path: &'p Path) -> io::Result<&'p Path> {
        if let Some(root) = &self.root {
            links::check(root, path)?;
        }
        Ok(path)
    }

    /// A path whose last component is about to be created, renamed or removed: a link there isn't followed.
    fn named<'p>(&self, path: &'p Path) -> io::Result<&'p Path> {
        path.parent().map_or(Ok(path), |folder| self.followed(folder).map(|_| path))
    }
}

impl Folder for OwnedFd {
    fn append(&self, path: &Path, into: &mut Vec<u8>) -> io::Result<()> {
        append_at(self, path, into)
    }
}

/// Reads without determining size and type first, which would slow down a list of thousands: records are small,
/// and `into` has room. A named pipe reads as empty and a device as too large; [`Fs::read`] reports their type, and
/// decides whether a link is followed.
fn append_at(folder: impl AsFd, path: &Path, into: &mut Vec<u8>) -> io::Result<()> {
    let file = open_without_links(folder, path)?;
    read::expect_own(rustix::fs::fstat(&file)?.st_uid)?;
    let start = into.len();
    loop {
        into.reserve(4096);
        let room = into.capacity() - into.len();
        let got = rustix::io::read(&file, spare_capacity(into))?;
        // A read that doesn't fill the buffer is the last one: another read per file would be a tenth of the
        // time for a list of thousands.
        if got < room {
            return Ok(());
        }
        if (into.len() - start) as u64 > FILE_MAX {
            return Err(read::Refused::TooLarge { max: FILE_MAX }.into());
        }
    }
}

const READ: OFlags = OFlags::RDONLY
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::NOFOLLOW);

/// Opens a file below a folder, unless any component of the path is a link.
#[cfg(target_os = "linux")]
fn open_without_links(folder: impl AsFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat2(folder, path, READ, Mode::empty(), rustix::fs::ResolveFlags::NO_SYMLINKS)
}

#[cfg(not(target_os = "linux"))]
fn open_without_links(folder: impl AsFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let mut names = path.iter();
    let first = names.next().ok_or(rustix::io::Errno::NOENT)?;
    let first = rustix::fs::openat(folder, first, READ, Mode::empty())?;
    names.try_fold(first, |opened, name| rustix::fs::openat(opened, name, READ, Mode::empty()))
}

impl NewFile for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

impl Fs for RealFs {
    fn read(&self, path: &Path, into: &mut Vec<u8>) -> io::Result<()> {
        *into = read::own(self.followed(path)?, FILE_MAX)?;
        Ok(())
    }

    fn open_folder<'f>(&'f self, path: &Path) -> io::Result<Box<dyn Folder + 'f>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Box::new(rustix::fs::open(self.followed(path)?, flags, Mode::empty())?))
    }

    fn read_folder(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(self.followed(path)?)? {
            let entry = entry?;
            let file_type = entry.file_type()?;
            let is_folder = file_type.is_dir()
                || file_type.is_symlink() && fs::metadata(entry.path()).is_ok_and(|target| target.is_dir());
            let name = entry.file_name().into_string();
            let name = name.unwrap_or_else(|odd| odd.to_string_lossy().into_owned());
            entries.push(Entry { name, is_folder });
        }
        Ok(entries)
    }

    fn folder_id(&self, path: &Path) -> io::Result<Option<u64>> {
        match fs::metadata(self.followed(path)?) {
            Ok(metadata) => Ok(Some(metadata.ino())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(self.named(path)?)
    }

    fn create_file(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.named(path)?)?;
        Ok(Box::new(file))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(self.named(from)?, self.named(to)?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(self.named(from)?, self.named(to)?)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        use rustix::io::Errno;
        let (from, to) = (self.named(from)?, self.named(to)?);
        match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // The file system or the kernel doesn't support this rename. A process that renames into `active` or out
            // of it holds the name's lock, so checking first is sufficient; and should the target exist
            // after all, rename(2) replaces nothing but an empty folder.
            Err(Errno::INVAL | Errno::NOSYS) => match self.folder_id(to)? {
                Some(_) => Err(ErrorKind::AlreadyExists.into()),
                None => fs::rename(from, to),
            },
            other => Ok(other?),
        }
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(self.named(path)?)
    }

    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        let remove = |path| match fs::symlink_metadata(path)?.is_dir() {
            // It opens each folder relative to its parent and follows no link, even if one is created meanwhile.
            true => fs::remove_dir_all(path),
            false => fs::remove_file(path),
        };
        match remove(self.named(path)?) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(self.followed(path)?)?.sync_all()
    }

    fn lock(&self, path: &Path, holder: &[u8]) -> io::Result<LockAttempt> {
        // flock belongs to the open file, not to the process: a second open in this process is
        // refused, and closing another descriptor of the file doesn't release it. std opens with
        // close-on-exec, so that a machine that outlives goloo doesn't inherit the lock.
        let mut file = lock::open(self.named(path)?)?;
        while !flock(&file, FlockOperation::NonBlockingLockExclusive)? {
            if !flock(&file, FlockOperation::NonBlockingLockShared)? {
                return Ok(LockAttempt::Busy(holder_in(&file)?));
            }
            // It isn't held: another process was checking its holder for an instant, as we just did.
            flock(&file, FlockOperation::Unlock)?;
            std::thread::yield_now();
        }
        file.set_len(0)?;
        file.write_all(holder)?;
        Ok(LockAttempt::Held(Box::new(file)))
    }

    fn lock_holder(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let path = self.named(path)?;
        // A lock is only ever taken on a regular file.
        if fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
            return Ok(None);
        }
        let file = match read::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        if flock(&file, FlockOperation::NonBlockingLockShared)? {
            return Ok(None);
        }
        holder_in(&file).map(Some)
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        let file = lock::open(self.named(path)?)?;
        Ok(if flock(&file, FlockOperation::NonBlockingLockShared)? { Some(Box::new(file)) } else { None })
    }

    fn lock_alone(&self, path: &Path) -> io::Result<Option<LockGuard>> {
        let file = lock::open(self.named(path)?)?;
        Ok(if flock(&file, FlockOperation::NonBlockingLockExclusive)? { Some(Box::new(file)) } else { None })
    }

    #[cfg(target_os = "linux")]
    fn network_filesystem(&self, path: &Path) -> io::Result<Option<&'static str>> {
        let magic = rustix::fs::statfs(path)?.f_type;
        // The kernel's type differs by architecture; all magic numbers fit into 32 bits.
        Ok(network_name(magic as u32))
    }

    #[cfg(not(target_os = "linux"))]
    fn network_filesystem(&self, _: &Path) -> io::Result<Option<&'static str>> {
        Ok(None)
    }
}

/// What the holder of a lock wrote to its file; empty if that is too long to be a holder.
fn holder_in(file: &File) -> io::Result<Vec<u8>> {
    let mut holder = Vec::new();
    file.take(HOLDER_MAX).read_to_end(&mut holder)?;
    Ok(holder)
}

/// Whether the lock was changed as requested; `false` if someone else's lock conflicts.
fn flock(file: &File, operation: FlockOperation) -> io::Result<bool> {
    match rustix::io::retry_on_intr(|| rustix::fs::flock(file, operation)) {
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        other => Ok(other.map(|()| true)?),
    }
}

/// From the kernel's `include/uapi/linux/magic.h` and the file systems' own headers. FUSE isn't
/// included: a single number stands for both sshfs and local encrypted folders.
#[cfg(target_os = "linux")]
fn network_name(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x6969 => "NFS",
        0x517B | 0xFF53_4D42 | 0xFE53_4D42 => "SMB",
        0x5346_414F | 0x6B41_4653 => "AFS",
        0x7375_7245 => "Coda",
        0x564C => "NCP",
        0x0102_1997 => "9P",
        0x00C3_6400 => "Ceph",
        0x0BD0_0BD0 => "Lustre",
        0x4750_4653 => "GPFS",
        _ => return None,
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_recognized_by_their_magic_number() {
        assert_eq!(network_name(0x6969), Some("NFS"));
        assert_eq!(network_name(0xFE53_4D42), Some("SMB"));
        for local in [0xEF53, 0x9123_683E, 0x5846_5342, 0x0102_1994, 0x6573_5546] {
            assert_eq!(network_name(local), None, "{local:x}");
        }
    }
}
