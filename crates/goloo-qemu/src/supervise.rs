//! The supervisor process of each QEMU. It starts QEMU in its own session and writes the guest's console and QEMU's
//! messages to size-limited logs for as long as QEMU runs; QEMU itself would write to a file without limit. It also
//! follows the guest's ports, and starts and ends the processes that share folders over virtiofs. The machine doesn't
//! depend on it: if it is killed, console output is lost and automatic ports stay as they are, but the machine keeps
//! running.

use std::ffi::{OsStr, OsString};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::args::{CONSOLE, Files, MESSAGES, PID_FILE_FLAG};
use crate::auto_ports;
use crate::console::{CONSOLE_MAX, MESSAGES_MAX, RotatingLog};
use crate::guest_shell::GuestShell;
use crate::process::{QemuProcess, Signal};
use crate::virtiofs;

/// The first argument of the supervisor process. Not a user-facing command.
pub const SUPERVISE: &str = "__supervise-qemu";

/// The maximum size of a command line, in bytes.
const ARGV_MAX: u64 = 1 << 20;
/// Exit status if QEMU couldn't be started, as in a shell.
const CANNOT_RUN: u8 = 127;

/// Runs as the supervisor if the command line `argv` (including the program's name) asks for it.
pub fn answer(argv: &[OsString], shell: GuestShell) -> Option<ExitCode> {
    let pid_file = argv.get(3).filter(|_| argv[1] == SUPERVISE)?;
    let folder = Path::new(pid_file).parent()?.to_owned();
    Some(ExitCode::from(supervise(Files::new(folder), shell)))
}

/// The command line of a supervisor process, which receives QEMU's own by [`hand_over`]. It includes the pid file
/// because that identifies a machine's processes, including a supervisor that hasn't started QEMU yet.
pub(crate) fn arguments(pid_file: &Path) -> [&OsStr; 3] {
    [OsStr::new(SUPERVISE), OsStr::new(PID_FILE_FLAG), pid_file.as_os_str()]
}

/// What the supervisor runs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Commands {
    qemu: Vec<OsString>,
    /// One for each shared folder, in their order.
    shares: Vec<Vec<OsString>>,
}

/// Encodes the command lines for the supervisor: NUL-terminated words, an empty one after each command line, and another
/// at the end, so that what is truncated isn't taken for complete.
pub(crate) fn hand_over(program: &Path, argv: &[OsString], shares: &[Vec<OsString>]) -> Vec<u8> {
    let qemu = std::iter::once(program.as_os_str()).chain(argv.iter().map(OsString::as_os_str));
    let mut bytes = encode(qemu);
    for share in shares {
        bytes.extend(encode(share.iter().map(OsString::as_os_str)));
    }
    bytes.push(0);
    bytes
}

fn encode<'a>(words: impl Iterator<Item = &'a OsStr>) -> Vec<u8> {
    let mut bytes: Vec<u8> = words.flat_map(|word| [word.as_bytes(), b"\0"]).flatten().copied().collect();
    bytes.push(0);
    bytes
}

fn take_over(bytes: &[u8]) -> Option<Commands> {
    let mut words = bytes.strip_suffix(b"\0\0\0")?.split(|byte| *byte == 0);
    let mut next = || -> Option<Vec<OsString>> {
        let command = words.by_ref().take_while(|word| !word.is_empty());
        Some(command.map(|word| OsString::from_vec(word.to_owned())).collect())
            .filter(|words: &Vec<_>| !words.is_empty())
    };
    Some(Commands { qemu: next()?, shares: std::iter::from_fn(next).collect() })
}

/// Runs in the machine's folder.
fn supervise(files: Files, shell: GuestShell) -> u8 {
    // QEMU outlives the terminal, and so must this process. setsid fails for a process group leader, which is fine.
    let _ = rustix::process::setsid();
    let mut bytes = Vec::new();
    let read = io::stdin().lock().take(ARGV_MAX).read_to_end(&mut bytes);
    // goloo died while writing: nothing was started.
    let Some(commands) = read.ok().and_then(|_| take_over(&bytes)) else { return CANNOT_RUN };
    let Ok(mut messages) = RotatingLog::open(Path::new(MESSAGES), MESSAGES_MAX) else { return CANNOT_RUN };
    match run(&commands, files, shell, &mut messages) {
        Ok(status) => {
            if let Some(signal) = status.signal() {
                messages.write(format!("QEMU was ended by signal {signal}\n").as_bytes());
            }
            let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
            code.and_then(|code| u8::try_from(code).ok()).unwrap_or(CANNOT_RUN)
        }
        Err(error) => {
            let program = PathBuf::from(&commands.qemu[0]);
            messages.write(format!("{} can't be run: {error}\n", program.display()).as_bytes());
            CANNOT_RUN
        }
    }
}

fn run(
    commands: &Commands,
    files: Files,
    shell: GuestShell,
    messages: &mut RotatingLog,
) -> io::Result<ExitStatus> {
    let (program, arguments) = commands.qemu.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut console = RotatingLog::open(Path::new(CONSOLE), CONSOLE_MAX)?;
    let (console_reader, console_writer) = io::pipe()?;
    let (reader, writer) = io::pipe()?;
    // The pipes reach end-of-file only when all writing ends are closed: those here are dropped before it waits for that.
    thread::scope(move |scope| {
        thread::Builder::new().spawn_scoped(scope, || copy(reader, messages))?;
        let shares = Shares::start(&commands.shares, files.folder(), &writer)?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(console_writer).stdout(writer.try_clone()?).stderr(writer.try_clone()?);
        let mut qemu = command.spawn()?;
        drop(command);
        let copier = thread::Builder::new().spawn(move || copy(console_reader, &mut console));
        if let Err(error) = &copier {
            // Dropping the closure closes the pipe it holds: the machine runs without a console log.
            let _ = writeln!(&writer, "the console isn't logged: {error}");
        }
        // It ends with this process. Without it, the machine has only the ports of its config.
        let _ = thread::Builder::new().spawn(move || auto_ports::follow(files, shell));
        let status = qemu.wait()?;
        drop(shares);
        // A panic has already printed its message.
        let _ = copier.map(thread::JoinHandle::join);
        Ok(status)
    })
}

/// The processes that share the machine's folders. They end with its QEMU: by themselves if it has connected to them.
#[derive(Default)]
struct Shares {
    processes: Vec<QemuProcess>,
    /// Whether QEMU has ended, so that their ends are no news.
    is_over: Arc<AtomicBool>,
}

impl Shares {
    fn start(commands: &[Vec<OsString>], folder: &Path, messages: &PipeWriter) -> io::Result<Self> {
        let mut shares = Self::default();
        for (index, words) in commands.iter().enumerate() {
            let failed = |error| io::Error::other(format!("virtiofsd can't be run: {error}"));
            shares.start_one(index, words, folder, messages).map_err(failed)?;
        }
        Ok(shares)
    }

    /// Binds the socket before QEMU connects to it, and says when the process ends before QEMU.
    fn start_one(
        &mut self,
        index: usize,
        words: &[OsString],
        folder: &Path,
        messages: &PipeWriter,
    ) -> io::Result<()> {
        let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let socket = virtiofs::socket(index);
        goloo_sys::durable::remove_if_there(Path::new(&socket))?;
        // Relative to this process's folder, since the length of a socket's path is limited.
        let listener = UnixListener::bind(&socket)?;
        let mut child = Command::new(program)
            .arg0(virtiofs::process_name(folder, index))
            .args(arguments)
            .stdin(OwnedFd::from(listener))
            .stdout(Stdio::null())
            .stderr(messages.try_clone()?)
            .spawn()?;
        self.processes.extend(QemuProcess::with_pid(child.id()));
        let (mut messages, is_over) = (messages.try_clone()?, Arc::clone(&self.is_over));
        // Without this thread, only the message is missing.
        let _ = thread::Builder::new().spawn(move || {
            if let Ok(status) = child.wait()
                && !(status.success() || is_over.load(Ordering::Relaxed))
            {
                let _ = writeln!(messages, "virtiofsd (goloo{index}) has ended: {status}");
            }
        });
        Ok(())
    }
}

impl Drop for Shares {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for process in &self.processes {
            let _ = process.signal(Signal::Kill);
        }
    }
}

/// Copies until the other end is closed.
fn copy(mut from: PipeReader, to: &mut RotatingLog) {
    let mut piece = vec![0; 64 << 10];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return,
            Ok(count) => to.write(&piece[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Sends the supervisor what it runs.
pub(crate) fn send(
    mut to: impl Write,
    program: &Path,
    argv: &[OsString],
    shares: &[Vec<OsString>],
) -> io::Result<()> {
    to.write_all(&hand_over(program, argv, shares))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_truncated_command_line_is_rejected() {
        let argv: Vec<OsString> = ["-name", "guest=x", "a b"].map(OsString::from).to_vec();
        let qemu = ["/bin/qemu", "-name", "guest=x", "a b"].map(OsString::from).to_vec();
        let share = |folder: &str| ["/bin/virtiofsd", "--shared-dir", folder].map(OsString::from).to_vec();
        for shares in [vec![], vec![share("/a")], vec![share("/a"), share("/b")]] {
            let whole = hand_over(Path::new("/bin/qemu"), &argv, &shares);
            for end in 0..whole.len() {
                assert_eq!(take_over(&whole[..end]), None, "{end} bytes");
            }
            assert_eq!(take_over(&whole), Some(Commands { qemu: qemu.clone(), shares }));
        }
    }
}
