//! Progress and interruption of long operations on images.

use goloo_model::events::Event;

/// Progress reporting and cancellation for long operations on images.
pub trait Watch {
    /// Handles one event.
    fn event(&self, event: Event);

    /// Whether the operation should stop.
    fn stopped(&self) -> bool;
}

/// Reports nothing, never stops.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn event(&self, _: Event) {}

    fn stopped(&self) -> bool {
        false
    }
}
