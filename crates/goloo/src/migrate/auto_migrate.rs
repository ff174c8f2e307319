//! Automatic migration: actions on a VM of a v0 config import it first; read-only commands only display it.

use goloo_model::name::VmName;
use goloo_model::record::Record;

use super::import::{Migrated, Report, Trigger, migrate, unrecorded};
use super::scan::{Scan, Skipped};
use crate::error::{Error, ImportFailure, MigrateError};
use crate::session::Session;

/// VMs of v0 configs that have no record.
#[derive(Default)]
pub struct Unimported {
    /// Their records, as a migration would create them.
    pub records: Vec<Record>,
    /// Why others can't be imported.
    pub failures: Vec<ImportFailure>,
    /// Why the requested VM has no record; empty if it has one.
    pub skipped: Vec<Skipped>,
}

/// The VMs of v0 configs that have no record, or only the one with this name. Nothing is written.
pub fn to_show(session: &Session, name: Option<&VmName>) -> Unimported {
    let mut scan = Scan::usual_places(&session.paths.config);
    if let Some(name) = name {
        scan.candidates.retain(|candidate| candidate.vm.name == *name);
        scan.unfit.retain(|(candidate, _)| candidate.vm.name == *name);
        // Only the requested VM matters.
        scan.skipped.clear();
    }
    if scan.is_empty() {
        return Unimported::default();
    }
    let (records, report) = unrecorded(session, scan);
    let skipped = if name.is_some() && records.is_empty() { report.skipped } else { Vec::new() };
    Unimported { records, failures: report.failures, skipped }
}

/// Imports the VM of this name, which has no record, where a v0 config describes it.
///
/// # Errors
/// [`MigrateError::NotMigrated`].
pub fn on_demand(session: &Session, name: &VmName) -> Result<(), Error> {
    let mut scan = Scan::usual_places(&session.paths.config);
    scan.candidates.retain(|candidate| candidate.vm.name == *name);
    // Only the requested VM matters.
    scan.skipped.clear();
    let unfit = std::mem::take(&mut scan.unfit).into_iter();
    let unfit = unfit.filter(|(candidate, _)| candidate.vm.name == *name);
    let unfit = unfit.map(|(_, problem)| ImportFailure::Invalid(problem));
    let unreadable: Vec<ImportFailure> = unfit.chain(std::mem::take(&mut scan.failures)).collect();
    if scan.candidates.is_empty() {
        // The requested VM may be in one of these.
        if let Some(failure) = unreadable.first() {
            session.warn(first_of(failure, unreadable.len()));
        }
        return Ok(());
    }
    let Report { migrated, skipped, failures } = migrate(session, scan, Trigger::Request);
    migrated.iter().for_each(|migrated| session.note(what_was_migrated(migrated)));
    if migrated.is_empty() {
        if let Some(failure) = failures.into_iter().next() {
            return Err(MigrateError::NotMigrated { failure: Box::new(failure) }.into());
        }
        skipped.iter().for_each(|skipped| session.note(format!("{}: {}", skipped.from, skipped.reason)));
    }
    Ok(())
}

fn what_was_migrated(migrated: &Migrated) -> String {
    let unchecked = migrated.unchecked().map_or_else(String::new, |why| format!("; not checked: {why}"));
    let name = &migrated.record.name;
    format!("migrated {name} from {}; the config is unchanged{unchecked}", migrated.from())
}

fn first_of(failure: &ImportFailure, count: usize) -> String {
    let more = if count > 1 { format!(", and {} more", count - 1) } else { String::new() };
    format!("{}: {failure}{more}", failure.location())
}
