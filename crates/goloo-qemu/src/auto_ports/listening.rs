//! On which ports a guest can be reached, as its kernel says.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use crate::proc_net::Socket;

/// Answers each line of its input with the TCP sockets that listen, and a line that ends the answer. It ends with its
/// input, and so with the supervisor.
pub(super) const SCRIPT: &str =
    "while read -r _; do grep -h ' 0A ' /proc/net/tcp /proc/net/tcp6 2>/dev/null; echo .; done";
/// The line that ends an answer.
pub(super) const END: &[u8] = b".\n";

/// The guest's address in QEMU's network.
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);

/// The ports at which QEMU reaches something: it connects to the guest's address, and so never to its loopback
/// addresses. Other lines are ignored.
pub(super) fn reachable_ports(answer: &str) -> BTreeSet<u16> {
    let sockets = answer.lines().filter_map(Socket::of_line);
    let reachable =
        sockets.filter(|socket| socket.is_listening && socket.port != 0 && is_reached(socket.address));
    reachable.map(|socket| socket.port).collect()
}

fn is_reached(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(four) => four.is_unspecified() || four == GUEST,
        IpAddr::V6(six) => six.is_unspecified(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::process::{Command, Stdio};

    use super::*;

    /// As a kernel of this computer's byte order prints it.
    fn line(address: IpAddr, port: u16, state: &str) -> String {
        let bytes = match address {
            IpAddr::V4(four) => four.octets().to_vec(),
            IpAddr::V6(six) => six.octets().to_vec(),
        };
        let words = bytes.chunks(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap()));
        let address: String = words.map(|word| format!("{word:08X}")).collect();
        let zeros = "0".repeat(address.len());
        format!(
            "   1: {address}:{port:04X} {zeros}:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 12 1 0\n"
        )
    }

    #[test]
    fn only_ports_that_qemu_reaches_are_forwarded() {
        let cases = [
            ("0.0.0.0", 80, true),
            ("10.0.2.15", 81, true),
            ("::", 82, true),
            ("::ffff:0.0.0.0", 83, true),
            ("::ffff:10.0.2.15", 84, true),
            ("127.0.0.1", 85, false),
            ("127.0.0.53", 86, false),
            ("::1", 87, false),
            ("::ffff:127.0.0.1", 88, false),
            ("172.17.0.1", 89, false),
            ("fe80::1", 90, false),
            ("0.0.0.0", 0, false),
        ];
        let lines: String =
            cases.iter().map(|(address, port, _)| line(address.parse().unwrap(), *port, "0A")).collect();
        let expected: BTreeSet<u16> = cases.iter().filter(|case| case.2).map(|case| case.1).collect();
        assert_eq!(reachable_ports(&lines), expected);
        assert_eq!(
            reachable_ports(&line(Ipv4Addr::UNSPECIFIED.into(), 80, "01")),
            BTreeSet::new(),
            "a connection"
        );
    }

    #[test]
    fn mutation_of_a_guest_s_answer() {
        let corpus = [line(Ipv4Addr::UNSPECIFIED.into(), 80, "0A"), line("::".parse().unwrap(), 443, "0A")];
        goloo_testkit::mutate::run(&corpus.map(String::into_bytes), |input| {
            reachable_ports(&String::from_utf8_lossy(input));
        });
    }

    #[test]
    fn the_script_answers_each_line_with_what_listens_now() {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut input, mut output) =
            (shell.stdin.take().unwrap(), BufReader::new(shell.stdout.take().unwrap()));
        let mut ask = || {
            input.write_all(b"\n").unwrap();
            let mut answer = String::new();
            while !answer.ends_with(".\n") {
                assert_ne!(output.read_line(&mut answer).unwrap(), 0);
            }
            reachable_ports(&answer)
        };
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(ask().contains(&port));
        drop(listener);
        assert!(!ask().contains(&port));
        drop(input);
        assert!(shell.wait().unwrap().success(), "it ends with its input");
    }
}
