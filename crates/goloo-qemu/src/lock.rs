//! Locks on files that are waited for as a part of an operation: with a note, a limit, and an end on interruption.

use std::path::Path;
use std::time::{Duration, Instant};

use goloo_model::events::Event;
use goloo_model::provider::{ProviderError, Work};
use goloo_sys::lock::{self, FileLock, LockTimeouts, Mode};

/// How often to retry.
const WAIT_POLL: Duration = Duration::from_millis(10);

/// Waits for the lock on a file that only this user can open, for sections of some milliseconds. What holds it for
/// longer is said after some time, and not waited for without a limit.
pub(crate) async fn take(
    path: &Path,
    timeouts: LockTimeouts,
    work: &mut dyn Work,
) -> Result<FileLock, ProviderError> {
    let failed = |source| {
        ProviderError::caused(
            format!("can't acquire the lock {}", path.display()),
            "check the permissions of its folder",
            source,
        )
    };
    let begun = Instant::now();
    let mut is_said = false;
    loop {
        if let Some(lock) = lock::try_take(path, Mode::Exclusive).map_err(failed)? {
            return Ok(lock);
        }
        if begun.elapsed() > timeouts.limit {
            return Err(ProviderError::failed(
                format!("{} has been locked for {} s", path.display(), timeouts.limit.as_secs()),
                format!(
                    "`fuser -v {}` shows the process that holds it; end that process, then try again",
                    path.display()
                ),
            ));
        }
        if begun.elapsed() > timeouts.notice && !std::mem::replace(&mut is_said, true) {
            let text = format!("another goloo process has locked {}; waiting for it", path.display());
            work.events().event(Event::Note(text));
        }
        tokio::select! {
            () = work.interruption() => return Err(ProviderError::Interrupted),
            () = tokio::time::sleep(WAIT_POLL) => {}
        }
    }
}
