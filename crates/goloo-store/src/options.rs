//! What a user may decide about a store on this computer.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use goloo_sys::lock::LockTimeouts;

use crate::seal::Seal;

/// Called with the lock's path when another process holds a lock for longer than [`LockTimeouts::notice`].
#[derive(Clone, Default)]
pub struct WaitNotice(Option<Arc<Notice>>);

type Notice = dyn Fn(&Path) + Send + Sync;

impl WaitNotice {
    /// A notice that calls this function.
    pub fn new(notice: impl Fn(&Path) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(notice)))
    }

    pub(crate) fn tell(&self, lock: &Path) {
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

/// The user's options for a store on this host.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Allows writing to a network file system, where locks may not work between hosts.
    pub allow_network: bool,
    /// How documents are kept.
    pub seal: Seal,
    /// How long to wait for other processes.
    pub timeouts: LockTimeouts,
    /// Called when such a wait is long.
    pub on_wait: WaitNotice,
}
