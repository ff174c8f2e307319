//! `goloo list`

use std::collections::{BTreeMap, BTreeSet};

use goloo_core::provider::{LiveState, Observation};
use goloo_core::record::{ProviderKind, Record};
use goloo_core::store::{Archived, Broken, Listing, Store, Summary};
use goloo_core::time::Timestamp;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::CliError;
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
    let mut active = if args.archive { Listing::default() } else { app.local(app.store.list())? };
    active.entries.retain(|vm| wanted(vm.provider));
    let mut archive =
        if args.all || args.archive { app.local(app.store.archive_list())? } else { Listing::default() };
    archive.entries.retain(|entry| wanted(entry.record.provider));
    let live = if args.refresh { Some(observe(app, &active.entries)?) } else { None };
    warn_of_the_unknown(app, live.as_deref().unwrap_or_default());
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
    Ok(exit::DONE)
}

/// One question for each provider, whatever the number of its VMs.
fn observe(app: &App, vms: &[Summary]) -> Result<Vec<Option<Observation>>, CliError> {
    let mut by_provider: BTreeMap<ProviderKind, Vec<(usize, Record)>> = BTreeMap::new();
    for (index, vm) in vms.iter().enumerate() {
        // Deleted between the two reads: there is nothing to ask about.
        if let Some(loaded) = app.local(app.store.load(&vm.name))? {
            by_provider.entry(vm.provider).or_default().push((index, loaded.record));
        }
    }
    let mut all = vec![None; vms.len()];
    for (kind, records) in by_provider {
        let provider = app.provider(kind)?;
        let borrowed: Vec<&Record> = records.iter().map(|(_, record)| record).collect();
        let observed = app.wait_for(provider.observe(&borrowed));
        for ((index, _), observation) in records.iter().zip(observed) {
            all[*index] = Some(observation);
        }
    }
    Ok(all)
}

/// Why states aren't known: once for all VMs that share a reason, such as a provider that hangs.
fn warn_of_the_unknown(app: &App, live: &[Option<Observation>]) {
    let unknown = live.iter().flatten().filter(|seen| seen.state == LiveState::Unknown);
    let reasons: BTreeSet<&str> = unknown.filter_map(|seen| seen.reason.as_deref()).collect();
    for reason in reasons {
        app.ui.warning(&format!("not every state is known: {reason}"));
    }
}

fn print_json(
    app: &App,
    args: &Args,
    active: &Listing<Summary>,
    archive: &Listing<Archived>,
    live: Option<&[Option<Observation>]>,
) {
    let vms: Vec<Value> = active
        .entries
        .iter()
        .enumerate()
        .map(|(index, vm)| {
            let mut value = vm_json(vm);
            if let Some(live) = live {
                value["live"] = json!(live[index].as_ref().map(|observation| observation.state.as_str()));
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
        "createdAt": vm.created_at, "ip": vm.ip, "sshPort": vm.ssh_port, "fqdn": vm.fqdn,
        "sourceConfigPath": vm.source_config_path, "tags": vm.tags,
    })
}

fn broken_json(broken: &Broken) -> Value {
    json!({"name": broken.name, "path": broken.path, "error": broken.error})
}

/// An archived record in `list --all` and `archive list`.
pub fn archived_json(entry: &Archived) -> Value {
    let mut value = vm_json(&Summary::from(&entry.record));
    value["archiveId"] = json!(entry.id);
    value["deletedAt"] = json!(entry.deleted_at);
    value
}

fn print_tables(
    app: &App,
    args: &Args,
    active: &[Summary],
    archive: &[Archived],
    live: Option<&[Option<Observation>]>,
) {
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

fn active_table(vms: &[Summary], live: Option<&[Option<Observation>]>) -> Table {
    let now = Timestamp::now();
    let cells = |vm: &Summary| {
        let address = match (&vm.ip, vm.ssh_port) {
            (Some(ip), Some(port)) if port != 22 => format!("{ip}:{port}"),
            (Some(ip), _) => ip.clone(),
            (None, _) => String::new(),
        };
        [
            vm.name.to_string(),
            vm.provider.to_string(),
            vm.phase.to_string(),
            address,
            age(now.since(vm.created_at)),
            vm.stack.clone(),
        ]
    };
    let Some(live) = live else {
        let mut table = Table::new(&["NAME", "PROVIDER", "PHASE", "ADDRESS", "AGE", "STACK"]);
        vms.iter().for_each(|vm| table.row(cells(vm)));
        return table;
    };
    let mut table = Table::new(&["NAME", "PROVIDER", "PHASE", "LIVE", "ADDRESS", "AGE", "STACK"]);
    for (vm, observation) in vms.iter().zip(live) {
        let [name, provider, phase, address, age, stack] = cells(vm);
        let state = observation.as_ref().map_or("", |observation| observation.state.as_str());
        table.row([name, provider, phase, state.to_owned(), address, age, stack]);
    }
    table
}
