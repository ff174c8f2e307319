//! `goloo config`: stacks in the library and in other places.

mod edit;
mod list;
mod rm;
mod validate;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use clap_complete::engine::ArgValueCandidates;
use goloo::actions::ImportedStack;
use goloo_model::name::VmName;

use crate::app::App;
use crate::error::CliError;
use crate::options::Json;
use crate::{complete, exit};

/// The subcommands.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Command {
    /// List all stacks: where each one is, and whether it changed since a VM was last created from it
    List {
        #[command(flatten)]
        json: Json,
    },
    /// Check a stack and report every problem
    Validate {
        /// The stack: its name, or a path with a slash; by default the current folder
        #[arg(add = ArgValueCandidates::new(complete::stacks))]
        name: Option<String>,
        /// The stack's folder, or its parent folder
        #[arg(short = 'f', long = "folder", value_name = "PATH")]
        folder: Option<PathBuf>,
        #[command(flatten)]
        json: Json,
    },
    /// Copy a stack into the library, where `create` finds it from any folder
    Import {
        /// The stack's name in the library
        name: String,
        /// The stack's folder, or its parent folder
        dir: PathBuf,
        /// Replace an existing stack in the library
        #[arg(long)]
        force: bool,
    },
    /// Copy a stack of the library into a folder
    Export {
        /// The stack in the library
        #[arg(add = ArgValueCandidates::new(complete::library_stacks))]
        name: String,
        /// The target folder
        dir: PathBuf,
        /// Replace existing files in the folder
        #[arg(long)]
        force: bool,
    },
    /// Edit a stack of the library with $VISUAL or $EDITOR; it is checked before it is saved
    Edit {
        /// The stack in the library
        #[arg(add = ArgValueCandidates::new(complete::library_stacks))]
        name: String,
        /// The file to edit
        #[arg(default_value = "config.json", value_parser = goloo_model::store::SNAPSHOT_FILES)]
        file: String,
    },
    /// Remove a stack from the library; its VMs are kept
    Rm {
        /// The stack in the library
        #[arg(add = ArgValueCandidates::new(complete::library_stacks))]
        name: String,
        /// Don't ask for confirmation
        #[arg(short = 'y', long)]
        yes: bool,
    },
    /// Set the new folder of a stack that was moved
    Relocate {
        /// The stack's name
        #[arg(add = ArgValueCandidates::new(complete::remembered_stacks))]
        name: String,
        /// The stack's folder, or its parent folder
        dir: PathBuf,
    },
    /// Print the JSON Schema of config.json
    Schema,
}

pub fn run(app: &App, command: &Command) -> Result<u8, CliError> {
    match command {
        Command::List { .. } => list::run(app),
        Command::Validate { name, folder, .. } => validate::run(app, name.clone(), folder.clone()),
        Command::Import { name, dir, force } => import(app, &VmName::parse(name)?, dir, *force),
        Command::Export { name, dir, force } => {
            let folder = app.session.export_stack(&VmName::parse(name)?, dir, *force)?;
            app.ui.line(&format!("copied {name} to {}", folder.display()));
            Ok(exit::DONE)
        }
        Command::Edit { name, file } => edit::run(app, &VmName::parse(name)?, file),
        Command::Rm { name, yes } => rm::run(app, &VmName::parse(name)?, *yes),
        Command::Relocate { name, dir } => {
            let folder = app.session.relocate_stack(name, dir)?;
            app.ui.line(&format!("the folder of {name} is now {}", folder.display()));
            Ok(exit::DONE)
        }
        Command::Schema => {
            let schema = serde_json::to_string_pretty(&goloo_model::spec::json_schema());
            app.ui.json_document(&schema.expect("a schema has only string keys"));
            Ok(exit::DONE)
        }
    }
}

/// Copies a stack into the library.
fn import(app: &App, name: &VmName, dir: &Path, force: bool) -> Result<u8, CliError> {
    let ImportedStack { source, folder, others } = app.session.import_stack(name, dir, force)?;
    if !others.is_empty() {
        let (from, others) = (source.display(), others.join(", "));
        app.ui.note(&format!(
            "not copied from {from}: {others}; a stack is config.json, cloud-init.yaml and configure.sh, and its relative paths are now resolved in the library"
        ));
    }
    app.ui.line(&format!("imported {name} into the library: {}", folder.display()));
    app.ui.say(&format!("`goloo create {name}` now works from any folder"));
    Ok(exit::DONE)
}
