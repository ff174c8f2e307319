//! Arguments and values that several commands have. The types have no doc comments where clap would show those as the
//! help of a command.

use std::time::Duration;

use clap::ValueEnum;
use clap_complete::engine::ArgValueCandidates;

use crate::complete;

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Failures.
    Error,
    /// Also problems that goloo recovered from.
    Warn,
    /// Currently the same as `warn`.
    Info,
    /// Also calls to providers, writes to the store, leases and retries.
    Debug,
    /// Everything.
    Trace,
}

/// When to use color.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

// `--json`, for commands that print a result.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Json {
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

// The VM that a command works on.
#[derive(Debug, Clone, clap::Args)]
pub struct VmArg {
    /// The VM
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(complete::vm_names))]
    pub name: String,
}

/// Stands in place of a VM's name if there is none before the command that is to run in it.
pub const NO_NAME: &str = "--";

// The VM that a command works on; it may be left out.
#[derive(Debug, Clone, clap::Args)]
pub struct OptionalVm {
    /// The VM; by default the only one, or the one that was created from the stack in this folder
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(complete::vm_names))]
    pub name: Option<String>,
}

// The VMs that a command works on; they may be left out.
#[derive(Debug, Clone, clap::Args)]
pub struct VmsArg {
    /// The VMs, an environment, or a machine of one (shop/web); by default the only VM, or the one that was created from the stack in this folder
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(complete::vm_names))]
    pub names: Vec<String>,
    /// All VMs on this computer
    #[arg(long, conflicts_with = "names")]
    pub all: bool,
}

// A VM, and how long to wait for its SSH and cloud-init.
#[derive(Debug, clap::Args)]
pub struct WaitArgs {
    #[command(flatten)]
    pub vm: OptionalVm,
    /// How long to wait for SSH and cloud-init together
    #[arg(long, value_name = "D", default_value = "15m", value_parser = duration)]
    pub timeout: Duration,
    #[command(flatten)]
    pub json: Json,
}

/// A duration on the command line: `90s`, `15m`, `8h`, `90d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let seconds = goloo_model::spec::duration_seconds(text)
        .ok_or("write a duration like 90s, 15m, 8h or 90d (at most 36500d)")?;
    Ok(Duration::from_secs(seconds))
}
