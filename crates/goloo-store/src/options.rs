//! What a user may decide about a store on this computer.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use goloo_model::record::Record;
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

/// Decides whether a record that parses can be used: what its provider keeps in it has rules of its own. Where it
/// refuses one, a folder uses the copy before the last save.
#[derive(Clone, Default)]
pub struct RecordCheck(Option<Arc<Check>>);

type Check = dyn Fn(&Record) -> Result<(), String> + Send + Sync;

impl RecordCheck {
    /// A check by this function, which names the field that it refuses.
    pub fn new(check: impl Fn(&Record) -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(check)))
    }

    pub(crate) fn check(&self, record: &Record) -> Result<(), String> {
        self.0.as_ref().map_or(Ok(()), |check| check(record))
    }
}

impl fmt::Debug for RecordCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RecordCheck").field(&self.0.is_some()).finish()
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
    /// Which records a folder refuses.
    pub record_check: RecordCheck,
}
