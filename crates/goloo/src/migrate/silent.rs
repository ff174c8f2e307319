//! Migration by the way: commands that act on a VM of an old config put it on record first; those that only look show it.

use goloo_core::name::VmName;
use goloo_core::record::Record;
use goloo_core::spec::Problem;

use super::{Migrated, Occasion, Report, Scan, Trouble, migrate, unrecorded};
use crate::app::App;
use crate::error::CliError;

/// The VMs of old configs that have no record, for `list` and `status`, which write nothing. Whatever goes wrong is a
/// warning.
pub fn to_show(app: &App, name: Option<&VmName>) -> Vec<Record> {
    let mut scan = Scan::usual_places(&app.paths.config);
    if let Some(name) = name {
        scan.candidates.retain(|candidate| candidate.vm.name == *name);
        scan.unfit.retain(|(candidate, _)| candidate.vm.name == *name);
        // What stands elsewhere is no matter of this command's.
        scan.skipped.clear();
    }
    if scan.is_empty() {
        return Vec::new();
    }
    let (records, report) = unrecorded(app, scan);
    if let Some(trouble) = report.troubles.first() {
        warn(app, &trouble.problem, report.troubles.len() - 1);
    }
    if name.is_some() && records.is_empty() {
        note_skipped(app, &report);
    }
    records
}

fn note_skipped(app: &App, report: &Report) {
    report.skipped.iter().for_each(|skipped| app.ui.note(&format!("{}: {}", skipped.from, skipped.reason)));
}

/// Migrates the VM of this name, which has no record, where an old config speaks of it.
pub fn on_demand(app: &App, name: &VmName) -> Result<(), CliError> {
    let mut scan = Scan::usual_places(&app.paths.config);
    scan.candidates.retain(|candidate| candidate.vm.name == *name);
    // What stands elsewhere is no matter of this command's.
    scan.skipped.clear();
    let unfit = std::mem::take(&mut scan.unfit).into_iter();
    let unfit = unfit.filter(|(candidate, _)| candidate.vm.name == *name).map(|(_, problem)| problem);
    let unreadable: Vec<Problem> = unfit.chain(std::mem::take(&mut scan.problems)).collect();
    if scan.candidates.is_empty() {
        // One of these may be it.
        if let Some(problem) = unreadable.first() {
            warn(app, problem, unreadable.len() - 1);
        }
        return Ok(());
    }
    let report = migrate(app, scan, Occasion::Asked);
    report.migrated.iter().for_each(|migrated| tell(app, migrated));
    if report.migrated.is_empty() {
        if let Some(Trouble { problem, code }) = report.troubles.first() {
            let message = format!("{}: {}", place(problem), problem.message);
            return Err(CliError::new(*code, "not-migrated", message, problem.hint.clone()));
        }
        note_skipped(app, &report);
    }
    Ok(())
}

fn tell(app: &App, migrated: &Migrated) {
    let unchecked = migrated.unchecked().map_or_else(String::new, |why| format!("; not checked: {why}"));
    let name = &migrated.record.name;
    app.ui.note(&format!("migrated {name} from {}; the config is unchanged{unchecked}", migrated.from()));
}

fn warn(app: &App, problem: &Problem, others: usize) {
    let more = if others > 0 { format!(", and {others} more") } else { String::new() };
    let text = format!("{}: {}{more} (goloo migrate shows all)", place(problem), problem.message);
    app.ui.warning(&text);
}

fn place(problem: &Problem) -> String {
    format!("{}:{}:{}", problem.file, problem.line, problem.column)
}
