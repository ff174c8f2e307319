//! The names of the machines of an environment, which each of them is told.

use std::net::IpAddr;

use goloo_cloudinit::names_script;
use goloo_model::events::Event;
use goloo_model::name::VmName;
use goloo_model::provider::{Provider, ProviderError};
use goloo_model::record::{Membership, Record};
use goloo_model::store::StoreError;

use crate::engine::{Engine, refuse_unfinished};
use crate::error::EngineError;
use crate::guest_script;

impl Engine<'_> {
    /// Connects a running VM to the network of its environment, and tells its machine the names of the others. What
    /// `planned` has of the network is saved first, if its record lacks it. May be repeated at any time.
    pub async fn join_network(&self, name: &VmName, planned: &Membership) -> Result<Record, EngineError> {
        let mut locked = self.take(name).await?;
        refuse_unfinished(&locked.record)?;
        if locked.record.membership.as_mut().is_some_and(|member| member.take_network(planned)) {
            locked.save_result().await?;
        }
        locked.connect_network().await.map_err(EngineError::Unrecorded)?;
        crate::private_network::set_guest_address(self, &locked.record).await;
        write_names(self, &locked.record).await.map_err(EngineError::Unrecorded)?;
        Ok(locked.record)
    }
}

/// Tells a machine the names during another operation; a failure is only said.
pub(crate) async fn write_or_warn(engine: &Engine<'_>, record: &Record) {
    if let Err(error) = write_names(engine, record).await {
        warn(engine, record, "doesn't know the names of the other machines", &error);
    }
}

fn warn(engine: &Engine<'_>, record: &Record, what: &str, error: &ProviderError) {
    let text = format!("\"{}\" {what}: {error}", record.name);
    engine.events.event(Event::Warning(text));
}

/// Whether the other machines of a VM's environment have addresses that it can be told.
pub(crate) async fn has_names(engine: &Engine<'_>, record: &Record) -> bool {
    names(engine, record).await.is_ok_and(|names| !names.is_empty())
}

async fn write_names(engine: &Engine<'_>, record: &Record) -> Result<(), ProviderError> {
    let names = names(engine, record).await?;
    if names.is_empty() || record.ssh.is_none() {
        return Ok(());
    }
    guest_script::run(engine, record, &names_script(&names), b"").await.map(drop)
}

async fn names(engine: &Engine<'_>, record: &Record) -> Result<Vec<(IpAddr, Vec<String>)>, StoreError> {
    let Some(own) = &record.membership else { return Ok(Vec::new()) };
    let records = engine.store.records().await?.entries.into_iter().map(|loaded| loaded.record);
    let is_other = |other: &Record| other.id != record.id && other.replacing.is_none();
    let others = records.filter(is_other).collect::<Vec<_>>();
    let own_record = Some(record).filter(|record| record.replacing.is_none());
    let members = others.iter().chain(own_record);
    let members = members.filter_map(|member| Some((member, member.membership.as_ref()?)));
    let of_environment = members.filter(|(_, member)| member.environment == own.environment);
    let named = of_environment
        .filter_map(|(other, member)| Some((address_for(engine.provider, other, member)?, names_of(member))));
    let mut names: Vec<_> = named.collect();
    names.sort();
    Ok(names)
}

fn names_of(membership: &Membership) -> Vec<String> {
    let short = membership.short_name();
    let full = format!("{short}.{}", membership.environment);
    vec![short, full]
}

/// The address at which the machines of a provider reach a member of their environment. Those in the cloud reach only
/// each other.
fn address_for(provider: &dyn Provider, record: &Record, membership: &Membership) -> Option<IpAddr> {
    if record.provider == provider.id()
        && let Some(networks) = provider.networks()
        && membership.is_networked()
    {
        return networks.address(record);
    }
    let is_here = provider.info().is_host_bound();
    is_here.then(|| address_here(membership, record.ip())).flatten()
}

/// The address at which machines on this computer may reach a member. `ip` is its address at its provider.
fn address_here(membership: &Membership, ip: Option<&str>) -> Option<IpAddr> {
    match membership.network {
        Some(network) => Some(IpAddr::V4(network.address())),
        None => ip?.parse().ok().filter(is_shared),
    }
}

/// Whether an address may be one that other machines reach: not one of the loopback, which only this computer has, and
/// no public one, whose traffic would leave the network.
fn is_shared(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if address.is_private())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use goloo_model::record::Extra;

    use super::*;

    fn name(text: &str) -> VmName {
        VmName::parse(text).unwrap()
    }

    fn member(machine: &str, number: Option<u16>, network: Option<&str>) -> Membership {
        Membership {
            environment: name("shop"),
            machine: name(machine),
            number,
            network: network.map(|text| text.to_owned().try_into().unwrap()),
            environment_id: None,
            extra: Extra::new(),
        }
    }

    #[test]
    fn only_addresses_that_others_reach_get_names() {
        let own = member("web", Some(1), Some("10.88.0.3/24"));
        assert_eq!(names_of(&own), ["web-1", "web-1.shop"]);
        assert_eq!(address_here(&own, Some("127.4.0.1")).unwrap().to_string(), "10.88.0.3");
        let at = |ip| address_here(&member("db", None, None), ip).map(|address| address.to_string());
        assert_eq!(at(Some("10.1.2.3")).as_deref(), Some("10.1.2.3"));
        for other in [Some("127.4.0.1"), Some("54.210.33.100"), Some("not-an-address"), None] {
            assert_eq!(at(other), None, "{other:?}");
        }
    }
}
