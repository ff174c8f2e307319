//! The supervisor process of each QEMU. It starts QEMU in its own session and writes the guest's console and QEMU's
//! messages to size-limited logs for as long as QEMU runs; QEMU itself would write to a file without limit. It also
//! follows the guest's ports. The machine doesn't depend on it: if it is killed, console output is lost and automatic
//! ports stay as they are, but the machine keeps running.

use std::ffi::{OsStr, OsString};
use std::io::{self, PipeReader, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;

use crate::args::{CONSOLE, Files, MESSAGES, PID_FILE_FLAG};
use crate::auto_ports;
use crate::console::{CONSOLE_MAX, MESSAGES_MAX, RotatingLog};
use crate::guest_shell::GuestShell;

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

/// Encodes QEMU's command line for the supervisor: NUL-terminated words and an empty one at the end, so that a
/// truncated command line isn't taken for a complete one.
pub(crate) fn hand_over(program: &Path, argv: &[OsString]) -> Vec<u8> {
    let words = std::iter::once(program.as_os_str()).chain(argv.iter().map(OsString::as_os_str));
    let mut bytes: Vec<u8> = words.flat_map(|word| [word.as_bytes(), b"\0"]).flatten().copied().collect();
    bytes.push(0);
    bytes
}

fn take_over(bytes: &[u8]) -> Option<Vec<OsString>> {
    let words = bytes.strip_suffix(b"\0\0")?.split(|byte| *byte == 0);
    Some(words.map(|word| OsString::from_vec(word.to_owned())).collect())
}

/// Runs in the machine's folder.
fn supervise(files: Files, shell: GuestShell) -> u8 {
    // QEMU outlives the terminal, and so must this process. setsid fails for a process group leader, which is fine.
    let _ = rustix::process::setsid();
    let mut bytes = Vec::new();
    let read = io::stdin().lock().take(ARGV_MAX).read_to_end(&mut bytes);
    // goloo died while writing: nothing was started.
    let Some(argv) = read.ok().and_then(|_| take_over(&bytes)) else { return CANNOT_RUN };
    let Ok(mut messages) = RotatingLog::open(Path::new(MESSAGES), MESSAGES_MAX) else { return CANNOT_RUN };
    run(&argv, files, shell, &mut messages).unwrap_or_else(|error| {
        messages.write(format!("{} can't be run: {error}\n", PathBuf::from(&argv[0]).display()).as_bytes());
        CANNOT_RUN
    })
}

fn run(argv: &[OsString], files: Files, shell: GuestShell, messages: &mut RotatingLog) -> io::Result<u8> {
    let (program, arguments) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut console = RotatingLog::open(Path::new(CONSOLE), CONSOLE_MAX)?;
    let (console_reader, console_writer) = io::pipe()?;
    let (reader, writer) = io::pipe()?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(console_writer).stdout(writer.try_clone()?).stderr(writer);
    let mut qemu = command.spawn()?;
    // It holds the writing ends, and the pipes reach end-of-file only when all of them are closed.
    drop(command);
    let copier = thread::Builder::new().spawn(move || copy(console_reader, &mut console));
    if let Err(error) = &copier {
        // Dropping the closure closes the pipe it holds: the machine runs without a console log.
        messages.write(format!("the console isn't logged: {error}\n").as_bytes());
    }
    // It ends with this process. Without it, the machine has only the ports of its config.
    let _ = thread::Builder::new().spawn(move || auto_ports::follow(files, shell));
    copy(reader, messages);
    let status = qemu.wait()?;
    // A panic has already printed its message.
    let _ = copier.map(thread::JoinHandle::join);
    if let Some(signal) = status.signal() {
        messages.write(format!("QEMU was ended by signal {signal}\n").as_bytes());
    }
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(CANNOT_RUN))
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

/// Sends the supervisor its command line.
pub(crate) fn send(mut to: impl Write, program: &Path, argv: &[OsString]) -> io::Result<()> {
    to.write_all(&hand_over(program, argv))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_truncated_command_line_is_rejected() {
        let argv: Vec<OsString> = ["-name", "guest=x", "a b"].map(OsString::from).to_vec();
        let whole = hand_over(Path::new("/bin/qemu"), &argv);
        let words = take_over(&whole).unwrap_or_default();
        assert_eq!(words, ["/bin/qemu", "-name", "guest=x", "a b"]);
        for end in 0..whole.len() {
            assert_eq!(take_over(&whole[..end]), None, "{end} bytes");
        }
    }
}
