//! `goloo state`: where records are stored, and how they are moved, exported and restored.

mod backup;
mod files;
mod locks;
mod pull;
mod push;
mod relocate;
mod restore;
mod show;
mod unlock;

use std::path::PathBuf;

use clap::Subcommand;

use crate::app::App;
use crate::error::CliError;
use crate::options::Json;

/// The subcommands.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Command {
    /// Show where the records are stored, and how many there are
    Show {
        #[command(flatten)]
        json: Json,
    },
    /// List locked VMs with their lock holders
    Locks {
        #[command(flatten)]
        json: Json,
    },
    /// Break the lock of a process that is no longer running
    Unlock(unlock::Args),
    /// Move all records and the archive to another store, and use that store from now on
    ///
    /// Everything is copied and compared byte for byte before the old store is marked as moved; then it is
    /// read-only. After an interruption, run the same command to continue. Disks of local VMs and goloo's keys
    /// stay in the state folder. With the address of the store in use, the command removes its mark as moved.
    Move(relocate::Args),
    /// Write all records and the archive as one JSON document
    Pull {
        /// The file to write; - is standard output
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Import the records from a document written by `state pull`
    Push(push::Args),
    /// Write a backup file with the records, the archive and goloo's SSH key
    Backup {
        /// The file to write; it must not exist
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Restore the records from a backup; newer records are never replaced
    Restore(restore::Args),
}

pub fn run(app: &App, command: &Command) -> Result<u8, CliError> {
    match command {
        Command::Show { .. } => show::run(app),
        Command::Locks { .. } => locks::run(app),
        Command::Unlock(args) => unlock::run(app, args),
        Command::Move(args) => relocate::run(app, args),
        Command::Pull { file } => pull::run(app, file),
        Command::Push(args) => push::run(app, args),
        Command::Backup { file } => backup::run(app, file),
        Command::Restore(args) => restore::run(app, args),
    }
}
