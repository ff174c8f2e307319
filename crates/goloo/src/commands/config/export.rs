//! `goloo config export`

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use goloo_core::name::VmName;
use goloo_core::store::SNAPSHOT_FILES;

use crate::app::App;
use crate::error::CliError;
use crate::exit;
use crate::files::{self, Staged};
use crate::library::{Library, files_of};
use crate::stack::Found;

/// Copies a stack of the library into a folder, which is made where there is none.
pub fn run(app: &App, name: &VmName, dir: &Path, force: bool) -> Result<u8, CliError> {
    let found = Library::of(app).read(name)?;
    // Without a slash at its end, which names a folder that is there.
    let target: PathBuf = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned()).components().collect();
    if target.exists() {
        // Also when it is empty: somebody may stand in it.
        into_folder(&found, name, &target, force)?;
    } else {
        new_folder(&found, name, &target)?;
    }
    app.ui.line(&format!("{name} is copied to {}", target.display()));
    Ok(exit::DONE)
}

/// A folder that appears in one step.
fn new_folder(found: &Found, name: &VmName, target: &Path) -> Result<(), CliError> {
    let failed = |error: io::Error| CliError::cannot("write", target, &error);
    goloo_os::umask::restore();
    let above = target.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(above).map_err(failed)?;
    let staged = Staged::copy(found.folder(), &files_of(found.folder()), target).map_err(failed)?;
    staged.share().map_err(failed)?;
    // Somebody may have made it just now.
    if staged.publish(target).map_err(failed)? { Ok(()) } else { into_folder(found, name, target, false) }
}

/// Into a folder that holds something: never over a file of the user's without being told to.
fn into_folder(found: &Found, name: &VmName, target: &Path, force: bool) -> Result<(), CliError> {
    let there = files_of(target);
    if let Some(foreign) = there.iter().find(|file| found.file(file).is_none()) {
        return Err(CliError::failed(
            format!(
                "{} isn't of the stack \"{name}\", and would become a part of it",
                target.join(foreign).display()
            ),
            "move it away first, or export into another folder",
        ));
    }
    if let Some(first) = there.first().filter(|_| !force) {
        return Err(CliError::failed(
            format!("{} is there already", target.join(first).display()),
            format!("goloo config export {name} OTHER-FOLDER, or --force to replace it"),
        ));
    }
    // config.json last: only with it the folder is a stack.
    for file in SNAPSHOT_FILES.iter().rev() {
        let Some(content) = found.file(file) else { continue };
        let path = target.join(file);
        let written = if force { files::replace(&path, content) } else { files::write_new(&path, content) };
        written.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => CliError::failed(
                format!("{} is there already", path.display()),
                format!("goloo config export {name} OTHER-FOLDER"),
            ),
            _ => CliError::cannot("write", &path, &error),
        })?;
    }
    Ok(())
}
