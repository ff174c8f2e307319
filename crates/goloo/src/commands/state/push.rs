//! `goloo state push`

use std::path::PathBuf;

use goloo_core::store::Store;

use crate::app::App;
use crate::error::CliError;
use crate::transfer::{self, Conflict, Whole, document};
use crate::{exit, identity};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The document; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Write older records over newer ones of the same VMs, as their next save
    #[arg(long)]
    force: bool,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let bytes = super::read_file(&args.file, document::FILE_MAX)?;
    let whole = document::from_json(&bytes).map_err(|error| {
        let message = format!("{} is no document of goloo's: {error}", args.file.display());
        CliError::usage(message, "goloo state pull FILE writes one")
    })?;
    app.wait_for(push(app, whole, args.force))
}

async fn push(app: &App, mut whole: Whole, force: bool) -> Result<u8, CliError> {
    let store = &*app.store;
    let (there, _) = transfer::read(store).await?;
    let mut conflicts = transfer::conflicts(&whole, &there);
    let newer: Vec<_> = conflicts.extract_if(.., |conflict| force && is_newer(conflict)).collect();
    if !conflicts.is_empty() {
        let hint = match conflicts.iter().all(is_newer) {
            true => "goloo state pull shows what is there; --force writes these over it",
            false => {
                "goloo state pull shows what is there; take the records out of the document that don't fit"
            }
        };
        return Err(super::refused(
            "nothing was written: some records don't fit".to_owned(),
            &conflicts,
            hint,
        ));
    }
    let count = whole.count();
    crate::imported::note(app, whole.records())?;
    force_older(&mut whole, &newer, store).await?;
    // What is the same there needs no lock.
    let vms = whole.without(&there).vms;
    transfer::write(&Whole { vms, ..whole }, &there, store, &identity::owner()).await?;
    app.ui.line(&format!("{count} are in {}", store.location()));
    Ok(exit::DONE)
}

fn is_newer(conflict: &Conflict) -> bool {
    matches!(conflict, Conflict::Newer { .. })
}

/// Writes what was forced; what the archive has newer stays. Neither is left to write.
async fn force_older(whole: &mut Whole, newer: &[Conflict], store: &dyn Store) -> Result<(), CliError> {
    let named = |text: &str| newer.iter().any(|c| matches!(c, Conflict::Newer { name, .. } if name == text));
    for vm in whole.vms.extract_if(.., |vm| named(vm.record.name.as_str())) {
        transfer::overwrite(&vm.record, store, &identity::owner()).await?;
    }
    whole.archive.retain(|gone| !named(gone.archived.id.as_str()));
    Ok(())
}
