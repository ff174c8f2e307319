//! Lines of /proc/net/tcp, tcp6, udp and udp6: see proc(5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A socket, as one line describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Socket<'l> {
    /// Where it is bound.
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    /// The port of the other end; 0 if there is none.
    pub(crate) remote_port: u16,
    /// Whether it is a TCP socket that accepts connections.
    pub(crate) is_listening: bool,
    pub(crate) inode: &'l str,
}

/// The state `TCP_LISTEN` of the kernel.
const LISTEN: &str = "0A";

impl<'l> Socket<'l> {
    /// `None` for the heading, and for anything else that isn't a socket.
    pub(crate) fn of_line(line: &'l str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (address, port) = fields.next()?.split_once(':')?;
        let (_, remote_port) = fields.next()?.split_once(':')?;
        let is_listening = fields.next()? == LISTEN;
        let hex_port = |text| u16::from_str_radix(text, 16).ok();
        Some(Self {
            address: parse_address(address)?,
            port: hex_port(port)?,
            remote_port: hex_port(remote_port)?,
            is_listening,
            // The tenth field.
            inode: fields.nth(5)?,
        })
    }
}

/// Each group of four bytes is a number of the processor's byte order. That of a guest is the same as this one's.
fn parse_address(hex: &str) -> Option<IpAddr> {
    let words: Option<Vec<[u8; 4]>> = (0..hex.len() / 8)
        .map(|word| Some(u32::from_str_radix(hex.get(word * 8..word * 8 + 8)?, 16).ok()?.to_ne_bytes()))
        .collect();
    match words?[..] {
        [four] => Some(Ipv4Addr::from(four).into()),
        [a, b, c, d] => {
            let bytes: [u8; 16] = [a, b, c, d].concat().try_into().ok()?;
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}
