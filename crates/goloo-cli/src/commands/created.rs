//! Reports about VMs that were created, also by a resume.

use std::time::Duration;

use goloo_engine::{Cloned, Created, Verdict};
use goloo_model::name::VmName;
use goloo_model::record::{Origin, ProvisioningResult, Record};

use crate::app::App;
use crate::error::{CliError, without_ssh};
use crate::output::{Mark, duration, forwards};
use crate::{exit, json};

/// Prints a copy of a VM.
pub fn report_copy(app: &App, copy: &Cloned) {
    let record = &copy.record;
    if app.ui.json() {
        app.ui.result(&json::ChangedVm { vm: record });
        return;
    }
    let from = record.origin.as_ref().map_or("?", |origin| origin.from.as_str());
    let (state, start) = if copy.is_suspended { ("suspended", "continue") } else { ("stopped", "start it") };
    app.ui.line(&format!(
        "created {0}, a {state} copy of {from}; run `goloo start {0}` to {start}",
        record.name
    ));
}

/// Prints an imported VM.
pub fn report_import(app: &App, record: &Record) {
    if app.ui.json() {
        app.ui.result(&json::ChangedVm { vm: record });
    } else {
        let from = record.origin.as_ref().and_then(Origin::of_export).unwrap_or_default();
        app.ui.line(&format!("created {0} from {from}; run `goloo start {0}` to start it", record.name));
    }
}

/// Prints the new VM; the exit code says whether its provisioning succeeded.
pub fn report(app: &App, created: &Created, took: Duration) -> u8 {
    if app.ui.json() {
        app.ui.result(&json::ChangedVm { vm: &created.record });
    }
    report_in_text(app, created, took);
    exit_code(created)
}

/// Whether the provisioning of a new VM succeeded, where it was awaited.
pub fn exit_code(created: &Created) -> u8 {
    match &created.verdict {
        Some(verdict) if !verdict.result.is_good() => exit::DEGRADED,
        _ => exit::DONE,
    }
}

/// Prints the new VM, or why it isn't ready; with `--json` only what explains the latter.
pub fn report_in_text(app: &App, created: &Created, took: Duration) {
    let record = &created.record;
    if let Some(verdict) = created.verdict.as_ref().filter(|verdict| !verdict.result.is_good()) {
        explain(app, record, verdict, WayOn::Delete);
        return;
    }
    if !app.ui.json() {
        if let Some(verdict) = &created.verdict {
            warn_of(app, verdict);
        }
        let result = created.verdict.as_ref().map(|verdict| verdict.result);
        print_made(app, record, result, took);
    }
}

/// Prints the machine's own warnings.
pub fn warn_of(app: &App, verdict: &Verdict) {
    for warning in &verdict.errors {
        app.ui.warning(warning);
    }
}

fn print_made(app: &App, record: &Record, result: Option<ProvisioningResult>, took: Duration) {
    let name = &record.name;
    match result {
        None => {
            app.ui.line(&format!("{name} is running; run `goloo wait {name}` to wait for its provisioning"))
        }
        Some(_) => {
            app.ui.marked_line(Mark::Good, &format!("{name} is ready ({})", duration(took)));
        }
    }
    if let (Some(ip), Some(port)) = (record.ip(), record.ssh_port()) {
        app.ui.line(&format!("  address  {ip}:{port}"));
    }
    for (index, forward) in forwards::lines(&record.endpoint.ports).into_iter().enumerate() {
        app.ui.line(&format!("  {:<8} {forward}", if index == 0 { "ports" } else { "" }));
    }
    app.ui.line(&format!("  log in   goloo ssh {name}"));
}

/// Prints the end of the log of a machine that isn't ready.
pub fn say_log(app: &App, verdict: &Verdict) {
    if !verdict.log.is_empty() {
        let which = if verdict.result == ProvisioningResult::Ended { "console" } else { "provisioning log" };
        app.ui.say(&format!("the end of the {which}:"));
        app.ui.say_excerpt(&verdict.log.join("\n"));
    }
}

/// The last resort for a machine that isn't ready.
#[derive(Clone, Copy)]
pub enum WayOn {
    Delete,
    Reprovision,
}

impl WayOn {
    fn command(self, name: &VmName) -> String {
        match self {
            Self::Delete => format!("`goloo delete {name}`"),
            Self::Reprovision => {
                format!("correct the stack and run `goloo apply {name} --reprovision`")
            }
        }
    }
}

/// Explains why a running machine isn't ready.
pub fn explain(app: &App, record: &Record, verdict: &Verdict, way_on: WayOn) {
    let name = &record.name;
    say_log(app, verdict);
    let (what, hint) = what_became(
        name,
        verdict.result,
        &without_ssh(name, app.session.has_console(record)),
        &way_on.command(name),
    );
    let mut error = CliError::new(exit::DEGRADED, "degraded", what, hint);
    error.causes.clone_from(&verdict.errors);
    if !app.ui.json() {
        app.ui.error(&error);
    }
}

/// The state of a machine that isn't ready, with commands that work in that state.
fn what_became(name: &VmName, result: ProvisioningResult, without_ssh: &str, last: &str) -> (String, String) {
    let inside =
        format!("run `goloo logs {name}` for the whole log, `goloo ssh {name}` to inspect the VM, or {last}");
    match result {
        ProvisioningResult::Dropped => {
            (format!("{name} is running, but cloud-init ignored all or part of its configuration"), inside)
        }
        ProvisioningResult::Ended => (
            format!("{name} powered off before its provisioning finished"),
            format!("run `{without_ssh}` to see its last output, `goloo start {name}`, or {last}"),
        ),
        ProvisioningResult::Unknown => (
            format!("{name} is running, but goloo does not know whether it is provisioned"),
            format!(
                "run `{without_ssh}` to see its boot progress, `goloo wait {name}` to continue waiting, or {last}"
            ),
        ),
        ProvisioningResult::Failed | ProvisioningResult::Done | ProvisioningResult::DoneWithWarnings => {
            (format!("{name} is running, but its provisioning failed"), inside)
        }
    }
}
