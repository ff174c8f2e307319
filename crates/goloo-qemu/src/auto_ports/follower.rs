//! The supervisor's loop: asks the guest what it listens on, over one kept connection, and has QEMU forward that. A
//! guest that doesn't answer keeps what it has; whatever a guest answers costs a bounded amount of work.

use std::collections::BTreeSet;
use std::io;
use std::process::Stdio;
use std::time::{Duration, Instant};

use goloo_model::automatic_ports::RefusedPort;
use goloo_model::name::VmName;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{sleep, timeout};

use super::decision::{Decision, Situation, decide};
use super::listening::{END, SCRIPT, reachable_ports};
use super::report::Report;
use crate::args::Files;
use crate::guest_shell::{GuestPlace, GuestShell};
use crate::holder::Holder;
use crate::live_forwards::{self, LiveForward, LiveForwardError};
use crate::machine::{self, MachineFile};
use crate::process::QemuProcess;

/// How often the guest is asked.
const POLL: Duration = Duration::from_secs(2);
/// How long it may take to log in and answer: emulated guests are slow.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// The largest answer, in bytes: more than 1,500 sockets.
const ANSWER_MAX: u64 = 256 << 10;
/// How long QEMU may take to answer.
const QEMU_LIMIT: Duration = Duration::from_secs(3);
/// How often a port that couldn't be forwarded is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(15);
/// The pause before the next connection, doubled each time that the guest refuses one.
const PAUSE: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long a guest that accepts a connection may take to greet: QEMU accepts it before the guest is up.
const GREETING_LIMIT: Duration = Duration::from_secs(10);

/// Follows the guest as long as this process lives, if its machine wants that.
pub(crate) fn follow(files: Files, shell: GuestShell) {
    let is_wanted =
        MachineFile::load(&files).is_ok_and(|file| file.is_some_and(|machine| machine.auto_ports));
    let supervisor = QemuProcess::with_pid(std::process::id()).filter(|_| is_wanted);
    let (Some(supervisor), Ok(runtime)) =
        (supervisor, tokio::runtime::Builder::new_current_thread().enable_all().build())
    else {
        return;
    };
    let follower = Follower {
        files,
        shell,
        supervisor,
        opened: BTreeSet::new(),
        settled: None,
        reported: None,
        pause: PAUSE,
    };
    runtime.block_on(follower.run());
}

struct Follower {
    files: Files,
    shell: GuestShell,
    supervisor: QemuProcess,
    /// The ports that were opened.
    opened: BTreeSet<u16>,
    /// The last answer that was dealt with, and when it is time to do so again although it is the same.
    settled: Option<(BTreeSet<u16>, Option<Instant>)>,
    reported: Option<Report>,
    pause: Duration,
}

impl Follower {
    async fn run(mut self) {
        self.report(&[]);
        loop {
            let is_up = match self.place() {
                Ok(place) => greets(&place).await,
                Err(_) => false,
            };
            if is_up {
                // Its end is always an error; the next connection may do better.
                let _ = self.session().await;
                sleep(self.pause).await;
                self.pause = (self.pause * 2).min(PAUSE_MAX);
            } else {
                sleep(PAUSE).await;
            }
        }
    }

    fn place(&self) -> io::Result<GuestPlace> {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let machine = MachineFile::load(&self.files)?.ok_or_else(missing)?;
        let state = self.files.folder().parent().and_then(std::path::Path::parent).ok_or_else(missing)?;
        Ok(GuestPlace {
            state: state.to_owned(),
            address: machine.address(),
            ssh_port: machine.ssh_port.ok_or_else(missing)?,
            host_key: machine.host_key.ok_or_else(missing)?,
            name: VmName::parse(&machine.name).map_err(io::Error::other)?,
            id: machine.id,
        })
    }

    /// One connection, until it ends.
    async fn session(&mut self) -> io::Result<()> {
        let mut guest = Connection::open(self.shell, &self.place()?)?;
        loop {
            let answer = timeout(ANSWER_LIMIT, guest.ask()).await.map_err(io::Error::from)??;
            self.pause = PAUSE;
            // What QEMU doesn't do now is tried again with the next answer.
            let _ = self.settle(reachable_ports(&answer)).await;
            sleep(POLL).await;
        }
    }

    async fn settle(&mut self, listening: BTreeSet<u16>) -> Result<(), LiveForwardError> {
        let is_settled = |(known, again): &(BTreeSet<u16>, Option<Instant>)| {
            *known == listening && again.is_none_or(|again| Instant::now() < again)
        };
        if self.settled.as_ref().is_some_and(is_settled) {
            return Ok(());
        }
        self.settled = None;
        let Ok(Some(machine)) = MachineFile::load(&self.files) else { return Ok(()) };
        let live = live_forwards::list(self.files.folder(), QEMU_LIMIT).await?;
        let situation =
            Situation { listening: &listening, live: &live, opened: &self.opened, machine: &machine };
        let Decision { close, open, mut refused } = decide(&situation);
        for forward in close {
            live_forwards::remove(self.files.folder(), forward.listener, QEMU_LIMIT).await?;
            self.opened.remove(&forward.guest);
        }
        for forward in open {
            if let Err(reason) = self.open(forward, &machine).await? {
                refused.push(RefusedPort { guest_port: forward.guest, reason });
            }
        }
        refused.sort_by_key(|port| port.guest_port);
        self.report(&refused);
        let again = (!refused.is_empty()).then(|| Instant::now() + TRY_AGAIN);
        self.settled = Some((listening, again));
        Ok(())
    }

    /// The inner error is why the port can't be forwarded.
    async fn open(
        &mut self,
        forward: LiveForward,
        machine: &MachineFile,
    ) -> Result<Result<(), String>, LiveForwardError> {
        let listener = forward.listener;
        // A machine that isn't running keeps its ports.
        let others = self.files.folder().parent().map(|vms| machine::others(vms, &machine.id));
        let others = others.and_then(Result::ok).unwrap_or_default();
        let reserved = crate::holder::machine_of(&listener, &others).map(|_| io::ErrorKind::AddrInUse.into());
        let refusal = match reserved.or_else(|| listener.check().err()) {
            Some(error) => Some(error),
            None => {
                // Before the answer, which may be lost.
                self.opened.insert(forward.guest);
                match live_forwards::add(self.files.folder(), forward, QEMU_LIMIT).await {
                    Ok(()) => None,
                    Err(LiveForwardError::CannotListen { source, .. }) => Some(source),
                    Err(error) => return Err(error),
                }
            }
        };
        Ok(refusal.map_or(Ok(()), |error| {
            Err(match error.kind() {
                io::ErrorKind::AddrInUse => {
                    format!("{listener} is taken by {}", Holder::of(&listener, &others))
                }
                io::ErrorKind::PermissionDenied => {
                    format!("no permission to listen on port {}", listener.port)
                }
                _ => format!("{listener} can't be bound: {error}"),
            })
        }))
    }

    fn report(&mut self, refused: &[RefusedPort]) {
        let report = Report::new(self.supervisor, refused);
        if self.reported.as_ref() != Some(&report) && report.save(&self.files).is_ok() {
            self.reported = Some(report);
        }
    }
}

/// Whether an SSH server is there: asked before `ssh` is started, which costs more.
async fn greets(place: &GuestPlace) -> bool {
    let greeting = async {
        let mut stream = TcpStream::connect((place.address, place.ssh_port)).await?;
        let mut start = [0; 4];
        stream.read_exact(&mut start).await?;
        Ok::<_, io::Error>(start)
    };
    matches!(timeout(GREETING_LIMIT, greeting).await, Ok(Ok(start)) if start == *b"SSH-")
}

/// The script in the guest. It ends when this is dropped.
struct Connection {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    _process: Child,
}

impl Connection {
    fn open(shell: GuestShell, place: &GuestPlace) -> io::Result<Self> {
        let mut command = Command::from(shell(place, SCRIPT)?);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.kill_on_drop(true).spawn()?;
        let (Some(input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        Ok(Self { input, output: BufReader::new(output), _process: process })
    }

    /// An error if the connection ends, or the answer is too long.
    async fn ask(&mut self) -> io::Result<String> {
        self.input.write_all(b"\n").await?;
        let mut answer = Vec::new();
        let mut limited = (&mut self.output).take(ANSWER_MAX);
        loop {
            let begin = answer.len();
            if limited.read_until(b'\n', &mut answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if answer[begin..] == *END {
                return Ok(String::from_utf8_lossy(&answer[..begin]).into_owned());
            }
        }
    }
}
