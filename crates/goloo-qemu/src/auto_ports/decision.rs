//! Which forwards are opened and closed. Pure.

use std::collections::BTreeSet;

use goloo_model::automatic_ports::RefusedPort;
use goloo_model::spec::Protocol;

use crate::live_forwards::LiveForward;
use crate::machine::MachineFile;
use crate::ports::Listener;

/// The largest number of ports that are forwarded by themselves: the guest decides how many it has.
pub(super) const AUTO_PORTS_MAX: usize = 64;

/// What is known.
pub(super) struct Situation<'a> {
    /// The ports at which the guest can be reached.
    pub(super) listening: &'a BTreeSet<u16>,
    /// What QEMU forwards.
    pub(super) live: &'a [LiveForward],
    /// The ports that were opened earlier. Nothing else is ever closed.
    pub(super) opened: &'a BTreeSet<u16>,
    /// The machine's configured forwards.
    pub(super) machine: &'a MachineFile,
}

/// What follows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) close: Vec<LiveForward>,
    pub(super) open: Vec<LiveForward>,
    pub(super) refused: Vec<RefusedPort>,
}

/// An automatic forward: the same port at the machine's own address.
pub(super) fn automatic(machine: &MachineFile, port: u16) -> LiveForward {
    LiveForward { listener: Listener::tcp(machine.address(), port), guest: port }
}

/// Configured forwards win, and so do ports that were opened before others.
pub(super) fn decide(situation: &Situation<'_>) -> Decision {
    let Situation { listening, live, opened, machine } = *situation;
    let is_configured = |forward: &LiveForward| machine.listeners().any(|own| own == forward.listener);
    let is_ours = |forward: &LiveForward| {
        opened.contains(&forward.guest)
            && *forward == automatic(machine, forward.guest)
            && !is_configured(forward)
    };
    let (ours, others): (Vec<LiveForward>, Vec<LiveForward>) =
        live.iter().partition(|forward| is_ours(forward));
    let (kept, close): (Vec<_>, Vec<_>) =
        ours.into_iter().partition(|forward| listening.contains(&forward.guest));
    let is_reached = |port: u16| {
        let is_tcp = |forward: &&LiveForward| forward.listener.protocol == Protocol::Tcp;
        kept.iter().chain(&others).filter(is_tcp).any(|forward| forward.guest == port)
    };
    let mut decision = Decision { close, ..Decision::default() };
    for port in listening.iter().copied().filter(|port| !is_reached(*port)) {
        let forward = automatic(machine, port);
        if let Some(other) = others.iter().find(|other| other.listener.excludes(&forward.listener)) {
            let reason = format!("{} is forwarded to port {}", other.listener, other.guest);
            decision.refused.push(RefusedPort { guest_port: port, reason });
        } else if kept.len() + decision.open.len() >= AUTO_PORTS_MAX {
            let reason = format!("{AUTO_PORTS_MAX} ports are forwarded already");
            decision.refused.push(RefusedPort { guest_port: port, reason });
        } else {
            decision.open.push(forward);
        }
    }
    decision
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use goloo_model::name::VmId;

    use crate::machine;
    use crate::ports::{Forward, Necessity};

    const OWN: Ipv4Addr = Ipv4Addr::new(127, 66, 1, 2);

    /// At its own address, with port 8080 forwarded to 80, also at 127.0.0.1.
    fn machine() -> MachineFile {
        let web = Forward::new(Listener::tcp(OWN, 8080), 80);
        let shared = Forward { address: Ipv4Addr::LOCALHOST, necessity: Necessity::Optional, ..web };
        MachineFile {
            address: Some(OWN),
            ssh_port: Some(20022),
            ports: vec![web, shared],
            ..machine::sample(&VmId::generate(), "web", true)
        }
    }

    fn live(machine: &MachineFile, automatic_ports: &[u16]) -> Vec<LiveForward> {
        let ssh = LiveForward { listener: Listener::tcp(machine.address(), 20022), guest: 22 };
        let configured =
            machine.ports.iter().map(|port| LiveForward { listener: port.listener(), guest: port.guest });
        let automatic = automatic_ports.iter().map(|port| automatic(machine, *port));
        configured.chain([ssh]).chain(automatic).collect()
    }

    /// What is opened, closed and refused.
    fn decided(
        listening: &[u16],
        live: &[LiveForward],
        opened: &[u16],
    ) -> (Vec<u16>, Vec<u16>, Vec<RefusedPort>) {
        let (listening, opened) = (listening.iter().copied().collect(), opened.iter().copied().collect());
        let decision =
            decide(&Situation { listening: &listening, live, opened: &opened, machine: &machine() });
        for forward in decision.open.iter().chain(&decision.close) {
            assert_eq!(*forward, automatic(&machine(), forward.guest), "nothing else is opened or closed");
        }
        let ports = |forwards: &[LiveForward]| forwards.iter().map(|forward| forward.guest).collect();
        (ports(&decision.open), ports(&decision.close), decision.refused)
    }

    fn refused(guest_port: u16, reason: &str) -> RefusedPort {
        RefusedPort { guest_port, reason: reason.to_owned() }
    }

    #[test]
    fn a_port_is_opened_while_the_guest_listens_and_is_closed_afterwards() {
        let machine = machine();
        assert_eq!(decided(&[22, 3000], &live(&machine, &[]), &[]), (vec![3000], vec![], vec![]));
        assert_eq!(decided(&[22, 3000], &live(&machine, &[3000]), &[3000]), (vec![], vec![], vec![]));
        assert_eq!(decided(&[22], &live(&machine, &[3000]), &[3000]), (vec![], vec![3000], vec![]));
        assert_eq!(
            decided(&[22], &live(&machine, &[]), &[3000]),
            (vec![], vec![], vec![]),
            "QEMU started again"
        );
    }

    #[test]
    fn configured_forwards_and_that_of_ssh_are_neither_repeated_nor_replaced_nor_closed() {
        let live = live(&machine(), &[]);
        let (open, close, not) = decided(&[22, 80, 8080, 20022], &live, &[22, 80, 8080, 20022]);
        assert_eq!((open, close), (vec![], vec![]));
        let web = refused(8080, "127.66.1.2:8080 is forwarded to port 80");
        assert_eq!(not, [web, refused(20022, "127.66.1.2:20022 is forwarded to port 22")]);
        let ours = automatic(&machine(), 9000);
        let udp = Listener { protocol: Protocol::Udp, ..ours.listener };
        let live = [live, vec![LiveForward { listener: udp, guest: 9000 }]].concat();
        assert_eq!(decided(&[9000], &live, &[]).0, [9000], "UDP is something else");
    }

    #[test]
    fn a_forward_that_became_a_configured_one_stays() {
        let mut machine = machine();
        machine.ports.push(Forward::new(Listener::tcp(OWN, 3000), 3000));
        let (listening, opened) = (BTreeSet::new(), BTreeSet::from([3000]));
        let live = live(&machine, &[]);
        let situation = Situation { listening: &listening, live: &live, opened: &opened, machine: &machine };
        assert_eq!(decide(&situation), Decision::default());
    }

    #[test]
    fn a_guest_with_many_ports_keeps_the_first_that_it_had() {
        let opened: Vec<u16> = (9000..9000 + 60).collect();
        let listening: Vec<u16> = (1024..1124).chain(opened.iter().copied()).collect();
        let (open, close, not) = decided(&listening, &live(&machine(), &opened), &opened);
        assert_eq!((open, close), ((1024..1028).collect(), vec![]));
        assert_eq!(not.len(), 96);
        assert_eq!(not[0], refused(1028, "64 ports are forwarded already"));
    }
}
