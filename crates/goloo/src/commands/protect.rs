//! `goloo protect` and `goloo unprotect`

use goloo_core::engine::{EngineError, protect};
use goloo_core::record::Record;
use serde_json::json;

use super::VmArg;
use crate::app::App;
use crate::error::CliError;
use crate::{args, exit, identity};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    vm: VmArg,
    #[command(flatten)]
    json: args::Json,
}

pub fn run(app: &App, args: &Args, protected: bool) -> Result<u8, CliError> {
    let name = args.vm.parse()?;
    // One of the first goloo's gets its record here.
    app.record(&name)?;
    let owner = identity::owner();
    let record: Result<Record, EngineError> =
        pollster::block_on(protect(&*app.store, &owner, &name, protected));
    let record = record?;
    if app.ui.json() {
        app.ui.result(json!({"vm": super::status::record_json(&record)}));
    } else if protected {
        app.ui.line(&format!("{name} is protected: goloo delete refuses it until goloo unprotect {name}"));
    } else {
        app.ui.line(&format!("{name} isn't protected"));
    }
    Ok(exit::DONE)
}
