//! The loopback address that each machine has for itself, so that several can have the same ports.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};

use goloo_model::name::VmId;

/// 127.64.0.0/10 without those that end in 0 or 255: other software uses addresses near 127.0.0.1.
const COUNT: u32 = 64 * 256 * 254;

/// The machine's address: the same for each call, unless another machine has it.
pub(crate) fn choose(id: &VmId, taken: &BTreeSet<Ipv4Addr>) -> Ipv4Addr {
    let begin = hash(id.as_str()) % COUNT;
    let mut all = (0..COUNT).map(|step| nth((begin + step) % COUNT));
    all.find(|address| !taken.contains(address)).unwrap_or(Ipv4Addr::LOCALHOST)
}

/// Whether this system has the address: Linux has all of 127.0.0.0/8, macOS only 127.0.0.1.
pub(crate) fn is_available(address: Ipv4Addr) -> bool {
    !matches!(TcpListener::bind((address, 0)), Err(error) if error.kind() == ErrorKind::AddrNotAvailable)
}

fn nth(index: u32) -> Ipv4Addr {
    let (rest, last) = (index / 254, index % 254 + 1);
    Ipv4Addr::from_bits(0x7f40_0000 | (rest << 8) | last)
}

/// FNV-1a: ids differ in their ends, and addresses are to differ in each part.
fn hash(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_kept_unless_another_machine_has_it() {
        let id = VmId::generate();
        let first = choose(&id, &BTreeSet::new());
        assert_eq!(choose(&id, &BTreeSet::new()), first);
        let second = choose(&id, &BTreeSet::from([first]));
        let third = choose(&id, &BTreeSet::from([first, second]));
        assert_eq!(BTreeSet::from([first, second, third]).len(), 3);
    }

    #[test]
    fn addresses_are_loopback_addresses_far_from_those_of_other_software() {
        for index in [0, 1, 253, 254, COUNT / 2, COUNT - 1] {
            let [first, second, _, last] = nth(index).octets();
            assert!(first == 127 && (64..128).contains(&second) && (1..255).contains(&last), "{index}");
        }
        assert_eq!((nth(0), nth(COUNT - 1)), ([127, 64, 0, 1].into(), [127, 127, 255, 254].into()));
    }

    #[test]
    fn an_address_that_the_system_lacks_is_recognized() {
        assert!(is_available(Ipv4Addr::LOCALHOST));
        // TEST-NET-1 (RFC 5737): no computer has it.
        assert!(!is_available([192, 0, 2, 1].into()));
    }
}
