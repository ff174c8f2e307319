//! The process: receives frames from machines, and sends them on. It works in the network's folder, and has no other
//! socket than those in there, so that no frame reaches the host.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::ExitCode;

use goloo_model::record::{PrivateAddress, PrivateNetwork};
use goloo_sys::confine::{OwnLimits, confine};
use goloo_sys::lock::{self, FileLock, Mode};
use goloo_sys::{durable, umask};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::folder::{self, LOCK, NetworkFolder, SWITCH_SOCKET};
use crate::frame::{Destination, FRAME_MAX, destination};
use crate::ports::Ports;

/// The first argument of the process. Not a user-facing command.
pub const SWITCH: &str = "__switch-network";

/// Without a frame for this long, it checks whether there is a machine left.
const IDLE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };
/// How many frames are received before those that were kept get another chance.
const BATCH: usize = 64;
/// The lock under which goloo starts switches, seen from a network's folder.
const START_LOCK: &str = "../../net.lock";
/// Frames of guests are untrusted input. A switch runs for as long as its machines, so its time isn't limited.
const OWN_LIMITS: OwnLimits = OwnLimits { memory: 2 << 30, cpu: u64::MAX };

/// The command line of the switch of a network.
pub fn arguments(folder: &NetworkFolder) -> [OsString; 3] {
    [SWITCH.into(), folder.path().into(), folder.network().to_string().into()]
}

/// Runs as a switch if the command line `argv` (including the program's name) asks for it.
pub fn answer(argv: &[OsString]) -> Option<ExitCode> {
    let [_, word, folder, network] = argv else { return None };
    if word != OsStr::new(SWITCH) {
        return None;
    }
    let ended = network
        .to_str()
        .and_then(PrivateNetwork::parse)
        .ok_or_else(|| io::Error::from(ErrorKind::InvalidInput))
        .and_then(|network| run(Path::new(folder), network));
    Some(if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run(folder: &Path, network: PrivateNetwork) -> io::Result<()> {
    // It outlives the terminal. This fails for a process group leader, which is fine.
    let _ = rustix::process::setsid();
    umask::make_private();
    // Names of sockets are short from there.
    std::env::set_current_dir(folder)?;
    let Some(lock) = lock::try_take(Path::new(LOCK), Mode::Exclusive)? else { return Ok(()) };
    confine(OWN_LIMITS);
    durable::remove_if_there(Path::new(SWITCH_SOCKET))?;
    let socket = UnixDatagram::bind(SWITCH_SOCKET)?;
    socket.set_nonblocking(true)?;
    let mut switch = Switch { socket, identity: identity()?, network, ports: Ports::new(network) };
    let start_lock = switch.forward()?;
    // In this order: the next switch is started under the second lock, and needs the first.
    drop(lock);
    drop(start_lock);
    Ok(())
}

/// What distinguishes the socket's file from a later one of the same name.
fn identity() -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(SWITCH_SOCKET)?;
    Ok((file.dev(), file.ino()))
}

struct Switch {
    socket: UnixDatagram,
    identity: (u64, u64),
    network: PrivateNetwork,
    ports: Ports,
}

/// Why the switch ends.
enum End {
    /// The folder was removed.
    Removed,
    /// No machine is running. No other switch is started meanwhile.
    Unused(FileLock),
}

impl Switch {
    /// Forwards frames until the switch isn't needed any more.
    fn forward(&mut self) -> io::Result<Option<FileLock>> {
        let mut buffer = vec![0; FRAME_MAX + 1];
        loop {
            let is_asked = self.receive(&mut buffer)?;
            self.ports.flush();
            let is_idle = !is_asked && !self.wait()?;
            if !is_asked && !is_idle {
                continue;
            }
            match self.end() {
                None => {}
                Some(End::Removed) => return Ok(None),
                Some(End::Unused(lock)) => {
                    durable::remove_if_there(Path::new(SWITCH_SOCKET))?;
                    return Ok(Some(lock));
                }
            }
        }
    }

    /// Forwards what has arrived. Returns whether goloo asks for a check.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        for _ in 0..BATCH {
            match self.socket.recv_from(buffer) {
                Ok((length, sender)) => match self.member(&sender) {
                    Some(from) => self.send(&buffer[..length], from),
                    None => return Ok(true),
                },
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// The machine with the socket of this name. Machines have other working folders, so only its last part counts; the
    /// rest can't be another network's, since no path leads here from a process of another user.
    fn member(&self, sender: &SocketAddr) -> Option<PrivateAddress> {
        let name = sender.as_pathname()?.file_name()?.to_str()?;
        folder::member_named(name, self.network)
    }

    fn send(&mut self, frame: &[u8], from: PrivateAddress) {
        self.ports.add(from);
        match destination(frame, from) {
            Destination::Member(to) => self.ports.send(to, frame),
            Destination::Others => self.ports.send_to_others(from, frame),
            Destination::Nowhere => {}
        }
    }

    /// Waits until there is something to do. Returns `false` if there was nothing for a while.
    fn wait(&self) -> io::Result<bool> {
        let mut sockets = vec![PollFd::new(&self.socket, PollFlags::IN)];
        sockets.extend(self.ports.busy().map(|socket| PollFd::new(socket, PollFlags::OUT)));
        match poll(&mut sockets, Some(&IDLE)) {
            Ok(count) => Ok(count > 0),
            Err(rustix::io::Errno::INTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    fn end(&self) -> Option<End> {
        if identity().ok() != Some(self.identity) {
            return Some(End::Removed);
        }
        if self.has_members() {
            return None;
        }
        // A machine is running before goloo takes this lock to look for a switch, so it is seen here or gets another one.
        let lock = lock::try_take(Path::new(START_LOCK), Mode::Exclusive).ok().flatten()?;
        (!self.has_members()).then_some(End::Unused(lock))
    }

    fn has_members(&self) -> bool {
        let here = Path::new(".");
        let members = folder::members_in(here, self.network);
        // Where the folder can't be read, the switch stays.
        members.is_err()
            || members.is_ok_and(|members| {
                members.iter().any(|member| folder::is_bound(here, &member.address().to_string()))
            })
    }
}
