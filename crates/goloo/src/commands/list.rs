//! `goloo list`

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use goloo_core::record::ProviderKind;
use goloo_core::store::{Archived, Broken, Listing, Store, Summary};
use goloo_core::time::Timestamp;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::CliError;
use crate::observe::{self, Seen};
use crate::output::{Table, age};
use crate::{args, exit};

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show the archive too
    #[arg(long)]
    all: bool,
    /// Show the archive alone
    #[arg(long, conflicts_with_all = ["all", "refresh"])]
    archive: bool,
    /// Only VMs in AWS
    #[arg(long, conflicts_with = "local")]
    aws: bool,
    /// Only VMs on this computer
    #[arg(long)]
    local: bool,
    /// Ask each provider what its VMs do now
    #[arg(long)]
    refresh: bool,
    /// Print names alone
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    json: args::Json,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let wanted = |provider: ProviderKind| {
        (!args.aws || provider == ProviderKind::Aws) && (!args.local || provider.is_local())
    };
    if !args.archive {
        crate::migrate::on_the_way(app);
    }
    let (active, live) = match (args.archive, args.refresh) {
        (true, _) => (Listing::default(), None),
        (false, false) => (on_record(app, wanted)?, None),
        (false, true) => {
            let (active, seen) = live(app, wanted)?;
            (active, Some(seen))
        }
    };
    let mut archive =
        if args.all || args.archive { app.local(app.store.archive_list())? } else { Listing::default() };
    archive.entries.retain(|entry| wanted(entry.record.provider));
    if app.ui.json() {
        print_json(app, args, &active, &archive, live.as_deref());
        return Ok(exit::DONE);
    }
    for broken in active.broken.iter().chain(&archive.broken) {
        app.ui.warning(&format!("{} is broken: {} (goloo doctor)", broken.path, broken.error));
    }
    if args.quiet {
        active.entries.iter().for_each(|vm| app.ui.line(vm.name.as_str()));
        archive.entries.iter().for_each(|entry| app.ui.line(entry.id.as_str()));
        return Ok(exit::DONE);
    }
    print_tables(app, args, &active.entries, &archive.entries, live.as_deref());
    // The process ends now: thousands of records needn't be freed one by one before.
    std::mem::forget((active, archive));
    Ok(exit::DONE)
}

fn on_record(app: &App, wanted: impl Fn(ProviderKind) -> bool) -> Result<Listing<Summary>, CliError> {
    let mut active = app.local(app.store.list())?;
    active.entries.retain(|vm| wanted(vm.provider));
    Ok(active)
}

/// The same with what providers say of each. Where one says nothing of use, it is said why.
fn live(app: &App, wanted: impl Fn(ProviderKind) -> bool) -> Result<(Listing<Summary>, Vec<Seen>), CliError> {
    let mut records = observe::records(app)?;
    records.entries.retain(|record| wanted(record.provider));
    let seen = observe::ask(app, records.entries);
    let unknown = seen.iter().filter_map(|seen| Some((seen.record.provider, seen.unknown()?)));
    for (kind, reason) in unknown.collect::<BTreeSet<_>>() {
        app.ui.warning(&format!("{kind}: {reason}"));
    }
    let entries = seen.iter().map(|seen| Summary::from(&seen.record)).collect();
    Ok((Listing { entries, broken: records.broken }, seen))
}

fn print_json(
    app: &App,
    args: &Args,
    active: &Listing<Summary>,
    archive: &Listing<Archived>,
    live: Option<&[Seen]>,
) {
    let vms: Vec<Value> = active
        .entries
        .iter()
        .enumerate()
        .map(|(index, vm)| {
            let mut value = vm_json(vm);
            if let Some(live) = live {
                value["live"] = json!(live[index].live.state.as_str());
                value["liveReason"] = json!(live[index].unknown());
            }
            value
        })
        .collect();
    let broken: Vec<Value> = active.broken.iter().chain(&archive.broken).map(broken_json).collect();
    let mut body = json!({"vms": vms, "broken": broken});
    if args.all || args.archive {
        let archived = archive.entries.iter().map(archived_json);
        body["archived"] = archived.collect();
    }
    app.ui.result(body);
}

fn vm_json(vm: &Summary) -> Value {
    json!({
        "name": vm.name, "id": vm.id, "provider": vm.provider, "phase": vm.phase, "stack": vm.stack,
        "createdAt": vm.created_at, "endsAt": vm.ends_at, "ip": vm.ip, "sshPort": vm.ssh_port, "fqdn": vm.fqdn,
        "sourceConfigPath": vm.source_config_path, "tags": vm.tags.iter().cloned().collect::<BTreeMap<_, _>>(),
    })
}

/// A record that can't be read.
pub fn broken_json(broken: &Broken) -> Value {
    json!({"name": broken.name, "path": broken.path, "error": broken.error})
}

/// An archived record in `list --all` and `archive list`.
pub fn archived_json(entry: &Archived) -> Value {
    let mut value = vm_json(&Summary::from(&entry.record));
    value["archiveId"] = json!(entry.id);
    value["deletedAt"] = json!(entry.deleted_at);
    value
}

fn print_tables(app: &App, args: &Args, active: &[Summary], archive: &[Archived], live: Option<&[Seen]>) {
    if !args.archive {
        if active.is_empty() {
            app.ui.say("no VMs; goloo create NAME makes one");
        } else {
            app.ui.lines(&active_table(active, live).lines());
        }
    }
    if args.all || args.archive {
        if !archive.is_empty() && !args.archive {
            app.ui.line("");
        }
        print_archive(app, archive);
    }
}

/// The table of the archive.
pub fn print_archive(app: &App, archive: &[Archived]) {
    if archive.is_empty() {
        app.ui.say("the archive is empty");
        return;
    }
    let now = Timestamp::now();
    let mut table = Table::new(&["ARCHIVE ID", "PROVIDER", "STACK", "DELETED"]);
    for entry in archive {
        let record = &entry.record;
        table.row([
            entry.id.to_string(),
            record.provider.to_string(),
            record.stack.clone(),
            format!("{} ago", age(now.since(entry.deleted_at))),
        ]);
    }
    app.ui.lines(&table.lines());
}

/// How old a VM is, and what it has left where it ends itself.
fn age_and_end(vm: &Summary, now: Timestamp) -> String {
    let age_now = age(now.since(vm.created_at));
    match vm.ends_at {
        None => age_now,
        Some(end) if end <= now => format!("{age_now}, ended"),
        Some(end) => format!("{age_now}, ends in {}", age(end.since(now))),
    }
}

fn active_table(vms: &[Summary], live: Option<&[Seen]>) -> Table {
    let now = Timestamp::now();
    fn cells(vm: &Summary, now: Timestamp) -> [Cow<'_, str>; 6] {
        let address = match (&vm.ip, vm.ssh_port) {
            (Some(ip), Some(port)) if port != 22 => Cow::Owned(format!("{ip}:{port}")),
            (ip, _) => Cow::Borrowed(ip.as_deref().unwrap_or_default()),
        };
        [
            vm.name.as_str().into(),
            vm.provider.as_str().into(),
            vm.phase.as_str().into(),
            address,
            age_and_end(vm, now).into(),
            vm.stack.as_str().into(),
        ]
    }
    let Some(live) = live else {
        let mut table = Table::new(&["NAME", "PROVIDER", "PHASE", "ADDRESS", "AGE", "STACK"]);
        vms.iter().for_each(|vm| table.row(cells(vm, now)));
        return table;
    };
    let mut table = Table::new(&["NAME", "PROVIDER", "PHASE", "LIVE", "ADDRESS", "AGE", "STACK"]);
    for (vm, seen) in vms.iter().zip(live) {
        let [name, provider, phase, address, age, stack] = cells(vm, now);
        table.row([name, provider, phase, seen.live.state.as_str().into(), address, age, stack]);
    }
    table
}
