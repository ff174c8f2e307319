//! Where a frame goes; pure. A guest can send anything, so only what can't harm its neighbours passes: frames of the
//! machine's own MAC address, with ARP and IPv4 that don't claim a neighbour's address. All other protocols are dropped:
//! with IPv6, one machine could announce itself as the router of all others.

use std::net::Ipv4Addr;

use goloo_model::record::{MacAddress, PrivateAddress};

/// The largest frame, in bytes: what QEMU sends at most.
pub const FRAME_MAX: usize = 64 << 10;

const HEADER: usize = 14;
const IPV4: [u8; 2] = [0x08, 0x00];
const ARP: [u8; 2] = [0x08, 0x06];
/// ARP for IPv4 addresses on Ethernet.
const ARP_KIND: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];
const UDP: u8 = 17;
/// The addresses in the networks are static, and a DHCP server could hand out routes.
const DHCP_PORTS: [u16; 2] = [67, 68];

/// Where a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// To one machine.
    Member(PrivateAddress),
    /// To all others.
    Others,
    /// Nowhere.
    Nowhere,
}

/// Where a frame goes that came from the machine with this address.
pub fn destination(frame: &[u8], from: PrivateAddress) -> Destination {
    if frame.len() > FRAME_MAX || !is_allowed(frame, from).unwrap_or(false) {
        return Destination::Nowhere;
    }
    let Some(mac) = mac_at(frame, 0) else { return Destination::Nowhere };
    // The group bit: broadcast and multicast.
    if mac.0[0] & 1 == 1 {
        return Destination::Others;
    }
    let to = from.network().member_with(mac).filter(|to| *to != from);
    to.map_or(Destination::Nowhere, Destination::Member)
}

/// `None` if the frame is too short.
fn is_allowed(frame: &[u8], from: PrivateAddress) -> Option<bool> {
    if mac_at(frame, 6)? != from.mac() {
        return Some(false);
    }
    let (kind, payload) = (frame.get(12..HEADER)?, frame.get(HEADER..)?);
    if kind == ARP {
        is_allowed_arp(payload, from)
    } else if kind == IPV4 {
        is_allowed_ipv4(payload, from)
    } else {
        Some(false)
    }
}

fn is_allowed_arp(arp: &[u8], from: PrivateAddress) -> Option<bool> {
    let sender = address_at(arp, 14)?;
    let is_complete = arp.len() >= 28 && arp.starts_with(&ARP_KIND);
    // A machine that checks whether an address is free has none yet.
    let is_own = sender == from.address() || sender.is_unspecified();
    Some(is_complete && mac_at(arp, 8)? == from.mac() && is_own)
}

fn is_allowed_ipv4(packet: &[u8], from: PrivateAddress) -> Option<bool> {
    let source = address_at(packet, 12)?;
    // A machine may route for networks of its own, such as those of containers.
    let is_own = source == from.address() || !from.network().contains(source);
    let (version, length) = (packet[0] >> 4, usize::from(packet[0] & 15) * 4);
    let is_sound = packet.len() >= length.max(20) && version == 4 && length >= 20;
    Some(is_sound && is_own && !is_dhcp(packet, length))
}

fn is_dhcp(packet: &[u8], header: usize) -> bool {
    let is_first_fragment = packet[6] & 0x1f == 0 && packet[7] == 0;
    let port = packet.get(header + 2..header + 4).map(|port| u16::from_be_bytes([port[0], port[1]]));
    packet[9] == UDP && is_first_fragment && port.is_none_or(|port| DHCP_PORTS.contains(&port))
}

fn mac_at(bytes: &[u8], at: usize) -> Option<MacAddress> {
    Some(MacAddress(bytes.get(at..at + 6)?.try_into().ok()?))
}

fn address_at(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(octets.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn member(last: u8) -> PrivateAddress {
        PrivateAddress::new(Ipv4Addr::new(10, 88, 3, last), 24).unwrap()
    }

    fn header(to: MacAddress, from: MacAddress, kind: [u8; 2]) -> Vec<u8> {
        [to.0.as_slice(), &from.0, &kind].concat()
    }

    fn ipv4(to: MacAddress, from: PrivateAddress, source: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
        packet.extend(source.octets());
        packet.extend([10, 88, 3, 255]);
        [header(to, from.mac(), IPV4), packet, payload.to_vec()].concat()
    }

    fn arp(from: PrivateAddress, mac: MacAddress, sender: Ipv4Addr) -> Vec<u8> {
        let mut packet = [ARP_KIND.as_slice(), &[0, 1], &mac.0].concat();
        packet.extend(sender.octets());
        packet.extend([0; 10]);
        [header(ALL, from.mac(), ARP), packet].concat()
    }

    const ALL: MacAddress = MacAddress([0xff; 6]);

    #[test]
    fn frames_go_to_the_machine_whose_mac_address_they_name_and_broadcasts_to_all_others() {
        let (a, b) = (member(1), member(2));
        let own = a.address();
        assert_eq!(destination(&ipv4(b.mac(), a, own, 6, &[]), a), Destination::Member(b));
        assert_eq!(destination(&ipv4(ALL, a, own, 6, &[]), a), Destination::Others);
        let multicast = MacAddress([1, 0, 0x5e, 0, 0, 1]);
        assert_eq!(destination(&ipv4(multicast, a, own, 6, &[]), a), Destination::Others);
        assert_eq!(destination(&arp(a, a.mac(), own), a), Destination::Others);
        assert_eq!(destination(&arp(a, a.mac(), Ipv4Addr::UNSPECIFIED), a), Destination::Others);
        let routed = Ipv4Addr::new(10, 244, 0, 7);
        assert_eq!(destination(&ipv4(b.mac(), a, routed, 6, &[]), a), Destination::Member(b));
    }

    #[test]
    fn a_machine_cant_use_an_address_of_its_neighbours() {
        let (a, b) = (member(1), member(2));
        let forged = [
            ("MAC address", ipv4(b.mac(), a, a.address(), 6, &[]), b),
            ("IPv4 address", ipv4(b.mac(), a, b.address(), 6, &[]), a),
            ("network's address", ipv4(b.mac(), a, Ipv4Addr::new(10, 88, 3, 255), 6, &[]), a),
            ("ARP address", arp(a, a.mac(), b.address()), a),
            ("ARP MAC address", arp(a, b.mac(), a.address()), a),
        ];
        for (what, frame, from) in forged {
            assert_eq!(destination(&frame, from), Destination::Nowhere, "{what}");
        }
    }

    #[test]
    fn dhcp_other_protocols_and_unknown_machines_are_dropped() {
        let (a, b) = (member(1), member(2));
        let own = a.address();
        for port in [67, 68_u8] {
            let dhcp = ipv4(ALL, a, own, UDP, &[0, 67, 0, port, 0, 8, 0, 0]);
            assert_eq!(destination(&dhcp, a), Destination::Nowhere);
        }
        let dns = ipv4(b.mac(), a, own, UDP, &[0, 67, 0, 53, 0, 8, 0, 0]);
        assert_eq!(destination(&dns, a), Destination::Member(b));
        for kind in [[0x86, 0xdd], [0x81, 0], [0x88, 0xcc], [0, 60]] {
            let frame = [header(b.mac(), a.mac(), kind), vec![0; 60]].concat();
            assert_eq!(destination(&frame, a), Destination::Nowhere);
        }
        let elsewhere = MacAddress([0x52, 0x54, 0, 1, 2, 3]);
        assert_eq!(destination(&ipv4(elsewhere, a, own, 6, &[]), a), Destination::Nowhere);
        assert_eq!(destination(&ipv4(a.mac(), a, own, 6, &[]), a), Destination::Nowhere, "to itself");
        let large = ipv4(b.mac(), a, own, 6, &vec![0; FRAME_MAX]);
        assert_eq!(destination(&large, a), Destination::Nowhere);
    }

    #[test]
    fn incomplete_and_invalid_packets_are_dropped() {
        let (a, b) = (member(1), member(2));
        let complete = arp(a, a.mac(), a.address());
        for length in 0..complete.len() {
            assert_eq!(destination(&complete[..length], a), Destination::Nowhere, "{length} bytes of ARP");
        }
        for at in HEADER..HEADER + ARP_KIND.len() {
            let mut other = complete.clone();
            other[at] ^= 1;
            assert_eq!(destination(&other, a), Destination::Nowhere, "another kind of ARP, byte {at}");
        }
        let packet = |first: u8, payload: &[u8]| {
            let mut packet = ipv4(b.mac(), a, a.address(), 6, payload);
            packet[HEADER] = first;
            destination(&packet, a)
        };
        assert_eq!(packet(0x46, &[0; 4]), Destination::Member(b), "with an option");
        for (what, first) in [("version 6", 0x65), ("a short header", 0x44), ("a cut option", 0x46)] {
            assert_eq!(packet(first, &[]), Destination::Nowhere, "{what}");
        }
    }

    #[test]
    fn only_the_first_fragment_of_udp_has_ports() {
        let (a, b) = (member(1), member(2));
        let fragment = |protocol: u8, offset: [u8; 2], payload: &[u8]| {
            let mut packet = ipv4(b.mac(), a, a.address(), protocol, payload);
            packet[HEADER + 6..HEADER + 8].copy_from_slice(&offset);
            destination(&packet, a)
        };
        let dhcp = [0, 68, 0, 67];
        assert_eq!(fragment(UDP, [0x20, 0], &dhcp), Destination::Nowhere, "the first of several");
        assert_eq!(fragment(UDP, [0, 0], &dhcp[..3]), Destination::Nowhere, "its ports are in the next one");
        for offset in [[0, 1], [1, 0], [0x3f, 0xff]] {
            assert_eq!(fragment(UDP, offset, &dhcp), Destination::Member(b), "data at {offset:?}");
        }
        assert_eq!(fragment(6, [0, 0], &dhcp), Destination::Member(b), "TCP");
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_destination(frame in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(destination(&frame, member(1)), Destination::Nowhere, "it isn't its MAC address");
        }

        #[test]
        fn a_frame_that_is_cut_or_changed_never_uses_a_neighbours_address(
            cut in 0_usize..60, at in 0_usize..60, byte in any::<u8>(), is_arp in any::<bool>(),
        ) {
            let (a, b) = (member(1), member(2));
            let mut frame = if is_arp {
                arp(a, a.mac(), a.address())
            } else {
                ipv4(b.mac(), a, a.address(), UDP, &[0, 1, 0, 2, 0, 8, 0, 0])
            };
            if let Some(changed) = frame.get_mut(at) {
                *changed = byte;
            }
            frame.truncate(cut);
            if destination(&frame, a) == Destination::Nowhere {
                return Ok(());
            }
            prop_assert_eq!(&frame[6..12], a.mac().0);
            let source = if frame[12..14] == ARP { 28 } else { 26 };
            let source = address_at(&frame, source).unwrap();
            prop_assert!(source == a.address() || !a.network().contains(source));
        }
    }
}
