//! `goloo export`

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::app::App;
use crate::error::CliError;
use crate::options::{Json, VmArg};
use crate::output::bytes;
use crate::{exit, json};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    vm: VmArg,
    /// The new file
    file: PathBuf,
    #[command(flatten)]
    json: Json,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let name = args.vm.of(app)?;
    if args.file == Path::new("-") {
        // The disk isn't written from its beginning to its end.
        return Err(CliError::usage("an export can't be written to standard output", "name a file"));
    }
    let left = format!("the export of \"{name}\" was not completed; remove the file that ends in .partial");
    // Nothing is waited for in the guest.
    let exported = app.act(Duration::ZERO, &left, |run| app.session.export_vm(&name, &args.file, run))?;
    if app.ui.json() {
        app.ui.result(&json::Exported::from(&exported));
    } else {
        app.ui.line(&format!(
            "exported {name} to {} ({}); anyone who can read it can read the VM's disk and its keys",
            exported.file.display(),
            bytes(exported.bytes)
        ));
    }
    Ok(exit::DONE)
}
