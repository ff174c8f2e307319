//! The library of stacks: `stacks/` in the folder of the settings. The stacks are the user's; they are changed
//! by the `config` commands alone, each in one step.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use goloo_core::name::VmName;
use goloo_core::store::SNAPSHOT_FILES;
use goloo_os::lock::FileLock;

use crate::app::App;
use crate::error::CliError;
use crate::exit;
use crate::files::{self, Staged};
use crate::output::Ui;
use crate::stack::{self, Found};

/// The library of one user.
pub struct Library {
    folder: PathBuf,
    /// Held by whoever changes the library.
    lock: PathBuf,
    ui: Ui,
}

impl Library {
    /// The user's library; it needn't be there.
    pub fn of(app: &App) -> Self {
        Self {
            folder: stack::absolute(&app.paths.config).join("stacks"),
            lock: app.paths.state.join("library.lock"),
            ui: app.ui.clone(),
        }
    }

    /// Where a stack of this name lies, or would.
    pub fn place(&self, name: &VmName) -> PathBuf {
        self.folder.join(name.as_str())
    }

    /// Reads a stack.
    pub fn read(&self, name: &VmName) -> Result<Found, CliError> {
        let place = self.place(name);
        if !place.join("config.json").is_file() {
            return Err(CliError::not_found(
                format!("the library has no stack \"{name}\" in {}", self.folder.display()),
                format!("goloo config list shows all stacks; goloo config import {name} DIR takes one in"),
            ));
        }
        Found::read(&place, name.as_str())
    }

    /// Takes a copy of a stack in. It is checked where it lies then, so that what it lacks there shows.
    pub fn import(&self, app: &App, name: &VmName, source: &Path, force: bool) -> Result<(), CliError> {
        let place = self.place(name);
        let failed = |error: io::Error| CliError::cannot("write", &place, &error);
        let _lock = self.lock()?;
        files::ensure_folder(&self.folder).and_then(|()| files::sweep(&self.folder)).map_err(failed)?;
        let there = fs::symlink_metadata(&place).is_ok();
        if there && !force {
            return Err(taken(name));
        }
        let staged = Staged::copy(source, &files_of(source), &place).map_err(failed)?;
        check(app, name, &staged)
            .map_err(|error| CliError { hint: format!("mend the files in {}", source.display()), ..error })?;
        if there {
            self.refuse_others(name)?;
            return staged.publish_over(&place).map_err(failed);
        }
        if staged.publish(&place).map_err(failed)? { Ok(()) } else { Err(taken(name)) }
    }

    /// A folder that is replaced must hold nothing but a stack.
    fn refuse_others(&self, name: &VmName) -> Result<(), CliError> {
        let place = self.place(name);
        let others = others_in(&place).map_err(|error| CliError::cannot("write", &place, &error))?;
        if others.is_empty() {
            return Ok(());
        }
        Err(CliError::failed(
            format!("{} also has {}, which would be lost", place.display(), others.join(", ")),
            "move them away first",
        ))
    }

    /// Puts a file of a stack in place of what it was when it was read; whoever changed it since is not
    /// overwritten.
    pub fn save(&self, name: &VmName, file: &str, before: Option<&[u8]>, now: &[u8]) -> Result<(), CliError> {
        let path = self.place(name).join(file);
        let _lock = self.lock()?;
        if stack::read_file(&path)?.as_deref() != before {
            return Err(CliError::new(
                exit::LOCKED,
                "stale",
                format!("{} has changed meanwhile", path.display()),
                format!("goloo config edit {name}"),
            ));
        }
        let written = files::sweep(&self.place(name)).and_then(|()| files::replace(&path, now));
        written.map_err(|error| CliError::cannot("write", &path, &error))
    }

    /// Removes a stack, with all that is in its folder.
    pub fn remove(&self, name: &VmName) -> Result<(), CliError> {
        let place = self.place(name);
        let _lock = self.lock()?;
        files::remove_folder(&place).map_err(|error| CliError::cannot("write", &place, &error))
    }

    fn lock(&self) -> Result<FileLock, CliError> {
        files::lock(&self.lock, &self.ui).map_err(|error| CliError::cannot("write", &self.lock, &error))
    }
}

/// Checks a stack as it will be in the library: under this name, and with nothing beside it.
fn check(app: &App, name: &VmName, staged: &Staged) -> Result<(), CliError> {
    let files = Found::read(staged.path(), name.as_str())?.snapshot();
    Found::from_snapshot(files, name.as_str(), staged.path().to_owned()).check(app, name.as_str())
}

/// The files of a stack that a folder has.
pub fn files_of(folder: &Path) -> Vec<&'static str> {
    SNAPSHOT_FILES.into_iter().filter(|file| folder.join(file).is_file()).collect()
}

/// What else a folder has.
pub fn others_in(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = files::names(folder)?;
    names.retain(|name| !SNAPSHOT_FILES.contains(&name.as_str()) && !files::is_staged(name));
    Ok(names)
}

fn taken(name: &VmName) -> CliError {
    CliError::new(
        exit::NOT_FOUND,
        "name-taken",
        format!("the library has a stack \"{name}\" already"),
        format!("take another name, or replace it with --force; goloo config export {name} DIR keeps a copy"),
    )
}
