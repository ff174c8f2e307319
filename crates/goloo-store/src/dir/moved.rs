//! The marker of a moved store.
//!
//! Every writer holds a shared lock on the whole store while writing; the marker is set under an
//! exclusive one. So no marker is set while anyone may write, and nobody may write once it is set.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use goloo_model::store::{StoreError, check_mark};
use goloo_sys::lock;
use serde::{Deserialize, Serialize};

use super::durable::{self, failed};
use super::fs::LockGuard;
use super::inner::Inner;

/// The pause between two attempts; these locks are held for milliseconds.
const PAUSE: Duration = Duration::from_millis(1);

#[derive(Serialize, Deserialize)]
struct Mark {
    schema: u32,
    /// The new store's location.
    to: String,
}

impl Inner {
    /// The right to write; while the value lives, the store isn't marked as moved.
    pub(super) fn enter(&self) -> Result<LockGuard, StoreError> {
        self.check_suitable()?;
        durable::ensure_folder(self.fs(), &self.layout.locks())?;
        let path = self.layout.store_lock();
        let held = self.wait(&path, || self.fs.lock_shared(&path), || Ok(()))?;
        match self.moved_to()? {
            None => Ok(held),
            Some(to) => Err(StoreError::Moved { place: self.layout.root().display().to_string(), to }),
        }
    }

    /// The right to add to the archive or remove from it, until the value is dropped.
    pub(super) fn enter_archive(&self) -> Result<(LockGuard, LockGuard), StoreError> {
        let entered = self.enter()?;
        let path = self.layout.archive_lock();
        let alone = self.wait(&path, || self.fs.lock_alone(&path), || Ok(()))?;
        Ok((entered, alone))
    }

    pub(super) fn moved_to(&self) -> Result<Option<String>, StoreError> {
        let path = self.layout.mark();
        let mut bytes = Vec::new();
        match self.fs.read(&path, &mut bytes) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.map_err(failed("read", &path))?,
        }
        let unread = |error| failed("read", &path)(io::Error::new(ErrorKind::InvalidData, error));
        serde_json::from_slice(&bytes).map(|mark: Mark| Some(mark.to)).map_err(unread)
    }

    pub(super) fn set_moved(&self, replaces: Option<&str>, to: Option<&str>) -> Result<(), StoreError> {
        self.check_suitable()?;
        durable::ensure_folder(self.fs(), &self.layout.locks())?;
        let path = self.layout.store_lock();
        let _alone = self.wait(&path, || self.fs.lock_alone(&path), || self.refuse_holders())?;
        let place = self.layout.root().display().to_string();
        check_mark(&place, self.moved_to()?.as_deref(), replaces, to)?;
        let mark = self.layout.mark();
        // Even if it already exists: its writer may have died before it was durable.
        match to {
            Some(to) => {
                let bytes = serde_json::to_vec(&Mark { schema: 1, to: to.to_owned() });
                let bytes = bytes.expect("a mark has only string keys");
                durable::replace_file(self.fs(), &self.layout.staged_mark(), &mark, &bytes)
            }
            None => durable::remove_file(self.fs(), &mark),
        }
    }

    fn refuse_holders(&self) -> Result<(), StoreError> {
        match self.locks()?.into_iter().next() {
            None => Ok(()),
            Some(held) => Err(held.refusal()),
        }
    }

    /// Takes a lock as soon as others allow it, unless `give_up` returns a reason not to wait.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] within [`StoreError::Io`] after [`LockTimeouts::limit`](goloo_sys::lock::LockTimeouts).
    fn wait(
        &self,
        path: &Path,
        attempt: impl Fn() -> io::Result<Option<LockGuard>>,
        give_up: impl Fn() -> Result<(), StoreError>,
    ) -> Result<LockGuard, StoreError> {
        let tell = || self.options.on_wait.tell(path);
        lock::wait(self.options.timeouts, PAUSE, tell, failed("lock", path), || {
            if let Some(held) = attempt().map_err(failed("lock", path))? {
                return Ok(Some(held));
            }
            give_up().map(|()| None)
        })
    }
}
