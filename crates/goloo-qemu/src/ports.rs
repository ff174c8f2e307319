//! Ports on 127.0.0.1: picked so that no two machines get the same one.
//!
//! A machine keeps its SSH port over stop and start, so a port belongs to it also while nothing is
//! bound. Who picks one holds the lock of the ports, looks at what the others have
//! written down, and writes down his own before the lock is let go. Whether a port is really free is
//! for QEMU to say when it binds it; a failure there picks the next.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// Below the range from which systems pick ports for outgoing connections (Linux: from 32768,
/// macOS: from 49152), so that a stopped machine's port isn't taken by chance.
const FIRST: u16 = 20000;
/// How many ports there are to pick from.
const COUNT: u16 = 10000;

/// Whether something could be bound to this port now; the reason when not.
pub fn check(port: u16) -> io::Result<()> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(drop)
}

/// The first free port that isn't in `taken`; where the search begins depends on `seed`, so that
/// machines spread out.
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
    fn a_port_that_is_bound_or_belongs_to_another_is_passed_over() {
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
    fn when_all_are_taken_there_is_none() {
        assert_eq!(pick("01J", &(FIRST..FIRST + COUNT).collect()), None);
    }
}
