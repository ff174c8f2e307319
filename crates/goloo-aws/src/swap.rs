//! Which names move between two VMs, and what that makes of their records. Pure: what Route 53 has is given.

use std::collections::BTreeSet;

use goloo_core::access::Address;
use goloo_core::dns::{DnsChange, Previous, RecordSet, Stand, VmRef, is_among};
use goloo_core::name::OperationId;
use goloo_core::provider::{NamedVm, ProviderError, resource};
use goloo_core::record::Record;
use goloo_core::spec::DNS_TTL;
use goloo_core::time::Timestamp;

use crate::details::{Details, DnsRecord};
use crate::dns::{self, Kind, LiveSet, Name, normal};

/// A VM as far as names are concerned.
#[derive(Debug)]
pub struct Party<'r> {
    record: &'r Record,
    details: Details,
    /// The hosted zone.
    zone: Option<String>,
    /// What it asks for or has. The first with an address is its own name, which its aliases lead to.
    pub names: Vec<Name>,
    /// Where it is reached now.
    address: Option<String>,
    /// All addresses that it is known by.
    addresses: BTreeSet<String>,
}

impl<'r> Party<'r> {
    /// Of a VM. Where its record isn't trusted, only the address that AWS reports counts.
    pub fn of(vm: NamedVm<'r>, is_trusted: bool) -> Self {
        let record = vm.record;
        let aws = record.aws.as_ref();
        let details = aws.map(Details::of).unwrap_or_default();
        let (zone, noted) = dns::noted_in_order(record).unzip();
        let fqdn = aws.and_then(|aws| aws.fqdn.as_deref());
        let fqdn = fqdn.map(|fqdn| Name { name: normal(fqdn), kind: Kind::A });
        let mut names = Vec::new();
        for name in fqdn.into_iter().chain(noted.unwrap_or_default()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let recorded = details.dns_records.iter().filter_map(DnsRecord::address).filter(|_| is_trusted);
        let in_record =
            aws.and_then(|aws| aws.public_ip.as_ref()).filter(|_| is_trusted).map(Address::to_string);
        let address = vm.live.map(str::to_owned).or_else(|| in_record.clone());
        let addresses = recorded.map(str::to_owned).chain(in_record).chain(address.clone());
        let (zone, addresses) = (zone.or_else(|| details.zone_id.clone()), addresses.collect());
        Self { record, zone, names, address, addresses, details }
    }

    /// The hosted zone of its names.
    pub fn expect_zone(&self) -> Result<&str, ProviderError> {
        let zone = self.zone.as_deref().filter(|_| !self.names.is_empty());
        zone.ok_or_else(|| ProviderError::Unsupported {
            what: format!("\"{}\" asks for no DNS names", self.record.name),
            hint: format!(
                "write dns.domain into its config.json and make another VM from it: goloo create {} --as {}-2 --aws",
                self.record.stack, self.record.name
            ),
        })
    }

    /// Who it is.
    pub fn vm(&self) -> VmRef {
        VmRef { name: self.record.name.clone(), id: self.record.id.clone() }
    }

    fn own_name(&self) -> Option<&str> {
        self.names.iter().find(|name| name.kind == Kind::A).map(|name| name.name.as_str())
    }

    /// Whether its record says that it has the name.
    fn has_by_record(&self, name: &str) -> bool {
        self.details.dns_records.iter().any(|record| normal(&record.name) == name)
            || self
                .record
                .aws
                .as_ref()
                .and_then(|aws| aws.fqdn.as_deref())
                .is_some_and(|fqdn| normal(fqdn) == name)
    }

    /// Whether its record says that it has the name again as soon as it is started.
    pub fn is_withdrawn(&self, name: &str) -> bool {
        self.withdrawn().any(|set| set.name == name)
    }

    /// What it has again as soon as it is started.
    fn withdrawn(&self) -> impl Iterator<Item = RecordSet> {
        let withdrawn = self.details.dns_records.iter().filter(|known| known.withdrawn);
        withdrawn.map(|known| RecordSet { name: normal(&known.name), ..known.set() })
    }

    /// Whether another VM's record says that it has one of the names.
    pub fn shares_with(&self, holder: &Self) -> bool {
        self.zone == holder.zone && self.names.iter().any(|name| holder.has_by_record(&name.name))
    }

    /// Whether a set leads to it.
    pub fn is_led_to_by(&self, live: &LiveSet) -> bool {
        let [value] = &live.set.values[..] else { return false };
        live.is_plain
            && match Kind::parse(&live.set.kind) {
                Some(Kind::A) => self.addresses.contains(value),
                Some(Kind::Cname) => self.names.contains(&Name { name: normal(value), kind: Kind::A }),
                None => false,
            }
    }

    fn recorded_ttl(&self, name: &str) -> Option<u32> {
        self.details.dns_records.iter().find(|record| normal(&record.name) == name).map(|record| record.ttl)
    }

    fn expect_address(&self) -> Result<&str, ProviderError> {
        let name = &self.record.name;
        self.address.as_deref().ok_or_else(|| {
            ProviderError::failed(
                format!("\"{name}\" has no address that names could lead to"),
                format!("goloo status {name}; goloo start {name} gives it one"),
            )
        })
    }
}

/// How all names of the taker come to lead to it, where they have `live` now.
pub fn to_taker(
    taker: &Party<'_>,
    giver: Option<&Party<'_>>,
    live: &[LiveSet],
    force: bool,
) -> Result<DnsChange, ProviderError> {
    let (zone, address) = (taker.expect_zone()?, taker.expect_address()?);
    let own = taker.own_name().unwrap_or_default();
    let ttl = |name: &str| {
        let there = live.iter().find(|live| live.set.name == name && live.is_plain).map(|live| live.set.ttl);
        let recorded = || std::iter::once(taker).chain(giver).find_map(|vm| vm.recorded_ttl(name));
        there.or_else(recorded).unwrap_or(DNS_TTL)
    };
    let set = |name: &Name| RecordSet {
        name: name.name.clone(),
        kind: name.kind.as_str().to_owned(),
        values: vec![if name.kind == Kind::A { address } else { own }.to_owned()],
        ttl: ttl(&name.name),
    };
    let give = taker.names.iter().map(set).collect();
    let planned = Planned { zone, give, restore: Vec::new() };
    change(Some(taker), giver, live, planned, force)
}

/// How names get back to who had them before: the taker's to where it is reached now, others' as they were.
pub fn back(
    giver: &Party<'_>,
    taker: Option<&Party<'_>>,
    previous: &Previous,
    live: &[LiveSet],
    force: bool,
) -> Result<DnsChange, ProviderError> {
    let mut give = Vec::new();
    if let Some(taker) = taker {
        let address = taker.expect_address()?;
        for set in &previous.records {
            let mut set = set.clone();
            if set.kind == Kind::A.as_str() {
                set.values = vec![address.to_owned()];
            }
            give.push(set);
        }
    }
    let planned = Planned { zone: giver.expect_zone()?, give, restore: previous.foreign.clone() };
    change(taker, Some(giver), live, planned, force)
}

/// What is to be.
struct Planned<'z> {
    zone: &'z str,
    give: Vec<RecordSet>,
    restore: Vec<RecordSet>,
}

fn change(
    taker: Option<&Party<'_>>,
    giver: Option<&Party<'_>>,
    live: &[LiveSet],
    planned: Planned<'_>,
    force: bool,
) -> Result<DnsChange, ProviderError> {
    let Planned { zone, give, restore } = planned;
    let is_wanted =
        |live: &LiveSet| live.is_plain && (is_among(&live.set, &give) || is_among(&live.set, &restore));
    let is_known = |live: &LiveSet| taker.into_iter().chain(giver).any(|vm| vm.is_led_to_by(live));
    let foreign: Vec<&LiveSet> = live.iter().filter(|live| !is_wanted(live) && !is_known(live)).collect();
    refuse_foreign(&foreign, force)?;
    let taken = |live: &&LiveSet| {
        giver.is_some_and(|giver| {
            let leads_there = giver.is_led_to_by(live) && !is_wanted(live);
            giver.has_by_record(&live.set.name) && is_known(live) || leads_there
        })
    };
    // What a stopped giver has on record is as much its own as what it has in the zone.
    let is_asked_for = |set: &RecordSet| give.iter().chain(&restore).any(|wanted| wanted.name == set.name);
    let withdrawn = giver.into_iter().flat_map(Party::withdrawn).filter(is_asked_for);
    let taken = live.iter().filter(taken).map(|live| live.set.clone()).chain(withdrawn).collect();
    Ok(DnsChange {
        zone: zone.to_owned(),
        taker: taker.map(Party::vm),
        giver: giver.map(Party::vm),
        before: live.iter().map(|live| live.set.clone()).collect(),
        taken,
        foreign: foreign.into_iter().map(|live| live.set.clone()).collect(),
        give,
        restore,
        force,
    })
}

fn refuse_foreign(foreign: &[&LiveSet], force: bool) -> Result<(), ProviderError> {
    let shown = |live: &&LiveSet| format!("{} ({})", live.set.name, live.set.shown());
    let odd: Vec<String> = foreign.iter().filter(|live| !live.is_plain).map(shown).collect();
    if !odd.is_empty() {
        return Err(ProviderError::failed(
            format!(
                "an alias of Route 53's own, or a set that answers by weight, isn't replaced: {}",
                odd.join(", ")
            ),
            "aws route53 list-resource-record-sets shows it; remove it there first",
        ));
    }
    if force || foreign.is_empty() {
        return Ok(());
    }
    let all: Vec<String> = foreign.iter().map(shown).collect();
    Err(ProviderError::failed(
        format!("what leads elsewhere is left alone: {}", all.join(", ")),
        "goloo dns show NAME shows whose the names are; the same command with --force takes them over",
    ))
}

/// Notes the names in the record of one of both VMs, so that it still asks for them when it has lost them,
/// and a delete finds them however the change ends.
pub fn note(change: &DnsChange, operation: &OperationId, record: &mut Record) {
    let is_giver = change.giver.as_ref().is_some_and(|giver| giver.id == record.id);
    for set in if is_giver { &change.taken } else { &change.give } {
        let id = dns::note(&change.zone, &set.kind, &set.name);
        if !record.resources.iter().any(|known| known.kind == dns::RESOURCE && known.id == id) {
            record.resources.push(resource(dns::RESOURCE, &id, operation));
        }
    }
}

/// Writes into the record of one of both VMs what came of a change.
pub fn settle(change: &DnsChange, live: &[RecordSet], record: &mut Record) {
    let stand = change.stand(live);
    if stand == Stand::Before {
        return;
    }
    let own = Party::of(NamedVm { record, live: None }, true).own_name().map(str::to_owned);
    let is = |vm: &Option<VmRef>| vm.as_ref().is_some_and(|vm| vm.id == record.id);
    let (is_taker, is_giver) = (is(&change.taker), is(&change.giver));
    let Some(aws) = &mut record.aws else { return };
    let mut details = Details::of(aws);
    let names = change.names();
    let was_given = |set: &&RecordSet| {
        is_taker && is_among(set, live) && (stand == Stand::After || !is_among(set, &change.before))
    };
    let given: Vec<DnsRecord> = change.give.iter().filter(was_given).filter_map(DnsRecord::of).collect();
    details.dns_records.retain(|known| {
        let name = normal(&known.name);
        let is_still_its = || match known.withdrawn {
            true => live.iter().all(|set| normal(&set.name) != name),
            false => is_among(&known.set(), live),
        };
        !names.contains(&name.as_str()) || stand == Stand::Neither && is_still_its()
    });
    details.dns_records.retain(|known| !given.iter().any(|given| given.name == normal(&known.name)));
    if stand == Stand::After {
        remember_previous(change, is_taker, is_giver, &mut details);
    }
    if let Some(address) = given.iter().find(|given| given.kind == Kind::A.as_str()) {
        aws.public_ip = Address::parse(&address.value).ok();
    }
    if !given.is_empty() {
        details.zone_id = Some(change.zone.clone());
    }
    details.dns_records.extend(given);
    aws.fqdn = own.filter(|own| details.dns_records.iter().any(|known| normal(&known.name) == *own));
    aws.extra = details.into_extra();
}

fn remember_previous(change: &DnsChange, is_taker: bool, is_giver: bool, details: &mut Details) {
    let took = !change.taken.is_empty() || !change.foreign.is_empty();
    if is_taker && took {
        details.previous_dns = Some(Previous {
            vm: change.giver.clone().filter(|_| !change.taken.is_empty()),
            at: Timestamp::now(),
            records: change.taken.clone(),
            foreign: change.foreign.clone(),
        });
    }
    if is_giver {
        details.previous_dns = None;
    }
}
