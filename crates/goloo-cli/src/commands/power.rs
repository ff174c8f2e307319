//! `goloo start`, `goloo stop` and `goloo restart`

use std::time::Duration;

use goloo::operation::RunOptions;
use goloo_model::name::VmName;
use goloo_model::provider::StopMode;
use goloo_model::record::Record;

use crate::app::App;
use crate::error::CliError;
use crate::options::{Json, VmArg, duration};
use crate::{exit, json};

#[derive(Debug, clap::Args)]
pub struct StartArgs {
    #[command(flatten)]
    vm: VmArg,
    /// The time limit in total, until SSH answers
    #[arg(long, value_name = "D", default_value = "10m", value_parser = duration)]
    timeout: Duration,
    #[command(flatten)]
    json: Json,
}

#[derive(Debug, clap::Args)]
pub struct StopArgs {
    #[command(flatten)]
    vm: VmArg,
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
const PROVIDERS_OWN: Duration = Duration::ZERO;

pub fn start(app: &App, args: &StartArgs) -> Result<u8, CliError> {
    let name = args.vm.parse()?;
    act(app, &name, args.timeout, "is running", |run| app.session.start(&name, run))
}

pub fn stop(app: &App, args: &StopArgs) -> Result<u8, CliError> {
    let name = args.vm.parse()?;
    let (mode, done) = match args.suspend {
        true => (StopMode::Suspend, "is suspended"),
        false => (mode(args.force), "is stopped"),
    };
    let limit = args.timeout.unwrap_or(PROVIDERS_OWN);
    act(app, &name, limit, done, |run| app.session.stop(&name, mode, run))
}

pub fn restart(app: &App, args: &RestartArgs) -> Result<u8, CliError> {
    let name = args.start.vm.parse()?;
    let mode = mode(args.force);
    act(app, &name, args.start.timeout, "is running", |run| app.session.restart(&name, mode, run))
}

fn mode(force: bool) -> StopMode {
    if force { StopMode::Force } else { StopMode::Graceful }
}

fn act(
    app: &App,
    name: &VmName,
    limit: Duration,
    done: &str,
    action: impl FnOnce(&RunOptions<'_>) -> Result<Record, goloo::Error>,
) -> Result<u8, CliError> {
    let left = format!("\"{name}\" may be starting or stopping: check with `goloo status {name}`");
    let record = app.act(limit, &left, action)?;
    if app.ui.json() {
        app.ui.result(&json::ChangedVm { vm: &record });
        return Ok(exit::DONE);
    }
    app.ui.line(&format!("{name} {done}"));
    Ok(exit::DONE)
}
