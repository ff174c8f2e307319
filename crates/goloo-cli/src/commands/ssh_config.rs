//! `goloo ssh-config`

use clap_complete::engine::ArgValueCandidates;
use goloo::actions::{SshConfigEntry, SshConfigInstalled};
use goloo_model::name::VmName;

use super::ask::Question;
use super::listing::warn_of_each;
use crate::app::App;
use crate::error::CliError;
use crate::{complete, exit};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The VM; by default all VMs
    #[arg(add = ArgValueCandidates::new(complete::vm_names))]
    name: Option<String>,
    /// Keep a file with all VMs up to date, and include it in ~/.ssh/config
    #[arg(long, conflicts_with_all = ["name", "uninstall"])]
    install: bool,
    /// Remove that file and its line from ~/.ssh/config
    #[arg(long, conflicts_with = "name")]
    uninstall: bool,
    /// Don't ask for confirmation
    #[arg(short = 'y', long, requires = "install")]
    yes: bool,
}

impl Args {
    /// Whether it changes files.
    pub fn writes_files(&self) -> bool {
        self.install || self.uninstall
    }
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    if args.install {
        return install(app, args.yes);
    }
    if args.uninstall {
        let was_there = app.session.uninstall_ssh_config()?;
        app.ui.line(if was_there { "removed from ~/.ssh/config" } else { "it was not installed" });
        return Ok(exit::DONE);
    }
    if let Some(name) = &args.name {
        print(app, app.session.ssh_config_of(&app.session.vm_of_word(name)?)?);
        return Ok(exit::DONE);
    }
    let config = app.session.ssh_config()?;
    warn_of_each(&app.ui, &config.broken, |broken| {
        format!("skipped {}, which is broken: {}", broken.path, broken.error)
    });
    for entry in config.entries {
        print(app, entry?);
    }
    Ok(exit::DONE)
}

fn install(app: &App, yes: bool) -> Result<u8, CliError> {
    if !yes && !app.session.has_ssh_config()? {
        ask(app)?;
    }
    let SshConfigInstalled { user_file, is_new } = app.session.install_ssh_config()?;
    app.ui.line(&match is_new {
        true => {
            format!("added to {}: ssh, rsync, git and editors find VMs by their names", user_file.display())
        }
        false => format!("{} already includes the VMs; they are up to date", user_file.display()),
    });
    Ok(exit::DONE)
}

/// Has `~/.ssh/config` include the VMs for a program that needs it, if the user agrees. Fails if it lacks this VM.
pub fn expect_host_block(app: &App, name: &VmName) -> Result<(), CliError> {
    app.session.expect_host_block(name)?;
    if !app.session.has_ssh_config()? {
        ask(app)?;
    }
    // Also brings it up to date, in case an earlier command was killed before it did.
    app.session.install_ssh_config()?;
    Ok(())
}

fn ask(app: &App) -> Result<(), CliError> {
    let user = app.session.user_ssh_config()?;
    let question = Question {
        asks: "other programs find VMs by their names only after a change to ~/.ssh/config, which needs confirmation",
        lost: vec![
            format!("This line will be added at the top of {}:", user.path().display()),
            format!("  {}", user.line()),
        ],
        question: "Add it?",
        words: None,
        declined: "nothing was changed",
        again: "goloo ssh-config --install --yes".to_owned(),
    };
    question.ask(app)
}

fn print(app: &App, entry: SshConfigEntry) {
    match entry {
        SshConfigEntry::Block(block) => app.ui.document(&block),
        SshConfigEntry::Untrusted(record) => app.ui.note(&format!(
            "skipped {0}, which was created by {1}; run `goloo ssh-config {0}` to print it",
            record.name, record.created_by.user
        )),
        SshConfigEntry::Elsewhere(name, place) => {
            app.ui.note(&format!("skipped {name}, which belongs to {place}"));
        }
        SshConfigEntry::NoAddress(name) => {
            app.ui.note(&format!("skipped {name}, which has no address yet"));
        }
    }
}
