//! `goloo dns`

use std::time::Duration;

use goloo_engine::DnsReport;
use goloo_model::dns::{DnsChange, Holder, RecordSet};
use goloo_model::name::VmName;
use goloo_model::provider::LiveState;
use goloo_model::record::Record;
use goloo_model::time::Timestamp;

use super::ask::Question;
use crate::app::App;
use crate::error::CliError;
use crate::options::{Json, VmArg};
use crate::output::hint;
use crate::output::{Column, Table, age};
use crate::{exit, json};

/// The subcommands.
#[derive(Debug, clap::Subcommand)]
#[command(defer = true)]
pub enum Command {
    /// Show a VM's DNS names with their targets and owners, and the previous owner
    Show(ShowArgs),
    /// Point all DNS names of a VM's config to it, in one step
    Swap(SwapArgs),
    /// Return the names that a VM got by a swap to their previous owner
    Rollback(RollbackArgs),
}

#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    #[command(flatten)]
    vm: VmArg,
    #[command(flatten)]
    json: Json,
}

#[derive(Debug, clap::Args)]
pub struct SwapArgs {
    #[command(flatten)]
    vm: VmArg,
    /// The VM that has the names now; by default the one according to the records
    #[arg(long, value_name = "OTHER", add = clap_complete::engine::ArgValueCandidates::new(crate::complete::vm_names))]
    from: Option<String>,
    #[command(flatten)]
    force: ForceArg,
    /// Don't ask for confirmation when the VM's record doesn't prove that it was created with this state folder
    #[arg(short = 'y', long)]
    yes: bool,
    #[command(flatten)]
    json: Json,
}

#[derive(Debug, clap::Args)]
pub struct RollbackArgs {
    #[command(flatten)]
    vm: VmArg,
    #[command(flatten)]
    force: ForceArg,
    /// Don't ask for confirmation when the VM's record doesn't prove that it was created with this state folder
    #[arg(short = 'y', long)]
    yes: bool,
    #[command(flatten)]
    json: Json,
}

#[derive(Debug, clap::Args)]
struct ForceArg {
    /// Replace records that point to neither VM, and continue when AWS can't tell whether the VM that gets the
    /// names is running
    #[arg(long)]
    force: bool,
}

/// DNS changes don't wait for a machine.
const NO_WAIT: Duration = Duration::ZERO;

pub fn run(app: &App, command: &Command) -> Result<u8, CliError> {
    match command {
        Command::Show(args) => show(app, &args.vm.of(app)?),
        Command::Swap(args) => {
            let from = args.from.as_deref().map(VmName::parse).transpose()?;
            let agreed = ask(app, &args.vm.of(app)?, "swap", args.yes)?;
            swap(app, &agreed, from.as_ref(), args.force.force)
        }
        Command::Rollback(args) => {
            let agreed = ask(app, &args.vm.of(app)?, "rollback", args.yes)?;
            rollback(app, &agreed, args.force.force)
        }
    }
}

/// Asks for confirmation before changing names that somebody else's record may claim. Returns the record that the user
/// agreed to.
fn ask(app: &App, name: &VmName, verb: &str, yes: bool) -> Result<Record, CliError> {
    let record = app.session.record(name)?;
    if yes || app.session.here().trust.is_trusted(&record) {
        return Ok(record);
    }
    let report = app.act(NO_WAIT, "nothing has changed", |run| app.session.dns_names(name, run))?;
    let by = &record.created_by;
    let mut lines = vec![format!(
        "The record of {name}, created by {} on {}, does not prove that these names belong to it:",
        by.user, by.host
    )];
    lines.extend(report.names.iter().map(|name| format!("  {}", name.name)));
    if let Some(previous) = report.previous.filter(|_| verb == "rollback") {
        let sets = previous.records.iter().chain(&previous.foreign);
        lines.extend(sets.map(|set| format!("  {} will point to {} again", set.name, set.shown())));
    }
    let question = Question {
        asks: "dns asks for confirmation before it changes names that may belong to somebody else",
        lost: lines,
        question: "Change them?",
        words: None,
        declined: "nothing was changed",
        again: format!("goloo dns {verb} {name} --yes"),
    };
    question.ask_showing(app)?;
    Ok(record)
}

fn show(app: &App, name: &VmName) -> Result<u8, CliError> {
    let report = app.act(NO_WAIT, "nothing has changed", |run| app.session.dns_names(name, run))?;
    if app.ui.json() {
        app.ui.result(&json::DnsNames::from(&report));
    } else {
        print(app, name, &report);
    }
    Ok(exit::DONE)
}

fn swap(app: &App, agreed: &Record, from: Option<&VmName>, force: bool) -> Result<u8, CliError> {
    let left = may_be_left(&agreed.name);
    let change = app.act(NO_WAIT, &left, |run| app.session.dns_swap(agreed, from, force, run))?;
    Ok(report(app, &change))
}

fn rollback(app: &App, agreed: &Record, force: bool) -> Result<u8, CliError> {
    let left = may_be_left(&agreed.name);
    let change = app.act(NO_WAIT, &left, |run| app.session.dns_rollback(agreed, force, run))?;
    Ok(report(app, &change))
}

fn may_be_left(name: &VmName) -> String {
    format!("the names of \"{name}\" may have moved: run `goloo resume {name}` to continue")
}

/// Prints the targets of the names.
pub fn report(app: &App, change: &DnsChange) -> u8 {
    if app.ui.json() {
        app.ui.result(&json::DnsChanged::from(change));
        return exit::DONE;
    }
    let (gone, new) = change.difference();
    for set in &new {
        let before: Vec<String> =
            gone.iter().filter(|gone| gone.name == set.name).map(RecordSet::shown).collect();
        let before = if before.is_empty() { "nothing".to_owned() } else { before.join(", ") };
        app.ui.line(&format!("{} now points to {} (previously {before})", set.name, set.values.join(" ")));
    }
    match &change.taker {
        Some(taker) if new.is_empty() => {
            app.ui.line(&format!("all names of {} already pointed to it", taker.name));
        }
        Some(taker) if !change.taken.is_empty() => {
            app.ui.say(&format!("run `goloo dns rollback {}` to undo this", taker.name));
        }
        _ => {}
    }
    exit::DONE
}

fn print(app: &App, name: &VmName, report: &DnsReport) {
    let mut table = Table::new(&[
        Column::name("NAME"),
        Column::whole("TYPE", 2),
        Column::whole("TTL", 1).figure(),
        Column::text("TARGET", 4),
        Column::text("OWNER", 3),
    ]);
    for name in &report.names {
        if name.live.is_empty() {
            let owner = if name.withdrawn { "this VM, while it is running" } else { "unassigned" };
            table.row([name.name.as_str(), "", "", "none", owner]);
        }
        for (set, holder) in &name.live {
            let (ttl, values) = (set.ttl.to_string(), set.values.join(" "));
            table.row([&set.name, &set.kind, &ttl, &values, &owner(holder)]);
        }
    }
    app.ui.table(&table);
    if let Some(reason) = hint::reason(&report.live).filter(|_| report.live.state == LiveState::Stopped) {
        app.ui.warning(&format!("{name} is stopped; {reason}"));
    }
    if report.names.iter().any(|name| name.withdrawn) {
        app.ui.say(&format!("{name} is stopped; run `goloo start {name}` to set its names again"));
    }
    if let Some(previous) = &report.previous {
        let ago = age(Timestamp::now().since(previous.at));
        let whom = previous.vm.as_ref().map_or("someone else", |vm| vm.name.as_str());
        app.ui.say(&format!(
            "the names belonged to {whom} until {ago} ago; run `goloo dns rollback {name}` to return them"
        ));
    }
}

fn owner(holder: &Holder) -> String {
    match holder {
        Holder::This => "this VM".to_owned(),
        Holder::Vm(name) => name.to_string(),
        Holder::Foreign => "someone else".to_owned(),
    }
}
