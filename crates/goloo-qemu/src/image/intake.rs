//! How an image that root built comes into a cache. In the cache of another user nothing is done by root: its owner can
//! make each name in it lead anywhere, at any time. So a process with that user's rights, and no others, takes the image
//! in from its standard input.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use goloo_command::Limits;
use goloo_os::account::Account;
use serde::{Deserialize, Serialize};

use super::cache::fails_at;
use super::entry::Entry;
use super::{Cache, ImageError, Unwatched, Watch, alias};

/// The first argument of the process that takes an image in. It is no command of a person's.
pub const TAKE_IN: &str = "__take-built-image";

/// Its answer is short, and all the work is one copy.
const LIMITS: Limits = Limits { time: Duration::from_secs(15 * 60), stdout: 64 << 10, stderr: 4 << 10 };

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Answer {
    Taken(Entry),
    Failed { message: String, hint: String },
}

/// Is the process that takes an image in, where the command line `argv` (with the program's name first) says so.
pub fn answer(argv: &[OsString]) -> Option<ExitCode> {
    let [_, first, folder, name] = argv else { return None };
    let name = (first == TAKE_IN).then(|| name.to_str().filter(|name| alias::codename(name).is_some()))??;
    let answer = match take_stdin(Path::new(folder), name) {
        Ok(entry) => Answer::Taken(entry),
        Err(error) => Answer::Failed { message: error.to_string(), hint: error.hint() },
    };
    let text = serde_json::to_vec(&answer).unwrap_or_default();
    let mut stdout = io::stdout();
    let written = stdout.write_all(&text).and_then(|()| stdout.flush());
    Some(if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn take_stdin(folder: &Path, name: &str) -> Result<Entry, ImageError> {
    let image = io::stdin().as_fd().try_clone_to_owned().map_err(fails_at(folder))?;
    let taken = Cache::from_env(folder).take_built(name, &mut File::from(image), &Unwatched)?;
    Ok(taken.entry)
}

/// Takes a finished image into the cache; with `owner` by a process of that account, which `program` (a program that
/// calls [`answer`]) becomes.
pub(super) fn take(
    cache: &Cache,
    name: &str,
    image: &mut File,
    owner: Option<(Account, &Path)>,
    watch: &dyn Watch,
) -> Result<Entry, ImageError> {
    let Some((account, program)) = owner else {
        return Ok(cache.take_built(name, image, watch)?.entry);
    };
    let failed = |message: String, hint: &str| ImageError::Handover {
        folder: cache.folder().to_owned(),
        uid: account.uid,
        message,
        hint: hint.to_owned(),
    };
    let stdin = image.try_clone().map_err(fails_at(cache.folder()))?;
    let mut command = Command::new(program);
    // Without the groups of root: the standard library drops them together with root's user id.
    command.uid(account.uid).gid(account.gid).current_dir("/");
    command.arg(TAKE_IN).arg(cache.folder()).arg(name).stdin(Stdio::from(stdin));
    let ended = goloo_command::run_blocking(command, LIMITS).map_err(|error| {
        let usual = format!("make {} a program that they may run", program.display());
        failed(error.to_string(), error.shortage_hint().unwrap_or(&usual))
    })?;
    match serde_json::from_slice(&ended.stdout) {
        Ok(Answer::Taken(entry)) => Ok(entry),
        Ok(Answer::Failed { message, hint }) => Err(failed(message, &hint)),
        Err(_) => Err(failed(format!("no answer ({})", ended.status), "run the command again")),
    }
}
