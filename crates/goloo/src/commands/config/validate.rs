//! `goloo config validate`

use std::path::PathBuf;

use serde_json::json;

use crate::app::App;
use crate::error::CliError;
use crate::exit;
use crate::output::problems_json;
use crate::stack::Lookup;

/// Checks a stack.
pub fn run(app: &App, name: Option<String>, folder: Option<PathBuf>) -> Result<u8, CliError> {
    let here = std::env::current_dir()
        .map_err(|error| CliError::failed("there is no current folder", "cd somewhere").because(&error))?;
    let folder = folder.or_else(|| name.is_none().then(|| here.clone()));
    let place = folder.as_deref().unwrap_or(&here);
    let named = name.or_else(|| std::path::absolute(place).ok()?.file_name()?.to_str().map(str::to_owned));
    let given = named.unwrap_or_else(|| "stack".to_owned());
    let lookup =
        Lookup { given: &given, folder: folder.as_deref(), last: None, config_dir: &app.paths.config };
    let found = lookup.find(&app.ui)?;
    let problems = match found.check(app, &given) {
        Ok(()) => Vec::new(),
        Err(error) if error.problems.is_empty() => return Err(error),
        Err(error) if !app.ui.json() => return Err(error),
        Err(error) => error.problems,
    };
    let code = if problems.is_empty() { exit::DONE } else { exit::USAGE };
    if app.ui.json() {
        app.ui.result(json!({"problems": problems_json(&problems)}));
    } else {
        app.ui.line(&format!("{} is sound", found.folder().display()));
    }
    Ok(code)
}
