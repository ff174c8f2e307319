//! `goloo config`

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use crate::app::App;
use crate::error::CliError;
use crate::output::problems_json;
use crate::stack::{self, Lookup};
use crate::{args, exit};

/// What to do with stacks.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the stacks in all places where `create` looks
    List {
        #[command(flatten)]
        json: args::Json,
    },
    /// Check a stack, and say all that is wrong with it
    Validate {
        /// The stack; the folder you are in when none is named
        name: Option<String>,
        /// The stack's folder, or the folder that it is in
        #[arg(short = 'f', long = "folder", value_name = "PATH")]
        folder: Option<PathBuf>,
        #[command(flatten)]
        json: args::Json,
    },
    /// Print the JSON Schema of config.json
    Schema,
}

pub fn run(app: &App, command: &Command) -> Result<u8, CliError> {
    match command {
        Command::List { .. } => list(app),
        Command::Validate { name, folder, .. } => validate(app, name.clone(), folder.clone()),
        Command::Schema => {
            let schema = serde_json::to_string_pretty(&goloo_core::spec::json_schema());
            app.ui.line(&schema.expect("a schema has only string keys"));
            Ok(exit::DONE)
        }
    }
}

fn list(app: &App) -> Result<u8, CliError> {
    let stacks = stack::all(&app.paths.config);
    if app.ui.json() {
        let stacks: Vec<_> = stacks.iter().map(|(name, path)| json!({"name": name, "path": path})).collect();
        app.ui.result(json!({"stacks": stacks}));
        return Ok(exit::DONE);
    }
    if stacks.is_empty() {
        app.ui.say("no stacks in ./stacks or the library; goloo init writes one");
        return Ok(exit::DONE);
    }
    let mut table = crate::output::Table::new(&["STACK", "FOLDER"]);
    stacks.into_iter().for_each(|(name, path)| table.row([name, path.display().to_string()]));
    app.ui.lines(&table.lines());
    Ok(exit::DONE)
}

fn validate(app: &App, name: Option<String>, folder: Option<PathBuf>) -> Result<u8, CliError> {
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
