//! `goloo apply` and `goloo set`

use std::path::PathBuf;
use std::time::Duration;

use goloo::actions::{ApplyOptions, PlannedApply, PlannedReplacement};
use goloo_engine::Applied;
use goloo_model::change::{Cost, Setting, SettingChange};
use goloo_model::name::VmName;

use super::ask::Question;
use super::created::{self, WayOn};
use super::replace;
use crate::app::App;
use crate::error::CliError;
use crate::options::{Json, OptionalVm, VmArg, duration};
use crate::output::{Column, Table};
use crate::{exit, json};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    vm: OptionalVm,
    /// The stack's folder, instead of the recorded one
    #[arg(short = 'f', long = "folder", value_name = "PATH")]
    folder: Option<PathBuf>,
    /// Override a key of config.json for this VM alone, such as cpus=4
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Remove an override
    #[arg(long, value_name = "KEY")]
    unset: Vec<String>,
    /// Run the changed cloud-init.yaml and configure.sh in the machine, which restarts it; with unchanged files only if
    /// its provisioning had failed
    #[arg(long, conflicts_with = "no_restart")]
    reprovision: bool,
    /// Where a change needs a new VM, create one beside this one; once it is ready, it gets this one's name, and this one
    /// is deleted
    #[arg(long)]
    replace: bool,
    /// Only print what would change
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, clap::Args)]
pub struct SetArgs {
    #[command(flatten)]
    vm: VmArg,
    /// The keys of config.json and their values, such as cpus=4 or memory=8G
    #[arg(value_name = "KEY=VALUE", required = true)]
    set: Vec<String>,
    #[command(flatten)]
    how: How,
}

// How changes are made.
#[derive(Debug, clap::Args)]
struct How {
    /// Leave what takes a restart for the machine's next start
    #[arg(long)]
    no_restart: bool,
    /// Don't ask for confirmation before the machine is restarted
    #[arg(short = 'y', long)]
    yes: bool,
    /// How long to wait, in total, until the machine is changed
    #[arg(long, value_name = "D", default_value = "10m", value_parser = duration)]
    timeout: Duration,
    #[command(flatten)]
    json: Json,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let name = args.vm.of(app)?;
    let options = ApplyOptions {
        folder: args.folder.as_deref(),
        set: &args.set,
        unset: &args.unset,
        only_overrides: false,
        restart: !args.how.no_restart,
        reprovision: args.reprovision,
    };
    let planned = app.session.plan_apply(&name, &options)?;
    if args.replace && planned.impossible().next().is_some() {
        let planned = app.session.plan_replacement(planned)?;
        show_replacement(app, &planned, args.dry_run);
        return match args.dry_run {
            true => Ok(exit::DONE),
            false => replace::run(app, planned, args.how.yes, args.how.timeout),
        };
    }
    if args.dry_run {
        show_plan(app, &planned);
        return Ok(exit::DONE);
    }
    let reprovision = if args.reprovision { " --reprovision" } else { "" };
    change(app, planned, &args.how, &format!("goloo apply {name}{reprovision}"))
}

pub fn set(app: &App, args: &SetArgs) -> Result<u8, CliError> {
    let name = args.vm.of(app)?;
    let options = ApplyOptions {
        set: &args.set,
        only_overrides: true,
        restart: !args.how.no_restart,
        ..ApplyOptions::default()
    };
    let planned = app.session.plan_apply(&name, &options)?;
    change(app, planned, &args.how, &format!("goloo set {name} {}", args.set.join(" ")))
}

/// Shows the plan, asks where the machine is restarted, and makes the changes.
fn change(app: &App, planned: PlannedApply, how: &How, again: &str) -> Result<u8, CliError> {
    let name = planned.record().name.clone();
    let impossible: Vec<_> = planned.impossible().cloned().collect();
    if planned.is_empty() {
        show_plan(app, &planned);
        say_impossible(app, &name, &impossible);
        return Ok(exit::DONE);
    }
    if !app.ui.json() {
        show_plan(app, &planned);
    }
    if planned.restarts() && !how.no_restart && !how.yes && app.session.is_running(&planned)? {
        ask(app, &planned, again)?;
    }
    let left = format!("the change of \"{name}\" may be unfinished: run `goloo resume {name}` to continue");
    let applied = app.act(how.timeout, &left, |run| app.session.apply(planned, run))?;
    Ok(report(app, &applied, &impossible))
}

fn ask(app: &App, planned: &PlannedApply, again: &str) -> Result<(), CliError> {
    let name = &planned.record().name;
    if planned.reprovisions() {
        let question = Question {
            asks: "apply asks before it provisions a machine again",
            lost: Vec::new(),
            question: &format!("Provision {name} again?"),
            words: None,
            declined: "nothing was changed",
            again: format!("{again} --yes"),
        };
        return question.ask(app);
    }
    let can_wait = match planned.restart_can_wait() {
        true => format!("`{again} --no-restart` leaves it for the next start, `{again} --yes` restarts now"),
        false => format!("{again} --yes"),
    };
    let question = Question {
        asks: "apply asks before it restarts a machine",
        lost: Vec::new(),
        question: &format!("Restart {name}?"),
        words: None,
        declined: "nothing was changed",
        again: can_wait,
    };
    question.ask(app)
}

fn show_plan(app: &App, planned: &PlannedApply) {
    let name = &planned.record().name;
    if app.ui.json() {
        app.ui.result(&json::ApplyPlanned::new(planned));
        return;
    }
    if planned.changes.is_empty() {
        app.ui.line(&format!("{name} is as its stack says"));
    } else {
        app.ui.line(&format!("{name} differs from its stack:"));
        show_changes(app, &planned.changes, planned.reprovisions());
    }
    if planned.reprovisions() {
        app.ui.line(&format!(
            "{name} is provisioned again: it restarts, and all of cloud-init.yaml and configure.sh runs a second time, \
             commands in runcmd too"
        ));
    }
}

/// Prints what differs, and that a new VM would be the way.
fn show_replacement(app: &App, planned: &PlannedReplacement, dry_run: bool) {
    let PlannedReplacement { old, changes, overrides, name, .. } = planned;
    if app.ui.json() {
        if dry_run {
            app.ui.result(&json::ApplyPlanned::of_replacement(&old.name, changes, overrides));
        }
        return;
    }
    app.ui.line(&format!("{} differs from its stack:", old.name));
    show_changes(app, changes, false);
    if dry_run {
        app.ui.line(&format!(
            "a new VM would be created as {name} and, once it is ready, replace {0}; the old {0} would be deleted",
            old.name
        ));
    }
}

fn show_changes(app: &App, changes: &[SettingChange], reprovisions: bool) {
    let mut table = Table::new(&[
        Column::kept("KEY"),
        Column::text("HAS", 1),
        Column::text("WILL HAVE", 2),
        Column::kept("NEEDS"),
    ]);
    for change in changes {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        table.row([
            change.setting.key().to_owned(),
            text(&change.before),
            text(&change.after),
            needs(change.cost, reprovisions).to_owned(),
        ]);
    }
    app.ui.table(&table);
}

/// What a change needs, in words.
fn needs(cost: Cost, reprovisions: bool) -> &'static str {
    match cost {
        Cost::Ignored => "ignored",
        Cost::Now => "nothing",
        Cost::Restart => "a restart",
        Cost::Reprovision if reprovisions => "provisioning again",
        Cost::Reprovision => "--reprovision",
        Cost::Replace => "a new VM",
    }
}

/// Says what was changed and what wasn't; also the end of a resumed apply. The exit code says whether provisioning again
/// succeeded.
pub(super) fn report(app: &App, applied: &Applied, impossible: &[SettingChange]) -> u8 {
    if app.ui.json() {
        app.ui.result(&json::AppliedChanges::new(applied, impossible));
    } else {
        report_in_text(app, applied, impossible);
    }
    match &applied.verdict {
        Some(verdict) if !verdict.result.is_good() => {
            created::explain(app, &applied.record, verdict, WayOn::Reprovision);
            exit::DEGRADED
        }
        _ => exit::DONE,
    }
}

fn report_in_text(app: &App, applied: &Applied, impossible: &[SettingChange]) {
    let Applied { record, done, pending, left, verdict } = applied;
    let name = &record.name;
    if !done.is_empty() {
        app.ui.line(&format!("changed {name}: {}", keys(done)));
    }
    if !pending.is_empty() {
        app.ui.line(&format!(
            "{} of {name} will change at its next start: `goloo restart {name}`",
            keys(pending)
        ));
    }
    if !left.is_empty() {
        app.ui.line(&format!("not changed: {}; {}", keys(left), way_on(name, left)));
    }
    if let Some(verdict) = verdict.as_ref().filter(|verdict| verdict.result.is_good()) {
        created::warn_of(app, verdict);
        app.ui.line(&format!("{name} is provisioned again"));
    }
    if done.is_empty() && pending.is_empty() && left.is_empty() && verdict.is_none() {
        app.ui.line(&format!("{name} is as its stack says"));
    }
    say_impossible(app, name, impossible);
}

fn say_impossible(app: &App, name: &VmName, impossible: &[SettingChange]) {
    if impossible.is_empty() || app.ui.json() {
        return;
    }
    let (again, replace): (Vec<_>, Vec<_>) =
        impossible.iter().partition(|change| change.cost == Cost::Reprovision);
    let keys =
        |changes: &[&SettingChange]| keys(&changes.iter().map(|change| change.setting).collect::<Vec<_>>());
    if !again.is_empty() {
        app.ui.line(&format!(
            "not changed: {}; `goloo apply {name} --reprovision` runs it in the machine, and \
             `goloo apply {name} --replace` makes a new VM",
            keys(&again)
        ));
    }
    if !replace.is_empty() {
        app.ui.line(&format!(
            "not changed, since it needs a new VM: {}; `goloo apply {name} --replace` makes one",
            keys(&replace)
        ));
    }
}

fn way_on(name: &VmName, left: &[Setting]) -> String {
    let in_guest =
        left.iter().all(|setting| matches!(setting, Setting::Users | Setting::Ttl | Setting::Mounts));
    match in_guest {
        true => format!("run `goloo start {name}`, then `goloo apply {name}`"),
        false => format!("run `goloo apply {name}`, which restarts it"),
    }
}

fn keys(settings: &[Setting]) -> String {
    settings.iter().map(|setting| setting.key()).collect::<Vec<_>>().join(", ")
}
