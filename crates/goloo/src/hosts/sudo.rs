//! The same edit as root: goloo runs itself with sudo, with an internal first argument.
//!
//! This way the same code changes the file for every user, and the lock is held only during the edit, not while a user
//! enters a password.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Output, Stdio};

use goloo_model::events::{Event, Events};
use goloo_model::host_names::HostNamesError;
use goloo_model::name::VmName;
use goloo_model::printable::is_printable;

use super::file::{self, Done, HOSTS};
use super::text::Change;

const WORD: &str = "__edit-hosts";
/// The exit code of goloo's edit when it failed; sudo itself exits with 1.
const FAILED: u8 = 70;
/// Its exit code when it restored the block's end.
const MENDED: u8 = 71;

/// Applies the change as root. Tries without a password first, and asks for one only on a terminal.
pub fn edit(path: &Path, change: &Change, events: &dyn Events) -> Result<Done, HostNamesError> {
    let denied = |reason: String| HostNamesError::Denied { place: path.to_owned(), reason };
    let quiet = command(path, change, &["-n"]).stdin(Stdio::null()).output();
    let quiet = quiet.map_err(|error| denied(format!("sudo can't be run: {error}")))?;
    if let Some(outcome) = outcome(&quiet) {
        return outcome.map_err(denied);
    }
    if !is_in_foreground() {
        return Err(denied(last_line(&quiet.stderr)));
    }
    events.event(Event::Note(format!("sudo is needed to change {}", path.display())));
    let asked = command(path, change, &[]).stdout(Stdio::null()).stderr(Stdio::inherit()).output();
    let asked = asked.map_err(|error| denied(format!("sudo can't be run: {error}")))?;
    outcome(&asked).unwrap_or_else(|| Err("sudo refused to run the command".to_owned())).map_err(denied)
}

fn command(path: &Path, change: &Change, options: &[&str]) -> Command {
    let mut command = Command::new("sudo");
    // If the executable was replaced while it ran, its path is unknown; fall back to the one in PATH.
    let goloo = std::env::current_exe().unwrap_or_else(|_| "goloo".into());
    command.args(options).arg("--").arg(goloo).arg(WORD).arg(path);
    match change {
        Change::Set(name, ip) => command.args(["set", name.as_str(), &ip.to_string()]),
        Change::Remove(name) => command.args(["remove", name.as_str()]),
    };
    command
}

/// The result of the edit; `None` when sudo didn't start it.
fn outcome(output: &Output) -> Option<Result<Done, String>> {
    match output.status.code().and_then(|code| u8::try_from(code).ok()) {
        Some(0) => Some(Ok(Done::Sound)),
        Some(MENDED) => Some(Ok(Done::Mended)),
        Some(FAILED) => Some(Err(last_line(&output.stderr))),
        _ => None,
    }
}

/// Whether sudo can ask for a password: a background job would be stopped forever.
fn is_in_foreground() -> bool {
    rustix::termios::tcgetpgrp(io::stdin()).is_ok_and(|group| group == rustix::process::getpgrp())
}

fn last_line(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let line = text.lines().rfind(|line| !line.trim().is_empty());
    line.map_or_else(|| "sudo refused to run the command".to_owned(), |line| line.trim().to_owned())
}

/// Applies the edit as root if this process was started for it.
pub fn answer(argv: &[OsString]) -> Option<ExitCode> {
    let [_, word, path, rest @ ..] = argv else { return None };
    if word != WORD {
        return None;
    }
    let path = Path::new(path);
    let done = change(rest).ok_or_else(|| "invalid arguments for the internal command".to_owned()).and_then(
        |change| {
            if is_for_another_user() && path != Path::new(HOSTS) {
                return Err(format!("only {HOSTS} may be changed with another user's rights"));
            }
            file::edit(path, &change, |_| ()).map_err(|error| {
                let cause =
                    std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
                format!("{error}{cause}")
            })
        },
    );
    Some(match done {
        Ok(Done::Sound) => ExitCode::SUCCESS,
        Ok(Done::Mended) => ExitCode::from(MENDED),
        Err(error) => {
            let _ = writeln!(io::stderr().lock(), "{}", one_line(&error));
            ExitCode::from(FAILED)
        }
    })
}

/// Puts a text on one line, without characters that a terminal would interpret.
fn one_line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            _ if is_printable(c) => shown.push(c),
            '\n' | '\r' | '\t' => shown.extend(c.escape_default()),
            '\0'..='\u{7f}' => shown.push_str(&format!("\\x{:02x}", u32::from(c))),
            _ => shown.extend(c.escape_unicode()),
        }
    }
    shown
}

/// Whether this process has more rights than the user who started it. A user with sudo rights for goloo must not be able
/// to change any other file with it.
fn is_for_another_user() -> bool {
    let by_id = rustix::process::getuid() != rustix::process::geteuid();
    by_id || ["SUDO_UID", "DOAS_USER", "PKEXEC_UID"].iter().any(|name| std::env::var_os(name).is_some())
}

fn change(words: &[OsString]) -> Option<Change> {
    let words: Vec<&str> = words.iter().map(OsString::as_os_str).map(OsStr::to_str).collect::<Option<_>>()?;
    match words[..] {
        ["set", name, ip] => Some(Change::Set(VmName::parse(name).ok()?, ip.parse().ok()?)),
        ["remove", name] => Some(Change::Remove(VmName::parse(name).ok()?)),
        _ => None,
    }
}
