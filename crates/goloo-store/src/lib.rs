//! Where goloo keeps its records: the back ends of [`goloo_core::store::Store`].

pub mod bucket_address;
pub mod dir;
mod line;
#[cfg(feature = "object")]
pub mod object;
mod rules;
pub mod seal;
pub mod sqlite;
mod suitable;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

pub use dir::DirStore;
pub use goloo_os::lock::LockTimeouts;
pub use seal::Seal;
pub use sqlite::SqliteStore;

/// Called when a lock is held for longer than [`LockTimeouts::notice`] by another process, with the lock's file.
#[derive(Clone, Default)]
pub struct WaitNotice(Option<Arc<Notice>>);

type Notice = dyn Fn(&Path) + Send + Sync;

impl WaitNotice {
    /// A notice that goes to this function.
    pub fn new(notice: impl Fn(&Path) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(notice)))
    }

    fn tell(&self, lock: &Path) {
        if let Some(notice) = &self.0 {
            notice(lock);
        }
    }
}

impl fmt::Debug for WaitNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WaitNotice").field(&self.0.is_some()).finish()
    }
}

/// What a user may decide about a store on this computer.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Writes to a network file system too, where locks may not hold between hosts.
    pub allow_network: bool,
    /// How documents are kept.
    pub seal: Seal,
    /// How long other processes are waited for.
    pub timeouts: LockTimeouts,
    /// Told of such a wait.
    pub on_wait: WaitNotice,
}
