//! What stands at the paths of the database's files, checked before SQLite opens them: it follows every link, and opening
//! a named pipe waits for ever.

use std::fs::{self, FileType};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use super::untrusted::Untrusted;

/// As many as Linux follows.
const LINKS_MAX: usize = 40;

/// The database itself, and what SQLite keeps beside it.
const ENDINGS: [&str; 4] = ["", "-journal", "-wal", "-shm"];

/// Refuses links of other users, and what is no regular file. What can't be seen is left for SQLite to report.
pub(super) fn check(file: &Path) -> Result<(), Untrusted> {
    let file = follow_own_links(file)?;
    for ending in ENDINGS {
        let path = beside(&file, ending);
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        if let Some(kind) = special_kind(found.file_type()) {
            let shown = path.display();
            return Err(Untrusted::new(
                format!("{shown} is {kind}, not a regular file"),
                format!("ls -ld {shown} shows whose it is; remove it, or name another file in stateBackend"),
            ));
        }
    }
    refuse_super_journal(&beside(&file, "-journal"))
}

/// What ends a journal that names a super-journal. <https://www.sqlite.org/fileformat2.html#the_rollback_journal>
const JOURNAL_MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// A rollback journal may name another file, which SQLite opens, whatever it is. Only a transaction over several
/// databases makes one, and goloo has none.
fn refuse_super_journal(journal: &Path) -> Result<(), Untrusted> {
    let end = || -> io::Result<[u8; 8]> {
        let mut file = fs::File::open(journal)?;
        file.seek(SeekFrom::End(-8))?;
        let mut end = [0; 8];
        file.read_exact(&mut end).map(|()| end)
    };
    if end().is_ok_and(|end| end == JOURNAL_MAGIC) {
        let shown = journal.display();
        return Err(Untrusted::new(
            format!("{shown} names a file that SQLite would open, and wasn't written by goloo"),
            format!("ls -l {shown} shows whose it is; remove it"),
        ));
    }
    Ok(())
}

/// The file's path with an ending.
pub(super) fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

/// Resolves the user's own links. Anyone who can write to the folder can create a link to any of this user's files.
fn follow_own_links(file: &Path) -> Result<PathBuf, Untrusted> {
    let mut at = file.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(found) = fs::symlink_metadata(&at) else { break };
        if !found.is_symlink() {
            break;
        }
        if ![0, geteuid().as_raw()].contains(&found.uid()) {
            let shown = at.display();
            return Err(Untrusted::new(
                format!("{shown} is a link of another user (uid {}), and isn't followed", found.uid()),
                format!(
                    "ls -l {shown} shows where it leads; name that file in stateBackend, or remove the link"
                ),
            ));
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
        kind if kind.is_symlink() => Some("a link"),
        kind if kind.is_fifo() => Some("a named pipe"),
        kind if kind.is_socket() => Some("a socket"),
        _ => Some("a device"),
    }
}
