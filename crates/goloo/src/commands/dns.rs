//! `goloo dns`

use std::time::Duration;

use goloo_core::dns::{DnsChange, Holder, NameNow, Previous, RecordSet};
use goloo_core::engine::DnsReport;
use goloo_core::name::VmName;
use goloo_core::provider::LiveState;
use goloo_core::time::Timestamp;
use serde_json::{Value, json};

use super::VmArg;
use super::ask::Question;
use crate::app::App;
use crate::error::CliError;
use crate::output::{Table, age};
use crate::{args, exit};

/// The subcommands.
#[derive(Debug, clap::Subcommand)]
#[command(defer = true)]
pub enum Command {
    /// Show a VM's names: what they lead to, whose that is, and who had them before
    Show(ShowArgs),
    /// Let all names that a VM asks for lead to it, in one step
    Swap(SwapArgs),
    /// Give the names that a VM got by a swap back to who had them before
    Rollback(RollbackArgs),
}

#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    #[command(flatten)]
    vm: VmArg,
    #[command(flatten)]
    json: args::Json,
}

#[derive(Debug, clap::Args)]
pub struct SwapArgs {
    #[command(flatten)]
    vm: VmArg,
    /// The VM that has the names now; by default the one whose record says so
    #[arg(long, value_name = "OTHER", add = clap_complete::engine::ArgValueCandidates::new(crate::complete::vm_names))]
    from: Option<String>,
    #[command(flatten)]
    force: ForceArg,
    /// Don't ask where the VM's record doesn't prove that it was created with this state folder
    #[arg(short = 'y', long)]
    yes: bool,
    #[command(flatten)]
    json: args::Json,
}

#[derive(Debug, clap::Args)]
pub struct RollbackArgs {
    #[command(flatten)]
    vm: VmArg,
    #[command(flatten)]
    force: ForceArg,
    /// Don't ask where the VM's record doesn't prove that it was created with this state folder
    #[arg(short = 'y', long)]
    yes: bool,
    #[command(flatten)]
    json: args::Json,
}

#[derive(Debug, clap::Args)]
struct ForceArg {
    /// Replace records that lead to neither VM, and go on where AWS can't be asked whether the one that gets the
    /// names is running
    #[arg(long)]
    force: bool,
}

/// Names wait for no machine.
const NO_WAIT: Duration = Duration::ZERO;

pub fn run(app: &App, command: &Command) -> Result<u8, CliError> {
    match command {
        Command::Show(args) => show(app, &args.vm.parse()?),
        Command::Swap(args) => {
            let from = args.from.as_deref().map(VmName::parse).transpose()?;
            let name = args.vm.parse()?;
            ask(app, &name, "swap", args.yes)?;
            swap(app, &name, from.as_ref(), args.force.force)
        }
        Command::Rollback(args) => {
            let name = args.vm.parse()?;
            ask(app, &name, "rollback", args.yes)?;
            rollback(app, &name, args.force.force)
        }
    }
}

/// Asks before names are changed that a record of somebody else may have claimed.
fn ask(app: &App, name: &VmName, verb: &str, yes: bool) -> Result<(), CliError> {
    let record = app.record(name)?;
    if yes || app.here().trust.is_trusted(&record) {
        return Ok(());
    }
    let provider = app.provider_of(&record)?;
    let report = app
        .operate(&*provider, NO_WAIT, "nothing has changed", async |engine| engine.dns_names(name).await)??;
    let by = &record.created_by;
    let mut lines = vec![format!(
        "The record of {name}, created by {} on {}, doesn't prove that these are its names:",
        by.user, by.host
    )];
    lines.extend(report.names.iter().map(|name| format!("  {}", name.name)));
    if let Some(previous) = report.previous.filter(|_| verb == "rollback") {
        let sets = previous.records.iter().chain(&previous.foreign);
        lines.extend(sets.map(|set| format!("  {} back to {}", set.name, set.shown())));
    }
    let question = Question {
        asks: "dns asks before it changes names that somebody else may have claimed",
        lost: lines,
        question: "Change them?",
        words: None,
        declined: "nothing was changed",
        again: format!("goloo dns {verb} {name} --yes"),
    };
    question.ask_showing(app)
}

fn show(app: &App, name: &VmName) -> Result<u8, CliError> {
    let provider = app.provider_of(&app.record(name)?)?;
    let report = app
        .operate(&*provider, NO_WAIT, "nothing has changed", async |engine| engine.dns_names(name).await)??;
    if app.ui.json() {
        app.ui.result(json!({
            "names": report.names.iter().map(name_json).collect::<Vec<_>>(),
            "previous": report.previous.as_ref().map(previous_json),
            "live": {"state": report.live.state.as_str(), "reason": report.live.reason},
        }));
    } else {
        print(app, name, &report);
    }
    Ok(exit::DONE)
}

fn swap(app: &App, name: &VmName, from: Option<&VmName>, force: bool) -> Result<u8, CliError> {
    let provider = app.provider_of(&app.record(name)?)?;
    let change = app.operate(&*provider, NO_WAIT, &may_be_left(name), async |engine| {
        engine.dns_swap(name, from, force).await
    })??;
    Ok(report(app, &change))
}

fn rollback(app: &App, name: &VmName, force: bool) -> Result<u8, CliError> {
    let provider = app.provider_of(&app.record(name)?)?;
    let change = app.operate(&*provider, NO_WAIT, &may_be_left(name), async |engine| {
        engine.dns_rollback(name, force).await
    })??;
    Ok(report(app, &change))
}

fn may_be_left(name: &VmName) -> String {
    format!("the names of \"{name}\" may have moved: goloo resume {name} finishes it")
}

/// Says which names lead where now.
pub fn report(app: &App, change: &DnsChange) -> u8 {
    if app.ui.json() {
        let name_of = |vm: &Option<goloo_core::dns::VmRef>| vm.as_ref().map(|vm| vm.name.to_string());
        let (to, from) = (name_of(&change.taker), name_of(&change.giver));
        app.ui.result(json!({"to": to, "from": from, "records": change.after()}));
        return exit::DONE;
    }
    let (gone, new) = change.difference();
    for set in &new {
        let before: Vec<String> =
            gone.iter().filter(|gone| gone.name == set.name).map(RecordSet::shown).collect();
        let before = if before.is_empty() { "nothing".to_owned() } else { before.join(", ") };
        app.ui.line(&format!("{} leads to {}, before that to {before}", set.name, set.values.join(" ")));
    }
    match &change.taker {
        Some(taker) if new.is_empty() => {
            app.ui.line(&format!("all names of {} led to it already", taker.name));
        }
        Some(taker) if !change.taken.is_empty() => {
            app.ui.say(&format!("goloo dns rollback {} takes it back", taker.name));
        }
        _ => {}
    }
    exit::DONE
}

fn print(app: &App, name: &VmName, report: &DnsReport) {
    let mut table = Table::new(&["NAME", "TYPE", "TTL", "TARGET", "OWNER"]);
    for name in &report.names {
        if name.live.is_empty() {
            let owner = if name.withdrawn { "this VM, while it runs" } else { "unassigned" };
            table.row([name.name.as_str(), "", "", "nothing", owner]);
        }
        for (set, holder) in &name.live {
            let (ttl, values) = (set.ttl.to_string(), set.values.join(" "));
            table.row([&set.name, &set.kind, &ttl, &values, &owner(holder)]);
        }
    }
    app.ui.table(&table);
    if let Some(reason) = report.live.reason.as_ref().filter(|_| report.live.state == LiveState::Stopped) {
        app.ui.warning(&format!("{name} is stopped; {reason}"));
    }
    if report.names.iter().any(|name| name.withdrawn) {
        app.ui.say(&format!("{name} is stopped: `goloo start {name}` sets its names again"));
    }
    if let Some(previous) = &report.previous {
        let ago = age(Timestamp::now().since(previous.at));
        let whom = previous.vm.as_ref().map_or("someone else", |vm| vm.name.as_str());
        app.ui.say(&format!("{ago} ago they were {whom}'s; goloo dns rollback {name} gives them back"));
    }
}

fn owner(holder: &Holder) -> String {
    match holder {
        Holder::This => "this VM".to_owned(),
        Holder::Vm(name) => name.to_string(),
        Holder::Foreign => "someone else".to_owned(),
    }
}

fn name_json(name: &NameNow) -> Value {
    let live = name.live.iter().map(|(set, holder)| {
        let (whose, vm) = match holder {
            Holder::This => ("this", None),
            Holder::Vm(name) => ("vm", Some(name.as_str())),
            Holder::Foreign => ("foreign", None),
        };
        json!({"type": set.kind, "ttl": set.ttl, "values": set.values, "whose": whose, "vm": vm})
    });
    json!({"name": name.name, "live": live.collect::<Vec<_>>(), "withdrawn": name.withdrawn})
}

fn previous_json(previous: &Previous) -> Value {
    let vm = previous.vm.as_ref().map(|vm| vm.name.as_str());
    json!({"vm": vm, "at": previous.at, "records": previous.records, "foreign": previous.foreign})
}
