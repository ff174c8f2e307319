//! Private networks of environments: one /24 each, in a range that few networks use.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::name::VmName;
use crate::record::PrivateAddress;

/// How many leading bits the addresses of an environment share.
pub const PREFIX: u8 = 24;

/// The range from which networks are chosen: 10.80.0.0/12, which neither Docker, libvirt, Multipass nor QEMU uses by
/// default.
const RANGE: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 0);
const NETWORKS: u32 = 1 << 12;
/// The first address is left to the network itself.
const FIRST_HOST: u32 = 2;
const LAST_HOST: u32 = 254;

/// A block of IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressBlock {
    first: u32,
    last: u32,
}

impl AddressBlock {
    /// The block that has this address, with a prefix of at most 32 bits.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Self {
        let hosts = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
        let first = u32::from(address) & !hosts;
        Self { first, last: first | hosts }
    }

    /// The network of a machine.
    pub fn of(address: PrivateAddress) -> Self {
        Self::new(address.address(), address.prefix())
    }

    fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// The lowest address that no machine has; `None` if there is none.
    pub fn free_address(self, used: &BTreeSet<Ipv4Addr>) -> Option<PrivateAddress> {
        let hosts = (FIRST_HOST..=LAST_HOST).map(|host| Ipv4Addr::from(self.first + host));
        let free = hosts.into_iter().find(|address| !used.contains(address))?;
        PrivateAddress::new(free, PREFIX)
    }
}

/// A network for a new environment that overlaps none of `taken`: that of a number computed from its name, or the next
/// free one. So environments that are made at the same time, and don't know of each other, differ as a rule.
pub fn choose_network(environment: &VmName, taken: &[AddressBlock]) -> Option<AddressBlock> {
    let start = number_of(environment);
    let candidates = (0..NETWORKS).map(|step| (start + step) % NETWORKS);
    let mut blocks =
        candidates.map(|number| AddressBlock::new(Ipv4Addr::from(u32::from(RANGE) + (number << 8)), PREFIX));
    blocks.find(|block| !taken.iter().any(|other| other.overlaps(*block)))
}

/// FNV-1a, which is the same in every version.
fn number_of(name: &VmName) -> u32 {
    let hash = name
        .as_str()
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (hash ^ (hash >> 16)) % NETWORKS
}

/// The blocks that this computer has routes to, from the text of `/proc/net/route`. The default route isn't one.
pub fn routed_blocks(table: &str) -> Vec<AddressBlock> {
    // The kernel prints the numbers in its own byte order.
    let hex = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::to_be);
    let blocks = table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (destination, mask) = (hex(fields.nth(1)?)?, hex(fields.nth(5)?)?);
        let prefix = u8::try_from(mask.leading_ones()).ok()?;
        (prefix > 0).then(|| AddressBlock::new(Ipv4Addr::from(destination), prefix))
    });
    blocks.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn name(text: &str) -> VmName {
        VmName::parse(text).unwrap()
    }

    fn block(text: &str, prefix: u8) -> AddressBlock {
        AddressBlock::new(text.parse().unwrap(), prefix)
    }

    #[test]
    fn a_network_overlaps_no_block_that_is_taken() {
        let first = choose_network(&name("shop"), &[]).unwrap();
        assert_eq!(choose_network(&name("shop"), &[]), Some(first), "it is computed from the name");
        let second = choose_network(&name("shop"), &[first]).unwrap();
        assert!(!second.overlaps(first));
        let free = block("10.93.7.0", 24);
        let around =
            [block("10.80.0.0", 13), block("10.88.0.0", 14), block("10.92.0.0", 16), block("10.94.0.0", 15)];
        let rest = (0..=255)
            .filter(|third| *third != 7)
            .map(|third| AddressBlock::new(Ipv4Addr::new(10, 93, third, 9), 24));
        let taken: Vec<_> = around.into_iter().chain(rest).collect();
        assert_eq!(choose_network(&name("shop"), &taken), Some(free));
        assert_eq!(choose_network(&name("shop"), &[block("10.0.0.0", 8)]), None);
    }

    #[test]
    fn machines_get_the_lowest_free_addresses() {
        let network = block("10.88.3.0", 24);
        let mut used = BTreeSet::new();
        for expected in 2..=254 {
            let address = network.free_address(&used).unwrap();
            assert_eq!(address.to_string(), format!("10.88.3.{expected}/24"));
            used.insert(address.address());
        }
        assert_eq!(network.free_address(&used), None);
        used.remove(&"10.88.3.7".parse().unwrap());
        assert_eq!(network.free_address(&used).unwrap().to_string(), "10.88.3.7/24");
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn routes_of_the_kernel_are_read_without_the_default_route() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                     eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                     eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
                     tun0\t0000500A\t00000000\t0001\t0\t0\t0\t0000F0FF\t0\t0\t0\n\
                     damaged\n";
        assert_eq!(routed_blocks(table), [block("192.168.0.0", 24), block("10.80.0.0", 12)]);
    }
}
