//! The VM's names in Route 53. A record set that someone else created is changed only if the user asks for it, and one
//! that has come to point elsewhere is never changed.

use std::collections::BTreeSet;

use aws_sdk_route53::Client;
use aws_sdk_route53::operation::change_resource_record_sets::ChangeResourceRecordSetsError;
use aws_sdk_route53::types::{
    Change, ChangeAction, ChangeBatch, HostedZone, ResourceRecord, ResourceRecordSet, RrType,
};
use goloo_model::dns::{DnsChange, RecordSet};
use goloo_model::events::Event;
use goloo_model::provider::{ProviderError, Work};
use goloo_model::record::Record;
use goloo_model::spec::{DNS_TTL, Dns};

use crate::details::{Details, DnsRecord};
use crate::error::AwsError;
use crate::instances::{Instance, State};
use crate::pages::Pages;
use crate::record_type::RecordType;

/// The resource kind under which a Route 53 record set is recorded before it is created.
pub const RESOURCE: &str = "route53-record";

const CHANGE: &str = "route53:ChangeResourceRecordSets";

/// A name that points to the VM.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The name, in lower case, without a trailing dot.
    pub name: String,
    /// Whether it has the address itself or is an alias.
    pub kind: RecordType,
}

/// The names a stack requests. The first is the VM's own.
pub fn names(dns: &Dns) -> Vec<Name> {
    let kind = |is_alias| if is_alias { RecordType::Cname } else { RecordType::A };
    dns.names().into_iter().map(|(name, is_alias)| Name { name, kind: kind(is_alias) }).collect()
}

/// The names a stack requests in this zone, in the form used in records.
pub fn notes(dns: &Dns, zone: &str) -> Vec<String> {
    names(dns).iter().map(|name| note(zone, name.kind.as_str(), &name.name)).collect()
}

pub(crate) fn note(zone: &str, kind: &str, name: &str) -> String {
    format!("{zone}/{kind}/{name}")
}

/// Normalizes a name for comparison: Route 53 appends a dot and writes `*` as `\052`.
pub fn normal(name: &str) -> String {
    name.trim_end_matches('.').replace("\\052", "*").to_ascii_lowercase()
}

/// The record sets a stack requests for a VM with this address.
pub fn wanted(dns: &Dns, address: &str) -> Vec<DnsRecord> {
    let names = names(dns);
    let own = names.first().map(|name| name.name.clone()).unwrap_or_default();
    let record = |name: Name| DnsRecord {
        value: if name.kind == RecordType::A { address.to_owned() } else { own.clone() },
        kind: name.kind.as_str().to_owned(),
        name: name.name,
        ttl: dns.ttl,
        withdrawn: false,
    };
    names.into_iter().map(record).collect()
}

/// The hosted zone of a stack's names: the zone it specifies, otherwise the public zone with the longest name that is a
/// suffix of the domain.
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

/// The zone the stack specifies, after checking that the domain's public names can be created in it.
async fn given_zone(client: &Client, id: &str, domain: &str) -> Result<String, ProviderError> {
    let request = client.get_hosted_zone().id(id);
    let answer = request.send().await.map_err(|error| AwsError::of("route53:GetHostedZone", &error));
    let answer = match answer {
        // A malformed id is rejected as invalid input.
        Err(error) if is_no_zone(&error) || error.code() == Some("InvalidInput") => {
            return Err(unusable(&format!("there is no hosted zone {id} in Route 53"), domain));
        }
        answer => answer?,
    };
    let Some(zone) = answer.hosted_zone() else {
        return Err(unusable(&format!("Route 53 returned nothing about the hosted zone {id}"), domain));
    };
    let name = normal(zone.name());
    if is_private(zone) {
        let what = format!("the hosted zone {id} ({name}) is private: its names only resolve in its VPCs");
        return Err(unusable(&what, domain));
    }
    if !holds(&name, domain) {
        return Err(unusable(
            &format!("the hosted zone {id} is {name}, which doesn't contain {domain}"),
            domain,
        ));
    }
    Ok(id.to_owned())
}

fn unusable(what: &str, domain: &str) -> ProviderError {
    ProviderError::Unsupported {
        what: format!("dns.zone_id can't be used: {what}"),
        hint: format!(
            "aws route53 list-hosted-zones-by-name --dns-name {domain} lists the zones; without dns.zone_id, goloo finds the zone by dns.domain"
        ).into(),
    }
}

/// Whether names of a domain belong in a zone with this name.
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
            hint: "aws route53 list-hosted-zones lists the zones; choose one with dns.zone_id".into(),
        }),
        _ => Err(ProviderError::Unsupported {
            what: format!("{} hosted zones in Route 53 are called {}", best.len(), best[0].0),
            hint: format!("choose one: \"zone_id\": \"{}\"", best[0].1).into(),
        }),
    }
}

fn is_private(zone: &HostedZone) -> bool {
    zone.config().is_some_and(|config| config.private_zone())
}

/// A zone's id in the form used in records.
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
    /// A zone by its id.
    pub fn new(client: &'a Client, id: &'a str) -> Self {
        Self { client, id: bare(id) }
    }

    /// Removes those of the names that still point to the VM: to one of its addresses, or to one of its own names.
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
        work.step("removing its DNS names");
        match self.change(changes).await {
            // If the SDK retries after a lost response, the batch conflicts with its own result.
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
        // A sorts before CNAME: so it is already known which names belong to someone else.
        let mut in_order: Vec<&Name> = names.iter().collect();
        in_order.sort_by_key(|name| name.kind);
        for name in in_order {
            let there = match self.live(&name.name).await {
                Err(error) if is_no_zone(&error) => return Ok(Vec::new()),
                there => there?,
            };
            for set in there.into_iter().filter(|set| kind_of(set) == Some(name.kind)) {
                let is_ours = only_value(&set).is_some_and(|value| match name.kind {
                    RecordType::A => addresses.contains(value),
                    RecordType::Cname => {
                        let target = Name { name: normal(value), kind: RecordType::A };
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

    /// Points the VM's record sets at its new address or, if it has none, removes those with an address. This is one
    /// batch, which has no effect if any of them changes in the meantime. Names that have come to point elsewhere are
    /// left alone. Returns the resulting records; `old` are the VM's former addresses.
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
                Some(_) => "pointing its DNS names to its new address",
                None => "withdrawing its DNS names: its address is released to AWS",
            });
            match self.change(std::mem::take(&mut follow.changes)).await {
                // If the SDK retries after a lost response, the batch conflicts with its own result.
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
            if RecordType::parse(&record.kind) != Some(RecordType::A) {
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

    /// Those of the names that point to an instance or, because it is stopped, to nothing: `last_address` is what they
    /// pointed to before.
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
                        RecordType::A => instance.address() == Some(value),
                        RecordType::Cname => records.iter().any(|known| known.name == normal(value)),
                    })
            };
            let withdrawn =
                name.kind == RecordType::A && there.is_empty() && instance.state == State::Stopped;
            if let Some(set) = there.iter().find(is_ours) {
                records.extend(DnsRecord::of(&in_record(set)));
            } else if withdrawn {
                let (name, kind) = (name.name.clone(), RecordType::A.as_str().to_owned());
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

    /// A name's record sets, in the form used in records.
    pub async fn sets(&self, name: &str) -> Result<Vec<LiveSet>, ProviderError> {
        let there = self.live(name).await?;
        Ok(there.iter().map(|set| LiveSet { set: in_record(set), is_plain: is_plain(set) }).collect())
    }

    /// Moves names in one batch, which has no effect if any of them has changed.
    pub async fn replace(&self, change: &DnsChange) -> Result<(), AwsError> {
        let (gone, new) = change.difference();
        let remove = gone.iter().map(|set| self::change(&ChangeAction::Delete, in_route53(set)));
        let add = new.iter().map(|set| self::change(&ChangeAction::Create, in_route53(set)));
        let all: Vec<Change> = remove.chain(add).collect();
        if all.is_empty() { Ok(()) } else { self.change(all).await }
    }

    /// A name's record sets that prevent others from using the name.
    async fn live(&self, name: &str) -> Result<Vec<ResourceRecordSet>, AwsError> {
        let mut there = self.all_of(name).await?;
        there.retain(blocks);
        Ok(there)
    }

    /// All record sets of a name.
    pub(crate) async fn all_of(&self, name: &str) -> Result<Vec<ResourceRecordSet>, AwsError> {
        let request = self.client.list_resource_record_sets().hosted_zone_id(self.id).start_record_name(name);
        let answer = request.send().await;
        let answer = answer.map_err(|error| AwsError::of("route53:ListResourceRecordSets", &error))?;
        let is_it = |set: &&ResourceRecordSet| normal(set.name()) == name;
        Ok(answer.resource_record_sets().iter().filter(is_it).cloned().collect())
    }

    /// Applies all changes or none.
    pub(crate) async fn change(&self, changes: Vec<Change>) -> Result<(), AwsError> {
        let batch = ChangeBatch::builder().set_changes(Some(changes)).build();
        let batch = batch.expect("a batch with its changes is complete");
        let request = self.client.change_resource_record_sets().hosted_zone_id(self.id).change_batch(batch);
        request.send().await.map(drop).map_err(|error| match error.as_service_error() {
            // Its reasons are in a separate field.
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

/// What happens to a VM's record sets when its address changes.
#[derive(Default)]
struct Follow {
    /// The records after the changes.
    records: Vec<DnsRecord>,
    changes: Vec<Change>,
    /// Messages for the user on why names stay unchanged.
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

    /// The name disappeared together with its zone.
    fn lose(&mut self, record: &DnsRecord, zone: &str) {
        self.left
            .push(format!("{} no longer exists, because its hosted zone {zone} was deleted", record.name));
        self.records.push(DnsRecord { withdrawn: true, ..record.clone() });
    }

    /// Someone else owns the name now. For a VM that is being stopped it counts as withdrawn; a withdrawn name is lost.
    fn leave(&mut self, record: &DnsRecord, there: &[ResourceRecordSet], new: Option<&str>) {
        let shown: Vec<String> = there.iter().map(shown).collect();
        let target = if shown.is_empty() { "nowhere".to_owned() } else { shown.join(", ") };
        self.left.push(format!("{} now points elsewhere ({target}) and is left unchanged", record.name));
        if !record.withdrawn {
            self.records.push(DnsRecord { withdrawn: new.is_none(), ..record.clone() });
        }
    }
}

/// A record set as it is in Route 53.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSet {
    /// Its values.
    pub set: RecordSet,
    /// Whether the values describe it completely: Route 53 also has aliases to AWS resources and weighted record sets.
    pub is_plain: bool,
}

/// The VM's names and their zone according to its record, including names that were about to be created.
pub fn noted(record: &Record, details: &Details) -> Option<(String, BTreeSet<Name>)> {
    noted_in_order(record, details).map(|(zone, names)| (zone, names.into_iter().collect()))
}

/// Like [`noted`], but in the order in which the names were requested, possibly with duplicates.
pub fn noted_in_order(record: &Record, details: &Details) -> Option<(String, Vec<Name>)> {
    let noted = record.resources.iter().filter(|resource| resource.kind == RESOURCE);
    let mut noted: Vec<(String, Name)> = noted.filter_map(|resource| read_note(&resource.id)).collect();
    if let Some(zone) = &details.zone_id {
        noted.extend(details.dns_records.iter().filter_map(|known| {
            Some((zone.clone(), Name { name: normal(&known.name), kind: RecordType::parse(&known.kind)? }))
        }));
    }
    let zone = details.zone_id.clone().or_else(|| noted.first().map(|(zone, _)| zone.clone()))?;
    let names = noted.into_iter().filter(|(in_zone, _)| *in_zone == zone).map(|(_, name)| name).collect();
    Some((zone, names))
}

/// Parses recorded names; the zone is that of the first.
pub fn in_notes<'n>(notes: impl Iterator<Item = &'n str>) -> Option<(String, Vec<Name>)> {
    let noted: Vec<(String, Name)> = notes.filter_map(read_note).collect();
    let zone = noted.first()?.0.clone();
    let names = noted.into_iter().filter(|(in_zone, _)| *in_zone == zone).map(|(_, name)| name).collect();
    Some((zone, names))
}

fn read_note(note: &str) -> Option<(String, Name)> {
    let mut parts = note.splitn(3, '/');
    let zone = parts.next()?.to_owned();
    let kind = RecordType::parse(parts.next()?)?;
    Some((zone, Name { kind, name: normal(parts.next()?) }))
}

/// Whether the hosted zone itself no longer exists, and thus none of its names.
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

fn kind_of(set: &ResourceRecordSet) -> Option<RecordType> {
    RecordType::parse(set.r#type().as_str())
}

/// Whether a record set prevents its name from having an address or being an alias.
pub(crate) fn blocks(set: &ResourceRecordSet) -> bool {
    kind_of(set).is_some()
}

/// Whether a record set uses none of Route 53's own routing features.
pub(crate) fn is_plain(set: &ResourceRecordSet) -> bool {
    set.alias_target().is_none() && set.set_identifier().is_none()
}

/// The value of a plain record set; `None` if it has several.
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

/// Everything a record set points to.
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
    fn wanted_records_are_unique_and_normalized() {
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
    fn escaped_names_from_route_53_are_normalized() {
        assert_eq!(normal("\\052.Example.com."), "*.example.com");
    }

    #[test]
    fn the_hosted_zone_with_the_longest_matching_name_is_chosen() {
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
