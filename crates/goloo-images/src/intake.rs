//! Imports an image that root built into a cache. Root never writes to another user's cache: its owner can redirect any
//! name in it at any time. Instead, a process with only that user's rights imports the image from its standard input.

use goloo_model::hint::Hint;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use goloo_command::Limits;
use goloo_sys::account::Account;
use serde::{Deserialize, Serialize};

use crate::alias;
use crate::cache::Cache;
use crate::entry::ImageEntry;
use crate::error::{ImageError, fails_at};
use crate::watch::{Unwatched, Watch};

/// The first argument of the import process. Not a user-facing command.
pub const TAKE_IN: &str = "__take-built-image";

/// The response is short, and the work is a single copy.
const LIMITS: Limits = Limits { time: Duration::from_secs(15 * 60), stdout: 64 << 10, stderr: 4 << 10 };

/// The import process's response.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Answer {
    Taken(ImageEntry),
    Failed { message: String, hint: Hint },
}

/// Runs as the import process if the command line `argv` (including the program's name) asks for it.
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

fn take_stdin(folder: &Path, name: &str) -> Result<ImageEntry, ImageError> {
    let image = io::stdin().as_fd().try_clone_to_owned().map_err(fails_at(folder))?;
    let taken = Cache::from_env(folder).take_built(name, &mut File::from(image), &Unwatched)?;
    Ok(taken.entry)
}

/// Imports a finished image into the cache; with an `owner`, through a process of that account, which runs `program`
/// (one that calls [`answer`]).
pub(super) fn take(
    cache: &Cache,
    name: &str,
    image: &mut File,
    owner: Option<(Account, &Path)>,
    watch: &dyn Watch,
) -> Result<ImageEntry, ImageError> {
    let Some((account, program)) = owner else {
        return Ok(cache.take_built(name, image, watch)?.entry);
    };
    let failed = |message: String, hint: Hint| ImageError::Handover {
        folder: cache.folder().to_owned(),
        uid: account.uid,
        message,
        hint,
    };
    let stdin = image.try_clone().map_err(fails_at(cache.folder()))?;
    let mut command = Command::new(program);
    // Without root's groups: the standard library drops them when it sets the user id.
    command.uid(account.uid).gid(account.gid).current_dir("/");
    command.arg(TAKE_IN).arg(cache.folder()).arg(name).stdin(Stdio::from(stdin));
    let ended = goloo_command::run_blocking(command, LIMITS).map_err(|error| {
        let usual = format!("give that user permission to run {}", program.display());
        failed(error.to_string(), error.shortage_hint().unwrap_or(&usual).into())
    })?;
    match serde_json::from_slice(&ended.stdout) {
        Ok(Answer::Taken(entry)) => Ok(entry),
        Ok(Answer::Failed { message, hint }) => Err(failed(message, hint)),
        Err(_) => Err(failed(format!("no answer ({})", ended.status), "run the command again".into())),
    }
}
