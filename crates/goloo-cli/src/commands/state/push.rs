//! `goloo state push`

use std::path::PathBuf;

use goloo::transfer::{TransferError, document};

use super::files;
use crate::app::App;
use crate::error::CliError;
use crate::exit;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The document; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Overwrite newer records of the same VMs with older ones
    #[arg(long)]
    force: bool,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let bytes = files::read_file(&args.file, document::FILE_MAX)?;
    let contents = document::from_json(&bytes).map_err(|error| {
        goloo::Error::from(TransferError::NotADocument { file: args.file.clone(), reason: error.to_string() })
    })?;
    let count = app.session.import(contents, args.force)?;
    app.ui.line(&format!("wrote {count} to {}", app.session.store.location()));
    Ok(exit::DONE)
}
