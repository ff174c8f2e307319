//! `goloo ssh-config`

use clap_complete::engine::ArgValueCandidates;
use goloo_core::guest::SshTarget;
use goloo_core::name::VmName;
use goloo_core::record::Record;
use goloo_core::store::{Broken, StoreError};

use super::list::warn_of_each;
use crate::app::App;
use crate::error::CliError;
use crate::exit;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The VM; all of them when none is named
    #[arg(add = ArgValueCandidates::new(crate::complete::vm_names))]
    name: Option<String>,
}

/// The record; a broken one is left out with a warning.
fn readable(app: &App, name: &VmName) -> Result<Option<Record>, CliError> {
    match app.recorded(name) {
        Err(StoreError::Broken(broken)) => {
            app.ui.warning(&skipped(&broken));
            Ok(None)
        }
        recorded => Ok(recorded?),
    }
}

fn skipped(broken: &Broken) -> String {
    format!("{} is broken and skipped: {}", broken.path, broken.error)
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let records: Vec<Record> = match &args.name {
        Some(name) => {
            let record = app.record(&VmName::parse(name)?)?;
            app.expect_here([&record])?;
            vec![record]
        }
        None => {
            let listing = app.local(app.store.list())?;
            warn_of_each(&app.ui, &listing.broken, skipped);
            listing
                .entries
                .iter()
                .filter_map(|vm| readable(app, &vm.name).transpose())
                .collect::<Result<_, _>>()?
        }
    };
    let here = app.here();
    for record in &records {
        if let Some(place) = record.elsewhere(&here) {
            app.ui.note(&format!("{} belongs to {place} and is left out", record.name));
            continue;
        }
        let can_log_in = record.ssh.as_ref().is_some_and(|ssh| ssh.login_problem.is_none());
        match if can_log_in { SshTarget::login(record) } else { SshTarget::of(record) } {
            Some(target) => app.ui.document(&app.keys.config_block(record.name.as_str(), &target)?),
            None => app.ui.note(&format!("{} has no address yet and is left out", record.name)),
        }
    }
    Ok(exit::DONE)
}
