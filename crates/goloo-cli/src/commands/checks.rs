//! Findings about VMs and machines, each with the command that fixes it.

use goloo::actions::{Difference, RefreshReport};
use goloo::observe::ObservedVm;
use goloo_model::check::{Check, CheckLevel};
use goloo_model::hint::NextStep;
use goloo_model::name::VmName;
use goloo_model::provider::Orphan;
use goloo_model::provider_id::ProviderId;
use goloo_model::store::Broken;

use crate::app::App;
use crate::error::CliError;
use crate::output::{Mark, hint};

const BROKEN_MAX: usize = 20;

/// Prints a finding and its hint.
pub fn print(app: &App, finding: &Check) {
    let mark = match finding.level {
        CheckLevel::Good => Mark::Good,
        CheckLevel::Absent => Mark::Absent,
        CheckLevel::Notice => Mark::Notice,
        CheckLevel::Wrong => Mark::Wrong,
    };
    app.ui.marked_line(mark, &finding.what);
    if !finding.hint.is_empty() {
        app.ui.line(&format!("  hint: {}", hint::text(&finding.hint)));
    }
}

/// The differences between records and machines. `unasked` are the errors of the report's providers.
pub fn of_report(report: &RefreshReport, unasked: &[(ProviderId, CliError)]) -> Vec<Check> {
    let vms = report.observed.iter().filter_map(of_vm);
    // Others may have written thousands, and each one is searched for among the machines.
    let broken = report.broken.iter().take(BROKEN_MAX).map(|broken| broken_record(report, broken));
    let more = report.broken.len().saturating_sub(BROKEN_MAX);
    let more = (more > 0)
        .then(|| Check::failed(format!("{more} more broken records"), "run `goloo list --json` to see all"));
    let unasked = unasked.iter().map(|(kind, error)| {
        Check::failed(format!("{kind} can't list its machines: {}", error.message), error.hint.as_str())
    });
    let strays = report.ours().filter(|(kind, stray)| !report.is_of_broken(*kind, stray));
    let strays = strays.map(|(kind, stray)| without_record(report, kind, stray));
    vms.chain(broken).chain(more).chain(unasked).chain(strays).collect()
}

/// A record that can't be read; when its machine exists, it can be adopted again.
fn broken_record(report: &RefreshReport, broken: &Broken) -> Check {
    let what = format!("the record at {} is broken: {}", broken.path, broken.error);
    let backup = "restore state.json from a backup; goloo changes nothing in that folder until then";
    let Some((kind, stray)) = report.machine_of(broken) else { return Check::failed(what, backup) };
    let folder = broken.path.trim_end_matches("/state.json");
    let adopt = format!("goloo adopt {} --provider {kind} --id {}", broken.name, stray.id);
    let recreate = format!("mv {folder} {}.broken && {adopt}", broken.name);
    Check::failed(what, format!("restore state.json from a backup, or recreate it: {recreate}"))
}

fn without_record(report: &RefreshReport, kind: ProviderId, stray: &Orphan) -> Check {
    let what = format!("the machine {} ({kind}, {}) has no record", stray.name, stray.id);
    let name = report.name_for(stray);
    let name = name.as_ref().map_or("NAME", VmName::as_str);
    let adopt = format!("goloo adopt {name} --provider {kind} --id {}", stray.id);
    if report.broken.is_empty() {
        return Check::failed(what, adopt);
    }
    Check::failed(
        what,
        format!("repair the broken records first, since one may be its record; otherwise {adopt}"),
    )
}

fn of_vm(vm: &ObservedVm) -> Option<Check> {
    let (name, kind) = (&vm.record.name, vm.record.provider);
    Some(match vm.difference()? {
        Difference::Missing { is_unfinished } => {
            let hint = match is_unfinished {
                true => {
                    format!("run `goloo resume {name}` to continue, or `goloo delete {name}`")
                }
                false => format!("run `goloo delete {name}` to archive its record"),
            };
            Check::failed(format!("{kind} has no machine {name}"), hint)
        }
        Difference::Unknown { reason } => {
            let what = format!("the state of {name} ({kind}) is unknown: {reason}");
            let hint = match vm.live.hint.is_empty() {
                true => format!("run `goloo refresh {name}` to ask again").into(),
                false => vm.live.hint.clone(),
            };
            Check::failed(what, hint)
        }
        Difference::DanglingNames { reason } => {
            Check::failed(format!("{name} is stopped; {reason}"), NextStep::stop(name))
        }
        Difference::Moved { now, recorded } => {
            let recorded = recorded.unwrap_or("none");
            let what = format!("{name} has the address {now}, but its record has {recorded}");
            Check::failed(what, format!("run `goloo start {name}` to save its address"))
        }
    })
}
