//! A network in a folder of its own, its switch, and sockets that stand for machines.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::rc::Rc;
use std::time::{Duration, Instant};

use goloo_model::name::VmName;
use goloo_model::record::{PrivateAddress, PrivateNetwork};
use goloo_switch::{NetworkFolder, member_socket, switch_end};
use goloo_sys::lock::{self, FileLock, Mode};

const SOON: Duration = Duration::from_secs(20);
/// How long a frame that doesn't come is waited for.
const SILENCE: Duration = Duration::from_millis(300);

pub struct World {
    state: Rc<tempfile::TempDir>,
    pub folder: NetworkFolder,
}

impl World {
    pub fn new(environment: &str) -> Self {
        Self::in_state(&Rc::new(tempfile::tempdir().unwrap()), environment)
    }

    /// In one state folder, with the same addresses.
    pub fn two(one: &str, other: &str) -> (Self, Self) {
        let state = Rc::new(tempfile::tempdir().unwrap());
        (Self::in_state(&state, one), Self::in_state(&state, other))
    }

    fn in_state(state: &Rc<tempfile::TempDir>, environment: &str) -> Self {
        let network = PrivateNetwork::parse("10.88.3.0/24").unwrap();
        let environment = VmName::parse(environment).unwrap();
        let folder = NetworkFolder::new(&state.path().join("net"), &environment, network);
        folder.create().unwrap();
        Self { state: Rc::clone(state), folder }
    }

    pub fn machine(&self, last: u8) -> Machine {
        Machine::new(self.folder.path(), last)
    }

    /// A machine that starts while the switch is running.
    pub fn late_machine(&self, last: u8) -> Machine {
        let machine = self.machine(last);
        self.ask();
        until(|| machine.try_send(&[]).is_ok());
        machine
    }

    /// As goloo does with a machine that has ended.
    pub fn delete(&self, last: u8) {
        self.folder.remove_member(address(last)).unwrap();
    }

    pub fn start_switch(&self) -> Switch {
        let mut command = Command::new(env!("CARGO_BIN_EXE_goloo-switch-process"));
        Switch(command.args(goloo_switch::arguments(&self.folder)).spawn().unwrap())
    }

    /// A switch that takes frames.
    pub fn switch(&self) -> Switch {
        let switch = self.start_switch();
        until(|| self.folder.has_switch());
        switch
    }

    /// Has the switch look which machines there are.
    pub fn ask(&self) {
        self.folder.tell_switch().unwrap();
    }

    /// Waits until the switch has tried to connect a machine, which needn't be running.
    pub fn until_looked_for(&self, last: u8) {
        let end = self.folder.path().join(switch_end(address(last)));
        until(|| end.exists());
    }

    pub fn mode(&self) -> u32 {
        std::fs::metadata(self.folder.path()).unwrap().permissions().mode() & 0o777
    }

    /// What goloo holds while it looks for a switch.
    pub fn start_lock(&self) -> FileLock {
        lock::try_take(&self.state.path().join("net.lock"), Mode::Exclusive).unwrap().unwrap()
    }

    /// Lets other users into all folders above the network's own.
    pub fn open_parents(&self) {
        for folder in
            self.folder.path().ancestors().skip(1).take_while(|path| path.starts_with(self.state.path()))
        {
            std::fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
        }
    }
}

fn until(so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < SOON);
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub struct Switch(Child);

impl Switch {
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// Those that the system has for the process.
    pub fn limits(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/limits", self.0.id())).unwrap()
    }

    pub fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// Waits until it has ended by itself.
    pub fn wait(&mut self) {
        let begun = Instant::now();
        while self.is_running() {
            assert!(begun.elapsed() < SOON);
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A socket as QEMU has it.
pub struct Machine {
    socket: UnixDatagram,
    switch: PathBuf,
}

impl Machine {
    fn new(folder: &Path, last: u8) -> Self {
        let path = folder.join(member_socket(address(last)));
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(path).unwrap();
        Self { socket, switch: folder.join(switch_end(address(last))) }
    }

    pub fn send(&self, frame: &[u8]) {
        self.try_send(frame).unwrap();
    }

    pub fn try_send(&self, frame: &[u8]) -> io::Result<()> {
        self.socket.send_to(frame, &self.switch).map(drop)
    }

    /// The next frame, if one comes.
    pub fn receive(&self) -> Option<Vec<u8>> {
        self.socket.set_read_timeout(Some(SILENCE)).unwrap();
        let mut frame = vec![0; 70_000];
        let length = self.socket.recv(&mut frame).ok()?;
        frame.truncate(length);
        Some(frame)
    }

    pub fn is_silent(&self) -> bool {
        self.receive().is_none()
    }

    /// Sends to the switch's end of another machine.
    pub fn send_as(&self, other: &Self, frame: &[u8]) -> io::Result<()> {
        self.socket.send_to(frame, &other.switch).map(drop)
    }
}

fn address(last: u8) -> PrivateAddress {
    PrivateNetwork::parse("10.88.3.0/24").unwrap().member([10, 88, 3, last].into()).unwrap()
}

/// An IPv4 packet from one machine to another.
pub fn frame(from: u8, to: u8, payload: &[u8]) -> Vec<u8> {
    packet(&address(to).mac().0, from, payload)
}

pub fn broadcast(from: u8, payload: &[u8]) -> Vec<u8> {
    packet(&[0xff; 6], from, payload)
}

fn packet(to: &[u8], from: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = [to, &address(from).mac().0, &[0x08, 0x00]].concat();
    frame.extend([0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, 10, 88, 3, from, 10, 88, 3, 255]);
    frame.extend(payload);
    frame
}
