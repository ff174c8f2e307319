//! `goloo start`, `goloo stop` and `goloo restart`, of one or several VMs

use std::time::Duration;

use goloo::operation::RunOptions;
use goloo_model::name::VmName;
use goloo_model::provider::StopMode;
use goloo_model::record::Record;

use crate::app::App;
use crate::error::CliError;
use crate::options::{Json, VmsArg, duration};
use crate::{exit, json};

#[derive(Debug, clap::Args)]
pub struct StartArgs {
    #[command(flatten)]
    vms: VmsArg,
    /// How long to wait, in total, until SSH answers
    #[arg(long, value_name = "D", default_value = "10m", value_parser = duration)]
    timeout: Duration,
    #[command(flatten)]
    json: Json,
}

#[derive(Debug, clap::Args)]
pub struct StopArgs {
    #[command(flatten)]
    vms: VmsArg,
    /// Force power off immediately instead of shutting down the guest
    #[arg(long, conflicts_with = "suspend")]
    force: bool,
    /// How long the guest may take to shut down before power off is forced
    #[arg(long, value_name = "D", value_parser = duration, conflicts_with_all = ["force", "suspend"])]
    timeout: Option<Duration>,
    /// Save the memory to disk for the next start, if the provider supports it
    #[arg(long)]
    suspend: bool,
    #[command(flatten)]
    json: Json,
}

#[derive(Debug, clap::Args)]
pub struct RestartArgs {
    #[command(flatten)]
    start: StartArgs,
    /// Force power off immediately instead of shutting down the guest
    #[arg(long)]
    force: bool,
}

/// The provider's default.
pub const PROVIDERS_OWN: Duration = Duration::ZERO;

pub fn start(app: &App, args: &StartArgs) -> Result<u8, CliError> {
    act(app, &args.vms, args.timeout, "is running", |name, run| app.session.start(name, run))
}

pub fn stop(app: &App, args: &StopArgs) -> Result<u8, CliError> {
    let (mode, done) = match args.suspend {
        true => (StopMode::Suspend, "is suspended"),
        false => (mode(args.force), "is stopped"),
    };
    let limit = args.timeout.unwrap_or(PROVIDERS_OWN);
    act(app, &args.vms, limit, done, |name, run| app.session.stop(name, mode, run))
}

pub fn restart(app: &App, args: &RestartArgs) -> Result<u8, CliError> {
    let (mode, start) = (mode(args.force), &args.start);
    act(app, &start.vms, start.timeout, "is running", |name, run| app.session.restart(name, mode, run))
}

fn mode(force: bool) -> StopMode {
    if force { StopMode::Force } else { StopMode::Graceful }
}

fn act(
    app: &App,
    vms: &VmsArg,
    limit: Duration,
    done: &str,
    action: impl Fn(&VmName, &RunOptions<'_>) -> Result<Record, goloo::Error> + Sync,
) -> Result<u8, CliError> {
    let names = vms.of(app)?;
    if let [name] = &*names {
        let left = format!("\"{name}\" may be starting or stopping: check with `goloo status {name}`");
        let record = app.act(limit, &left, |run| action(name, run))?;
        match app.ui.json() {
            true => app.ui.result(&json::ChangedVm { vm: &record }),
            false => app.ui.line(&format!("{name} {done}")),
        }
        return Ok(exit::DONE);
    }
    let left = "VMs may be starting or stopping: check with `goloo list --refresh`";
    act_on_each(app, names, (limit, left), done, action)
}

/// Acts on VMs at the same time, and says of each that it is `done`. What may be left is printed at an immediate exit.
pub(super) fn act_on_each(
    app: &App,
    names: Vec<VmName>,
    (limit, left): (Duration, &str),
    done: &str,
    action: impl Fn(&VmName, &RunOptions<'_>) -> Result<Record, goloo::Error> + Sync,
) -> Result<u8, CliError> {
    let is_json = app.ui.json();
    let results = app.act_each(
        names.into_iter().map(|name| (name, ())).collect(),
        limit,
        left,
        |name, (), run| action(name, run),
        |name, _| {
            if !is_json {
                app.ui.line(&format!("{name} {done}"));
            }
        },
    )?;
    if is_json {
        app.ui.result(&results.to_json(|record| record));
    }
    Ok(results.code(|_| exit::DONE))
}
