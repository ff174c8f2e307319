//! The switch's ends of the connections to machines: one socket for each, connected to the machine's. The kernel lets
//! only that machine send to it, and the number of frames under way isn't limited to the system's `max_dgram_qlen`
//! (often 10), which would make QEMU retry in a loop. A machine that doesn't read its frames delays no other: some are
//! kept for it, the rest is dropped, as on any Ethernet.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use goloo_model::record::{PrivateAddress, PrivateNetwork};
use goloo_sys::durable;

use crate::folder::{self, FileIdentity};

/// The most machines that a switch connects. Each costs a descriptor.
const PORTS_MAX: usize = 512;
/// The most bytes that are kept for one machine.
const KEPT_MAX: usize = 1 << 20;
/// How often machines are looked for while there are frames. goloo tells the switch of each that it starts.
const LIST_AGE: Duration = Duration::from_secs(2);

/// All machines that are connected, in the order of their addresses.
pub(crate) struct Ports {
    network: PrivateNetwork,
    all: Vec<Port>,
    listed: Instant,
}

impl Ports {
    pub(crate) fn open(network: PrivateNetwork) -> Self {
        let mut ports = Self { network, all: Vec::new(), listed: Instant::now() };
        ports.list();
        ports
    }

    /// Connects the machines that have started, and forgets those that have ended.
    pub(crate) fn list(&mut self) {
        self.listed = Instant::now();
        self.all.retain(|port| !port.is_gone && port.is_in_folder() && port.reconnect().is_ok());
        for address in folder::members_in(Path::new("."), self.network).unwrap_or_default() {
            if let Err(index) = self.find(address.address())
                && self.all.len() < PORTS_MAX
                && let Ok(port) = Port::open(address)
            {
                self.all.insert(index, port);
            }
        }
    }

    /// Whether a machine has ended, or may have started.
    pub(crate) fn is_list_old(&self) -> bool {
        self.listed.elapsed() > LIST_AGE || self.all.iter().any(|port| port.is_gone)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Port> {
        self.all.iter()
    }

    /// The next frame of a machine, and the machine's address.
    pub(crate) fn receive(&mut self, index: usize, buffer: &mut [u8]) -> Option<(usize, PrivateAddress)> {
        let port = self.all.get_mut(index)?;
        match port.socket.recv(buffer) {
            Ok(length) => Some((length, port.address)),
            Err(error) => {
                port.note(&error);
                None
            }
        }
    }

    pub(crate) fn send(&mut self, to: PrivateAddress, frame: &[u8]) {
        if let Ok(index) = self.find(to.address()) {
            self.all[index].send(frame);
        }
    }

    pub(crate) fn send_to_others(&mut self, from: PrivateAddress, frame: &[u8]) {
        self.all.iter_mut().filter(|port| port.address != from).for_each(|port| port.send(frame));
    }

    /// Sends what was kept, as far as the machines take it.
    pub(crate) fn flush(&mut self) {
        self.all.iter_mut().for_each(Port::flush);
    }

    fn find(&self, address: Ipv4Addr) -> Result<usize, usize> {
        self.all.binary_search_by_key(&address, |port| port.address.address())
    }
}

/// One machine.
pub(crate) struct Port {
    address: PrivateAddress,
    pub(crate) socket: UnixDatagram,
    /// The socket's file.
    identity: FileIdentity,
    is_gone: bool,
    kept: VecDeque<Box<[u8]>>,
    kept_bytes: usize,
}

impl Port {
    fn open(address: PrivateAddress) -> io::Result<Self> {
        let (theirs, ours) = (folder::member_socket(address), folder::switch_end(address));
        durable::remove_if_there(Path::new(&ours))?;
        let socket = UnixDatagram::bind(&ours)?;
        let identity = folder::identity(Path::new(&ours))?;
        socket.set_nonblocking(true)?;
        socket.connect(theirs)?;
        Ok(Self { address, socket, identity, is_gone: false, kept: VecDeque::new(), kept_bytes: 0 })
    }

    /// Whether the machine can send to it: goloo removes the file of a machine that is deleted, and another one may have its
    /// address before this is noticed.
    fn is_in_folder(&self) -> bool {
        folder::identity(Path::new(&folder::switch_end(self.address))).ok() == Some(self.identity)
    }

    /// A machine that was started again has another socket, and what tells them apart is only known to the kernel: the
    /// new one may have the inode of the old one.
    fn reconnect(&self) -> io::Result<()> {
        self.socket.connect(folder::member_socket(self.address))
    }

    /// Whether frames are kept for the machine.
    pub(crate) fn is_busy(&self) -> bool {
        !self.kept.is_empty()
    }

    fn send(&mut self, frame: &[u8]) {
        let is_sent = self.kept.is_empty() && self.try_send(frame);
        if !is_sent && !self.is_gone && self.kept_bytes + frame.len() <= KEPT_MAX {
            self.kept_bytes += frame.len();
            self.kept.push_back(frame.into());
        }
    }

    fn flush(&mut self) {
        while let Some(frame) = self.kept.pop_front() {
            if self.try_send(&frame) {
                self.kept_bytes -= frame.len();
            } else {
                if !self.is_gone {
                    self.kept.push_front(frame);
                }
                return;
            }
        }
    }

    /// Returns `false` if the machine's queue is full, or the machine is gone.
    fn try_send(&mut self, frame: &[u8]) -> bool {
        if self.is_gone {
            return false;
        }
        let sent = self.socket.send(frame);
        sent.as_ref().err().into_iter().for_each(|error| self.note(error));
        sent.is_ok()
    }

    /// A socket whose machine has ended isn't connected any more, and would take frames from any other.
    fn note(&mut self, error: &io::Error) {
        if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) {
            return;
        }
        self.is_gone = true;
        self.kept.clear();
        self.kept_bytes = 0;
        let _ = durable::remove_if_there(Path::new(&folder::switch_end(self.address)));
    }
}
