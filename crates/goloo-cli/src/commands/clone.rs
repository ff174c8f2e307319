//! `goloo clone`

use std::time::Duration;

use goloo_model::name::VmName;

use super::created;
use crate::app::App;
use crate::error::CliError;
use crate::exit;
use crate::options::{Json, VmArg};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    vm: VmArg,
    /// The name of the copy
    new: String,
    #[command(flatten)]
    json: Json,
}

/// The copy isn't started, so there is nothing to wait for.
const NO_WAIT: Duration = Duration::ZERO;

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let (name, new) = (args.vm.of(app)?, VmName::parse(&args.new)?);
    let left =
        format!("\"{new}\" may be incomplete: run `goloo resume {new}` to continue, or `goloo delete {new}`");
    let copy = app.act(NO_WAIT, &left, |run| app.session.clone_vm(&name, &new, run))?;
    created::report_copy(app, &copy);
    Ok(exit::DONE)
}
