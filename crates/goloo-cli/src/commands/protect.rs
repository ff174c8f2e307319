//! `goloo protect` and `goloo unprotect`

use crate::app::App;
use crate::error::CliError;
use crate::options::{Json, VmArg};
use crate::{exit, json};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    vm: VmArg,
    #[command(flatten)]
    json: Json,
}

pub fn run(app: &App, args: &Args, protected: bool) -> Result<u8, CliError> {
    let name = args.vm.of(app)?;
    let record = app.session.set_protected(&name, protected)?;
    if app.ui.json() {
        app.ui.result(&json::ChangedVm { vm: &record });
    } else if protected {
        app.ui.line(&format!("{name} is protected against `goloo delete`; run `goloo unprotect {name}` to remove the protection"));
    } else {
        app.ui.line(&format!("{name} is not protected"));
    }
    Ok(exit::DONE)
}
