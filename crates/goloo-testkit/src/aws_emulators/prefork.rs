//! A Python process, shared by all test processes, that has imported moto and forks an emulator for each test.

use std::fs::{File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::python::python;
use crate::test_cache;

const LAUNCHER: &str = include_str!("launcher.py");
/// The import takes 3 s, or a minute alongside a compiler and two machines.
const START_LIMIT: Duration = Duration::from_secs(180);

/// An emulator's process. It exits when the connection closes.
#[derive(Debug)]
pub(super) struct Emulator {
    connection: UnixStream,
    pub(super) port: u16,
    pub(super) pid: u32,
}

impl Emulator {
    /// Ends the process and waits until it has exited.
    pub(super) fn stop(&mut self) {
        let _ = self.connection.shutdown(std::net::Shutdown::Write);
        // The process's exit closes the other end.
        let _ = self.connection.read_to_end(&mut Vec::new());
    }
}

/// Forks an emulator. `home` is its folder for temporary files.
pub(super) fn start(kind: &str, home: &Path, log: &Path) -> Emulator {
    let request = format!("{kind} {} {}\n", home.display(), log.display());
    if let Some(emulator) = ask(&request) {
        return emulator;
    }
    let _lock = test_cache::lock("emulators.lock");
    // Another test process may have started it in the meantime.
    ask(&request).unwrap_or_else(|| {
        start_launcher();
        let limit = Instant::now() + START_LIMIT;
        loop {
            if let Some(emulator) = ask(&request) {
                return emulator;
            }
            let log = || std::fs::read_to_string(test_cache::folder().join("emulators.log"));
            assert!(Instant::now() < limit, "the emulators don't start: {:?}", log());
            thread::sleep(Duration::from_millis(50));
        }
    })
}

/// The socket's name contains a hash of the launcher's content, so that a changed launcher isn't served by the old
/// process.
fn socket_name() -> String {
    let mut hasher = DefaultHasher::new();
    (LAUNCHER, python()).hash(&mut hasher);
    format!("emulators-{:016x}.sock", hasher.finish())
}

/// Returns `None` if there is no such process, or if it was about to exit.
fn ask(request: &str) -> Option<Emulator> {
    let folder = File::open(test_cache::folder()).unwrap();
    // The path of a Unix socket is limited to 107 bytes.
    let path = format!("/proc/self/fd/{}/{}", folder.as_raw_fd(), socket_name());
    let mut connection = UnixStream::connect(path).ok()?;
    std::io::Write::write_all(&mut connection, request.as_bytes()).ok()?;
    let mut answer = String::new();
    BufReader::new(&connection).read_line(&mut answer).ok()?;
    let (port, pid) = answer.trim().split_once(' ')?;
    Some(Emulator { connection, port: port.parse().unwrap(), pid: pid.parse().unwrap() })
}

#[expect(clippy::zombie_processes, reason = "it serves other test processes too, and exits by itself")]
fn start_launcher() {
    let folder = test_cache::folder();
    let socket = folder.join(socket_name());
    // A leftover of a killed process.
    let _ = std::fs::remove_file(&socket);
    let log =
        OpenOptions::new().create(true).append(true).mode(0o600).open(folder.join("emulators.log")).unwrap();
    let mut command = Command::new(python());
    command
        .args(["-c", LAUNCHER, "prefork"])
        .arg(socket)
        .env_clear()
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        // Signals to the test that happened to start it don't reach it.
        .process_group(0);
    command.spawn().unwrap();
}
