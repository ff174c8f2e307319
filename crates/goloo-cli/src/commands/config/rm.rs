//! `goloo config rm`

use goloo_model::name::VmName;

use crate::app::App;
use crate::commands::ask::Question;
use crate::error::CliError;
use crate::exit;
use goloo::files;
use goloo::library::Library;

/// Removes a stack from the library. VMs that were created from it have copies of its files.
pub fn run(app: &App, name: &VmName, yes: bool) -> Result<u8, CliError> {
    let library = Library::of(&app.session);
    let found = library.read(name)?;
    if !yes {
        let names = files::names(found.folder()).unwrap_or_default().join(", ");
        let question = Question {
            asks: "this command asks for confirmation",
            lost: vec![format!("{} will be removed, with {names}.", library.place(name).display())],
            question: "Remove?",
            words: None,
            declined: "nothing was removed",
            again: format!("goloo config rm --yes {name}"),
        };
        question.ask(app)?;
    }
    library.remove(name)?;
    app.ui.line(&format!("removed {name} from the library"));
    Ok(exit::DONE)
}
