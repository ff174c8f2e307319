//! The user's wish to stop.

use std::sync::Arc;

use tokio::sync::watch;

/// Set once, seen by everyone who works; clones share it.
#[derive(Debug, Clone)]
pub struct Interrupt(Arc<watch::Sender<bool>>);

impl Default for Interrupt {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Interrupt {
    /// Asks everyone to stop; `false` when that had been asked before.
    pub fn raise(&self) -> bool {
        !self.0.send_replace(true)
    }

    /// Whether it has been asked.
    pub fn is_raised(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is asked.
    pub async fn raised(&self) {
        // `self` holds the sender, so the wait can't end by the channel's end.
        let _ = self.0.subscribe().wait_for(|raised| *raised).await;
    }
}
