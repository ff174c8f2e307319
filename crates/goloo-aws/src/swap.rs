//! Which names move between two VMs, and the resulting records. Pure: the state of Route 53 is an input.

use std::collections::BTreeSet;

use goloo_model::access::Address;
use goloo_model::dns::{ChangeState, DnsChange, Previous, RecordSet, VmRef, is_among};
use goloo_model::hint::{Hint, NextStep};
use goloo_model::name::OperationId;
use goloo_model::provider::{Endpoints, NamedVm, ProviderError, resource};
use goloo_model::record::Record;
use goloo_model::spec::DNS_TTL;
use goloo_model::time::Timestamp;

use crate::details::{Details, DnsRecord, RecordedVm};
use crate::dns::{self, LiveSet, Name, normal};
use crate::record_type::RecordType;

/// A VM from the perspective of its names.
#[derive(Debug)]
pub struct Party<'r> {
    record: &'r Record,
    recorded: RecordedVm,
    /// The hosted zone.
    zone: Option<String>,
    /// The names it requests or owns. The first one with an address is its own name, which its aliases point to.
    pub names: Vec<Name>,
    /// Its current address.
    address: Option<String>,
    /// All its known addresses.
    addresses: BTreeSet<String>,
}

impl<'r> Party<'r> {
    /// Builds the party of a VM. If its record isn't trusted, only the address AWS reports counts.
    pub fn of(vm: NamedVm<'r>, is_trusted: bool) -> Result<Self, ProviderError> {
        let record = vm.record;
        let recorded = RecordedVm::of(record)?;
        let details = &recorded.details;
        let (zone, noted) = dns::noted_in_order(record, details).unzip();
        let fqdn = recorded.fqdn.as_deref().map(|fqdn| Name { name: normal(fqdn), kind: RecordType::A });
        let mut names = Vec::new();
        for name in fqdn.into_iter().chain(noted.unwrap_or_default()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let in_names = details.dns_records.iter().filter_map(DnsRecord::address).filter(|_| is_trusted);
        let in_record = recorded.public_ip.as_ref().filter(|_| is_trusted).map(Address::to_string);
        let address = vm.live.map(str::to_owned).or_else(|| in_record.clone());
        let addresses = in_names.map(str::to_owned).chain(in_record).chain(address.clone());
        let (zone, addresses) = (zone.or_else(|| details.zone_id.clone()), addresses.collect());
        Ok(Self { record, zone, names, address, addresses, recorded })
    }

    /// The hosted zone of its names; an error if there is none.
    pub fn expect_zone(&self) -> Result<&str, ProviderError> {
        let zone = self.zone.as_deref().filter(|_| !self.names.is_empty());
        zone.ok_or_else(|| ProviderError::Unsupported {
            what: format!("\"{}\" is not configured to use DNS names", self.record.name),
            hint: Hint::from("set dns.domain in its config.json and create another VM from it: ").step(
                NextStep::CreateInAws {
                    stack: Some(self.record.stack.to_string()),
                    name: Some(self.record.name.second()),
                },
            ),
        })
    }

    /// Identifies the VM.
    pub fn vm(&self) -> VmRef {
        VmRef { name: self.record.name.clone(), id: self.record.id.clone() }
    }

    fn own_name(&self) -> Option<&str> {
        self.names.iter().find(|name| name.kind == RecordType::A).map(|name| name.name.as_str())
    }

    /// Whether its record says that it owns the name.
    fn has_by_record(&self, name: &str) -> bool {
        self.recorded.details.dns_records.iter().any(|record| normal(&record.name) == name)
            || self.recorded.fqdn.as_deref().is_some_and(|fqdn| normal(fqdn) == name)
    }

    /// Whether its record says that it gets the name back when it is started.
    pub fn is_withdrawn(&self, name: &str) -> bool {
        self.withdrawn().any(|set| set.name == name)
    }

    /// The record sets it gets back when it is started.
    fn withdrawn(&self) -> impl Iterator<Item = RecordSet> {
        let withdrawn = self.recorded.details.dns_records.iter().filter(|known| known.withdrawn);
        withdrawn.map(|known| RecordSet { name: normal(&known.name), ..known.set() })
    }

    /// Whether another VM's record says that it owns one of the names.
    pub fn shares_with(&self, holder: &Self) -> bool {
        self.zone == holder.zone && self.names.iter().any(|name| holder.has_by_record(&name.name))
    }

    /// Whether a record set points to it.
    pub fn is_led_to_by(&self, live: &LiveSet) -> bool {
        let [value] = &live.set.values[..] else { return false };
        live.is_plain
            && match RecordType::parse(&live.set.kind) {
                Some(RecordType::A) => self.addresses.contains(value),
                Some(RecordType::Cname) => {
                    self.names.contains(&Name { name: normal(value), kind: RecordType::A })
                }
                None => false,
            }
    }

    fn recorded_ttl(&self, name: &str) -> Option<u32> {
        self.recorded
            .details
            .dns_records
            .iter()
            .find(|record| normal(&record.name) == name)
            .map(|record| record.ttl)
    }

    fn expect_address(&self) -> Result<&str, ProviderError> {
        let name = &self.record.name;
        self.address.as_deref().ok_or_else(|| {
            ProviderError::failed(
                format!("\"{name}\" has no address that DNS names could point to"),
                NextStep::Status(name.clone())
                    .text("; ")
                    .step(NextStep::Start(name.clone()))
                    .text(" gives it one"),
            )
        })
    }
}

/// Points all names of the target at it; `live` is their current state.
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
        values: vec![if name.kind == RecordType::A { address } else { own }.to_owned()],
        ttl: ttl(&name.name),
    };
    let give = taker.names.iter().map(set).collect();
    let planned = Planned { zone, give, restore: Vec::new() };
    change(Some(taker), giver, live, planned, force)
}

/// Returns names to their previous owners: the target's point at its current address, others' are restored.
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
            if set.kind == RecordType::A.as_str() {
                set.values = vec![address.to_owned()];
            }
            give.push(set);
        }
    }
    let planned = Planned { zone: giver.expect_zone()?, give, restore: previous.foreign.clone() };
    change(taker, Some(giver), live, planned, force)
}

/// The planned changes.
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
    refuse_foreign(&foreign, taker.or(giver), force)?;
    let taken = |live: &&LiveSet| {
        giver.is_some_and(|giver| {
            let leads_there = giver.is_led_to_by(live) && !is_wanted(live);
            giver.has_by_record(&live.set.name) && is_known(live) || leads_there
        })
    };
    // What a stopped source has in its record is its own as much as what it has in the zone.
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

fn refuse_foreign(foreign: &[&LiveSet], vm: Option<&Party<'_>>, force: bool) -> Result<(), ProviderError> {
    let shown = |live: &&LiveSet| format!("{} ({})", live.set.name, live.set.shown());
    let odd: Vec<String> = foreign.iter().filter(|live| !live.is_plain).map(shown).collect();
    if !odd.is_empty() {
        return Err(ProviderError::failed(
            format!("alias records and records with a routing policy aren't replaced: {}", odd.join(", ")),
            "remove it in Route 53 first; aws route53 list-resource-record-sets shows it",
        ));
    }
    if force || foreign.is_empty() {
        return Ok(());
    }
    let all: Vec<String> = foreign.iter().map(shown).collect();
    let show = vm.map_or_else(Hint::default, |vm| {
        NextStep::DnsShow(vm.record.name.clone()).text(" shows the owners; ")
    });
    Err(ProviderError::failed(
        format!("these names point elsewhere and are left unchanged: {}", all.join(", ")),
        show.text("use --force to take the names over"),
    ))
}

/// Adds the names to the record of either VM, so that it still requests names it has lost, and a delete finds them
/// whatever the outcome of the change.
pub fn note(change: &DnsChange, operation: &OperationId, record: &mut Record) {
    let is_giver = change.giver.as_ref().is_some_and(|giver| giver.id == record.id);
    for set in if is_giver { &change.taken } else { &change.give } {
        let id = dns::note(&change.zone, &set.kind, &set.name);
        if !record.resources.iter().any(|known| known.kind == dns::RESOURCE && known.id == id) {
            record.resources.push(resource(dns::RESOURCE, &id, operation));
        }
    }
}

/// Writes a change's result to the record of either VM.
pub fn settle(change: &DnsChange, live: &[RecordSet], record: &mut Record) {
    let stand = change.stand(live);
    if stand == ChangeState::Before {
        return;
    }
    if Endpoints::of(record) == Endpoints::default() {
        return;
    }
    // One that can't be read is left as it is; a save would refuse it, too.
    let Ok(party) = Party::of(NamedVm { record, live: None }, true) else { return };
    let (own, mut vm) = (party.own_name().map(str::to_owned), party.recorded);
    let is = |vm: &Option<VmRef>| vm.as_ref().is_some_and(|vm| vm.id == record.id);
    let (is_taker, is_giver) = (is(&change.taker), is(&change.giver));
    let details = &mut vm.details;
    let names = change.names();
    let was_given = |set: &&RecordSet| {
        is_taker && is_among(set, live) && (stand == ChangeState::After || !is_among(set, &change.before))
    };
    let given: Vec<DnsRecord> = change.give.iter().filter(was_given).filter_map(DnsRecord::of).collect();
    details.dns_records.retain(|known| {
        let name = normal(&known.name);
        let is_still_its = || match known.withdrawn {
            true => live.iter().all(|set| normal(&set.name) != name),
            false => is_among(&known.set(), live),
        };
        !names.contains(&name.as_str()) || stand == ChangeState::Neither && is_still_its()
    });
    details.dns_records.retain(|known| !given.iter().any(|given| given.name == normal(&known.name)));
    if stand == ChangeState::After {
        remember_previous(change, is_taker, is_giver, details);
    }
    if let Some(address) = given.iter().find(|given| given.kind == RecordType::A.as_str()) {
        vm.public_ip = Address::parse(&address.value).ok();
    }
    if !given.is_empty() {
        details.zone_id = Some(change.zone.clone());
    }
    details.dns_records.extend(given);
    vm.fqdn = own.filter(|own| details.dns_records.iter().any(|known| normal(&known.name) == *own));
    Endpoints::from(vm).write_to(record);
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
