//! `goloo recreate`

use goloo_core::name::{ArchiveId, VmName};
use goloo_core::record::Record;
use goloo_core::store::{Snapshot, StoreError};

use super::consent::Consent;
use super::create;
use crate::app::App;
use crate::error::CliError;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A VM's name (of an active one, else the newest archived one), or an id in the archive
    #[arg(value_name = "ARCHIVE-ID|NAME")]
    what: String,
    /// Don't ask before files of this computer are given to a VM whose stack somebody else may have written
    #[arg(short = 'y', long)]
    yes: bool,
    #[command(flatten)]
    options: create::Options,
}

pub fn run(app: &App, mut args: Args) -> Result<u8, CliError> {
    let (record, snapshot) = find(app, &args.what)?;
    if snapshot.files.is_empty() {
        return Err(made_elsewhere(&record));
    }
    if args.options.users.is_empty() {
        args.options.users.clone_from(&record.github_users);
    }
    // Those of the command line come last, and so count.
    let tags = record.tags.clone().into_iter().chain(std::mem::take(&mut args.options.tags));
    args.options.tags = tags.collect();
    args.options.as_name.get_or_insert_with(|| record.name.to_string());
    let chosen = &mut args.options.provider;
    if chosen.provider.is_none() && !chosen.aws && !chosen.local {
        chosen.provider = Some(record.provider);
    }
    let elsewhere = chosen.aws || chosen.provider.is_some_and(|kind| !kind.is_local());
    args.options.hosts.hosts |= record.hosts_entry && !elsewhere;
    let is_ours = app.here().created_from(&record, &snapshot);
    let found = create::stack_of(snapshot, &record);
    if is_ours {
        args.options.ssh_cidr = ssh_blocks(&record);
    } else {
        args.options.consent = Some(Consent::for_snapshot_of(&record, &args.what, args.yes));
    }
    // The stack's folder isn't looked at, so there is nothing to remember of it.
    create::from_stack(app, &found, &record.stack.clone(), args.options, &|| {})
}

/// Who could reach port 22 of the VM, by its record.
fn ssh_blocks(record: &Record) -> Vec<String> {
    let blocks = record.aws.as_ref().and_then(|aws| aws.extra.get("sshCIDR"));
    let blocks = blocks.and_then(|blocks| blocks.as_array()).into_iter().flatten();
    blocks.filter_map(|block| block.as_str().map(str::to_owned)).collect()
}

/// An adopted machine has no files to be made from again, or compared with.
pub(super) fn made_elsewhere(record: &Record) -> CliError {
    CliError::failed(
        format!("goloo didn't make \"{}\", so it doesn't know from what it was made", record.name),
        "goloo create NAME makes a VM from a stack",
    )
}

fn find(app: &App, what: &str) -> Result<(Record, Snapshot), CliError> {
    if let Ok(id) = ArchiveId::parse(what) {
        let archived = app.local(app.store.archive_load(&id))?;
        let archived = archived.ok_or_else(|| StoreError::NotArchived { id: id.clone() })?;
        return Ok((archived.record, app.local(app.store.archive_snapshot(&id))?));
    }
    let name = VmName::parse(what)?;
    if app.local(app.store.load(&name))?.is_some() {
        return Ok((app.record(&name)?, app.local(app.store.snapshot(&name))?));
    }
    let newest = app.local(app.store.archive_of(&name))?.entries.into_iter().next();
    let newest = newest.ok_or_else(|| {
        CliError::not_found(format!("no VM is or was called \"{name}\""), "goloo list --all")
    })?;
    Ok((newest.record, app.local(app.store.archive_snapshot(&newest.id))?))
}
