//! `goloo ssh-config`

use clap_complete::engine::ArgValueCandidates;
use goloo_core::guest::SshTarget;
use goloo_core::name::VmName;
use goloo_core::printable::is_printable_text;
use goloo_core::record::Record;

use crate::app::App;
use crate::error::CliError;
use crate::{exit, identity};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The VM; all of them when none is named
    #[arg(add = ArgValueCandidates::new(crate::complete::vm_names))]
    name: Option<String>,
}

/// Whether each value is one word: in this format an escape would be another value, and a line end another setting.
fn is_safe(target: &SshTarget) -> bool {
    let is_word = |text: &str| !text.is_empty() && !text.contains(' ') && is_printable_text(text);
    [&target.host, &target.user, &target.alias].into_iter().all(|text| is_word(text))
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let records: Vec<Record> = match &args.name {
        Some(name) => {
            let record = app.record(&VmName::parse(name)?)?;
            app.expect_here(&record)?;
            vec![record]
        }
        None => {
            let listing = app.local(app.store.list())?;
            listing.entries.iter().map(|vm| app.record(&vm.name)).collect::<Result<_, _>>()?
        }
    };
    let here = identity::host_id();
    for record in &records {
        if let Some(host) = record.other_host(&here) {
            app.ui.note(&format!("{} belongs to the host {host} and is left out", record.name));
            continue;
        }
        let can_log_in = record.ssh.as_ref().is_some_and(|ssh| ssh.login_problem.is_none());
        match if can_log_in { SshTarget::login(record) } else { SshTarget::of(record) } {
            Some(target) if !is_safe(&target) => {
                app.ui.warning(&format!(
                    "{} is left out: its record has no valid address or user",
                    record.name
                ));
            }
            Some(target) => app.ui.document(&app.keys.config_block(record.name.as_str(), &target)?),
            None => app.ui.note(&format!("{} has no address yet and is left out", record.name)),
        }
    }
    Ok(exit::DONE)
}
