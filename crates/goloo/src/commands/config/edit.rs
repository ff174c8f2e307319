//! `goloo config edit`: the editor works on a draft, which is kept until it is saved or thrown away by the user.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::Command;

use goloo_core::name::VmName;

use crate::app::App;
use crate::error::CliError;
use crate::exit;
use crate::files;
use crate::library::Library;
use crate::stack;

/// Edits a file of a stack in the library.
pub fn run(app: &App, name: &VmName, file: &str) -> Result<u8, CliError> {
    let library = Library::of(app);
    let stack = library.read(name)?;
    let before = stack.file(file);
    let draft = Draft::begin(app, name, file, before.unwrap_or_default())?;
    loop {
        draft.edit()?;
        let now = draft.read()?;
        if before.unwrap_or_default() == now {
            draft.discard();
            app.ui.say(&format!("nothing has changed in {file} of {name}"));
            return Ok(exit::DONE);
        }
        match stack.with_file(file, now.clone()).check(app, name.as_str()) {
            Ok(()) => {
                library.save(name, file, before, &now).map_err(|error| draft.kept(error))?;
                draft.discard();
                app.ui.line(&format!("{file} of {name} is saved"));
                return Ok(exit::DONE);
            }
            Err(error) if io::stdin().is_terminal() => {
                app.ui.error(&error);
                if !app.ui.confirm("It isn't saved. Edit again?") {
                    return Err(draft.kept(error));
                }
            }
            Err(error) => return Err(draft.kept(error)),
        }
    }
}

/// A copy of the file in a folder of its own.
struct Draft {
    path: PathBuf,
    folder: PathBuf,
    /// Where it is to go.
    target: PathBuf,
}

impl Draft {
    fn begin(app: &App, name: &VmName, file: &str, content: &[u8]) -> Result<Self, CliError> {
        let drafts = app.paths.state.join("drafts").join(name.as_str());
        for other in files::names(&drafts).unwrap_or_default() {
            app.ui.note(&format!("there is another draft of {name}: {}", drafts.join(other).display()));
        }
        let failed = |error: io::Error| CliError::cannot("write", &drafts, &error);
        let folder = files::draft_folder(&drafts).map_err(failed)?;
        let path = folder.join(file);
        fs::write(&path, content).map_err(failed)?;
        let target = Library::of(app).place(name).join(file);
        Ok(Self { path, folder, target })
    }

    /// Opens the editor, as git does: what the variable says is for the shell to split.
    fn edit(&self) -> Result<(), CliError> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let editor = variable("VISUAL").or_else(|| variable("EDITOR")).unwrap_or_else(|| "vi".to_owned());
        let line = format!("{editor} \"$@\"");
        let status = Command::new("sh").arg("-c").arg(line).arg(&editor).arg(&self.path).status();
        let ended = match status {
            Ok(status) if status.success() => return Ok(()),
            Ok(status) => format!("the editor `{editor}` ended with {status}"),
            Err(error) => format!("can't run sh for the editor `{editor}`: {error}"),
        };
        Err(self.kept(CliError::failed(ended, "set VISUAL or EDITOR to your editor")))
    }

    fn read(&self) -> Result<Vec<u8>, CliError> {
        let content = stack::read_file(&self.path).map_err(|error| self.kept(error))?;
        content.ok_or_else(|| {
            let what = format!("the editor left no {}", self.path.display());
            CliError::failed(what, "save it there, and don't move it away")
        })
    }

    /// The same error, with the draft's place: nothing that was typed is lost.
    fn kept(&self, error: CliError) -> CliError {
        let (draft, target) = (self.path.display(), self.target.display());
        let hint = format!("{}; the draft is kept: {draft}, to be mended and copied to {target}", error.hint);
        CliError { hint, ..error }
    }

    fn discard(&self) {
        // One that stays is shown by the next edit.
        let _ = fs::remove_dir_all(&self.folder);
        let _ = self.folder.parent().map(Path::to_owned).map(fs::remove_dir);
    }
}
