//! Chooses the private addresses of new machines. Pure but for the routes of this computer.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use goloo_model::environment::addresses::{AddressBlock, choose_network, routed_blocks};
use goloo_model::name::VmName;
use goloo_model::record::{Membership, PrivateAddress, Record};

use crate::error::environment::EnvironmentError;

/// Gives each of `members` without an address one, in the network that the environment has by the records, or in a new
/// one. The caller holds the environment's lock until the addresses are in records.
pub(super) fn assign<'m>(
    environment: &VmName,
    records: &[Record],
    members: impl Iterator<Item = &'m mut Membership>,
) -> Result<(), EnvironmentError> {
    let none_free = || EnvironmentError::NoNetwork { environment: environment.clone() };
    let members: Vec<_> = members.filter(|member| member.network.is_none()).collect();
    if members.is_empty() {
        return Ok(());
    }
    let known = records.iter().filter_map(|record| record.membership.as_ref());
    let (own, others): (Vec<_>, Vec<_>) = known.partition(|member| member.environment == *environment);
    let address = |member: &&Membership| member.network;
    let mut used: BTreeSet<Ipv4Addr> = own.iter().filter_map(address).map(PrivateAddress::address).collect();
    let network = match own.iter().find_map(address) {
        Some(address) => AddressBlock::of(address),
        None => {
            let mut taken: Vec<_> = others.iter().filter_map(address).map(AddressBlock::of).collect();
            taken.extend(routed_blocks(&std::fs::read_to_string("/proc/net/route").unwrap_or_default()));
            choose_network(environment, &taken).ok_or_else(none_free)?
        }
    };
    for member in members {
        let free = network.free_address(&used).ok_or_else(none_free)?;
        used.insert(free.address());
        member.network = Some(free);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use goloo_model::record::Extra;
    use goloo_testkit::samples::{name, ready};

    use super::*;

    fn member(environment: &str, machine: &str, network: Option<&str>) -> Membership {
        Membership {
            environment: name(environment),
            machine: name(machine),
            number: None,
            network: network.map(|text| text.to_owned().try_into().unwrap()),
            environment_id: None,
            extra: Extra::new(),
        }
    }

    fn recorded(member: Membership) -> Record {
        Record { membership: Some(member.clone()), ..ready(&member.machine) }
    }

    fn assigned(records: &[Record], machines: &[&str]) -> Vec<String> {
        let mut members: Vec<_> = machines.iter().map(|machine| member("shop", machine, None)).collect();
        assign(&name("shop"), records, members.iter_mut()).unwrap();
        members.iter().map(|member| member.network.unwrap().to_string()).collect()
    }

    #[test]
    fn later_machines_get_free_addresses_in_the_network_of_the_first() {
        let records = [
            recorded(member("shop", "db", Some("10.88.7.2/24"))),
            recorded(member("shop", "web", Some("10.88.7.4/24"))),
            recorded(member("other", "x", Some("10.88.8.3/24"))),
        ];
        assert_eq!(assigned(&records, &["a", "b"]), ["10.88.7.3/24", "10.88.7.5/24"]);
    }

    #[test]
    fn a_new_environment_gets_a_network_that_no_other_has() {
        let first = assigned(&[], &["a", "b"]);
        assert!(first[0].ends_with(".2/24") && first[1].ends_with(".3/24"), "{first:?}");
        let other = [recorded(member("other", "x", Some(&first[0])))];
        let second = assigned(&other, &["a"]);
        assert_ne!(second[0], first[0]);
    }
}
