//! `goloo config relocate`

use std::path::Path;

use super::stack_in;
use crate::app::App;
use crate::error::CliError;
use crate::exit;
use crate::registry::Registry;

/// Notes where the folder of a stack is now.
pub fn run(app: &App, name: &str, dir: &Path) -> Result<u8, CliError> {
    let found = stack_in(app, name, dir)?;
    let folder = found.folder();
    if !Registry::new(&app.paths.state).relocate(&app.ui, name, folder)? {
        return Err(CliError::not_found(
            format!("no VM was ever created from a stack \"{name}\""),
            format!("goloo create {name} -f {} remembers it", folder.display()),
        ));
    }
    app.ui.line(&format!("{name} is at {} now", folder.display()));
    Ok(exit::DONE)
}
