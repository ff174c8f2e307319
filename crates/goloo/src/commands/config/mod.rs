//! `goloo config`: stacks, in the library and elsewhere.

mod edit;
mod export;
mod import;
mod list;
mod relocate;
mod rm;
mod validate;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use clap_complete::engine::ArgValueCandidates;
use goloo_core::name::VmName;

use crate::app::App;
use crate::error::CliError;
use crate::stack::{Found, Lookup};
use crate::{args, complete, exit};

/// What to do with stacks.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Command {
    /// Show all stacks: where each lies, and whether it changed since a VM was last created from it
    List {
        #[command(flatten)]
        json: args::Json,
    },
    /// Check a stack, and say all that is wrong with it
    Validate {
        /// The stack; the folder you are in when none is named
        #[arg(add = ArgValueCandidates::new(complete::stacks))]
        name: Option<String>,
        /// The stack's folder, or the folder that it is in
        #[arg(short = 'f', long = "folder", value_name = "PATH")]
        folder: Option<PathBuf>,
        #[command(flatten)]
        json: args::Json,
    },
    /// Take a copy of a stack into the library, where `create` finds it from everywhere
    Import {
        /// What the stack is to be called in the library
        name: String,
        /// The stack's folder, or the folder that it is in
        dir: PathBuf,
        /// Replace the stack that the library has
        #[arg(long)]
        force: bool,
    },
    /// Copy a stack of the library into a folder
    Export {
        /// The stack in the library
        #[arg(add = ArgValueCandidates::new(complete::library_stacks))]
        name: String,
        /// The folder that becomes the stack
        dir: PathBuf,
        /// Replace the files that the folder has
        #[arg(long)]
        force: bool,
    },
    /// Edit a stack of the library with $VISUAL or $EDITOR; it is checked before it is saved
    Edit {
        /// The stack in the library
        #[arg(add = ArgValueCandidates::new(complete::library_stacks))]
        name: String,
        /// Which of its files
        #[arg(default_value = "config.json", value_parser = goloo_core::store::SNAPSHOT_FILES)]
        file: String,
    },
    /// Remove a stack from the library; VMs stay
    Rm {
        /// The stack in the library
        #[arg(add = ArgValueCandidates::new(complete::library_stacks))]
        name: String,
        /// Don't ask
        #[arg(short = 'y', long)]
        yes: bool,
    },
    /// Say where the folder is now that a stack was last created from
    Relocate {
        /// The name that it was created by
        #[arg(add = ArgValueCandidates::new(complete::remembered_stacks))]
        name: String,
        /// The stack's folder, or the folder that it is in
        dir: PathBuf,
    },
    /// Print the JSON Schema of config.json
    Schema,
}

pub fn run(app: &App, command: &Command) -> Result<u8, CliError> {
    match command {
        Command::List { .. } => list::run(app),
        Command::Validate { name, folder, .. } => validate::run(app, name.clone(), folder.clone()),
        Command::Import { name, dir, force } => import::run(app, &VmName::parse(name)?, dir, *force),
        Command::Export { name, dir, force } => export::run(app, &VmName::parse(name)?, dir, *force),
        Command::Edit { name, file } => edit::run(app, &VmName::parse(name)?, file),
        Command::Rm { name, yes } => rm::run(app, &VmName::parse(name)?, *yes),
        Command::Relocate { name, dir } => relocate::run(app, name, dir),
        Command::Schema => {
            let schema = serde_json::to_string_pretty(&goloo_core::spec::json_schema());
            app.ui.json_document(&schema.expect("a schema has only string keys"));
            Ok(exit::DONE)
        }
    }
}

/// The stack in a folder that was named, by the rule of `create -f`.
fn stack_in(app: &App, name: &str, dir: &Path) -> Result<Found, CliError> {
    Lookup { given: name, folder: Some(dir), last: None, config_dir: &app.paths.config }.find(&app.ui)
}
