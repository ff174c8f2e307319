//! `goloo list`

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use goloo_core::query::{Filter, Listed, Order};
use goloo_core::record::{ProviderKind, Record};
use goloo_core::store::{Archived, Broken, Listing, Summary};
use goloo_core::time::Timestamp;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::CliError;
use crate::observe::{self, Seen};
use crate::output::{Table, Ui, age, first};
use crate::{args, exit};

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
    /// Only local VMs, whosever computer they are on
    #[arg(long)]
    local: bool,
    /// Only VMs with this tag
    #[arg(long = "tag", value_name = "K[=V]", value_parser = Filter::parse_tag)]
    tags: Vec<Filter>,
    /// Only VMs for which all of these hold: provider=aws, phase!=ready, age>7d, age<12h, creator=ann,
    /// creator=ann@host
    #[arg(long = "filter", value_name = "FILTER,…", value_delimiter = ',', value_parser = Filter::parse)]
    filters: Vec<Filter>,
    /// Sort by name, age (the youngest first), provider, phase, creator or stack; by -age, say, the other way
    /// round
    #[arg(long, value_name = "KEY", allow_hyphen_values = true, value_parser = Order::parse)]
    sort: Option<Order>,
    /// Ask each provider what its VMs do now
    #[arg(long)]
    refresh: bool,
    /// Print names alone
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    json: args::Json,
}

impl Args {
    /// Whether anything narrows what is shown.
    fn asks_for_some(&self) -> bool {
        self.aws || self.local || !self.tags.is_empty() || !self.filters.is_empty()
    }
}

/// What `list` is to show, and in what order.
struct Wanted<'a> {
    args: &'a Args,
    now: Timestamp,
}

impl Wanted<'_> {
    fn choose<T>(&self, entries: &mut Vec<T>, vm: impl Fn(&T) -> &dyn Listed) {
        entries.retain(|entry| self.holds(vm(entry)));
        if let Some(order) = self.args.sort {
            entries.sort_by(|a, b| order.compare(vm(a), vm(b)));
        }
    }

    fn holds(&self, vm: &dyn Listed) -> bool {
        let Args { aws, local, tags, filters, .. } = self.args;
        (!aws || vm.provider() == ProviderKind::Aws)
            && (!local || vm.provider().is_local())
            && tags.iter().chain(filters).all(|filter| filter.holds(vm, self.now))
    }
}

/// What is shown.
struct Shown {
    /// The VMs with a record, then those without.
    active: Listing<Summary>,
    /// How many of them are on record.
    recorded: usize,
    /// VMs in goloo v0 configs that have no record.
    unrecorded: Vec<Record>,
    archive: Listing<Archived>,
    /// What providers say of the active ones, in their order.
    live: Option<Vec<Seen>>,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let wanted = Wanted { args, now: Timestamp::now() };
    app.warn_of_move()?;
    crate::former::note(app);
    let shown = shown(app, &wanted)?;
    if app.ui.json() {
        print_json(app, args, &shown);
        return Ok(exit::DONE);
    }
    warn_of_each(&app.ui, shown.active.broken.iter().chain(&shown.archive.broken), |broken| {
        format!("{} is broken: {} (goloo doctor)", broken.path, broken.error)
    });
    note_unrecorded(app, shown.unrecorded.len());
    if args.quiet {
        shown.active.entries.iter().for_each(|vm| app.ui.line(vm.name.as_str()));
        shown.archive.entries.iter().for_each(|entry| app.ui.line(entry.id.as_str()));
        return Ok(exit::DONE);
    }
    print_tables(app, args, &shown);
    // The process ends now: thousands of records needn't be freed one by one before.
    std::mem::forget(shown);
    Ok(exit::DONE)
}

fn shown(app: &App, wanted: &Wanted<'_>) -> Result<Shown, CliError> {
    let args = wanted.args;
    let unrecorded = if args.archive { Vec::new() } else { unrecorded(app, wanted) };
    let (mut active, live) = match (args.archive, args.refresh) {
        (true, _) => (Listing::default(), None),
        (false, false) => (on_record(app, wanted)?, None),
        (false, true) => {
            let (active, seen) = live(app, wanted, &unrecorded)?;
            (active, Some(seen))
        }
    };
    let recorded = active.entries.len();
    active.entries.extend(unrecorded.iter().map(Summary::from));
    let mut archive =
        if args.all || args.archive { app.local(app.store.archive_list())? } else { Listing::default() };
    wanted.choose(&mut archive.entries, |entry| &entry.record);
    Ok(Shown { active, recorded, unrecorded, archive, live })
}

fn note_unrecorded(app: &App, count: usize) {
    match count {
        0 => {}
        1 => app.ui.note("1 VM of a goloo v0 config is not imported; run `goloo migrate`"),
        _ => app.ui.note(&format!("{count} VMs of goloo v0 configs are not imported; run `goloo migrate`")),
    }
}

fn on_record(app: &App, wanted: &Wanted<'_>) -> Result<Listing<Summary>, CliError> {
    let mut active = app.local(app.store.list())?;
    wanted.choose(&mut active.entries, |vm| vm);
    Ok(active)
}

/// VMs in goloo v0 configs that have no record.
fn unrecorded(app: &App, wanted: &Wanted<'_>) -> Vec<Record> {
    let mut records = crate::migrate::to_show(app, None);
    wanted.choose(&mut records, |record| record);
    records
}

/// The same with what providers say of each, and of those that aren't on record behind them. Where one says nothing of
/// use, it is said why.
fn live(
    app: &App,
    wanted: &Wanted<'_>,
    unrecorded: &[Record],
) -> Result<(Listing<Summary>, Vec<Seen>), CliError> {
    let mut records = observe::records(app)?;
    wanted.choose(&mut records.entries, |record| record);
    let recorded = records.entries.len();
    let seen = observe::ask(app, records.entries.into_iter().chain(unrecorded.iter().cloned()).collect());
    let unknown = seen.iter().filter_map(|seen| Some((seen.record.provider, seen.unknown()?)));
    for (kind, reason) in unknown.collect::<BTreeSet<_>>() {
        app.ui.warning(&format!("{kind}: {reason}"));
    }
    let entries = seen[..recorded].iter().map(|seen| Summary::from(&seen.record)).collect();
    Ok((Listing { entries, broken: records.broken }, seen))
}

fn print_json(app: &App, args: &Args, shown: &Shown) {
    let vms: Vec<Value> =
        shown.active.entries.iter().enumerate().map(|(index, vm)| shown_json(shown, index, vm)).collect();
    let broken: Vec<Value> =
        shown.active.broken.iter().chain(&shown.archive.broken).map(broken_json).collect();
    let mut body = json!({"vms": vms, "broken": broken});
    if args.all || args.archive {
        let archived = shown.archive.entries.iter().map(archived_json);
        body["archived"] = archived.collect();
    }
    app.ui.result(body);
}

fn shown_json(shown: &Shown, index: usize, vm: &Summary) -> Value {
    let mut value = vm_json(vm);
    if let Some(record) = index.checked_sub(shown.recorded).and_then(|place| shown.unrecorded.get(place)) {
        value["imported"] = json!(false);
        value["origin"] = json!(record.origin);
    }
    if let Some(seen) = shown.live.as_ref().map(|live| &live[index]) {
        value["live"] = json!(seen.live.state.as_str());
        value["liveReason"] = json!(seen.unknown());
    }
    value
}

fn vm_json(vm: &Summary) -> Value {
    json!({
        "name": vm.name, "id": vm.id, "provider": vm.provider, "phase": vm.phase, "stack": vm.stack,
        "createdAt": vm.created_at,
        "createdBy": {"user": vm.created_by.user, "host": vm.created_by.host},
        "endsAt": vm.ends_at, "ip": vm.ip, "sshPort": vm.ssh_port, "fqdn": vm.fqdn,
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

fn print_tables(app: &App, args: &Args, shown: &Shown) {
    if !args.archive {
        if shown.active.entries.is_empty() {
            app.ui.say(if args.asks_for_some() {
                "no such VMs"
            } else {
                "no VMs; goloo create NAME makes one"
            });
        } else {
            app.ui.table(&active_table(shown, app.ui.verbose() > 0));
        }
    }
    let archive = &shown.archive.entries;
    if args.all || args.archive {
        if !archive.is_empty() && !args.archive {
            app.ui.line("");
        }
        match archive.is_empty() && args.asks_for_some() {
            true => app.ui.say("no such VMs in the archive"),
            false => print_archive(app, archive),
        }
    }
}

/// The table of the archive.
pub fn print_archive(app: &App, archive: &[Archived]) {
    if archive.is_empty() {
        app.ui.say("the archive is empty");
        return;
    }
    let now = Timestamp::now();
    let wide = app.ui.verbose() > 0;
    let shown = [true, true, true, wide || several(archive.iter().map(|entry| &entry.record)), wide, true];
    let mut table = Table::of(&["ARCHIVE ID", "PROVIDER", "STACK", "BY", "TAGS", "DELETED"], &shown);
    for entry in archive {
        let record = &entry.record;
        table.row_of(
            &[
                entry.id.to_string(),
                record.provider.to_string(),
                record.stack.to_string(),
                by(record),
                tags(record.tags.iter()),
                format!("{} ago", age(now.since(entry.deleted_at))),
            ],
            &shown,
        );
    }
    app.ui.table(&table);
}

/// Whether not all were made by one person on one host.
fn several<'v, T: Listed + 'v>(mut vms: impl Iterator<Item = &'v T>) -> bool {
    let Some(first) = vms.next() else { return false };
    vms.any(|vm| (vm.user(), vm.host()) != (first.user(), first.host()))
}

fn by(vm: &impl Listed) -> String {
    format!("{}@{}", vm.user(), vm.host())
}

/// Tags in one line.
pub fn tags<K: AsRef<str>, V: AsRef<str>>(tags: impl Iterator<Item = (K, V)>) -> String {
    tags.map(|(key, value)| format!("{}={}", key.as_ref(), value.as_ref())).collect::<Vec<_>>().join(" ")
}

/// How old a VM is, and how much time is left where it ends itself.
fn age_and_end(vm: &Summary, now: Timestamp) -> String {
    let age_now = age(now.since(vm.created_at));
    match vm.ends_at {
        None => age_now,
        Some(end) if end <= now => format!("{age_now}, ended"),
        Some(end) => format!("{age_now}, ends in {}", age(end.since(now))),
    }
}

const HEADINGS: [&str; 9] = ["NAME", "PROVIDER", "PHASE", "LIVE", "ADDRESS", "AGE", "BY", "TAGS", "STACK"];

fn active_table(all: &Shown, wide: bool) -> Table {
    let now = Timestamp::now();
    let (vms, live) = (&all.active.entries, all.live.as_deref());
    let (with_live, with_creator) = (live.is_some(), wide || several(vms.iter()));
    let shown = [true, true, true, with_live, true, true, with_creator, wide, true];
    let mut table = Table::of(&HEADINGS, &shown);
    for (place, vm) in vms.iter().enumerate() {
        let address = match (&vm.ip, vm.ssh_port) {
            (Some(ip), Some(port)) if port != 22 => {
                Cow::Owned([ip.as_str(), ":", itoa::Buffer::new().format(port)].concat())
            }
            (ip, _) => Cow::Borrowed(ip.as_deref().unwrap_or_default()),
        };
        let cells: [Cow<'_, str>; 9] = [
            vm.name.as_str().into(),
            vm.provider.as_str().into(),
            if place < all.recorded { vm.phase.as_str().into() } else { "not imported".into() },
            live.map_or("", |live| live[place].live.state.as_str()).into(),
            address,
            age_and_end(vm, now).into(),
            // Not written for nobody: a list of 10,000 takes its time.
            if with_creator { by(vm).into() } else { "".into() },
            if wide { tags(vm.tags.iter().map(|(k, v)| (k, v))).into() } else { "".into() },
            vm.stack.as_str().into(),
        ];
        table.row_of(&cells, &shown);
    }
    table
}

/// Warns of each record that is broken; of many, of the first.
pub fn warn_of_each<'b>(
    ui: &Ui,
    broken: impl IntoIterator<Item = &'b Broken>,
    warning: impl Fn(&Broken) -> String,
) {
    first(broken, warning).iter().for_each(|text| ui.warning(text));
}
