//! One file per command: its arguments and its implementation.

mod adopt;
mod apply;
mod archive;
mod ask;
mod autostart;
mod bake;
mod baked_stacks;
mod checks;
mod clone;
mod code;
mod completion;
mod config;
mod consent;
mod cp;
mod create;
mod created;
mod delete;
mod diff;
mod dns;
mod docker;
mod doctor;
mod down;
mod export;
mod help;
mod history;
mod image;
mod import;
mod init;
mod kept_images;
mod later_bake;
mod list;
mod listing;
mod logs;
mod machine_columns;
mod man;
mod migrate;
mod power;
mod program;
mod protect;
mod recreate;
mod refresh;
mod remembered;
mod rename;
mod replace;
mod restore;
mod resume;
mod settings;
mod snapshot;
mod ssh;
mod ssh_config;
mod ssh_sources;
mod start_screen;
mod state;
mod status;
mod tag;
mod top;
mod up;
mod wait;
mod which;

use clap::Subcommand;

use crate::app::App;
use crate::error::CliError;
use crate::options::WaitArgs;

/// All commands.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Command {
    /// Create a VM from a stack
    Create(create::Args),
    /// Create, change and start the VMs of goloo.json
    Up(up::Args),
    /// Delete the VMs of an environment
    Down(down::Args),
    /// Continue an operation that was interrupted
    Resume(resume::Args),
    /// Delete VMs and archive their records
    #[command(visible_aliases = ["destroy", "rm"])]
    Delete(delete::Args),
    /// Change a VM to what its stack says now
    Apply(apply::Args),
    /// Override keys of a VM's config.json, and change the VM
    Set(apply::SetArgs),
    /// Show a VM's tags, or add and remove some
    Tag(tag::Args),
    /// Protect a VM against `delete`
    Protect(protect::Args),
    /// Remove a VM's protection against `delete`
    Unprotect(protect::Args),
    /// Start a VM whenever you log in
    Autostart(autostart::Args),
    /// List VMs
    #[command(visible_alias = "ls")]
    List(list::Args),
    /// Show details of a VM
    #[command(visible_alias = "info")]
    Status(status::Args),
    /// Watch all VMs on a live screen, and start, stop or delete them
    Top,
    /// Show the history of a VM, and of deleted VMs with the same name
    History(history::Args),
    /// Log in to a VM, or run a command line in its shell
    #[command(visible_alias = "shell")]
    Ssh(ssh::SshArgs),
    /// Run a program in a VM, with its arguments passed unchanged
    Exec(ssh::ExecArgs),
    /// Copy files to or from a VM
    Cp(cp::Args),
    /// Print host blocks for ~/.ssh/config, or keep them there
    SshConfig(ssh_config::Args),
    /// Open a VM in VS Code
    Code(code::Args),
    /// Create a Docker context for a VM
    Docker(docker::Args),
    /// Show a VM's provisioning log or console
    Logs(logs::Args),
    /// Start a VM and wait until SSH answers
    Start(power::StartArgs),
    /// Stop a VM
    Stop(power::StopArgs),
    /// Restart a VM
    Restart(power::RestartArgs),
    /// Wait until SSH answers and the provisioning has finished
    Wait(WaitArgs),
    /// Take, list or delete snapshots of a stopped VM's disk
    Snapshot(snapshot::Args),
    /// Restore a stopped VM's disk from a snapshot, losing later changes
    Restore(restore::Args),
    /// Copy a stopped VM
    Clone(clone::Args),
    /// Provision a stack once, for all VMs that are created from it
    Bake(bake::Args),
    /// Write a stopped VM to a file, for another computer
    Export(export::Args),
    /// Create a VM from a file that `export` wrote
    Import(import::Args),
    /// Give a VM another name
    Rename(rename::Args),
    /// Compare the files that a VM was created from with its stack now
    Diff(diff::Args),
    /// Create a VM from the recorded files of an active or archived VM
    Recreate(recreate::Args),
    /// Import a machine that has no record
    Adopt(adopt::Args),
    /// Compare records with machines; archive VMs whose TTL has expired
    Refresh(refresh::Args),
    /// Show and move the DNS names of VMs
    #[command(subcommand)]
    Dns(dns::Command),
    /// Manage the records of deleted VMs
    #[command(subcommand)]
    Archive(archive::Command),
    /// Manage the store of the records: show, move, back up, restore
    #[command(subcommand)]
    State(state::Command),
    /// Manage stacks: list, check, edit, and keep them in the library
    #[command(subcommand)]
    Config(config::Command),
    /// Show and change settings
    #[command(subcommand)]
    Settings(settings::Command),
    /// Manage the local image cache
    #[command(subcommand)]
    Image(image::Command),
    /// Import VMs of goloo v0 from its configs
    Migrate(migrate::Args),
    /// Create a stack from a template
    Init(init::Args),
    /// Diagnose this machine
    Doctor(doctor::Args),
    /// Print the completion script for a shell
    Completion(completion::Args),
    /// Print the manual page, or write the pages of all commands to files
    Man(man::Args),
    /// Explain a command and its options
    Help(help::Args),
}

/// Runs the command; `Ok` is the exit code.
/// `command_line` describes all of them, for the manual page.
pub fn run(app: &App, command: Command, command_line: fn() -> clap::Command) -> Result<u8, CliError> {
    match command {
        Command::Create(args) => create::run(app, args),
        Command::Up(args) => up::run(app, &args),
        Command::Down(args) => down::run(app, &args),
        Command::Resume(args) => resume::run(app, &args),
        Command::Delete(args) => delete::run(app, &args),
        Command::Apply(args) => apply::run(app, &args),
        Command::Set(args) => apply::set(app, &args),
        Command::Tag(args) => tag::run(app, &args),
        Command::Protect(args) => protect::run(app, &args, true),
        Command::Unprotect(args) => protect::run(app, &args, false),
        Command::Autostart(args) => autostart::run(app, &args),
        Command::List(args) => list::run(app, &args),
        Command::Status(args) => status::run(app, &args),
        Command::Top => top::run(app),
        Command::History(args) => history::run(app, &args),
        Command::Ssh(args) => ssh::run(app, &args),
        Command::Exec(args) => ssh::exec(app, &args),
        Command::Cp(args) => cp::run(app, &args),
        Command::SshConfig(args) => ssh_config::run(app, &args),
        Command::Code(args) => code::run(app, &args),
        Command::Docker(args) => docker::run(app, &args),
        Command::Logs(args) => logs::run(app, &args),
        Command::Start(args) => power::start(app, &args),
        Command::Stop(args) => power::stop(app, &args),
        Command::Restart(args) => power::restart(app, &args),
        Command::Wait(args) => wait::run(app, &args),
        Command::Snapshot(args) => snapshot::run(app, &args),
        Command::Restore(args) => restore::run(app, &args),
        Command::Clone(args) => clone::run(app, &args),
        Command::Bake(args) => bake::run(app, &args),
        Command::Export(args) => export::run(app, &args),
        Command::Import(args) => import::run(app, &args),
        Command::Rename(args) => rename::run(app, &args),
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
        Command::Man(args) => man::run(&app.ui, &args, command_line()),
        Command::Help(_) => unreachable!("help needs no App"),
    }
}

impl Command {
    /// Whether it may run as root in another user's folders: it needs root, and that user owns the files it creates.
    pub fn is_for_root(&self) -> bool {
        matches!(self, Self::Image(image::Command::Build { .. }))
    }

    /// Whether it runs another command in a VM, and names none.
    pub fn lacks_its_vm(&self) -> bool {
        match self {
            Self::Ssh(args) => args.has_no_name(),
            Self::Exec(args) => args.has_no_name(),
            _ => false,
        }
    }

    /// Whether its only effect is its output: if so, it fails when the output can't be written. Other commands only
    /// lose their report.
    pub fn only_reads(&self) -> bool {
        match self {
            Self::List(_)
            | Self::Status(_)
            | Self::History(_)
            | Self::Ssh(_)
            | Self::Exec(_)
            | Self::Logs(_)
            | Self::Diff(_)
            | Self::Doctor(_)
            | Self::Completion(_)
            | Self::Help(_) => true,
            Self::Man(args) => !args.writes_files(),
            Self::SshConfig(args) => !args.writes_files(),
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
            | Self::Up(_)
            | Self::Down(_)
            | Self::Resume(_)
            | Self::Delete(_)
            | Self::Apply(_)
            | Self::Set(_)
            | Self::Tag(_)
            | Self::Protect(_)
            | Self::Unprotect(_)
            | Self::Cp(_)
            | Self::Autostart(_)
            | Self::Code(_)
            | Self::Docker(_)
            | Self::Start(_)
            | Self::Stop(_)
            | Self::Restart(_)
            | Self::Top
            | Self::Wait(_)
            | Self::Snapshot(_)
            | Self::Restore(_)
            | Self::Clone(_)
            | Self::Bake(_)
            | Self::Export(_)
            | Self::Import(_)
            | Self::Rename(_)
            | Self::Recreate(_)
            | Self::Adopt(_)
            | Self::Refresh(_)
            | Self::Migrate(_)
            | Self::Init(_) => false,
        }
    }
}

pub use settings::run as settings;
pub use start_screen::run as start_screen;
