//! Picks ports on 127.0.0.1 so that no two machines share one. A machine keeps its SSH port over stop and start, so the
//! port belongs to it even while nothing is bound. goloo holds the ports lock while it reads what other machines have
//! recorded, picks a port and records it. Whether a port is really free shows when QEMU binds it; if that fails, the
//! next one is picked.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// Below the ephemeral port ranges (Linux: from 32768, macOS: from 49152), so that a stopped machine's port isn't taken
/// by chance.
const FIRST: u16 = 20000;
/// How many ports there are to pick from.
const COUNT: u16 = 10000;

/// Whether this port can be bound now; the error is the reason if not.
pub fn check(port: u16) -> io::Result<()> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(drop)
}

/// The first free port that isn't in `taken`. `seed` determines where the search starts, so that machines spread out.
pub fn pick(seed: &str, taken: &BTreeSet<u16>) -> Option<u16> {
    let hash = seed.bytes().fold(0_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte)));
    let begin = u16::try_from(hash % u32::from(COUNT)).unwrap_or(0);
    (0..COUNT)
        .map(|step| FIRST + (begin + step) % COUNT)
        .find(|port| !taken.contains(port) && check(*port).is_ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bound_and_reserved_ports_are_skipped() {
        let first = pick("01J", &BTreeSet::new()).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap();
        let second = pick("01J", &BTreeSet::new()).unwrap();
        assert_ne!(first, second);
        let third = pick("01J", &BTreeSet::from([second])).unwrap();
        assert!(![first, second].contains(&third));
        assert!((FIRST..FIRST + COUNT).contains(&third));
        drop(listener);
    }

    #[test]
    fn no_port_is_picked_when_all_are_reserved() {
        assert_eq!(pick("01J", &(FIRST..FIRST + COUNT).collect()), None);
    }
}
