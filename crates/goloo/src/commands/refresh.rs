//! `goloo refresh`

use goloo_core::finding::Finding;
use goloo_core::name::{ArchiveId, VmName};
use goloo_core::provider::{LiveState, Stray};
use goloo_core::record::{Elsewhere, ProviderKind, Record};
use goloo_core::store::{Broken, Listing, StoreError};
use goloo_core::time::Timestamp;
use serde_json::{Value, json};

use super::VmArg;
use super::list::broken_json;
use crate::app::App;
use crate::error::CliError;
use crate::observe::{self, Seen, Strays};
use crate::{args, exit};

/// How many broken records are told of.
const BROKEN_MAX: usize = 20;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these VMs; without names all of them, and what no record leads to
    #[arg(value_name = "NAME", add = clap_complete::engine::ArgValueCandidates::new(crate::complete::vm_names))]
    names: Vec<String>,
    /// Show the machines too that aren't goloo's
    #[arg(long, conflicts_with = "names")]
    all: bool,
    #[command(flatten)]
    json: args::Json,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let mut listing = observe::records(app)?;
    let names = args.names.iter().map(|name| VmArg { name: name.clone() }.parse());
    let names: Vec<VmName> = names.collect::<Result<_, _>>()?;
    let mut reality = if names.is_empty() {
        Reality::of_all(app, listing)
    } else {
        only(&mut listing, &names)?;
        app.expect_here(&listing.entries)?;
        let seen = observe::ask(app, listing.entries);
        Reality { seen, elsewhere: Vec::new(), broken: Vec::new(), strays: Strays::default() }
    };
    let ended = archive_ended(app, &mut reality.seen)?;
    let findings = reality.findings();
    if app.ui.json() {
        let ended = ended.iter().map(|(name, id)| json!({"name": name, "archiveId": id}));
        let mut body = reality.json(args.all);
        body["ended"] = ended.collect();
        app.ui.result(body);
    } else {
        for (name, id) in &ended {
            app.ui.line(&format!("{name} ended by itself; its record is {id} in the archive"));
        }
        findings.iter().for_each(|finding| super::doctor::print(app, finding));
        if args.all {
            reality.others().for_each(|(kind, stray)| app.ui.line(&not_ours(kind, stray)));
        }
        for (name, place) in &reality.elsewhere {
            app.ui.note(&format!("{name} belongs to {place} and is left out"));
        }
        if findings.is_empty() {
            app.ui.line(&format!("{} VMs, all as they are on record", reality.seen.len()));
        }
    }
    Ok(if findings.is_empty() { exit::DONE } else { exit::FAILED })
}

/// VMs whose time was up and whose machines are gone are removed with what is left of them: that is what
/// vm.ttl asked for. A protected one stays, and shows as missing. So do all in a store that others write to: what a
/// record of theirs names may be anything of this account.
fn archive_ended(app: &App, seen: &mut Vec<Seen>) -> Result<Vec<(VmName, ArchiveId)>, CliError> {
    let now = Timestamp::now();
    let has_ended = |seen: &Seen| {
        let record = &seen.record;
        let in_peace = record.operation.is_none() && !record.protected && !app.is_shared();
        is_missing(seen) && in_peace && record.ends_at.is_some_and(|end| end <= now)
    };
    let mut ended = Vec::new();
    for gone in seen.iter().filter(|seen| has_ended(seen)) {
        ended.push((gone.record.name.clone(), super::delete::remove(app, &gone.record)?));
    }
    seen.retain(|seen| !has_ended(seen));
    Ok(ended)
}

fn only(listing: &mut Listing<Record>, names: &[VmName]) -> Result<(), CliError> {
    for name in names {
        if let Some(broken) = listing.broken.iter().find(|broken| broken.name == name.as_str()) {
            return Err(StoreError::Broken(broken.clone()).into());
        }
        if listing.entries.iter().all(|record| record.name != *name) {
            return Err(StoreError::NotFound { name: name.clone() }.into());
        }
    }
    listing.entries.retain(|record| names.contains(&record.name));
    Ok(())
}

fn not_ours(kind: ProviderKind, stray: &Stray) -> String {
    format!("  {} ({kind}, {}) is {}, and not goloo's", stray.name, stray.id, stray.state)
}

/// All records and all machines, side by side.
pub struct Reality {
    seen: Vec<Seen>,
    /// VMs that can't be asked of from here, with the place where they belong.
    elsewhere: Vec<(VmName, Elsewhere)>,
    broken: Vec<Broken>,
    strays: Strays,
}

impl Reality {
    /// Asks every provider of everything.
    pub fn of_all(app: &App, listing: Listing<Record>) -> Self {
        let here = app.here();
        let place = |record: Record| (record.elsewhere(&here), record);
        let (others, own): (Vec<_>, Vec<_>) =
            listing.entries.into_iter().map(place).partition(|(place, _)| place.is_some());
        let own: Vec<Record> = own.into_iter().map(|(_, record)| record).collect();
        // Another host's record leads to no machine here, whatever its name. One of another state folder on this
        // computer may: Multipass has the machines of all users.
        let is_near = |place: &Option<Elsewhere>| matches!(place, Some(Elsewhere::StateFolder { .. }));
        let near = others.iter().filter(|(place, _)| is_near(place)).map(|(_, record)| record);
        let strays = observe::strays(app, &own.iter().chain(near).collect::<Vec<_>>());
        let named = |(place, record): (Option<Elsewhere>, Record)| Some((record.name, place?));
        let elsewhere = others.into_iter().filter_map(named).collect();
        Self { seen: observe::ask(app, own), elsewhere, broken: listing.broken, strays }
    }

    /// What differs, with the command that mends it.
    pub fn findings(&self) -> Vec<Finding> {
        let vms = self.seen.iter().filter_map(difference);
        // Others may have written thousands, and each is sought among the machines.
        let broken = self.broken.iter().take(BROKEN_MAX).map(|broken| self.broken_record(broken));
        let more = self.broken.len().saturating_sub(BROKEN_MAX);
        let more = (more > 0)
            .then(|| Finding::wrong(format!("{more} more records are broken"), "goloo list --json"));
        let unasked = self.strays.unasked.iter().map(|(kind, error)| {
            Finding::wrong(format!("{kind} can't be asked for its machines: {}", error.message), &error.hint)
        });
        let strays = self.ours().filter(|(kind, stray)| !self.is_of_broken(*kind, stray));
        let strays = strays.map(|(kind, stray)| self.without_record(kind, stray));
        vms.chain(broken).chain(more).chain(unasked).chain(strays).collect()
    }

    fn ours(&self) -> impl Iterator<Item = (ProviderKind, &Stray)> {
        self.strays.found.iter().filter(|(_, stray)| stray.ours).map(|(kind, stray)| (*kind, stray))
    }

    fn others(&self) -> impl Iterator<Item = (ProviderKind, &Stray)> {
        self.strays.found.iter().filter(|(_, stray)| !stray.ours).map(|(kind, stray)| (*kind, stray))
    }

    /// The machine of a broken record, where there is no doubt.
    fn machine_of(&self, broken: &Broken) -> Option<(ProviderKind, &Stray)> {
        let mut machines = self.ours().filter(|(_, stray)| stray.name == broken.name);
        machines.next().filter(|_| machines.next().is_none())
    }

    fn is_of_broken(&self, kind: ProviderKind, stray: &Stray) -> bool {
        self.broken.iter().any(|broken| self.machine_of(broken) == Some((kind, stray)))
    }

    /// A record that can't be read; where its machine is there, a new one can be made.
    fn broken_record(&self, broken: &Broken) -> Finding {
        let what = format!("the record at {} is broken: {}", broken.path, broken.error);
        let backup = "restore state.json there from a backup; nothing of it is touched until then";
        let Some((kind, stray)) = self.machine_of(broken) else { return Finding::wrong(what, backup) };
        let folder = broken.path.trim_end_matches("/state.json");
        let adopt = format!("goloo adopt {} --provider {kind} --id {}", broken.name, stray.id);
        let anew = format!("mv {folder} {}.broken && {adopt}", broken.name);
        Finding::wrong(what, format!("restore state.json there from a backup, or make it anew: {anew}"))
    }

    fn without_record(&self, kind: ProviderKind, stray: &Stray) -> Finding {
        let what = format!("no record leads to the machine {} ({kind}, {})", stray.name, stray.id);
        let here = self.seen.iter().map(|seen| &seen.record.name);
        let mut taken = here.chain(self.elsewhere.iter().map(|(name, _)| name));
        let is_free = taken.all(|name| name.as_str() != stray.name);
        let name = VmName::parse(&stray.name).ok().filter(|_| is_free);
        let name = name.as_ref().map_or("NAME", VmName::as_str);
        let adopt = format!("goloo adopt {name} --provider {kind} --id {}", stray.id);
        if self.broken.is_empty() {
            return Finding::wrong(what, adopt);
        }
        Finding::wrong(what, format!("a broken record may lead to it: mend that first; else {adopt}"))
    }

    fn json(&self, all: bool) -> Value {
        let of = |wanted: fn(&Seen) -> Option<Value>| -> Vec<Value> {
            self.seen.iter().filter_map(wanted).collect()
        };
        let strays = self.ours().chain(self.others().filter(|_| all));
        let strays: Vec<Value> = strays.map(|(kind, stray)| stray_json(kind, stray)).collect();
        let unasked = self.strays.unasked.iter();
        let unasked = unasked.map(|(kind, error)| json!({"provider": kind, "reason": error.message}));
        json!({
            "missing": of(|seen| is_missing(seen).then(|| vm_json(seen))),
            "unknown": of(|seen| Some(with(vm_json(seen), "reason", seen.unknown()?))),
            "changed": of(|seen| {
                let changed = with(vm_json(seen), "ip", moved(seen)?);
                Some(with(changed, "recordedIp", seen.record.ip()))
            }),
            "dangling": of(|seen| Some(with(vm_json(seen), "reason", released(seen)?))),
            "strays": strays,
            "broken": self.broken.iter().map(broken_json).collect::<Vec<_>>(),
            "unasked": unasked.collect::<Vec<_>>(),
            "elsewhere": self.elsewhere.iter().map(elsewhere_json).collect::<Vec<_>>(),
        })
    }
}

fn elsewhere_json((name, place): &(VmName, Elsewhere)) -> Value {
    match place {
        Elsewhere::Host { host } => json!({"name": name, "host": host}),
        Elsewhere::StateFolder { user, host } => json!({"name": name, "host": host, "user": user}),
        Elsewhere::OtherVm | Elsewhere::Unproven => json!({"name": name}),
    }
}

fn vm_json(seen: &Seen) -> Value {
    json!({"name": seen.record.name, "provider": seen.record.provider})
}

fn with<'t>(mut value: Value, key: &str, text: impl Into<Option<&'t str>>) -> Value {
    value[key] = text.into().into();
    value
}

fn stray_json(kind: ProviderKind, stray: &Stray) -> Value {
    json!({
        "name": stray.name, "id": stray.id, "provider": kind, "state": stray.state.as_str(),
        "ours": stray.ours,
    })
}

/// What AWS says of a stopped VM beside that: its names point to an address that isn't its own any more.
fn released(seen: &Seen) -> Option<&str> {
    let is_released = seen.live.state == LiveState::Stopped && !seen.record.provider.is_local();
    seen.live.reason.as_deref().filter(|_| is_released)
}

fn is_missing(seen: &Seen) -> bool {
    seen.live.state == LiveState::Missing
}

/// The machine's address, where it isn't the one on record.
fn moved(seen: &Seen) -> Option<&str> {
    seen.live.ip.as_deref().filter(|ip| Some(*ip) != seen.record.ip())
}

fn difference(seen: &Seen) -> Option<Finding> {
    let record = &seen.record;
    let (name, kind) = (&record.name, record.provider);
    let unfinished = record.operation.as_ref().is_some_and(|operation| operation.kind.makes_or_ends());
    if is_missing(seen) {
        let hint = match unfinished {
            true => format!("if nobody works on it: goloo resume {name}, or goloo delete {name}"),
            false => format!("goloo delete {name} archives its record"),
        };
        return Some(Finding::wrong(format!("{kind} has no machine {name}"), hint));
    }
    if let Some(reason) = seen.unknown() {
        let what = format!("it can't be told what {name} ({kind}) does: {reason}");
        return Some(Finding::wrong(what, "goloo doctor looks for the cause"));
    }
    if let Some(reason) = released(seen) {
        return Some(Finding::wrong(format!("{name} is stopped; {reason}"), format!("goloo stop {name}")));
    }
    let (now, recorded) = (moved(seen)?, record.ip().unwrap_or("none"));
    let what = format!("{name} is at {now}; on record it is at {recorded}");
    Some(Finding::wrong(what, format!("goloo start {name} saves its address")))
}
