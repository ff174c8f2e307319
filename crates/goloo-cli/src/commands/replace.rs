//! `goloo apply --replace`

use std::time::Duration;

use goloo::actions::{PlannedReplacement, ReplaceOutcome};
use goloo_engine::{Created, Replaced};
use goloo_model::change::Setting;
use goloo_model::name::VmName;

use super::ask::Question;
use super::created::WayOn;
use super::{created, delete, ssh_sources};
use crate::app::App;
use crate::error::CliError;
use crate::output::diagnostic_line;
use crate::{exit, json};

/// Asks, and replaces the VM.
pub fn run(app: &App, mut planned: PlannedReplacement, yes: bool, timeout: Duration) -> Result<u8, CliError> {
    let plan = &planned.create.plan;
    plan.diagnostics.iter().for_each(|diagnostic| app.ui.warning(&diagnostic_line(diagnostic)));
    for warning in plan.warnings.iter().chain(&plan.provider.warnings) {
        app.ui.warning(warning);
    }
    if !yes {
        ask(app, &planned)?;
    }
    let known = planned.known_ssh_sources(&app.session);
    ssh_sources::resolve(app, &mut planned.create, &known)?;
    let settings: Vec<_> = planned.changes.iter().map(|change| change.setting).collect();
    let (name, new) = (planned.old.name.clone(), planned.name.clone());
    let left = format!(
        "{new} may be incomplete: run `goloo resume {name}` to continue, or `goloo delete {new}` to give it up"
    );
    let outcome = app.act(timeout, &left, |run| {
        let outcome = app.session.replace(planned, run)?;
        if let ReplaceOutcome::Done(replaced) = &outcome {
            app.session.tell_others(&replaced.record, run);
        }
        Ok(outcome)
    })?;
    match outcome {
        ReplaceOutcome::Done(replaced) => {
            report(app, &replaced, &settings);
            Ok(exit::DONE)
        }
        ReplaceOutcome::NotReady(created) => {
            app.ui.note(&not_replaced(&name, &new));
            Ok(report_unready(app, &created, settings))
        }
    }
}

fn ask(app: &App, planned: &PlannedReplacement) -> Result<(), CliError> {
    let PlannedReplacement { old, snapshots, name: new, .. } = planned;
    let name = &old.name;
    let mut lost = vec![
        format!("A new VM will be created as {new} and, once it is ready, get the name {name}."),
        "Then this will be deleted permanently:".to_owned(),
    ];
    lost.extend(delete::deleted_with_snapshots(old, snapshots));
    let question = Question {
        asks: "apply asks before it replaces a VM",
        lost,
        question: &format!("Replace {name}?"),
        words: delete::names_elsewhere(app, std::slice::from_ref(old)),
        declined: "nothing was changed",
        again: format!("goloo apply {name} --replace --yes"),
    };
    question.ask_showing(app)
}

/// What is left of a replacement that isn't ready.
pub(super) fn not_replaced(name: &VmName, new: &VmName) -> String {
    format!("{name} is as it was, and {new}, which was to replace it, is kept")
}

/// Says that a VM has replaced another one; also the end of a resumed replacement.
pub(super) fn report(app: &App, replaced: &Replaced, settings: &[Setting]) {
    if app.ui.json() {
        app.ui.result(&json::AppliedChanges::of_replaced(replaced, settings));
        return;
    }
    let name = &replaced.record.name;
    app.ui.line(&match &replaced.archived {
        Some(id) => format!("{name} is a new VM; the archived record of the old one is {id}"),
        None => format!("{name} is a new VM; the old one is deleted"),
    });
}

fn report_unready(app: &App, created: &Created, settings: Vec<Setting>) -> u8 {
    if app.ui.json() {
        app.ui.result(&json::AppliedChanges::of_unready(&created.record, settings));
    }
    if let Some(verdict) = &created.verdict {
        created::explain(app, &created.record, verdict, WayOn::Delete);
    }
    exit::DEGRADED
}
