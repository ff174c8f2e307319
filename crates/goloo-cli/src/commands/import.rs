//! `goloo import`

use std::path::PathBuf;
use std::time::Duration;

use goloo_model::name::VmName;

use super::created;
use crate::app::App;
use crate::error::CliError;
use crate::exit;
use crate::options::Json;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A file that `goloo export` wrote
    file: PathBuf,
    /// Name of the new VM, instead of the exported one's
    #[arg(long = "as", value_name = "NAME")]
    as_name: Option<String>,
    #[command(flatten)]
    json: Json,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let as_name = args.as_name.as_deref().map(VmName::parse).transpose()?;
    let left =
        "the import was not completed: run `goloo list`, then `goloo resume` or `goloo delete` for its VM";
    // The VM isn't started, so there is nothing to wait for.
    let record =
        app.act(Duration::ZERO, left, |run| app.session.import_vm(&args.file, as_name.as_ref(), run))?;
    created::report_import(app, &record);
    Ok(exit::DONE)
}
