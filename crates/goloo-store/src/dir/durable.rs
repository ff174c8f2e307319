//! The only code that renames or syncs: each function leaves, at every moment and after any power
//! loss, either the previous state or the requested one.

use std::io::{self, ErrorKind};
use std::path::Path;

use goloo_model::store::StoreError;

use super::fs::Fs;
use super::layout;

/// What happens to the `state.json` that a save replaces.
pub(super) enum Old<'b> {
    /// It is valid and becomes `state.json.prev`.
    Sound(&'b [u8]),
    /// It is unreadable: it is kept under another name, and `state.json.prev` is unchanged.
    Broken,
}

/// Adds the action and the path to a system error.
pub(crate) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { action, path, source }
}

/// Creates a folder and its parents, durably.
pub(crate) fn ensure_folder(fs: &dyn Fs, path: &Path) -> Result<(), StoreError> {
    if fs.folder_id(path).map_err(failed("access", path))?.is_some() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    ensure_folder(fs, parent)?;
    match fs.create_folder(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(failed("create the folder", path)(error));
        }
        _ => {}
    }
    match fs.sync_folder(parent) {
        // A folder above the store that we can't read (mode 0711) can't be synced by us.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        other => other.map_err(failed("sync", parent)),
    }
}

/// Writes a new file with durable content; its name is durable once the folder is synced. Replaces
/// a leftover; leaves nothing on failure.
pub(super) fn write_file(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut file = match fs.create_file(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs.remove_file(path).map_err(failed("remove", path))?;
            fs.create_file(path)
        }
        other => other,
    }
    .map_err(failed("create", path))?;
    let written = file
        .write(bytes)
        .map_err(failed("write", path))
        .and_then(|()| file.sync().map_err(failed("sync", path)));
    if written.is_err() {
        // The error above is the relevant one; a leftover is replaced by the next write.
        let _ = fs.remove_file(path);
    }
    written
}

/// Replaces a file through `temporary`. On an error the old file is kept, or, if only the last
/// sync failed, the new one is in place.
pub(super) fn replace_file(
    fs: &dyn Fs,
    temporary: &Path,
    path: &Path,
    bytes: &[u8],
) -> Result<(), StoreError> {
    write_file(fs, temporary, bytes)?;
    if let Err(error) = fs.rename(temporary, path) {
        let _ = fs.remove_file(temporary);
        return Err(failed("replace", path)(error));
    }
    sync_parents(fs, &[path])
}

/// Removes a file durably; succeeds if it doesn't exist.
pub(super) fn remove_file(fs: &dyn Fs, path: &Path) -> Result<(), StoreError> {
    match fs.remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed("remove", path)(error)),
        _ => {}
    }
    sync_parents(fs, &[path])
}

/// Replaces a folder's `state.json`. On an error the old one is kept, or, if only the last sync
/// failed, the new one is in place.
pub(super) fn replace_state(
    fs: &dyn Fs,
    folder: &Path,
    bytes: &[u8],
    old: Old<'_>,
) -> Result<(), StoreError> {
    let temporary = folder.join(layout::TEMPORARY);
    let state = folder.join(layout::STATE);
    write_file(fs, &temporary, bytes)?;
    let kept = match old {
        Old::Sound(old) => keep_as_previous(fs, folder, old),
        // Durably, or the rename might survive a power loss without it.
        Old::Broken => keep_aside(fs, folder).and_then(|()| sync_folder(fs, folder)),
    };
    let renamed = kept.and_then(|()| fs.rename(&temporary, &state).map_err(failed("replace", &state)));
    if let Err(error) = renamed {
        let _ = fs.remove_file(&temporary);
        return Err(error);
    }
    sync_folder(fs, folder)
}

/// `state.json` itself stays in place throughout, and gets its second name before it loses the
/// first.
fn keep_as_previous(fs: &dyn Fs, folder: &Path, old: &[u8]) -> Result<(), StoreError> {
    let state = folder.join(layout::STATE);
    let previous = folder.join(layout::PREVIOUS);
    match fs.remove_file(&previous) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed("remove", &previous)(error)),
        _ => {}
    }
    match fs.link(&state, &previous) {
        Err(error) if has_no_links(&error) => write_file(fs, &previous, old),
        other => other.map_err(failed("link", &previous)),
    }
}

/// Some file systems (exFAT, some in user space) have no hard links.
fn has_no_links(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied)
}

fn keep_aside(fs: &dyn Fs, folder: &Path) -> Result<(), StoreError> {
    let state = folder.join(layout::STATE);
    for n in 1.. {
        let aside = folder.join(layout::broken(n));
        match fs.link(&state, &aside) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            // There was no `state.json`.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if has_no_links(&error) => {
                return fs.rename(&state, &aside).map_err(failed("rename", &state));
            }
            other => return other.map_err(failed("link", &aside)),
        }
    }
    unreachable!("a folder doesn't hold 2^32 files")
}

/// Moves a complete folder to its final place; `false` if the name is in use. The files in it
/// are already durable.
pub(super) fn publish(fs: &dyn Fs, staged: &Path, place: &Path) -> Result<bool, StoreError> {
    sync_folder(fs, staged)?;
    match fs.rename_new(staged, place) {
        Err(error) if is_taken(&error) => return Ok(false),
        other => other.map_err(failed("rename", staged))?,
    }
    let synced = sync_parents(fs, &[place]);
    if synced.is_err() {
        // Not known to be durable, so it is undone.
        let _ = fs.rename_new(place, staged);
    }
    synced.map(|()| true)
}

/// Moves a folder atomically and durably; `false` if the new name is in use.
pub(super) fn move_folder(fs: &dyn Fs, from: &Path, to: &Path) -> Result<bool, StoreError> {
    match fs.rename_new(from, to) {
        Err(error) if is_taken(&error) => return Ok(false),
        other => other.map_err(failed("rename", from))?,
    }
    sync_parents(fs, &[to, from])?;
    Ok(true)
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty)
}

/// Makes the entries of a folder durable.
pub(super) fn sync_folder(fs: &dyn Fs, folder: &Path) -> Result<(), StoreError> {
    fs.sync_folder(folder).map_err(failed("sync", folder))
}

/// Makes the names of these paths durable, and the names of their folders: one of those may have been
/// created by a process that died before it could sync.
pub(super) fn sync_parents(fs: &dyn Fs, paths: &[&Path]) -> Result<(), StoreError> {
    for path in paths {
        for folder in path.ancestors().skip(1).take(2) {
            sync_folder(fs, folder)?;
        }
    }
    Ok(())
}

/// Removes a folder and its content; succeeds if it doesn't exist. A link in its place is removed, but its target is
/// kept.
pub(super) fn remove_tree(fs: &dyn Fs, path: &Path) -> Result<(), StoreError> {
    fs.remove_tree(path).map_err(failed("remove", path))
}

/// The caller asks for something that must not be written.
pub(super) fn refused(path: &Path, text: String) -> StoreError {
    failed("write", path)(io::Error::new(ErrorKind::InvalidInput, text))
}
