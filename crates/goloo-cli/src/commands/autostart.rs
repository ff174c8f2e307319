//! `goloo autostart`

use std::time::Duration;

use clap::ValueEnum;
use clap_complete::engine::ArgValueCandidates;
use goloo::autostart::StartCommand;

use super::power::act_on_each;
use crate::app::App;
use crate::error::CliError;
use crate::options::Json;
use crate::{complete, exit, json};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The VM
    #[arg(
        value_name = "NAME",
        required_unless_present = "start",
        add = ArgValueCandidates::new(complete::vm_names)
    )]
    name: Option<String>,
    /// Whether it starts when you log in
    #[arg(value_name = "on|off", required_unless_present = "start")]
    switch: Option<Switch>,
    /// Start all VMs that are on, as the service does at login
    #[arg(long, conflicts_with_all = ["name", "switch"])]
    start: bool,
    #[command(flatten)]
    json: Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

/// How long the VMs may take until SSH answers, in total.
const START_LIMIT: Duration = Duration::from_secs(15 * 60);

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let (Some(name), Some(switch)) = (&args.name, args.switch) else { return start(app) };
    let (name, is_on) = (app.session.vm_of_word(name)?, switch == Switch::On);
    let program = std::env::current_exe()
        .map_err(|error| CliError::failed("can't find the path of goloo", "goloo doctor").because(&error))?;
    let arguments = ["autostart", "--start"].map(str::to_owned).to_vec();
    let changed = app.session.set_autostart(&name, is_on, &StartCommand { program, arguments })?;
    if app.ui.json() {
        app.ui.result(&json::ChangedVm { vm: &changed.record });
        return Ok(exit::DONE);
    }
    app.ui.line(&match is_on {
        true => format!("{name} starts when you log in"),
        false => format!("{name} no longer starts when you log in"),
    });
    if is_on && changed.waits_for_login && cfg!(target_os = "linux") {
        app.ui.note("to start it when the computer boots, without a login, run: loginctl enable-linger");
    }
    Ok(exit::DONE)
}

fn start(app: &App) -> Result<u8, CliError> {
    let names = app.session.autostart_vms()?;
    let left = "VMs may be starting: check with `goloo list --refresh`";
    act_on_each(app, names, (START_LIMIT, left), "is running", |name, run| app.session.start(name, run))
}
