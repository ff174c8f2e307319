//! `goloo start`, `goloo stop` and `goloo restart`

use std::time::Duration;

use goloo_core::engine::{Engine, EngineError};
use goloo_core::name::VmName;
use goloo_core::provider::StopMode;
use goloo_core::record::Record;
use serde_json::json;

use super::VmArg;
use crate::app::App;
use crate::error::CliError;
use crate::{args, exit};

#[derive(Debug, clap::Args)]
pub struct StartArgs {
    #[command(flatten)]
    vm: VmArg,
    /// How long all of it may take, until SSH answers
    #[arg(long, value_name = "D", default_value = "10m", value_parser = args::duration)]
    timeout: Duration,
    #[command(flatten)]
    json: args::Json,
}

#[derive(Debug, clap::Args)]
pub struct StopArgs {
    #[command(flatten)]
    vm: VmArg,
    /// Cut the power at once instead of asking the guest
    #[arg(long, conflicts_with = "suspend")]
    force: bool,
    /// How long the guest may take to power off before its power is cut
    #[arg(long, value_name = "D", value_parser = args::duration, conflicts_with_all = ["force", "suspend"])]
    timeout: Option<Duration>,
    /// Keep what is in memory on disk; the next start goes on from there, where the provider can
    #[arg(long)]
    suspend: bool,
    #[command(flatten)]
    json: args::Json,
}

#[derive(Debug, clap::Args)]
pub struct RestartArgs {
    #[command(flatten)]
    start: StartArgs,
    /// Cut the power at once instead of asking the guest
    #[arg(long)]
    force: bool,
}

/// The provider knows how long its guests usually take.
const PROVIDERS_OWN: Duration = Duration::ZERO;

pub fn start(app: &App, args: &StartArgs) -> Result<u8, CliError> {
    let name = args.vm.parse()?;
    operate(app, &name, args.timeout, "runs", async |engine| engine.start(&name).await)
}

pub fn stop(app: &App, args: &StopArgs) -> Result<u8, CliError> {
    let name = args.vm.parse()?;
    let (mode, done) = match args.suspend {
        true => (StopMode::Suspend, "is suspended"),
        false => (mode(args.force), "is stopped"),
    };
    operate(app, &name, args.timeout.unwrap_or(PROVIDERS_OWN), done, async |engine| {
        engine.stop(&name, mode).await
    })
}

pub fn restart(app: &App, args: &RestartArgs) -> Result<u8, CliError> {
    let name = args.start.vm.parse()?;
    operate(app, &name, args.start.timeout, "runs", async |engine| {
        engine.restart(&name, mode(args.force)).await
    })
}

fn mode(force: bool) -> StopMode {
    if force { StopMode::Force } else { StopMode::Graceful }
}

fn operate<F>(app: &App, name: &VmName, limit: Duration, done: &str, operation: F) -> Result<u8, CliError>
where
    F: AsyncFnOnce(Engine<'_>) -> Result<Record, EngineError>,
{
    let record = app.record(name)?;
    let provider = app.provider_of(&record)?;
    let left = format!("\"{name}\" may be on its way up or down: goloo status {name}");
    let record = app.operate(&*provider, limit, &left, operation)??;
    if app.ui.json() {
        app.ui.result(json!({"vm": super::status::record_json(&record)}));
        return Ok(exit::DONE);
    }
    app.ui.line(&format!("{name} {done}"));
    Ok(exit::DONE)
}
