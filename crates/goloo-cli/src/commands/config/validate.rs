//! `goloo config validate`

use std::path::{Path, PathBuf};

use goloo::actions::ValidStack;

use crate::app::App;
use crate::commands::create::{self, NO_STACK_HERE};
use crate::error::CliError;
use crate::{exit, json};

/// Checks a stack.
pub fn run(app: &App, name: Option<String>, folder: Option<PathBuf>) -> Result<u8, CliError> {
    if name.is_none() && folder.is_none() && !Path::new("config.json").is_file() {
        let (message, hint) = NO_STACK_HERE;
        return Err(CliError::new(exit::NOT_FOUND, "not-found", message, hint));
    }
    let names: Vec<String> = name.into_iter().collect();
    let stack = create::requests(&names, folder.as_deref())?.into_iter().next();
    let (name, folder) = stack.map_or((None, None), |(name, folder)| (Some(name), folder));
    match app.session.validate(name, folder).map_err(CliError::from) {
        Ok(ValidStack { warnings, .. }) if app.ui.json() => {
            app.ui.result(&json::StackProblems::new(&[], &warnings));
        }
        Ok(ValidStack { folder, warnings }) => {
            warnings.iter().for_each(|warning| app.ui.warning(&warning.to_string()));
            app.ui.line(&format!("{} is valid", folder.display()));
        }
        Err(error) if app.ui.json() && !error.problems.is_empty() => {
            app.ui.result(&json::StackProblems::new(&error.problems, &[]));
            return Ok(exit::USAGE);
        }
        Err(error) => return Err(error),
    }
    Ok(exit::DONE)
}
