//! The library of stacks: `stacks/` in the settings folder. The stacks belong to the user; only the `config`
//! commands change them, each in one step.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use goloo_model::events::Events;
use goloo_model::name::VmName;
use goloo_model::store::SNAPSHOT_FILES;
use goloo_sys::lock::FileLock;

use crate::error::Error;
use crate::files::{self, Staged};
use crate::session::Session;
use crate::stack::{self, Found};

pub use crate::error::LibraryError;

/// The library of one user.
pub struct Library {
    folder: PathBuf,
    /// The lock file, held during changes.
    lock: PathBuf,
    events: Arc<dyn Events>,
}

impl Library {
    /// The user's library; it may not exist.
    pub fn of(session: &Session) -> Self {
        Self {
            folder: stack::absolute(&session.paths.config).join("stacks"),
            lock: session.paths.state.join("library.lock"),
            events: Arc::clone(&session.events),
        }
    }

    /// The folder for a stack of this name; it may not exist.
    pub fn place(&self, name: &VmName) -> PathBuf {
        self.folder.join(name.as_str())
    }

    /// Reads a stack.
    ///
    /// # Errors
    /// [`LibraryError::NotFound`]; as [`Found::read`].
    pub fn read(&self, name: &VmName) -> Result<Found, Error> {
        let place = self.place(name);
        if !place.join("config.json").is_file() {
            return Err(LibraryError::NotFound { name: name.clone(), folder: self.folder.clone() }.into());
        }
        Found::read(&place, name.as_str())
    }

    /// Copies a stack into the library. The copy is validated, so that missing files are noticed. `force` replaces
    /// an existing stack.
    ///
    /// # Errors
    /// [`LibraryError`], and when a file can't be read or written.
    pub fn import(&self, session: &Session, name: &VmName, source: &Path, force: bool) -> Result<(), Error> {
        let place = self.place(name);
        let failed = |error: io::Error| Error::cannot("write", &place, error);
        let _lock = self.lock()?;
        files::ensure_folder(&self.folder).and_then(|()| files::sweep(&self.folder)).map_err(failed)?;
        let there = fs::symlink_metadata(&place).is_ok();
        if there && !force {
            return Err(taken(name).into());
        }
        let staged = Staged::copy(source, &files_of(source), &place).map_err(failed)?;
        check(session, name, &staged)
            .map_err(|error| Error::StackImport { source: Box::new(error), folder: source.to_owned() })?;
        if there {
            self.refuse_others(name)?;
            return staged.publish_over(&place).map_err(failed);
        }
        if staged.publish(&place).map_err(failed)? { Ok(()) } else { Err(taken(name).into()) }
    }

    /// A folder that is replaced must contain only the files of a stack.
    fn refuse_others(&self, name: &VmName) -> Result<(), Error> {
        let folder = self.place(name);
        let others = others_in(&folder).map_err(|error| Error::cannot("write", &folder, error))?;
        if others.is_empty() { Ok(()) } else { Err(LibraryError::OtherFiles { folder, others }.into()) }
    }

    /// Replaces a file of a stack; a file that was changed since it was read is not overwritten.
    ///
    /// # Errors
    /// [`LibraryError::Changed`], and when a file can't be read or written.
    pub fn save(&self, name: &VmName, file: &str, before: Option<&[u8]>, now: &[u8]) -> Result<(), Error> {
        let path = self.place(name).join(file);
        let _lock = self.lock()?;
        if stack::read_file(&path)?.as_deref() != before {
            return Err(LibraryError::Changed { name: name.clone(), path }.into());
        }
        let written = files::sweep(&self.place(name)).and_then(|()| files::replace(&path, now));
        written.map_err(|error| Error::cannot("write", &path, error))
    }

    /// Removes a stack with its whole folder.
    ///
    /// # Errors
    /// When the folder can't be locked or removed.
    pub fn remove(&self, name: &VmName) -> Result<(), Error> {
        let place = self.place(name);
        let _lock = self.lock()?;
        files::remove_folder(&place).map_err(|error| Error::cannot("write", &place, error))
    }

    fn lock(&self) -> Result<FileLock, Error> {
        files::lock(&self.lock, &*self.events).map_err(|error| Error::cannot("write", &self.lock, error))
    }
}

/// Validates a stack as it will be in the library: with this name, and with only its own files.
fn check(session: &Session, name: &VmName, staged: &Staged) -> Result<(), Error> {
    let files = Found::read(staged.path(), name.as_str())?.snapshot();
    Found::from_snapshot(files, name.as_str(), staged.path().to_owned()).check(session, name.as_str())
}

/// The stack's files in a folder.
pub fn files_of(folder: &Path) -> Vec<&'static str> {
    SNAPSHOT_FILES.into_iter().filter(|file| folder.join(file).is_file()).collect()
}

/// The other files in a folder.
///
/// # Errors
/// I/O errors.
pub fn others_in(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = files::names(folder)?;
    names.retain(|name| !SNAPSHOT_FILES.contains(&name.as_str()) && !files::is_staged(name));
    Ok(names)
}

fn taken(name: &VmName) -> LibraryError {
    LibraryError::NameTaken { name: name.clone() }
}
