//! Runs other programs for the user: in place of goloo, in the foreground, or with their output escaped.

use std::ffi::OsString;
use std::io::{BufRead, Read};
use std::os::unix::process::CommandExt;
use std::process::{ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use goloo_model::name::VmName;
use rustix::process::{Pid, Signal, kill_process};

use crate::app::App;
use crate::error::CliError;
use crate::exit;
use crate::output::LogText;
use crate::signals::Passing;

/// Replaces this process with the program. Returns only on failure.
pub fn become_program(words: &[OsString]) -> CliError {
    let (program, arguments) = words.split_first().expect("a program has a name");
    // The files it creates have the user's umask, as if they had run it themselves.
    goloo_sys::umask::restore();
    let error = Command::new(program).args(arguments).exec();
    cannot_run(program, &error)
}

/// Why a program that connects to a machine can't be run.
pub fn cannot_run(program: &OsString, error: &std::io::Error) -> CliError {
    let hint = goloo_command::shortage_hint(error).unwrap_or(match program.to_str() {
        Some("ssh" | "scp") => "install the OpenSSH client (Debian: apt-get install openssh-client)",
        _ => "goloo doctor",
    });
    CliError::failed(format!("can't run {}", program.to_string_lossy()), hint).because(error)
}

/// How much of a program's standard error is shown along with a log, in bytes.
const SAID_MAX: u64 = 64 << 10;

/// Limits for a log that isn't followed: otherwise the guest decides how long it is and when it ends.
#[derive(Debug, Clone, Copy)]
pub struct LogLimits {
    /// For the whole log.
    pub time: Duration,
    /// In bytes.
    pub size: u64,
}

/// Runs a program whose output is a guest's log, and prints it with control characters escaped. Returns the program's
/// exit status.
pub fn show_log(app: &App, words: &[OsString], limits: Option<LogLimits>) -> Result<u8, CliError> {
    let (program, arguments) = words.split_first().expect("a program has a name");
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let passing = Passing::begin().map_err(|error| cannot_run(program, &error))?;
    let mut child = command.spawn().map_err(|error| cannot_run(program, &error))?;
    passing.to(&child);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let listener = std::thread::Builder::new().spawn(move || stderr.map(said).unwrap_or_default());
    let said = listener.map_err(|error| {
        let _ = child.kill();
        let _ = child.wait();
        cannot_run(program, &error)
    })?;
    let is_late = end_after(limits, child.id()).map_err(|error| cannot_run(program, &error))?;
    let is_whole = show(app, stdout, limits.map_or(u64::MAX, |limits| limits.size));
    if !app.ui.is_read() || !is_whole {
        // It may not write anything for a long time, and so not notice the closed pipe.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| cannot_run(program, &error))?;
    if passing.is_used() {
        return Ok(exit::INTERRUPTED);
    }
    if !is_whole || is_late() {
        return Err(CliError::failed(
            "the log exceeds its size or time limit",
            "run `goloo logs -f` to print it until Ctrl-C",
        ));
    }
    let said = said.join().unwrap_or_default();
    if !said.is_empty() {
        app.ui.say_excerpt(&said);
    }
    Ok(if app.ui.is_read() { exit_code(status) } else { exit::DONE })
}

/// Runs a program for each VM at the same time, and prints their output as [`show_labelled`]. Returns the exit code of the
/// worst.
pub fn show_each_labelled(
    app: &App,
    names: &[VmName],
    words: impl Fn(&VmName) -> Result<Vec<OsString>, CliError> + Sync,
) -> Result<u8, CliError> {
    let run = |name: &VmName| show_labelled(app, name, &words(name)?);
    let results: Vec<Result<u8, CliError>> = std::thread::scope(|scope| {
        let threads: Vec<_> = names.iter().map(|name| scope.spawn(move || run(name))).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined.map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        app.ui.error(error);
    }
    Ok(exit::worst(
        results.iter().map(|result| result.as_ref().map_or_else(|error| error.code, |code| *code)),
    ))
}

/// Runs a program without input, and prints its output line by line with the VM's name before each line. Returns the
/// program's exit code.
fn show_labelled(app: &App, name: &VmName, words: &[OsString]) -> Result<u8, CliError> {
    let (program, arguments) = words.split_first().expect("a program has a name");
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| cannot_run(program, &error))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        scope.spawn(|| for_each_line(stderr, |line| app.ui.say(&format!("{name}: {line}"))));
        for_each_line(stdout, |line| app.ui.line(&format!("{name}: {line}")));
    });
    let status = child.wait().map_err(|error| cannot_run(program, &error))?;
    Ok(exit_code(status))
}

/// The longest line that is kept together, in bytes: a guest decides where its lines end.
const LINE_MAX: u64 = 64 << 10;

fn for_each_line(output: Option<impl Read>, mut show: impl FnMut(&str)) {
    let Some(output) = output else { return };
    let (mut output, mut line) = (std::io::BufReader::new(output), Vec::new());
    while (&mut output).take(LINE_MAX).read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        show(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']));
        line.clear();
    }
}

/// Kills a process after the limit. The result says whether that was necessary; read it when the process has ended.
fn end_after(limits: Option<LogLimits>, pid: u32) -> std::io::Result<impl FnOnce() -> bool> {
    let (ended, wait) = mpsc::channel::<()>();
    let watcher = limits.map(|limits| {
        std::thread::Builder::new().spawn(move || {
            let is_late = wait.recv_timeout(limits.time) == Err(mpsc::RecvTimeoutError::Timeout);
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw).filter(|_| is_late) {
                let _ = kill_process(pid, Signal::KILL);
            }
            is_late
        })
    });
    let watcher = watcher.transpose()?;
    Ok(move || {
        drop(ended);
        watcher.is_some_and(|watcher| watcher.join().unwrap_or_default())
    })
}

/// Prints the output up to `max` bytes, and returns whether that was all of it.
fn show(app: &App, stdout: Option<ChildStdout>, max: u64) -> bool {
    let (mut text, mut piece, mut shown) = (LogText::default(), vec![0; 64 << 10], 0);
    let Some(mut stdout) = stdout else { return true };
    while app.ui.is_read() && shown <= max {
        match stdout.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => {
                shown += count as u64;
                app.ui.log(&mut text, &piece[..count]);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    app.ui.end_log(&mut text);
    shown <= max
}

fn said(mut stderr: impl Read) -> String {
    let mut bytes = Vec::new();
    // Output that can't be shown is dropped. The rest is still read, so that the program doesn't block.
    let _ = (&mut stderr).take(SAID_MAX).read_to_end(&mut bytes);
    let _ = std::io::copy(&mut stderr, &mut std::io::sink());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The exit code for a program's exit status.
pub fn exit_code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(exit::FAILED)
}

/// Runs a program that owns the terminal: Ctrl-C goes to it, and signals that end goloo end it too.
pub fn run_in_foreground(command: &mut Command) -> std::io::Result<ExitStatus> {
    let passing = Passing::begin()?;
    let mut child = command.spawn()?;
    passing.to(&child);
    child.wait()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_program_is_killed_only_after_its_time_limit() {
        for (time, is_late) in [(Duration::from_millis(50), true), (Duration::from_secs(600), false)] {
            let mut child = Command::new("sleep").arg(if is_late { "600" } else { "0.1" }).spawn().unwrap();
            let limits = Some(LogLimits { time, size: 0 });
            let was_late = end_after(limits, child.id()).unwrap();
            assert_eq!(child.wait().unwrap().success(), !is_late);
            assert_eq!(was_late(), is_late);
        }
    }
}
