//! The sockets of the machines, as the switch sends to them. A machine that doesn't read its frames delays no other: some
//! are kept for it, the rest is dropped, as on any Ethernet.

use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use goloo_model::record::{PrivateAddress, PrivateNetwork};

use crate::folder;

/// The most machines that a switch connects. Each costs a descriptor.
const PORTS_MAX: usize = 512;
/// The most bytes that are kept for one machine: the kernel's own queue often has room for ten frames only.
const KEPT_MAX: usize = 1 << 20;
/// How long a list of the machines is used for broadcasts. Those that have sent a frame meanwhile are in it.
const LIST_AGE: Duration = Duration::from_secs(1);

/// All machines that the switch knows.
pub(crate) struct Ports {
    network: PrivateNetwork,
    all: BTreeMap<u32, Port>,
    listed: Option<Instant>,
}

impl Ports {
    pub(crate) fn new(network: PrivateNetwork) -> Self {
        Self { network, all: BTreeMap::new(), listed: None }
    }

    /// A machine that has sent a frame.
    pub(crate) fn add(&mut self, address: PrivateAddress) {
        let key = address.address().into();
        if self.all.len() < PORTS_MAX || self.all.contains_key(&key) {
            self.all.entry(key).or_insert_with(|| Port::new(address));
        }
    }

    pub(crate) fn send(&mut self, to: PrivateAddress, frame: &[u8]) {
        self.add(to);
        if let Some(port) = self.all.get_mut(&to.address().into()) {
            port.send(frame);
        }
    }

    pub(crate) fn send_to_others(&mut self, from: PrivateAddress, frame: &[u8]) {
        if self.listed.is_none_or(|listed| listed.elapsed() > LIST_AGE) {
            self.list();
        }
        let others = self.all.values_mut().filter(|port| port.address != from);
        others.for_each(|port| port.send(frame));
    }

    /// Finds the machines that have sent nothing yet, and forgets those that have ended.
    fn list(&mut self) {
        self.listed = Some(Instant::now());
        self.all.retain(|_, port| port.socket.is_some());
        let found = folder::members_in(Path::new("."), self.network).unwrap_or_default();
        found.into_iter().for_each(|address| self.add(address));
    }

    /// Sends what was kept, as far as the machines take it.
    pub(crate) fn flush(&mut self) {
        self.all.values_mut().for_each(Port::flush);
    }

    /// The sockets of machines for which frames are kept.
    pub(crate) fn busy(&self) -> impl Iterator<Item = &UnixDatagram> {
        self.all.values().filter(|port| !port.kept.is_empty()).filter_map(|port| port.socket.as_ref())
    }
}

/// One machine.
struct Port {
    address: PrivateAddress,
    /// Connected, so that the kernel says when the machine takes frames again.
    socket: Option<UnixDatagram>,
    kept: VecDeque<Box<[u8]>>,
    kept_bytes: usize,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Sent,
    /// The machine's queue is full.
    Full,
    /// The machine isn't running.
    Gone,
}

impl Port {
    fn new(address: PrivateAddress) -> Self {
        Self { address, socket: None, kept: VecDeque::new(), kept_bytes: 0 }
    }

    fn send(&mut self, frame: &[u8]) {
        if self.kept.is_empty() && self.try_send(frame) != Outcome::Full {
            return;
        }
        if self.kept_bytes + frame.len() <= KEPT_MAX {
            self.kept_bytes += frame.len();
            self.kept.push_back(frame.into());
        }
    }

    fn flush(&mut self) {
        while let Some(frame) = self.kept.pop_front() {
            match self.try_send(&frame) {
                Outcome::Sent => self.kept_bytes -= frame.len(),
                Outcome::Full => return self.kept.push_front(frame),
                Outcome::Gone => {
                    self.kept.clear();
                    self.kept_bytes = 0;
                }
            }
        }
    }

    fn try_send(&mut self, frame: &[u8]) -> Outcome {
        // Once more on a new connection: the machine may have been started again, with another socket of this name.
        for _ in 0..2 {
            let Some(socket) = self.connected() else { return Outcome::Gone };
            match socket.send(frame) {
                Ok(_) => return Outcome::Sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Outcome::Full,
                Err(_) => self.socket = None,
            }
        }
        Outcome::Gone
    }

    fn connected(&mut self) -> Option<&UnixDatagram> {
        if self.socket.is_none() {
            let socket = UnixDatagram::unbound().ok()?;
            socket.set_nonblocking(true).ok()?;
            socket.connect(self.address.address().to_string()).ok()?;
            self.socket = Some(socket);
        }
        self.socket.as_ref()
    }
}
