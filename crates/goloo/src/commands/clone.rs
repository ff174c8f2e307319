//! `goloo clone`

use std::time::Duration;

use goloo_core::name::VmName;
use goloo_core::record::Record;
use serde_json::json;

use super::VmArg;
use crate::app::App;
use crate::error::CliError;
use crate::{args, exit};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    vm: VmArg,
    /// What the copy is to be called
    new: String,
    #[command(flatten)]
    json: args::Json,
}

/// A copy isn't started, so nothing is waited for.
const NO_WAIT: Duration = Duration::ZERO;

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let (name, new) = (args.vm.parse()?, VmName::parse(&args.new)?);
    let provider = app.provider_of(&app.record(&name)?)?;
    let left = format!("\"{new}\" may be half made: goloo resume {new}, or goloo delete {new}");
    let by = app.creator()?;
    let copy =
        app.operate(&*provider, NO_WAIT, &left, async |engine| engine.clone_vm(&name, &new, &by).await)??;
    Ok(report(app, &copy))
}

/// Says what was made.
pub fn report(app: &App, copy: &Record) -> u8 {
    if app.ui.json() {
        app.ui.result(json!({"vm": super::status::record_json(copy)}));
    } else {
        let from = copy.origin.as_ref().map_or("?", |origin| origin.from.as_str());
        app.ui.line(&format!("{0} is a copy of {from}, stopped; goloo start {0}", copy.name));
    }
    exit::DONE
}
