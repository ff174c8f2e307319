//! Checks the files at the database's paths before SQLite opens them: it follows every link, and opening
//! a named pipe blocks forever.

use std::fs::{self, FileType};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use goloo_model::database_error::UntrustedDatabase;
use goloo_sys::{owner, private};

/// The number of links that Linux follows.
const LINKS_MAX: usize = 40;

/// The suffixes of the database itself, and of SQLite's other files.
const ENDINGS: [&str; 4] = ["", "-journal", "-wal", "-shm"];

/// Refuses links of other users, and anything but regular files. Inaccessible files are left for SQLite to report.
pub(super) fn check(file: &Path) -> Result<(), UntrustedDatabase> {
    let file = follow_own_links(file)?;
    check_owner(&file)?;
    for ending in ENDINGS {
        let path = beside(&file, ending);
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        if let Some(kind) = special_kind(found.file_type()) {
            return Err(UntrustedDatabase::SpecialFile { path, kind });
        }
    }
    refuse_super_journal(&beside(&file, "-journal"))
}

/// The database must belong to this user and be writable only by them; in a folder shared by a group, by that group.
fn check_owner(file: &Path) -> Result<(), UntrustedDatabase> {
    if is_for_a_group(file.parent().unwrap_or(Path::new("/"))) {
        return Ok(());
    }
    private::check(file)
        .map_err(|exposed| UntrustedDatabase::Exposed { what: exposed.to_string(), fix: exposed.hint() })
}

/// Whether a folder is shared by a group: its members can write to it, and what they create belongs to the group
/// (`chmod 2770`).
pub(super) fn is_for_a_group(folder: &Path) -> bool {
    fs::metadata(folder).is_ok_and(|folder| folder.permissions().mode() & 0o2070 == 0o2070)
}

/// The end of a journal that names a super-journal. <https://www.sqlite.org/fileformat2.html#the_rollback_journal>
const JOURNAL_MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// A rollback journal may name another file, which SQLite opens, whatever it is. Only a transaction over several
/// databases creates one, which goloo never does.
fn refuse_super_journal(journal: &Path) -> Result<(), UntrustedDatabase> {
    let end = || -> io::Result<[u8; 8]> {
        let mut file = fs::File::open(journal)?;
        file.seek(SeekFrom::End(-8))?;
        let mut end = [0; 8];
        file.read_exact(&mut end).map(|()| end)
    };
    if end().is_ok_and(|end| end == JOURNAL_MAGIC) {
        return Err(UntrustedDatabase::SuperJournal { path: journal.to_owned() });
    }
    Ok(())
}

/// The file's path with a suffix.
pub(super) fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

/// Resolves the user's own links. Anyone who can write to the folder can create a link to any of this user's files.
fn follow_own_links(file: &Path) -> Result<PathBuf, UntrustedDatabase> {
    let mut at = file.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(found) = fs::symlink_metadata(&at) else { break };
        if !found.is_symlink() {
            break;
        }
        if !owner::is_trusted_owner(found.uid()) {
            return Err(UntrustedDatabase::ForeignLink { path: at, uid: found.uid() });
        }
        let Ok(target) = fs::read_link(&at) else { break };
        at = at.parent().unwrap_or(Path::new("")).join(target);
    }
    Ok(at)
}

fn special_kind(kind: FileType) -> Option<&'static str> {
    match kind {
        kind if kind.is_file() => None,
        kind if kind.is_dir() => Some("a folder"),
        kind if kind.is_symlink() => Some("a symbolic link"),
        kind if kind.is_fifo() => Some("a named pipe"),
        kind if kind.is_socket() => Some("a socket"),
        _ => Some("a device"),
    }
}
