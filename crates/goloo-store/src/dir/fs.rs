//! Every file operation of the store, as one small trait: the real file system here, a simulated one
//! that dies or fails at any step in `goloo-testkit`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use goloo_os::{lock, read};
use rustix::buffer::spare_capacity;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, RenameFlags};

/// One name in a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name; bytes that aren't UTF-8 are replaced, which no name of goloo's needs.
    pub name: String,
    /// Whether it is a folder, or a link to one.
    pub is_folder: bool,
}

/// A file that is being written for the first time.
pub trait NewFile: Send {
    /// Writes all bytes at the end.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes the content durable. After a failure nothing is known of the content: the kernel may
    /// drop what it couldn't write and report success the next time.
    fn sync(&mut self) -> io::Result<()>;
}

/// A folder that is held open, so that many reads below it needn't walk the path to it.
pub trait Folder: Sync {
    /// Appends the content of the file at `path`, which is relative to the folder. A read that a signal
    /// cuts short may end it early: who finds it cut looks again by [`Fs::read`].
    fn append(&self, path: &Path, into: &mut Vec<u8>) -> io::Result<()>;
}

/// A lock that ends with the value, or with the process.
pub type Held = Box<dyn Send + Sync>;

/// What came of an attempt to lock a file.
pub enum LockAttempt {
    /// Locked until the value is dropped or the process ends.
    Held(Held),
    /// Someone else has it; what they wrote into the file.
    Busy(Vec<u8>),
}

/// The file operations that the store needs. Only `durable.rs` renames and syncs.
pub trait Fs: Send + Sync {
    /// Replaces `into` by the file's content.
    fn read(&self, path: &Path, into: &mut Vec<u8>) -> io::Result<()>;

    /// The names in a folder, in no order.
    fn read_folder(&self, path: &Path) -> io::Result<Vec<Entry>>;

    /// Opens a folder to read in.
    fn open_folder<'f>(&'f self, path: &Path) -> io::Result<Box<dyn Folder + 'f>>;

    /// What tells a folder from another one that was later put under the same name; `None` when
    /// nothing has that name.
    fn folder_id(&self, path: &Path) -> io::Result<Option<u64>>;

    /// Makes a folder, mode 0700; its parent must be there.
    fn create_folder(&self, path: &Path) -> io::Result<()>;

    /// Makes a file, mode 0600; fails when the name is in use.
    fn create_file(&self, path: &Path) -> io::Result<Box<dyn NewFile>>;

    /// Gives a file a second name; fails when that name is in use.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Renames a file, replacing what has the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Renames a folder; fails with [`ErrorKind::AlreadyExists`] when the name is in use.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty folder.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;

    /// Makes a folder's names durable.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;

    /// Takes an exclusive lock that ends with its holder, without waiting, and writes `holder` into
    /// the file. Two attempts in one process exclude each other too.
    fn lock(&self, path: &Path, holder: &[u8]) -> io::Result<LockAttempt>;

    /// What the holder of such a lock wrote into the file; `None` when nobody has it. No attempt to take
    /// the lock fails because of it.
    fn lock_holder(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;

    /// Takes a lock that many can have at once, without waiting; `None` while someone has it alone. The file is none
    /// that [`Fs::lock`] takes.
    fn lock_shared(&self, path: &Path) -> io::Result<Option<Held>>;

    /// Takes such a lock alone, without waiting; `None` while anyone has it.
    fn lock_alone(&self, path: &Path) -> io::Result<Option<Held>>;

    /// The name of the network file system that `path` is on; `None` on a local one, or where that
    /// can't be told.
    fn network_filesystem(&self, path: &Path) -> io::Result<Option<&'static str>>;
}

/// The largest file of a store, in bytes: a document as large as any may be, and what encryption adds.
const FILE_MAX: u64 = 2 * read::FILE_MAX;
/// The most that is read of what a lock's holder wrote into the lock's file, in bytes.
const HOLDER_MAX: u64 = 4096;

/// The operating system's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealFs;

impl Folder for OwnedFd {
    fn append(&self, path: &Path, into: &mut Vec<u8>) -> io::Result<()> {
        append_at(self, path, into)
    }
}

/// Reads without asking for the size or the kind first, which a list of thousands would pay for: records are small,
/// and `into` has room. A named pipe reads as empty and a device as too large; [`Fs::read`] says what they are.
fn append_at(folder: impl AsFd, path: &Path, into: &mut Vec<u8>) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::openat(folder, path, flags, Mode::empty())?;
    let start = into.len();
    loop {
        into.reserve(4096);
        let room = into.capacity() - into.len();
        let got = rustix::io::read(&file, spare_capacity(into))?;
        // A file's last read is one that doesn't fill its room: asking once more, a thousand times, is a tenth of the
        // time that a list takes.
        if got < room {
            return Ok(());
        }
        if (into.len() - start) as u64 > FILE_MAX {
            return Err(read::Refused::TooLarge { max: FILE_MAX }.into());
        }
    }
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
        *into = read::file(path, FILE_MAX)?;
        Ok(())
    }

    fn open_folder<'f>(&'f self, path: &Path) -> io::Result<Box<dyn Folder + 'f>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Box::new(rustix::fs::open(path, flags, Mode::empty())?))
    }

    fn read_folder(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
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
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(metadata.ino())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(path)
    }

    fn create_file(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Box::new(file))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        use rustix::io::Errno;
        match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // The file system or the kernel has no such rename. Whoever renames into `active` or out
            // of it holds the name's lock, so looking first is enough; and should something be there
            // all the same, rename(2) replaces nothing but an empty folder.
            Err(Errno::INVAL | Errno::NOSYS) => match self.folder_id(to)? {
                Some(_) => Err(ErrorKind::AlreadyExists.into()),
                None => fs::rename(from, to),
            },
            other => Ok(other?),
        }
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn lock(&self, path: &Path, holder: &[u8]) -> io::Result<LockAttempt> {
        // flock belongs to the open file, not to the process: a second open in this process is
        // refused, and closing another descriptor of the file doesn't end it. std opens with
        // close-on-exec, so that a machine that outlives goloo doesn't inherit the lock.
        let mut file = lock::open(path)?;
        while !flock(&file, FlockOperation::NonBlockingLockExclusive)? {
            if !flock(&file, FlockOperation::NonBlockingLockShared)? {
                return Ok(LockAttempt::Busy(holder_in(&file)?));
            }
            // Nobody has it: someone was looking who has it, for an instant, as we did just now.
            flock(&file, FlockOperation::Unlock)?;
            std::thread::yield_now();
        }
        file.set_len(0)?;
        file.write_all(holder)?;
        Ok(LockAttempt::Held(Box::new(file)))
    }

    fn lock_holder(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let file = match read::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        if flock(&file, FlockOperation::NonBlockingLockShared)? {
            return Ok(None);
        }
        holder_in(&file).map(Some)
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Option<Held>> {
        let file = lock::open(path)?;
        Ok(if flock(&file, FlockOperation::NonBlockingLockShared)? { Some(Box::new(file)) } else { None })
    }

    fn lock_alone(&self, path: &Path) -> io::Result<Option<Held>> {
        let file = lock::open(path)?;
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

/// What the holder of a lock wrote into its file; nothing where that is too long to be a holder.
fn holder_in(file: &File) -> io::Result<Vec<u8>> {
    let mut holder = Vec::new();
    file.take(HOLDER_MAX).read_to_end(&mut holder)?;
    Ok(holder)
}

/// Whether the lock was changed as asked; `false` when someone else's stands against it.
fn flock(file: &File, operation: FlockOperation) -> io::Result<bool> {
    match rustix::io::retry_on_intr(|| rustix::fs::flock(file, operation)) {
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        other => Ok(other.map(|()| true)?),
    }
}

/// From the kernel's `include/uapi/linux/magic.h` and the file systems' own headers. FUSE isn't among
/// them: one number stands for sshfs and for local encrypted folders alike.
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
    fn network_file_systems_are_known_by_their_magic() {
        assert_eq!(network_name(0x6969), Some("NFS"));
        assert_eq!(network_name(0xFE53_4D42), Some("SMB"));
        for local in [0xEF53, 0x9123_683E, 0x5846_5342, 0x0102_1994, 0x6573_5546] {
            assert_eq!(network_name(local), None, "{local:x}");
        }
    }
}
