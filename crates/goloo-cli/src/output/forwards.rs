//! Forwarded ports, in words.

use goloo_model::record::{ForwardedPort, Record, RecordedPort, RecordedStack};

/// The ports of a VM, a line for each run of them. A VM that was created before records had its forwarded ports
/// forwards those of its stack from 127.0.0.1; a VM elsewhere opens its own.
pub fn of_vm(record: &Record, stack: &RecordedStack, is_forwarded: bool) -> Vec<String> {
    if !record.endpoint.ports.is_empty() {
        return lines(&record.endpoint.ports);
    }
    let of_stack = |port: &RecordedPort| {
        let last_host = port.last_host.unwrap_or(port.host);
        let last_guest = port.guest.saturating_add(last_host.saturating_sub(port.host));
        let (guest, protocol) = (range(port.guest, last_guest), port.protocol.suffix());
        if is_forwarded {
            format!("127.0.0.1:{} to {guest}{protocol}", range(port.host, last_host))
        } else {
            format!("{guest}{protocol}")
        }
    };
    stack.ports.iter().map(of_stack).collect()
}

fn range(first: u16, last: u16) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

/// One line for each run of consecutive ports: `127.0.0.1:8000-8010 to 9000-9010`.
pub fn lines(ports: &[ForwardedPort]) -> Vec<String> {
    let mut sorted = ports.to_vec();
    sorted.sort_by_key(|forward| (forward.address, forward.protocol, forward.port));
    sorted.chunk_by(continues).map(line).collect()
}

fn continues(a: &ForwardedPort, b: &ForwardedPort) -> bool {
    let next = ForwardedPort { port: a.port.wrapping_add(1), guest_port: a.guest_port.wrapping_add(1), ..*a };
    next == *b
}

fn line(run: &[ForwardedPort]) -> String {
    let (first, last) = (run[0], run[run.len() - 1]);
    let (host, guest) = (range(first.port, last.port), range(first.guest_port, last.guest_port));
    format!("{}:{host} to {guest}{}", first.address, first.protocol.suffix())
}

#[cfg(test)]
mod tests {
    use goloo_model::spec::Protocol;

    use super::*;

    #[test]
    fn consecutive_ports_are_one_line() {
        let forward = |last: u8, port, guest_port, protocol| ForwardedPort {
            address: [127, 64, 0, last].into(),
            port,
            guest_port,
            protocol,
        };
        let tcp = |port, guest| forward(1, port, guest, Protocol::Tcp);
        let ports = [
            tcp(8001, 9001),
            tcp(8000, 9000),
            forward(2, 8000, 9000, Protocol::Tcp),
            tcp(8002, 9002),
            tcp(8003, 80),
            forward(1, 53, 53, Protocol::Udp),
        ];
        assert_eq!(
            lines(&ports),
            [
                "127.64.0.1:8000-8002 to 9000-9002",
                "127.64.0.1:8003 to 80",
                "127.64.0.1:53 to 53/udp",
                "127.64.0.2:8000 to 9000",
            ]
        );
        assert_eq!(lines(&[]), [""; 0]);
    }
}
