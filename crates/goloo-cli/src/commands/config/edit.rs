//! `goloo config edit`: the editor works on a draft, which is kept until the user saves or discards it.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::Command;

use goloo_model::name::VmName;

use crate::app::App;
use crate::error::CliError;
use crate::exit;
use goloo::files;
use goloo::library::Library;
use goloo::stack;

/// Edits a file of a stack in the library.
pub fn run(app: &App, name: &VmName, file: &str) -> Result<u8, CliError> {
    let library = Library::of(&app.session);
    let stack = library.read(name)?;
    let before = stack.file(file);
    let draft = Draft::begin(app, name, file, before.unwrap_or_default())?;
    loop {
        draft.edit()?;
        let now = draft.read()?;
        if before.unwrap_or_default() == now {
            draft.discard();
            app.ui.say(&format!("{file} of {name} is unchanged"));
            return Ok(exit::DONE);
        }
        let checked = stack.with_file(file, now.clone()).check(&app.session, name.as_str());
        match checked.map_err(CliError::from) {
            Ok(()) => {
                library.save(name, file, before, &now).map_err(|error| draft.kept(error.into()))?;
                draft.discard();
                app.ui.line(&format!("saved {file} of {name}"));
                return Ok(exit::DONE);
            }
            Err(error) if io::stdin().is_terminal() => {
                app.ui.error(&error);
                if !app.ui.confirm("The file is not saved. Edit again?") {
                    return Err(draft.kept(error));
                }
            }
            Err(error) => return Err(draft.kept(error)),
        }
    }
}

/// A copy of a file in a separate folder.
struct Draft {
    path: PathBuf,
    folder: PathBuf,
    /// The file that it replaces.
    target: PathBuf,
}

impl Draft {
    fn begin(app: &App, name: &VmName, file: &str, content: &[u8]) -> Result<Self, CliError> {
        let drafts = app.session.paths.state.join("drafts").join(name.as_str());
        for other in files::names(&drafts).unwrap_or_default() {
            app.ui.note(&format!("there is another draft of {name}: {}", drafts.join(other).display()));
        }
        let failed = |error: io::Error| CliError::cannot("write", &drafts, &error);
        let folder = files::draft_folder(&drafts).map_err(failed)?;
        let path = folder.join(file);
        fs::write(&path, content).map_err(failed)?;
        let target = Library::of(&app.session).place(name).join(file);
        Ok(Self { path, folder, target })
    }

    /// Opens the editor as git does: the shell splits the variable's value into words.
    fn edit(&self) -> Result<(), CliError> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let editor = variable("VISUAL").or_else(|| variable("EDITOR")).unwrap_or_else(|| "vi".to_owned());
        let line = format!("{editor} \"$@\"");
        let status = Command::new("sh").arg("-c").arg(line).arg(&editor).arg(&self.path).status();
        let ended = match status {
            Ok(status) if status.success() => return Ok(()),
            Ok(status) => format!("the editor `{editor}` exited with {status}"),
            Err(error) => format!("can't run sh for the editor `{editor}`: {error}"),
        };
        Err(self.kept(CliError::failed(ended, "set VISUAL or EDITOR to your editor")))
    }

    fn read(&self) -> Result<Vec<u8>, CliError> {
        let content = stack::read_file(&self.path).map_err(|error| self.kept(error.into()))?;
        content.ok_or_else(|| {
            let what = format!("the editor did not save {}", self.path.display());
            CliError::failed(what, "save the file at that path")
        })
    }

    /// Adds the draft's path to an error, so that no edits are lost.
    fn kept(&self, error: CliError) -> CliError {
        let (draft, target) = (self.path.display(), self.target.display());
        let hint = format!("{}; the draft is kept: fix {draft} and copy it to {target}", error.hint);
        CliError { hint, ..error }
    }

    fn discard(&self) {
        // A draft that can't be removed is reported by the next edit.
        let _ = fs::remove_dir_all(&self.folder);
        let _ = self.folder.parent().map(Path::to_owned).map(fs::remove_dir);
    }
}
