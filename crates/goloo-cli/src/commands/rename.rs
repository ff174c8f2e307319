//! `goloo rename`

use std::time::Duration;

use goloo_engine::{GuestHostname, Renamed};
use goloo_model::name::VmName;

use crate::app::App;
use crate::error::CliError;
use crate::options::{Json, VmArg};
use crate::{exit, json};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    vm: VmArg,
    /// The new name
    new: String,
    #[command(flatten)]
    json: Json,
}

/// Nothing is started or stopped.
const NO_WAIT: Duration = Duration::ZERO;

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let (name, new) = (args.vm.of(app)?, VmName::parse(&args.new)?);
    let left = format!("\"{name}\" may be renamed in part: run `goloo resume {name}` to continue");
    let renamed = app.act(NO_WAIT, &left, |run| app.session.rename(&name, &new, run))?;
    report(app, &renamed);
    Ok(exit::DONE)
}

/// Prints what a VM is called now, and what its system calls itself.
pub fn report(app: &App, renamed: &Renamed) {
    let Renamed { record, from, hostname } = renamed;
    let name = &record.name;
    if app.ui.json() {
        app.ui.result(&json::RenamedVm::from(renamed));
    } else {
        app.ui.line(&format!("{from} is called {name} now"));
    }
    match hostname {
        GuestHostname::New | GuestHostname::Own => {}
        GuestHostname::NewAtBoot => {
            app.ui.note(&format!(
                "its system is still called {from}: it gets the new hostname at its next boot, unless it chose one itself"
            ));
        }
        GuestHostname::Unchanged { reason } => {
            app.ui.note(&format!(
                "its hostname is still {from}: {reason}; to change it, run `goloo exec {name} -- sudo hostnamectl set-hostname {name}` once it is running"
            ));
        }
    }
}
