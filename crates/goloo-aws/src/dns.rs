//! The VM's names in Route 53. A record that someone else made is never changed unless a person asks for it,
//! and none that has come to lead elsewhere.

use std::collections::BTreeSet;

use aws_sdk_route53::Client;
use aws_sdk_route53::operation::change_resource_record_sets::ChangeResourceRecordSetsError;
use aws_sdk_route53::types::{
    Change, ChangeAction, ChangeBatch, HostedZone, ResourceRecord, ResourceRecordSet, RrType,
};
use goloo_core::dns::{DnsChange, RecordSet};
use goloo_core::events::Event;
use goloo_core::provider::{ProviderError, Work};
use goloo_core::record::Record;
use goloo_core::spec::{DNS_TTL, Dns};

use crate::details::{Details, DnsRecord};
use crate::error::AwsError;
use crate::instances::{Instance, State};
use crate::pages::Pages;

/// The kind under which a record in Route 53 is noted, before it is made.
pub const RESOURCE: &str = "route53-record";

const CHANGE: &str = "route53:ChangeResourceRecordSets";

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A name with an address.
    A,
    /// Another name for a name.
    Cname,
}

impl Kind {
    /// Route 53's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Cname => "CNAME",
        }
    }

    /// Of Route 53's word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::A, Self::Cname].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// A name that leads to the VM.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The name, in lower case, without a dot at its end.
    pub name: String,
    /// Whether it has the address itself.
    pub kind: Kind,
}

/// The names that a stack asks for. The first is the VM's own.
pub fn names(dns: &Dns) -> Vec<Name> {
    let domain = normal(&dns.domain);
    let in_domain = |name: &str| {
        let name = normal(name);
        let is_full = name == domain || name.ends_with(&format!(".{domain}"));
        if is_full { name } else { format!("{name}.{domain}") }
    };
    let mut names = vec![Name { name: in_domain(&dns.hostname), kind: Kind::A }];
    let apex = dns.is_apex_domain.then(|| Name { name: domain.clone(), kind: Kind::A });
    let aliases = dns.cname_aliases.iter().map(|alias| Name { name: in_domain(alias), kind: Kind::Cname });
    for name in apex.into_iter().chain(aliases) {
        if !names.iter().any(|known| known.name == name.name) {
            names.push(name);
        }
    }
    names
}

/// The names that a stack asks for in this zone, as records note them.
pub fn notes(dns: &Dns, zone: &str) -> Vec<String> {
    names(dns).iter().map(|name| note(zone, name.kind.as_str(), &name.name)).collect()
}

pub(crate) fn note(zone: &str, kind: &str, name: &str) -> String {
    format!("{zone}/{kind}/{name}")
}

/// A name as goloo compares it: Route 53 writes a dot behind it and `*` as `\052`.
pub fn normal(name: &str) -> String {
    name.trim_end_matches('.').replace("\\052", "*").to_ascii_lowercase()
}

/// The records that a stack asks for, for a VM with this address.
pub fn wanted(dns: &Dns, address: &str) -> Vec<DnsRecord> {
    let names = names(dns);
    let own = names.first().map(|name| name.name.clone()).unwrap_or_default();
    let record = |name: Name| DnsRecord {
        value: if name.kind == Kind::A { address.to_owned() } else { own.clone() },
        kind: name.kind.as_str().to_owned(),
        name: name.name,
        ttl: dns.ttl,
        withdrawn: false,
    };
    names.into_iter().map(record).collect()
}

/// The hosted zone of a stack's names: the one that it names, else the public one with the longest name
/// that the domain ends with.
pub async fn zone(client: &Client, dns: &Dns) -> Result<String, ProviderError> {
    if let Some(id) = &dns.zone_id {
        return given_zone(client, bare(id), &normal(&dns.domain)).await;
    }
    let mut zones = Vec::new();
    let (mut marker, mut pages) = (None, Pages::of("route53:ListHostedZones"));
    loop {
        let request = client.list_hosted_zones().set_marker(marker);
        let answer = request.send().await.map_err(|error| AwsError::of("route53:ListHostedZones", &error))?;
        zones.extend(
            answer
                .hosted_zones()
                .iter()
                .filter(|zone| !is_private(zone))
                .map(|zone| (normal(zone.name()), bare(zone.id()).to_owned())),
        );
        marker = pages.next(answer.next_marker().filter(|_| answer.is_truncated()))?;
        if marker.is_none() {
            break;
        }
    }
    choose(&normal(&dns.domain), &zones)
}

/// The zone that the stack names, once it is known that the domain's public names can be made in it.
async fn given_zone(client: &Client, id: &str, domain: &str) -> Result<String, ProviderError> {
    let request = client.get_hosted_zone().id(id);
    let answer = request.send().await.map_err(|error| AwsError::of("route53:GetHostedZone", &error));
    let answer = match answer {
        // An id that can't be one is refused by its form.
        Err(error) if is_no_zone(&error) || error.code() == Some("InvalidInput") => {
            return Err(unusable(&format!("there is no hosted zone {id} in Route 53"), domain));
        }
        answer => answer?,
    };
    let Some(zone) = answer.hosted_zone() else {
        return Err(unusable(&format!("Route 53 says nothing of the hosted zone {id}"), domain));
    };
    let name = normal(zone.name());
    if is_private(zone) {
        let what = format!("the hosted zone {id} ({name}) is private: its names are known in its VPCs alone");
        return Err(unusable(&what, domain));
    }
    if !holds(&name, domain) {
        return Err(unusable(
            &format!("the hosted zone {id} is {name}, which {domain} isn't part of"),
            domain,
        ));
    }
    Ok(id.to_owned())
}

fn unusable(what: &str, domain: &str) -> ProviderError {
    ProviderError::Unsupported {
        what: format!("dns.zone_id can't be used: {what}"),
        hint: format!(
            "aws route53 list-hosted-zones-by-name --dns-name {domain} shows what there is; without dns.zone_id goloo finds the zone by dns.domain"
        ),
    }
}

/// Whether a domain's names are made in a zone of this name.
fn holds(zone: &str, domain: &str) -> bool {
    domain == zone || domain.ends_with(&format!(".{zone}"))
}

fn choose(domain: &str, zones: &[(String, String)]) -> Result<String, ProviderError> {
    let holds = |zone: &str| holds(zone, domain);
    let longest = zones.iter().filter(|(zone, _)| holds(zone)).map(|(zone, _)| zone.len()).max();
    let best: Vec<_> = zones.iter().filter(|(zone, _)| holds(zone) && Some(zone.len()) == longest).collect();
    match best[..] {
        [(_, id)] => Ok(id.clone()),
        [] => Err(ProviderError::Unsupported {
            what: format!("no public hosted zone in Route 53 has the domain {domain}"),
            hint: "aws route53 list-hosted-zones shows what there is; dns.zone_id names one".to_owned(),
        }),
        _ => Err(ProviderError::Unsupported {
            what: format!("{} hosted zones in Route 53 are called {}", best.len(), best[0].0),
            hint: format!("say which: \"zone_id\": \"{}\"", best[0].1),
        }),
    }
}

fn is_private(zone: &HostedZone) -> bool {
    zone.config().is_some_and(|config| config.private_zone())
}

/// A zone's id as records keep it.
fn bare(id: &str) -> &str {
    id.rsplit('/').next().unwrap_or(id)
}

/// Names in one hosted zone.
#[derive(Debug)]
pub struct Zone<'a> {
    client: &'a Client,
    pub(crate) id: &'a str,
}

impl<'a> Zone<'a> {
    /// Of this id.
    pub fn new(client: &'a Client, id: &'a str) -> Self {
        Self { client, id: bare(id) }
    }

    /// Removes those of the names that still lead to the VM: to one of its addresses, or to a name of its
    /// own.
    pub async fn withdraw(
        &self,
        names: &BTreeSet<Name>,
        addresses: &BTreeSet<String>,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        let changes = self.plan_withdraw(names, addresses).await?;
        if changes.is_empty() {
            return Ok(());
        }
        work.step("removing its names");
        match self.change(changes).await {
            // Sent again after its answer was lost, a batch meets what it did itself.
            Err(error) if is_conflict(&error) => {
                let left = self.plan_withdraw(names, addresses).await?;
                if left.is_empty() { Ok(()) } else { Ok(self.change(left).await?) }
            }
            done => Ok(done?),
        }
    }

    async fn plan_withdraw(
        &self,
        names: &BTreeSet<Name>,
        addresses: &BTreeSet<String>,
    ) -> Result<Vec<Change>, AwsError> {
        let mut taken = BTreeSet::new();
        let mut changes = Vec::new();
        // A sorts before CNAME: by then it is known which names are someone else's now.
        let mut in_order: Vec<&Name> = names.iter().collect();
        in_order.sort_by_key(|name| name.kind);
        for name in in_order {
            let there = match self.live(&name.name).await {
                Err(error) if is_no_zone(&error) => return Ok(Vec::new()),
                there => there?,
            };
            for set in there.into_iter().filter(|set| kind_of(set) == Some(name.kind)) {
                let is_ours = only_value(&set).is_some_and(|value| match name.kind {
                    Kind::A => addresses.contains(value),
                    Kind::Cname => {
                        let target = Name { name: normal(value), kind: Kind::A };
                        names.contains(&target) && !taken.contains(&target)
                    }
                });
                if is_ours {
                    changes.push(change(&ChangeAction::Delete, set));
                } else {
                    taken.insert(name.clone());
                }
            }
        }
        Ok(changes)
    }

    /// Points the VM's records at its new address, or takes those with an address away where it has none, in
    /// one batch which does nothing when one of them changes meanwhile. What has come to point elsewhere is left
    /// alone. Gives the records as they are then; `old` are the addresses that the VM had.
    pub async fn follow(
        &self,
        records: &[DnsRecord],
        old: &BTreeSet<String>,
        new: Option<&str>,
        work: &mut dyn Work,
    ) -> Result<Vec<DnsRecord>, ProviderError> {
        let mut follow = self.plan_follow(records, old, new).await?;
        if !follow.changes.is_empty() {
            work.step(match new {
                Some(_) => "pointing its names at its new address",
                None => "withdrawing its names: its address goes back to AWS",
            });
            match self.change(std::mem::take(&mut follow.changes)).await {
                // Sent again after its answer was lost, a batch meets what it did itself.
                Err(error) if is_conflict(&error) => {
                    follow = self.plan_follow(records, old, new).await?;
                    if !follow.changes.is_empty() {
                        self.change(std::mem::take(&mut follow.changes)).await?;
                    }
                }
                done => done?,
            }
        }
        for text in follow.left {
            work.events().event(Event::Warning(text));
        }
        Ok(follow.records)
    }

    async fn plan_follow(
        &self,
        records: &[DnsRecord],
        old: &BTreeSet<String>,
        new: Option<&str>,
    ) -> Result<Follow, AwsError> {
        let mut follow = Follow::default();
        for record in records {
            if Kind::parse(&record.kind) != Some(Kind::A) {
                follow.records.push(record.clone());
                continue;
            }
            match self.live(&record.name).await {
                Err(error) if is_no_zone(&error) => follow.lose(record, self.id),
                there => follow.add(record, there?, old, new),
            }
        }
        Ok(follow)
    }

    /// Those of the names that point to an instance, or to nothing because it is stopped: `last_address` is what
    /// they had then.
    pub async fn records_of(
        &self,
        names: &[Name],
        instance: &Instance,
        last_address: &str,
    ) -> Result<Vec<DnsRecord>, AwsError> {
        let mut records: Vec<DnsRecord> = Vec::new();
        for name in names {
            let there = match self.live(&name.name).await {
                Err(error) if is_no_zone(&error) => return Ok(Vec::new()),
                there => there?,
            };
            let is_ours = |set: &&ResourceRecordSet| {
                kind_of(set) == Some(name.kind)
                    && only_value(set).is_some_and(|value| match name.kind {
                        Kind::A => instance.address() == Some(value),
                        Kind::Cname => records.iter().any(|known| known.name == normal(value)),
                    })
            };
            let withdrawn = name.kind == Kind::A && there.is_empty() && instance.state == State::Stopped;
            if let Some(set) = there.iter().find(is_ours) {
                records.extend(DnsRecord::of(&in_record(set)));
            } else if withdrawn {
                let (name, kind) = (name.name.clone(), Kind::A.as_str().to_owned());
                records.push(DnsRecord {
                    name,
                    kind,
                    value: last_address.to_owned(),
                    ttl: DNS_TTL,
                    withdrawn,
                });
            }
        }
        Ok(records)
    }

    /// What a name has, as records keep it.
    pub async fn sets(&self, name: &str) -> Result<Vec<LiveSet>, ProviderError> {
        let there = self.live(name).await?;
        Ok(there.iter().map(|set| LiveSet { set: in_record(set), is_plain: is_plain(set) }).collect())
    }

    /// Moves names in one batch, which does nothing when one of them isn't as it was any more.
    pub async fn replace(&self, change: &DnsChange) -> Result<(), AwsError> {
        let (gone, new) = change.difference();
        let remove = gone.iter().map(|set| self::change(&ChangeAction::Delete, in_route53(set)));
        let add = new.iter().map(|set| self::change(&ChangeAction::Create, in_route53(set)));
        let all: Vec<Change> = remove.chain(add).collect();
        if all.is_empty() { Ok(()) } else { self.change(all).await }
    }

    /// What a name has that keeps others from having it.
    async fn live(&self, name: &str) -> Result<Vec<ResourceRecordSet>, AwsError> {
        let mut there = self.all_of(name).await?;
        there.retain(blocks);
        Ok(there)
    }

    /// All that a name has.
    pub(crate) async fn all_of(&self, name: &str) -> Result<Vec<ResourceRecordSet>, AwsError> {
        let request = self.client.list_resource_record_sets().hosted_zone_id(self.id).start_record_name(name);
        let answer = request.send().await;
        let answer = answer.map_err(|error| AwsError::of("route53:ListResourceRecordSets", &error))?;
        let is_it = |set: &&ResourceRecordSet| normal(set.name()) == name;
        Ok(answer.resource_record_sets().iter().filter(is_it).cloned().collect())
    }

    /// Does all of this or none of it.
    pub(crate) async fn change(&self, changes: Vec<Change>) -> Result<(), AwsError> {
        let batch = ChangeBatch::builder().set_changes(Some(changes)).build();
        let batch = batch.expect("a batch with its changes is complete");
        let request = self.client.change_resource_record_sets().hosted_zone_id(self.id).change_batch(batch);
        request.send().await.map(drop).map_err(|error| match error.as_service_error() {
            // Its reasons lie in a field of their own.
            Some(ChangeResourceRecordSetsError::InvalidChangeBatch(invalid)) => AwsError::Service {
                action: CHANGE,
                code: "InvalidChangeBatch".to_owned(),
                message: match invalid.messages().join("; ") {
                    reasons if reasons.is_empty() => invalid.to_string(),
                    reasons => reasons,
                },
            },
            _ => AwsError::of(CHANGE, &error),
        })
    }
}

/// What becomes of a VM's records when its address changes.
#[derive(Default)]
struct Follow {
    /// The records once the changes are made.
    records: Vec<DnsRecord>,
    changes: Vec<Change>,
    /// Why names stay as they are, for people.
    left: Vec<String>,
}

impl Follow {
    fn add(
        &mut self,
        record: &DnsRecord,
        there: Vec<ResourceRecordSet>,
        old: &BTreeSet<String>,
        new: Option<&str>,
    ) {
        let is_ours = |set: &ResourceRecordSet| {
            let value = only_value(set).filter(|_| set.r#type() == &RrType::A);
            value.is_some_and(|value| old.contains(value) || record.address() == Some(value))
        };
        let then = match new {
            Some(new) => DnsRecord { value: new.to_owned(), withdrawn: false, ..record.clone() },
            None => DnsRecord { withdrawn: true, ..record.clone() },
        };
        let ours = there.iter().find(|set| is_ours(set));
        let is_done = match new {
            Some(_) => there.iter().any(|set| leads_to(set, &then)),
            None => record.withdrawn || there.is_empty(),
        };
        if !is_done {
            match ours {
                Some(set) => self.changes.push(change(&ChangeAction::Delete, set.clone())),
                None if record.withdrawn && there.is_empty() => {}
                None => return self.leave(record, &there, new),
            }
            if new.is_some() {
                self.changes.push(change(&ChangeAction::Create, set_of(&then)));
            }
        }
        self.records.push(then);
    }

    /// The name went with its zone.
    fn lose(&mut self, record: &DnsRecord, zone: &str) {
        self.left.push(format!("{} is gone: its hosted zone {zone} no longer exists", record.name));
        self.records.push(DnsRecord { withdrawn: true, ..record.clone() });
    }

    /// Someone else has the name now. Of a VM that stops it counts as withdrawn; one that was withdrawn is lost.
    fn leave(&mut self, record: &DnsRecord, there: &[ResourceRecordSet], new: Option<&str>) {
        let shown: Vec<String> = there.iter().map(shown).collect();
        let target = if shown.is_empty() { "nowhere".to_owned() } else { shown.join(", ") };
        self.left.push(format!("{} leads elsewhere now ({target}) and is left alone", record.name));
        if !record.withdrawn {
            self.records.push(DnsRecord { withdrawn: new.is_none(), ..record.clone() });
        }
    }
}

/// What a name has in Route 53.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSet {
    /// Its values.
    pub set: RecordSet,
    /// Whether these say it all: Route 53 has aliases to its own things and sets that answer by weight, too.
    pub is_plain: bool,
}

/// The VM's names and their zone, by what its record notes: those that were about to be made, too.
pub fn noted(record: &Record) -> Option<(String, BTreeSet<Name>)> {
    noted_in_order(record).map(|(zone, names)| (zone, names.into_iter().collect()))
}

/// The same in the order in which they were asked for, some of them more than once.
pub fn noted_in_order(record: &Record) -> Option<(String, Vec<Name>)> {
    let noted = record.resources.iter().filter(|resource| resource.kind == RESOURCE);
    let mut noted: Vec<(String, Name)> = noted.filter_map(|resource| read_note(&resource.id)).collect();
    let details = record.aws.as_ref().map(Details::of).unwrap_or_default();
    if let Some(zone) = &details.zone_id {
        noted.extend(details.dns_records.iter().filter_map(|known| {
            Some((zone.clone(), Name { name: normal(&known.name), kind: Kind::parse(&known.kind)? }))
        }));
    }
    let zone = details.zone_id.or_else(|| noted.first().map(|(zone, _)| zone.clone()))?;
    let names = noted.into_iter().filter(|(in_zone, _)| *in_zone == zone).map(|(_, name)| name).collect();
    Some((zone, names))
}

/// The names of notes, and the zone of the first.
pub fn in_notes<'n>(notes: impl Iterator<Item = &'n str>) -> Option<(String, Vec<Name>)> {
    let noted: Vec<(String, Name)> = notes.filter_map(read_note).collect();
    let zone = noted.first()?.0.clone();
    let names = noted.into_iter().filter(|(in_zone, _)| *in_zone == zone).map(|(_, name)| name).collect();
    Some((zone, names))
}

fn read_note(note: &str) -> Option<(String, Name)> {
    let mut parts = note.splitn(3, '/');
    let zone = parts.next()?.to_owned();
    let kind = Kind::parse(parts.next()?)?;
    Some((zone, Name { kind, name: normal(parts.next()?) }))
}

/// Whether the hosted zone itself no longer exists, and all names in it with it.
pub(crate) fn is_no_zone(error: &AwsError) -> bool {
    error.code() == Some("NoSuchHostedZone")
}

pub(crate) fn is_conflict(error: &AwsError) -> bool {
    error.code() == Some("InvalidChangeBatch")
}

pub(crate) fn change(action: &ChangeAction, set: ResourceRecordSet) -> Change {
    let change = Change::builder().action(action.clone()).resource_record_set(set).build();
    change.expect("a change with action and record set is complete")
}

pub(crate) fn set_of(record: &DnsRecord) -> ResourceRecordSet {
    in_route53(&record.set())
}

fn in_route53(set: &RecordSet) -> ResourceRecordSet {
    let value = |value: &String| ResourceRecord::builder().value(value).build();
    let values = set.values.iter().map(|text| value(text).expect("a value is all it has"));
    ResourceRecordSet::builder()
        .name(&set.name)
        .r#type(RrType::from(set.kind.as_str()))
        .ttl(i64::from(set.ttl))
        .set_resource_records(Some(values.collect()))
        .build()
        .expect("a set with name and type is complete")
}

fn kind_of(set: &ResourceRecordSet) -> Option<Kind> {
    Kind::parse(set.r#type().as_str())
}

/// Whether a set keeps a name from having an address or being another's alias.
pub(crate) fn blocks(set: &ResourceRecordSet) -> bool {
    kind_of(set).is_some()
}

/// Whether a set doesn't lead by Route 53's own ways.
pub(crate) fn is_plain(set: &ResourceRecordSet) -> bool {
    set.alias_target().is_none() && set.set_identifier().is_none()
}

/// The one value of a plain set; `None` where it has several.
fn only_value(set: &ResourceRecordSet) -> Option<&str> {
    match set.resource_records() {
        [one] if is_plain(set) => Some(one.value()),
        _ => None,
    }
}

fn in_record(set: &ResourceRecordSet) -> RecordSet {
    RecordSet {
        name: normal(set.name()),
        kind: set.r#type().as_str().to_owned(),
        values: values(set).map(str::to_owned).collect(),
        ttl: set.ttl().and_then(|ttl| u32::try_from(ttl).ok()).unwrap_or_default(),
    }
}

/// All that a set leads to.
fn values(set: &ResourceRecordSet) -> impl Iterator<Item = &str> {
    let alias = set.alias_target().map(|alias| alias.dns_name());
    alias.into_iter().chain(set.resource_records().iter().map(|record| record.value()))
}

pub(crate) fn leads_to(set: &ResourceRecordSet, record: &DnsRecord) -> bool {
    let same = |value: &str| normal(value) == normal(&record.value);
    set.r#type().as_str() == record.kind && only_value(set).is_some_and(same)
}

pub(crate) fn shown(set: &ResourceRecordSet) -> String {
    in_record(set).shown()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn dns(hostname: &str, domain: &str) -> Dns {
        Dns {
            hostname: hostname.to_owned(),
            domain: domain.to_owned(),
            ttl: 300,
            zone_id: None,
            is_apex_domain: true,
            cname_aliases: vec!["www".to_owned(), "*.Example.com.".to_owned(), "WEB".to_owned()],
        }
    }

    #[test]
    fn each_name_is_asked_for_once_and_in_one_form() {
        let records = wanted(&dns("Web", "Example.com."), "192.0.2.1");
        let shown: Vec<String> = records
            .iter()
            .map(|record| format!("{} {} {}", record.name, record.kind, record.value))
            .collect();
        assert_eq!(
            shown,
            [
                "web.example.com A 192.0.2.1",
                "example.com A 192.0.2.1",
                "www.example.com CNAME web.example.com",
                "*.example.com CNAME web.example.com",
            ]
        );
    }

    #[test]
    fn route_53s_own_spelling_is_the_same_name() {
        assert_eq!(normal("\\052.Example.com."), "*.example.com");
    }

    #[test]
    fn the_zone_with_the_longest_name_holds_the_domain() {
        let zones = |names: &[&str]| -> Vec<(String, String)> {
            names.iter().enumerate().map(|(index, name)| ((*name).to_owned(), format!("Z{index}"))).collect()
        };
        let known = zones(&["com", "example.com", "dev.example.com", "xdev.example.com", "notexample.com"]);
        assert_eq!(choose("dev.example.com", &known).unwrap(), "Z2");
        assert_eq!(choose("a.dev.example.com", &known).unwrap(), "Z2");
        assert_eq!(choose("example.com", &known).unwrap(), "Z1");
        choose("example.org", &known).unwrap_err();
        let twice = choose("example.com", &zones(&["example.com", "example.com"])).unwrap_err();
        assert!(twice.to_string().contains("2 hosted zones"), "{twice}");
    }
}
