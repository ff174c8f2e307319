//! `goloo state`: where records are kept, and how they get from one place to another.

mod backup;
mod locks;
mod pull;
mod push;
mod relocate;
mod restore;
mod show;
mod unlock;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use goloo_core::store::{Broken, Store};
use goloo_os::read;

use crate::app::App;
use crate::commands::list::warn_of_each;
use crate::error::CliError;
use crate::output::first;
use crate::transfer::{self, Conflict, Whole};
use crate::{args, exit};

/// What to do with the place where records are kept.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Command {
    /// Show which place keeps the records, and what is in it
    Show {
        #[command(flatten)]
        json: args::Json,
    },
    /// Show who works on which VM now
    Locks {
        #[command(flatten)]
        json: args::Json,
    },
    /// End the lock of someone who is gone
    Unlock(unlock::Args),
    /// Move all records and the archive to another place, and use that from now on
    ///
    /// Everything is copied and compared byte for byte before this place is marked as moved; then it is only
    /// read. Stopped anywhere, the same command goes on. Disks of local VMs and goloo's keys stay in the
    /// state folder. To the place that is in use already, it takes a mark away that says they were moved.
    Move(relocate::Args),
    /// Write all records and the archive as one JSON document
    Pull {
        /// Where to; - is standard output
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Put the records of such a document in this place
    Push(push::Args),
    /// Write everything into one file: records, archive, goloo's SSH key
    Backup {
        /// Where to; the file must not be there
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Put back what a backup holds; newer records stay as they are
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

/// Reads all that a store holds, with a warning of each record that is broken.
async fn read_sound(app: &App, store: &dyn Store) -> Result<Whole, CliError> {
    let (whole, broken) = transfer::read(store).await?;
    warn_of_each(&app.ui, &broken, |Broken { name, path, error }| {
        let recovered = whole.vms.iter().any(|vm| vm.record.name.as_str() == name);
        let instead = if recovered { "its previous copy is taken" } else { "it is left out" };
        format!("{path} is broken ({error}); {instead}")
    });
    Ok(whole)
}

/// What a refused write is about, a line each.
fn refused(message: String, conflicts: &[Conflict], hint: &str) -> CliError {
    let causes = first(conflicts.iter(), ToString::to_string);
    CliError { causes, ..CliError::new(exit::FAILED, "conflict", message, hint) }
}

fn is_standard_stream(file: &Path) -> bool {
    file == Path::new("-")
}

/// Reads the file that a person names, or standard input; `max` is in bytes. Nothing else is waited for.
fn read_file(file: &Path, max: u64) -> Result<Vec<u8>, CliError> {
    let read = if is_standard_stream(file) {
        read::stream(std::io::stdin().lock(), max)
    } else {
        read::file(file, max)
    };
    read.map_err(|error| {
        let failed = CliError::cannot("read", file, &error);
        match error.kind() {
            std::io::ErrorKind::NotFound => CliError { hint: "look for its name: ls".to_owned(), ..failed },
            std::io::ErrorKind::InvalidInput => {
                CliError { hint: "name a regular file, or - for standard input".to_owned(), ..failed }
            }
            _ => failed,
        }
    })
}

/// Writes a file that isn't there yet, mode 0600.
fn write_file(file: &Path, bytes: &[u8]) -> Result<(), CliError> {
    crate::files::write_new(file, bytes).map_err(|error| {
        let failed = CliError::cannot("write", file, &error);
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                CliError { hint: "take another name, or remove it first".to_owned(), ..failed }
            }
            _ => failed,
        }
    })
}
