//! `goloo ssh-config`

use clap_complete::engine::ArgValueCandidates;
use goloo::actions::SshConfigEntry;
use goloo_model::name::VmName;

use super::listing::warn_of_each;
use crate::app::App;
use crate::error::CliError;
use crate::{complete, exit};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The VM; by default all VMs
    #[arg(add = ArgValueCandidates::new(complete::vm_names))]
    name: Option<String>,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    if let Some(name) = &args.name {
        print(app, app.session.ssh_config_of(&VmName::parse(name)?)?);
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
