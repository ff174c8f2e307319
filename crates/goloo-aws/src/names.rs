//! Names in Route 53 that are moved from one VM to another.

use async_trait::async_trait;
use goloo_model::dns::{DnsChange, Holder, NameStatus, Previous, RecordSet};
use goloo_model::name::OperationId;
use goloo_model::provider::{DnsNames, NamedVm, ProviderError};
use goloo_model::record::Record;

use crate::context::AwsProvider;
use crate::details::Details;
use crate::dns::{LiveSet, Zone, normal};
use crate::record_type::RecordType;
use crate::resource_ref::ResourceRef;
use crate::swap::{self, Party};

fn party(record: &Record) -> Result<Party<'_>, ProviderError> {
    Party::of(NamedVm { record, live: None }, true)
}

#[async_trait]
impl DnsNames for AwsProvider {
    fn shares(&self, record: &Record, holder: &Record) -> bool {
        let parties = party(record).ok().zip(party(holder).ok());
        parties.is_some_and(|(vm, holder)| vm.shares_with(&holder))
    }

    fn previous(&self, record: &Record) -> Option<Previous> {
        Details::of(record).ok()?.previous_dns
    }

    async fn names(&self, record: &Record, others: &[Record]) -> Result<Vec<NameStatus>, ProviderError> {
        // What another record says unreadably, it doesn't say.
        let (vm, others) = (party(record)?, others.iter().flat_map(party).collect::<Vec<_>>());
        let zone = vm.expect_zone()?;
        self.check_account(&ResourceRef::of(record)?).await?;
        let mut names: Vec<NameStatus> = Vec::new();
        for name in vm.names.iter().map(|name| &name.name) {
            let sets = self.sets(zone, &[name]).await?;
            let live = sets.into_iter().map(|live| {
                let holder = holder(&names, &vm, &others, &live);
                (live.set, holder)
            });
            let live = live.collect();
            names.push(NameStatus { withdrawn: vm.is_withdrawn(name), name: name.clone(), live });
        }
        Ok(names)
    }

    async fn swap(
        &self,
        taker: NamedVm<'_>,
        giver: Option<NamedVm<'_>>,
        force: bool,
    ) -> Result<DnsChange, ProviderError> {
        let (vm, giver) = (self.party(taker)?, giver.map(|giver| self.party(giver)).transpose()?);
        let zone = vm.expect_zone()?;
        self.check_account(&ResourceRef::of(taker.record)?).await?;
        let names: Vec<&str> = vm.names.iter().map(|name| name.name.as_str()).collect();
        let live = self.sets(zone, &names).await?;
        swap::to_taker(&vm, giver.as_ref(), &live, force)
    }

    async fn rollback(
        &self,
        giver: NamedVm<'_>,
        taker: Option<NamedVm<'_>>,
        previous: &Previous,
        force: bool,
    ) -> Result<DnsChange, ProviderError> {
        let (vm, taker) = (self.party(giver)?, taker.map(|taker| self.party(taker)).transpose()?);
        let zone = vm.expect_zone()?;
        self.check_account(&ResourceRef::of(giver.record)?).await?;
        let names: Vec<&str> =
            previous.records.iter().chain(&previous.foreign).map(|set| set.name.as_str()).collect();
        let live = self.sets(zone, &names).await?;
        swap::back(&vm, taker.as_ref(), previous, &live, force)
    }

    async fn carry_out(&self, change: &DnsChange) -> Result<(), ProviderError> {
        let client = self.session.route53().await;
        Ok(Zone::new(&client, &change.zone).replace(change).await?)
    }

    async fn live(&self, change: &DnsChange) -> Result<Vec<RecordSet>, ProviderError> {
        let live = self.sets(&change.zone, &change.names()).await?;
        Ok(live.into_iter().map(|live| live.set).collect())
    }

    fn note(&self, change: &DnsChange, operation: &OperationId, record: &mut Record) {
        swap::note(change, operation, record);
    }

    fn settle(&self, change: &DnsChange, live: &[RecordSet], record: &mut Record) {
        swap::settle(change, live, record);
    }
}

impl AwsProvider {
    fn party<'r>(&self, vm: NamedVm<'r>) -> Result<Party<'r>, ProviderError> {
        Party::of(vm, self.settings.trust.is_trusted(vm.record))
    }

    /// All record sets of these names.
    async fn sets(&self, zone: &str, names: &[&str]) -> Result<Vec<LiveSet>, ProviderError> {
        let client = self.session.route53().await;
        let mut sets = Vec::new();
        let mut asked: Vec<&str> = Vec::new();
        for name in names {
            if !asked.contains(name) {
                sets.extend(Zone::new(&client, zone).sets(name).await?);
                asked.push(name);
            }
        }
        Ok(sets)
    }
}

/// The owner of a record set. An alias belongs to the owner of the name it points to.
fn holder(known: &[NameStatus], vm: &Party<'_>, others: &[Party<'_>], live: &LiveSet) -> Holder {
    let target = live
        .set
        .values
        .first()
        .filter(|_| live.set.kind == RecordType::Cname.as_str())
        .map(|name| normal(name));
    let target = known.iter().find(|name| target.as_ref() == Some(&name.name));
    if let Some((_, holder)) = target.and_then(|target| target.live.first()) {
        return holder.clone();
    }
    if vm.is_led_to_by(live) {
        return Holder::This;
    }
    let other = others.iter().find(|other| other.is_led_to_by(live));
    other.map_or(Holder::Foreign, |other| Holder::Vm(other.vm().name))
}
