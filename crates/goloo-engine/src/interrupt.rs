//! Interruption by the user.

use std::sync::Arc;

use tokio::sync::watch;

/// A flag that is set once and seen by all workers; clones share it.
#[derive(Debug, Clone)]
pub struct Interrupt(Arc<watch::Sender<bool>>);

impl Default for Interrupt {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Interrupt {
    /// Requests everyone to stop; `false` if that had been requested before.
    pub fn raise(&self) -> bool {
        !self.0.send_replace(true)
    }

    /// Whether a stop was requested.
    pub fn is_raised(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until a stop is requested.
    pub async fn raised(&self) {
        // `self` holds the sender, so the channel can't be closed during the wait.
        let _ = self.0.subscribe().wait_for(|raised| *raised).await;
    }
}
