//! One file a command: its arguments, and beside them what it does.

mod adopt;
mod archive;
mod ask;
mod clone;
mod completion;
mod config;
mod consent;
mod cp;
mod create;
mod delete;
mod diff;
mod dns;
mod doctor;
mod history;
mod image;
mod init;
mod list;
mod logs;
mod man;
mod migrate;
mod power;
mod protect;
mod reach;
mod recreate;
mod refresh;
mod restore;
mod resume;
mod settings;
mod snapshot;
mod ssh;
mod ssh_config;
mod ssh_sources;
mod state;
mod status;
mod wait;

use std::time::Duration;

use clap::Subcommand;
use clap_complete::engine::ArgValueCandidates;
use goloo_core::name::VmName;

use crate::app::App;
use crate::args;
use crate::error::CliError;

/// All commands.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Command {
    /// Make a VM from a stack
    Create(create::Args),
    /// Finish an operation that was interrupted
    Resume(resume::Args),
    /// Remove VMs; their records go to the archive
    #[command(visible_aliases = ["destroy", "rm"])]
    Delete(delete::Args),
    /// Make `delete` refuse a VM
    Protect(protect::Args),
    /// Let `delete` remove a VM again
    Unprotect(protect::Args),
    /// Show every VM
    #[command(visible_alias = "ls")]
    List(list::Args),
    /// Show all about one VM
    #[command(visible_alias = "info")]
    Status(status::Args),
    /// Show who did what to a VM, and when; also to those of its name that are deleted
    History(history::Args),
    /// Log in to a VM, or run a command line in its shell
    #[command(visible_alias = "shell")]
    Ssh(ssh::SshArgs),
    /// Run a program in a VM, its arguments kept as they are
    Exec(ssh::ExecArgs),
    /// Copy files to or from a VM
    Cp(cp::Args),
    /// Print blocks for ~/.ssh/config
    SshConfig(ssh_config::Args),
    /// Show a VM's provisioning log or console
    Logs(logs::Args),
    /// Start a VM and wait until SSH answers
    Start(power::StartArgs),
    /// Stop a VM
    Stop(power::StopArgs),
    /// Stop a VM and start it again
    Restart(power::RestartArgs),
    /// Wait until a VM answers and its provisioning is done
    Wait(WaitArgs),
    /// Take a snapshot of a stopped VM's disk, or show or remove snapshots
    Snapshot(snapshot::Args),
    /// Put a stopped VM's disk back to a snapshot; what came after is lost
    Restore(restore::Args),
    /// Make a copy of a stopped VM
    Clone(clone::Args),
    /// Compare what a VM was made from with its stack as it is now
    Diff(diff::Args),
    /// Make a new VM from the snapshot of a VM, active or archived
    Recreate(recreate::Args),
    /// Make a record for a machine that goloo knows nothing of
    Adopt(adopt::Args),
    /// Compare all records with what there is; VMs that ended by themselves (vm.ttl) go to the archive
    Refresh(refresh::Args),
    /// Names in DNS: where they lead, and which VM they are to lead to
    #[command(subcommand)]
    Dns(dns::Command),
    /// The records of deleted VMs
    #[command(subcommand)]
    Archive(archive::Command),
    /// Where records are kept: look, move, back up, restore
    #[command(subcommand)]
    State(state::Command),
    /// Stacks: where they lie, the library, and what is wrong with one
    #[command(subcommand)]
    Config(config::Command),
    /// What is set once: settings.json and the environment
    #[command(subcommand)]
    Settings(settings::Command),
    /// The local cache of images
    #[command(subcommand)]
    Image(image::Command),
    /// Put VMs of the first goloo, which it noted in configs, on record
    Migrate(migrate::Args),
    /// Write a starter stack
    Init(init::Args),
    /// Say what is wrong on this machine, and how to mend it
    Doctor(doctor::Args),
    /// Print the script that completes goloo's words in a shell
    Completion(completion::Args),
    /// Print the manual page
    Man,
}

/// Runs the command; `Ok` is the exit code.
pub fn run(app: &App, command: Command) -> Result<u8, CliError> {
    match command {
        Command::Create(args) => create::run(app, args),
        Command::Resume(args) => resume::run(app, &args),
        Command::Delete(args) => delete::run(app, &args),
        Command::Protect(args) => protect::run(app, &args, true),
        Command::Unprotect(args) => protect::run(app, &args, false),
        Command::List(args) => list::run(app, &args),
        Command::Status(args) => status::run(app, &args),
        Command::History(args) => history::run(app, &args),
        Command::Ssh(args) => ssh::run(app, &args),
        Command::Exec(args) => ssh::exec(app, &args),
        Command::Cp(args) => cp::run(app, &args),
        Command::SshConfig(args) => ssh_config::run(app, &args),
        Command::Logs(args) => logs::run(app, &args),
        Command::Start(args) => power::start(app, &args),
        Command::Stop(args) => power::stop(app, &args),
        Command::Restart(args) => power::restart(app, &args),
        Command::Wait(args) => wait::run(app, &args),
        Command::Snapshot(args) => snapshot::run(app, &args),
        Command::Restore(args) => restore::run(app, &args),
        Command::Clone(args) => clone::run(app, &args),
        Command::Diff(args) => diff::run(app, &args),
        Command::Recreate(args) => recreate::run(app, args),
        Command::Adopt(args) => adopt::run(app, &args),
        Command::Refresh(args) => refresh::run(app, &args),
        Command::Dns(command) => dns::run(app, &command),
        Command::Archive(command) => archive::run(app, &command),
        Command::State(command) => state::run(app, &command),
        Command::Config(command) => config::run(app, &command),
        Command::Settings(command) => settings::run(&app.ui, &command),
        Command::Image(command) => image::run(app, &command),
        Command::Migrate(args) => migrate::run(app, &args),
        Command::Init(args) => init::run(app, &args),
        Command::Doctor(args) => doctor::run(app, &args),
        Command::Completion(args) => completion::run(&app.ui, &args),
        Command::Man => man::run(&app.ui),
    }
}

impl Command {
    /// Whether it may run as root where the folders are another user's: it needs root, and gives what it makes to them.
    pub fn is_for_root(&self) -> bool {
        matches!(self, Self::Image(image::Command::Build { .. }))
    }

    /// Whether it changes nothing but what is printed. One that fails to print has then failed; of the others only
    /// the report is lost.
    pub fn only_reads(&self) -> bool {
        match self {
            Self::List(_)
            | Self::Status(_)
            | Self::History(_)
            | Self::Ssh(_)
            | Self::Exec(_)
            | Self::SshConfig(_)
            | Self::Logs(_)
            | Self::Diff(_)
            | Self::Doctor(_)
            | Self::Completion(_)
            | Self::Man => true,
            Self::Dns(command) => matches!(command, dns::Command::Show(_)),
            Self::Archive(command) => {
                matches!(command, archive::Command::List { .. } | archive::Command::Show { .. })
            }
            Self::State(command) => matches!(
                command,
                state::Command::Show { .. } | state::Command::Locks { .. } | state::Command::Pull { .. }
            ),
            Self::Config(command) => matches!(
                command,
                config::Command::List { .. } | config::Command::Validate { .. } | config::Command::Schema
            ),
            Self::Settings(command) => !matches!(command, settings::Command::Set { .. }),
            Self::Image(command) => matches!(command, image::Command::List { .. }),
            Self::Create(_)
            | Self::Resume(_)
            | Self::Delete(_)
            | Self::Protect(_)
            | Self::Unprotect(_)
            | Self::Cp(_)
            | Self::Start(_)
            | Self::Stop(_)
            | Self::Restart(_)
            | Self::Wait(_)
            | Self::Snapshot(_)
            | Self::Restore(_)
            | Self::Clone(_)
            | Self::Recreate(_)
            | Self::Adopt(_)
            | Self::Refresh(_)
            | Self::Migrate(_)
            | Self::Init(_) => false,
        }
    }
}

pub use settings::run as settings;

// The VM that a command is about.
#[derive(Debug, Clone, clap::Args)]
pub struct VmArg {
    /// The VM
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(crate::complete::vm_names))]
    pub name: String,
}

impl VmArg {
    /// The name, checked.
    pub fn parse(&self) -> Result<VmName, CliError> {
        Ok(VmName::parse(&self.name)?)
    }
}

// A VM whose SSH and cloud-init are waited for.
#[derive(Debug, clap::Args)]
pub struct WaitArgs {
    #[command(flatten)]
    pub vm: VmArg,
    /// How long to wait for SSH and cloud-init together
    #[arg(long, value_name = "D", default_value = "15m", value_parser = args::duration)]
    pub timeout: Duration,
    #[command(flatten)]
    pub json: args::Json,
}
