//! Chooses the address and the ports of a new machine, with the ports lock held; nothing is bound or written.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;

use goloo_model::name::VmId;
use goloo_model::provider::{Machine, ProviderError};
use goloo_model::spec::PortForward;

use crate::address;
use crate::error::port_taken;
use crate::holder::{self, Holder};
use crate::machine::{self, MachineFile};
use crate::ports::{self, Forward, Listener, Necessity};

/// Where a new machine is reached, apart from its SSH port.
#[derive(Debug, Default)]
pub(crate) struct Network {
    /// Its own loopback address; `None` where the system has only 127.0.0.1.
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) forwards: Vec<Forward>,
    /// What differs from what the user may expect.
    pub(crate) notes: Vec<String>,
}

/// The forwards that a machine is to have.
pub(crate) struct Wanted<'a> {
    pub(crate) id: &'a VmId,
    pub(crate) name: &'a str,
    pub(crate) ports: &'a [PortForward],
    /// Whether another port may be picked for one that is taken.
    pub(crate) may_move: bool,
}

impl<'a> Wanted<'a> {
    pub(crate) fn of(machine: &'a Machine) -> Self {
        let Machine { id, name, stack, .. } = machine;
        Self { id, name: name.as_str(), ports: &stack.ports, may_move: stack.is_copy }
    }
}

/// A port of an entry, and the forward that a machine has for it.
pub(crate) type KeptForward = ((Listener, u16), Forward);

/// For a machine that exists beside these: `kept` are the forwards that stay, and what `is_live` its QEMU has itself.
pub(crate) fn choose_forwards(
    wanted: &Wanted<'_>,
    own: Option<Ipv4Addr>,
    others: &[MachineFile],
    kept: &[KeptForward],
    is_live: &dyn Fn(Listener) -> bool,
) -> Result<Vec<Forward>, ProviderError> {
    let network = Network { address: own, ..Network::default() };
    let mut choice = Choice {
        wanted,
        others,
        kept,
        is_live,
        network,
        moved: Moves::default(),
        unshared: Moves::default(),
    };
    wanted.ports.iter().try_for_each(|entry| choice.add(entry))?;
    Ok(choice.finish().forwards)
}

/// For a new machine beside these. Whether the system has an address is asked from `has_address`.
pub(crate) fn choose(
    wanted: &Wanted<'_>,
    others: &[MachineFile],
    has_address: fn(Ipv4Addr) -> bool,
) -> Result<Network, ProviderError> {
    let taken = others.iter().filter_map(|other| other.address).collect();
    let own = Some(address::choose(wanted.id, &taken)).filter(|own| has_address(*own));
    let mut network = Network { address: own, ..Network::default() };
    if own.is_none() && !wanted.ports.is_empty() {
        network.notes.push(format!(
            "this system has no loopback addresses besides 127.0.0.1, so \"{}\" has none of its own",
            wanted.name
        ));
    }
    let (moved, unshared) = (Moves::default(), Moves::default());
    let mut choice = Choice { wanted, others, kept: &[], is_live: &|_| false, network, moved, unshared };
    wanted.ports.iter().try_for_each(|entry| choice.add(entry))?;
    Ok(choice.finish())
}

/// The forwards that a plan shows, before it is known what is free.
pub(crate) fn planned(machine: &Machine) -> Vec<Forward> {
    let own = address::choose(&machine.id, &BTreeSet::new());
    let listeners = machine.stack.ports.iter().flat_map(|entry| pairs(entry, own));
    listeners.map(|(listener, guest)| Forward::new(listener, guest)).collect()
}

/// Where each port of an entry is listened for, and the port of the guest.
pub(crate) fn pairs(entry: &PortForward, own: Ipv4Addr) -> impl Iterator<Item = (Listener, u16)> + use<> {
    let (protocol, address) = (entry.protocol(), entry.bind().unwrap_or(own));
    entry.pairs().map(move |(port, guest)| (Listener { protocol, address, port }, guest))
}

struct Choice<'a> {
    wanted: &'a Wanted<'a>,
    others: &'a [MachineFile],
    kept: &'a [KeptForward],
    is_live: &'a dyn Fn(Listener) -> bool,
    network: Network,
    moved: Moves,
    unshared: Moves,
}

/// The first of several ports, since a range may have hundreds.
#[derive(Default)]
struct Moves {
    first: Option<String>,
    more: usize,
}

impl Moves {
    fn add(&mut self, text: impl FnOnce() -> String) {
        match self.first {
            None => self.first = Some(text()),
            Some(_) => self.more += 1,
        }
    }

    fn note(self) -> Option<String> {
        let more = if self.more == 0 { String::new() } else { format!(" (and {} more ports)", self.more) };
        self.first.map(|first| first + &more)
    }
}

impl Choice<'_> {
    fn add(&mut self, entry: &PortForward) -> Result<(), ProviderError> {
        let own = self.network.address.unwrap_or(Ipv4Addr::LOCALHOST);
        for (listener, guest) in pairs(entry, own) {
            let kept =
                self.kept.iter().filter(|(of, _)| *of == (listener, guest)).map(|(_, forward)| *forward);
            let before = self.network.forwards.len();
            self.network.forwards.extend(kept);
            if self.network.forwards.len() > before {
                continue;
            }
            let forward = self.required(listener, guest)?;
            self.network.forwards.push(forward);
            if entry.bind().is_none() && self.network.address.is_some() {
                self.share(forward);
            }
        }
        Ok(())
    }

    /// At the port that was asked for. A copy of a stack gets another one if that is taken, even by a machine that isn't
    /// running.
    fn required(&mut self, listener: Listener, guest: u16) -> Result<Forward, ProviderError> {
        let Err(error) = self.check(listener) else {
            let is_reserved = holder::machine_of(&listener, self.others).is_some();
            return if is_reserved && self.wanted.may_move {
                self.moved(listener, guest, moved_note)
            } else {
                Ok(Forward::new(listener, guest))
            };
        };
        match error.kind() {
            io::ErrorKind::AddrInUse if self.wanted.may_move => self.moved(listener, guest, moved_note),
            io::ErrorKind::PermissionDenied if self.wanted.may_move => {
                self.moved(listener, guest, |name, from, to, guest, _| {
                    format!("no permission to bind {from}; port {guest} of \"{name}\" is at {to}")
                })
            }
            _ => Err(port_taken(&listener, guest, &error, self.others)),
        }
    }

    /// Whether it can be bound: what the machine's own QEMU has, it can have again.
    fn check(&self, listener: Listener) -> io::Result<()> {
        if (self.is_live)(listener) { Ok(()) } else { listener.check() }
    }

    fn moved(
        &mut self,
        listener: Listener,
        guest: u16,
        note: impl FnOnce(&str, Listener, Listener, u16, &[MachineFile]) -> String,
    ) -> Result<Forward, ProviderError> {
        let wanted = self.wanted.ports.iter().flat_map(PortForward::pairs).map(|(port, _)| port);
        let chosen = self.network.forwards.iter().map(|forward| forward.host);
        let taken = machine::ports(self.others).chain(wanted).chain(chosen).collect();
        let moved = pick_instead(&self.wanted.id.to_string(), listener, guest, &taken)?;
        let (name, others) = (self.wanted.name, self.others);
        self.moved.add(|| note(name, listener, moved.listener(), guest, others));
        Ok(moved)
    }

    /// Also at 127.0.0.1, where programs and people look for it, unless that is taken.
    fn share(&mut self, forward: Forward) {
        let shared = Forward { address: Ipv4Addr::LOCALHOST, necessity: Necessity::Optional, ..forward };
        let listener = shared.listener();
        if self.check(listener).is_ok() && holder::machine_of(&listener, self.others).is_none() {
            self.network.forwards.push(shared);
            return;
        }
        let (others, name) = (self.others, self.wanted.name);
        self.unshared.add(|| unshared_note(name, &shared, forward.address, others));
    }

    fn finish(self) -> Network {
        let mut network = self.network;
        network.notes.extend(self.moved.note());
        network.notes.extend(self.unshared.note());
        network
    }
}

/// Says which optional forwards a start left out.
pub(crate) fn skipped_note(machine: &MachineFile, others: &[MachineFile]) -> Option<String> {
    let mut skipped = Moves::default();
    for forward in machine.ports.iter().filter(|forward| !forward.is_active()) {
        skipped.add(|| unshared_note(&machine.name, forward, machine.address(), others));
    }
    skipped.note()
}

/// Says that 127.0.0.1 is taken, and where the port is instead.
fn unshared_note(name: &str, shared: &Forward, own: Ipv4Addr, others: &[MachineFile]) -> String {
    let own = Listener { address: own, ..shared.listener() };
    moved_note(name, shared.listener(), own, shared.guest, others)
}

/// A free port at the same address.
pub(crate) fn pick_instead(
    seed: &str,
    listener: Listener,
    guest: u16,
    taken: &BTreeSet<u16>,
) -> Result<Forward, ProviderError> {
    let seed = format!("{seed}{guest}");
    let picked = ports::pick(&seed, listener.protocol, listener.address, taken).ok_or_else(|| {
        ProviderError::failed(
            format!("no port of {} is free for port {guest} of the machine", listener.address),
            "stop or delete some VMs",
        )
    })?;
    Ok(Forward::new(picked, guest))
}

/// Says which port replaces another.
pub(crate) fn moved_note(
    name: &str,
    from: Listener,
    to: Listener,
    guest: u16,
    others: &[MachineFile],
) -> String {
    let holder = Holder::of(&from, others);
    format!("{from} belongs to {holder}; port {guest} of \"{name}\" is at {to}")
}
