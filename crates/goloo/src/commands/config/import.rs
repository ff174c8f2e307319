//! `goloo config import`

use std::path::Path;

use goloo_core::name::VmName;

use super::stack_in;
use crate::app::App;
use crate::error::CliError;
use crate::exit;
use crate::library::{Library, others_in};

/// Takes a copy of a stack into the library.
pub fn run(app: &App, name: &VmName, dir: &Path, force: bool) -> Result<u8, CliError> {
    let source = stack_in(app, name.as_str(), dir)?;
    let library = Library::of(app);
    library.import(app, name, source.folder(), force)?;
    let others = others_in(source.folder()).unwrap_or_default();
    if !others.is_empty() {
        let (from, others) = (source.folder().display(), others.join(", "));
        app.ui.note(&format!(
            "{others} stays in {from}: a stack is config.json, cloud-init.yaml and configure.sh, and relative paths in it count from the library now"
        ));
    }
    app.ui.line(&format!("{name} is in the library: {}", library.place(name).display()));
    app.ui.say(&format!("goloo create {name} works from everywhere now"));
    Ok(exit::DONE)
}
