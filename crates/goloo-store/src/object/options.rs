//! What is decided about a store in a bucket apart from its place.

use std::time::Duration;

use crate::lease::LeaseTiming;
use crate::seal::Seal;

/// The options of a store other than its location.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How documents are kept.
    pub seal: Seal,
    /// Timeouts and intervals.
    pub pace: Pace,
    /// The user of the store, such as `ann on laptop`.
    pub person: String,
}

/// Timeouts and intervals; tests shorten them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Of the leases of locks.
    pub lease: LeaseTiming,
    /// The timeout of one response.
    pub answer: Duration,
    /// How long a request without a response is retried.
    pub patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            lease: LeaseTiming::default(),
            answer: Duration::from_secs(10),
            patience: Duration::from_secs(30),
        }
    }
}
