//! `goloo list`

use std::borrow::Cow;

use clap_complete::engine::ArgValueCandidates;
use goloo::actions::{AskedProviders, ListPlace, ListQuery, ListScope, ListedVm, VmList};
use goloo::former::{self, FormerPlace};
use goloo::shown_state::VmState;
use goloo_model::name::{NameError, VmName};
use goloo_model::query::{Filter, Order};
use goloo_model::store::Summary;
use goloo_model::time::Timestamp;

use super::listing::{by, print_archive, several, tags, warn_of_each, warn_of_failures};
use super::{machine_columns, which};
use crate::app::App;
use crate::error::CliError;
use crate::options::Json;
use crate::output::{Column, Table, age, state_color};
use crate::{complete, exit, json, providers};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these VMs, or those of an environment or of a machine of one (shop/web)
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(complete::vm_names))]
    names: Vec<String>,
    /// Only VMs of this environment
    #[arg(long, value_name = "NAME", value_parser = environment, add = ArgValueCandidates::new(complete::environments))]
    env: Option<Filter>,
    /// Show archived VMs too
    #[arg(long)]
    all: bool,
    /// Show only archived VMs
    #[arg(long, conflicts_with_all = ["all", "refresh"])]
    archive: bool,
    /// Only VMs in AWS
    #[arg(long, conflicts_with = "local")]
    aws: bool,
    /// Only local VMs, on any computer
    #[arg(long)]
    local: bool,
    /// Only VMs with this tag
    #[arg(long = "tag", value_name = "K[=V]", value_parser = Filter::parse_tag)]
    tags: Vec<Filter>,
    /// Only VMs for which all of these hold: provider=aws, phase!=ready, age>7d, age<12h, creator=ann,
    /// creator=ann@host
    #[arg(long = "filter", value_name = "FILTER,...", value_delimiter = ',', value_parser = providers::filter)]
    filters: Vec<Filter>,
    /// Sort by name, age (newest first), provider, phase, creator or stack; a leading - (as in -age) reverses the
    /// order
    #[arg(long, value_name = "KEY", allow_hyphen_values = true, value_parser = Order::parse, add = ArgValueCandidates::new(complete::sort_keys))]
    sort: Option<Order>,
    /// Ask every provider for the current state of its VMs, however long it takes; by default only those of this
    /// computer are asked, for a moment
    #[arg(long)]
    refresh: bool,
    /// Ask no provider: show the recorded states, in parentheses
    #[arg(long, conflicts_with = "refresh")]
    no_refresh: bool,
    /// Print only names
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    json: Json,
}

impl Args {
    fn query(&self, app: &App) -> Result<ListQuery, CliError> {
        Ok(ListQuery {
            names: which::distinct(app, &self.names)?.into_iter().collect(),
            whole_records: app.ui.verbose() > 0 && !app.ui.json() && !self.quiet,
            scope: match (self.all, self.archive) {
                (_, true) => ListScope::Archived,
                (true, false) => ListScope::All,
                (false, false) => ListScope::Active,
            },
            filters: self.tags.iter().chain(&self.filters).chain(&self.env).cloned().collect(),
            place: match (self.aws, self.local) {
                (true, _) => Some(ListPlace::Provider(providers::AWS)),
                (false, true) => Some(ListPlace::Hosts),
                (false, false) => None,
            },
            order: self.sort,
            asked: match (self.refresh, self.no_refresh || self.quiet) {
                (true, _) => AskedProviders::All,
                (false, true) => AskedProviders::None,
                (false, false) => AskedProviders::Local,
            },
        })
    }
}

fn environment(text: &str) -> Result<Filter, NameError> {
    VmName::parse(text).map(Filter::Environment)
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    app.warn_of_move()?;
    note_former_places(app);
    let query = args.query(app)?;
    let list = app.session.list(&query)?;
    warn_of_failures(app, &list.failures);
    for (kind, reason) in &list.unknown {
        app.ui.warning(&format!("{kind}: {reason}"));
    }
    if app.ui.json() {
        app.ui.result(&json::VmList::new(&list, query.scope != ListScope::Active));
        return Ok(exit::DONE);
    }
    warn_of_each(&app.ui, &list.broken, |broken| {
        format!("{} is broken: {} (goloo doctor)", broken.path, broken.error)
    });
    note_unimported(app, list.unimported.len());
    if args.quiet {
        list.active().for_each(|vm| app.ui.line(vm.summary.name.as_str()));
        list.archived.iter().for_each(|entry| app.ui.line(entry.id.as_str()));
        return Ok(exit::DONE);
    }
    print_tables(app, &query, &list);
    // The process ends now: freeing thousands of records first would only take time.
    std::mem::forget(list);
    Ok(exit::DONE)
}

/// Prints a note about VMs in a store that was used before.
fn note_former_places(app: &App) {
    for FormerPlace { address, vms } in former::places(&app.session) {
        let shown = shlex::try_quote(&address).unwrap_or_default();
        let vms = if vms == 1 { "1 VM is".to_owned() } else { format!("{vms} VMs are") };
        app.ui.note(&format!(
            "{vms} still in {address}, which was used before; run `GOLOO_STATE_BACKEND={shown} goloo list` to see them"
        ));
    }
}

fn note_unimported(app: &App, count: usize) {
    match count {
        0 => {}
        1 => app.ui.note("1 VM of a goloo v0 config is not imported; run `goloo migrate`"),
        _ => app.ui.note(&format!("{count} VMs of goloo v0 configs are not imported; run `goloo migrate`")),
    }
}

fn print_tables(app: &App, query: &ListQuery, list: &VmList) {
    if query.scope != ListScope::Archived {
        if list.active().next().is_none() {
            app.ui.say(if query.is_restricted() {
                "no VMs match"
            } else {
                "no VMs; run `goloo create NAME` to create one"
            });
        } else {
            app.ui.table(&active_table(list, app.ui.verbose() > 0));
        }
    }
    if query.scope != ListScope::Active {
        if query.scope == ListScope::All && !list.archived.is_empty() {
            app.ui.line("");
        }
        match list.archived.is_empty() && query.is_restricted() {
            true => app.ui.say("no archived VMs match"),
            false => print_archive(app, &list.archived),
        }
    }
}

/// Those of [`machine_columns`] come before the tags.
const COLUMNS: [Column; 17] = [
    Column::name("NAME"),
    Column::text("ENVIRONMENT", 3),
    Column::whole("PROVIDER", 5),
    Column::kept("STATE").styled(state_color),
    Column::whole("ADDRESS", 7),
    Column::whole("AGE", 6).figure(),
    Column::whole("TTL", 4).figure(),
    Column::text("BY", 3),
    machine_columns::COLUMNS[0],
    machine_columns::COLUMNS[1],
    machine_columns::COLUMNS[2],
    machine_columns::COLUMNS[3],
    machine_columns::COLUMNS[4],
    machine_columns::COLUMNS[5],
    machine_columns::COLUMNS[6],
    Column::text("TAGS", 1),
    Column::text("STACK", 2),
];

/// The state; in parentheses if it is only what the record says.
fn state_text(vm: &ListedVm<'_>) -> Cow<'static, str> {
    let state = vm.state();
    let word = match (vm.unimported, vm.live) {
        (Some(_), None) => return "not imported".into(),
        (Some(_), Some(_)) => return [state.as_str(), ", not imported"].concat().into(),
        _ => state.as_str(),
    };
    if vm.summary.restart_pending && state == VmState::Running {
        return [word, ", restart pending"].concat().into();
    }
    match state {
        // Only the record knows that.
        VmState::Creating | VmState::Deleting => word.into(),
        _ if vm.live.is_none() => ["(", word, ")"].concat().into(),
        _ => word.into(),
    }
}

/// The time left until a VM's TTL expires.
fn time_left(vm: &Summary, now: Timestamp) -> Cow<'static, str> {
    match vm.ends_at {
        None => "".into(),
        Some(end) if end <= now => "expired".into(),
        Some(end) => age(end.since(now)).into(),
    }
}

fn active_table(list: &VmList, wide: bool) -> Table {
    let now = Timestamp::now();
    let with_creator = wide || several(list.active().map(|vm| vm.summary));
    let with_end = list.active().any(|vm| vm.summary.ends_at.is_some());
    let in_environment = list.active().any(|vm| vm.summary.membership.is_some());
    let [w, all] = [wide, true];
    let shown =
        [all, in_environment, all, all, all, all, with_end, with_creator, w, w, w, w, w, w, w, w, all];
    let mut table = Table::of(&COLUMNS, &shown);
    for listed in list.active() {
        let vm = listed.summary;
        let address = match (&vm.ip, vm.ssh_port) {
            (Some(ip), Some(port)) if port != 22 => {
                Cow::Owned([ip.as_str(), ":", itoa::Buffer::new().format(port)].concat())
            }
            (ip, _) => Cow::Borrowed(ip.as_deref().unwrap_or_default()),
        };
        let machine = machine_columns::cells(list.records.get(&vm.id));
        let [cpus, memory, disk, image, ports, mounts, overrides] = machine.map(Cow::Owned);
        let cells: [Cow<'_, str>; 17] = [
            vm.name.as_str().into(),
            vm.membership.as_ref().map_or("", |membership| membership.environment.as_str()).into(),
            vm.provider.as_str().into(),
            state_text(&listed),
            address,
            age(now.since(vm.created_at)).into(),
            time_left(vm, now),
            // Not formatted when not shown: a list can have 10,000 VMs.
            if with_creator { by(vm).into() } else { "".into() },
            cpus,
            memory,
            disk,
            image,
            ports,
            mounts,
            overrides,
            if wide { tags(vm.tags.iter().map(|(k, v)| (k, v))).into() } else { "".into() },
            vm.stack.as_str().into(),
        ];
        table.row_of(&cells, &shown);
    }
    table
}
