//! The process: receives frames from machines, and sends them on. It works in the network's folder, and has no other
//! socket than those in there, so that no frame reaches the host.

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::ExitCode;

use goloo_model::record::PrivateNetwork;
use goloo_sys::confine::{OwnLimits, confine};
use goloo_sys::lock::{self, FileLock, Mode};
use goloo_sys::{durable, umask};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::folder::{self, FileIdentity, LOCK, NetworkFolder, SWITCH_SOCKET};
use crate::frame::{Destination, FRAME_MAX, destination};
use crate::ports::Ports;

/// The first argument of the process. Not a user-facing command.
pub const SWITCH: &str = "__switch-network";

/// Without a frame for this long, it checks which machines are left.
const IDLE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };
/// How many frames of one machine are forwarded before those of the next one.
const BATCH: usize = 32;
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
    let ports = Ports::open(network);
    // Last: from now on it counts as running.
    durable::remove_if_there(Path::new(SWITCH_SOCKET))?;
    let control = UnixDatagram::bind(SWITCH_SOCKET)?;
    control.set_nonblocking(true)?;
    let identity = match folder::identity(Path::new(SWITCH_SOCKET)) {
        // The network was removed meanwhile.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        identity => identity?,
    };
    let start_lock = Switch { control, identity, network, ports }.forward()?;
    // In this order: the next switch is started under the second lock, and needs the first.
    drop(lock);
    drop(start_lock);
    Ok(())
}

struct Switch {
    /// goloo sends to it when a machine was started or deleted.
    control: UnixDatagram,
    identity: FileIdentity,
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

/// What there is to do.
enum Event {
    /// Nothing happened for a while.
    Idle,
    /// goloo has started or deleted a machine.
    Asked,
    /// These ports have frames, or take some again.
    Frames(Vec<usize>),
}

impl Switch {
    /// Forwards frames until the switch isn't needed any more.
    fn forward(&mut self) -> io::Result<Option<FileLock>> {
        let mut buffer = vec![0; FRAME_MAX + 1];
        loop {
            if let Event::Frames(ports) = self.wait()? {
                ports.into_iter().for_each(|port| self.receive(port, &mut buffer));
                self.ports.flush();
                if self.ports.is_list_old() {
                    self.ports.list();
                }
                continue;
            }
            while self.control.recv(&mut buffer).is_ok() {}
            match self.end() {
                None => self.ports.list(),
                Some(End::Removed) => return Ok(None),
                Some(End::Unused(lock)) => {
                    durable::remove_if_there(Path::new(SWITCH_SOCKET))?;
                    return Ok(Some(lock));
                }
            }
        }
    }

    /// Forwards some of a machine's frames: then it is another one's turn.
    fn receive(&mut self, port: usize, buffer: &mut [u8]) {
        for _ in 0..BATCH {
            let Some((length, from)) = self.ports.receive(port, buffer) else { return };
            let frame = &buffer[..length];
            match destination(frame, from) {
                Destination::Member(to) => self.ports.send(to, frame),
                Destination::Others => self.ports.send_to_others(from, frame),
                Destination::Nowhere => {}
            }
        }
    }

    fn wait(&self) -> io::Result<Event> {
        let mut sockets = vec![PollFd::new(&self.control, PollFlags::IN)];
        sockets.extend(self.ports.iter().map(|port| {
            let flags = if port.is_busy() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            PollFd::new(&port.socket, flags)
        }));
        match poll(&mut sockets, Some(&IDLE)) {
            Ok(0) => return Ok(Event::Idle),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Event::Frames(Vec::new())),
            Err(error) => return Err(error.into()),
        }
        let (control, ports) = sockets.split_at(1);
        if !control[0].revents().is_empty() {
            return Ok(Event::Asked);
        }
        let ready = ports.iter().enumerate().filter(|(_, port)| !port.revents().is_empty());
        Ok(Event::Frames(ready.map(|(index, _)| index).collect()))
    }

    fn end(&self) -> Option<End> {
        if folder::identity(Path::new(SWITCH_SOCKET)).ok() != Some(self.identity) {
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
                members.iter().any(|member| folder::is_bound(here, &folder::member_socket(*member)))
            })
    }
}
