//! `goloo config validate`

use std::path::PathBuf;

use goloo_core::spec::Problem;
use serde_json::json;

use crate::app::App;
use crate::error::CliError;
use crate::exit;
use crate::output::problems_json;
use crate::preflight;
use crate::stack::{Found, Lookup};

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
    let json = app.ui.json();
    let (problems, warnings) = match lookup.find(&app.ui).and_then(|found| checked(app, &found, &given)) {
        Ok(Checked { folder, warnings }) => {
            if !json {
                warnings.iter().for_each(|warning| app.ui.warning(&warning.to_string()));
                app.ui.line(&format!("{} is valid", folder.display()));
            }
            (Vec::new(), warnings)
        }
        Err(error) if error.problems.is_empty() || !json => return Err(error),
        Err(error) => (error.problems, Vec::new()),
    };
    if json {
        let (problems, warnings) = (problems_json(&problems), problems_json(&warnings));
        app.ui.result(json!({"problems": problems, "warnings": warnings}));
    }
    Ok(if problems.is_empty() { exit::DONE } else { exit::USAGE })
}

/// A stack without problems.
struct Checked {
    folder: PathBuf,
    warnings: Vec<Problem>,
}

fn checked(app: &App, found: &Found, given: &str) -> Result<Checked, CliError> {
    let (stack, mut warnings) = found.examine(app, given)?;
    let here = preflight::findings(found, &stack, app.local_provider());
    if !here.problems.is_empty() {
        return Err(found.invalid(here.problems));
    }
    warnings.extend(here.warnings);
    Ok(Checked { folder: found.folder().to_owned(), warnings })
}
