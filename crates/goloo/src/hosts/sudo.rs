//! The same edit as root: goloo runs itself by sudo, with a first argument that no person types.
//!
//! So there is one way to change the file, whoever does it, and the lock is held for the edit alone and
//! not while somebody looks for a password.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode, Output, Stdio};

use goloo_core::host_names::HostNamesError;
use goloo_core::name::VmName;

use super::HOSTS;
use super::file::{self, Done};
use super::text::Change;
use crate::output::{self, Ui};

const WORD: &str = "__edit-hosts";
/// What goloo's part ends with when it was run and failed; sudo's own refusals are 1.
const FAILED: u8 = 70;
/// What it ends with when it has mended the file.
const MENDED: u8 = 71;

/// Makes the change as root. Without a password first; one is asked for only on a terminal.
pub fn edit(path: &Path, change: &Change, ui: &Ui) -> Result<Done, HostNamesError> {
    let denied = |reason: String| HostNamesError::Denied { place: path.to_owned(), reason };
    let quiet = command(path, change, &["-n"]).stdin(Stdio::null()).output();
    let quiet = quiet.map_err(|error| denied(format!("sudo can't be run: {error}")))?;
    if let Some(outcome) = outcome(&quiet) {
        return outcome.map_err(denied);
    }
    if !is_in_foreground() {
        return Err(denied(last_line(&quiet.stderr)));
    }
    ui.finish();
    ui.note(&format!("sudo is needed to change {}", path.display()));
    let asked = command(path, change, &[]).stdout(Stdio::null()).stderr(Stdio::inherit()).output();
    let asked = asked.map_err(|error| denied(format!("sudo can't be run: {error}")))?;
    outcome(&asked).unwrap_or_else(|| Err("sudo refuses it".to_owned())).map_err(denied)
}

fn command(path: &Path, change: &Change, options: &[&str]) -> Command {
    let mut command = Command::new("sudo");
    // The path of a program that was replaced while it ran can't be told; then the search path's is as
    // good.
    let goloo = std::env::current_exe().unwrap_or_else(|_| "goloo".into());
    command.args(options).arg("--").arg(goloo).arg(WORD).arg(path);
    match change {
        Change::Set(name, ip) => command.args(["set", name.as_str(), &ip.to_string()]),
        Change::Remove(name) => command.args(["remove", name.as_str()]),
    };
    command
}

/// What came of the edit; `None` when sudo didn't let it begin.
fn outcome(output: &Output) -> Option<Result<Done, String>> {
    match output.status.code().and_then(|code| u8::try_from(code).ok()) {
        Some(0) => Some(Ok(Done::Sound)),
        Some(MENDED) => Some(Ok(Done::Mended)),
        Some(FAILED) => Some(Err(last_line(&output.stderr))),
        _ => None,
    }
}

/// Whether somebody can be asked: a job in the background would stop for ever.
fn is_in_foreground() -> bool {
    rustix::termios::tcgetpgrp(io::stdin()).is_ok_and(|group| group == rustix::process::getpgrp())
}

fn last_line(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let line = text.lines().rfind(|line| !line.trim().is_empty());
    line.map_or_else(|| "sudo refuses it".to_owned(), |line| line.trim().to_owned())
}

/// Does the edit where this process was started for it, as root.
pub fn answer(argv: &[OsString]) -> Option<ExitCode> {
    let [_, word, path, rest @ ..] = argv else { return None };
    if word != WORD {
        return None;
    }
    let path = Path::new(path);
    let done = change(rest).ok_or_else(|| "goloo's own words are wrong".to_owned()).and_then(|change| {
        if is_for_another_user() && path != Path::new(HOSTS) {
            return Err(format!("with the rights of another user only {HOSTS} is changed"));
        }
        file::edit(path, &change, |_| ()).map_err(|error| {
            let cause =
                std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
            format!("{error}{cause}")
        })
    });
    Some(match done {
        Ok(Done::Sound) => ExitCode::SUCCESS,
        Ok(Done::Mended) => ExitCode::from(MENDED),
        Err(error) => {
            output::plain_error(&error);
            ExitCode::from(FAILED)
        }
    })
}

/// Whether this process has more rights than the person who started it. Whoever may run goloo by sudo must not be able
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
