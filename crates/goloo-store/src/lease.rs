//! The rules of leases, for each storage that keeps locks as leases: SQLite, buckets and the rows of a lock table. The
//! storages read and write what is decided here, and bring their clock.
//!
//! A write counts by its epoch alone, never by the time: whatever clocks do, of two who think that they hold a lock one
//! can write. Time only decides when a holder who sends no heartbeat is given up.

use std::ops::ControlFlow;
use std::time::Duration;

use goloo_model::record::Owner;
#[cfg(feature = "object")]
use goloo_model::time::Timestamp;
use ulid::Ulid;

/// How long a lease lasts without a heartbeat, and how often its holder sends one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTiming {
    /// After so long without a heartbeat the lock may be taken over; whole seconds.
    pub length: Duration,
    /// Between two heartbeats.
    pub renewal: Duration,
}

impl Default for LeaseTiming {
    fn default() -> Self {
        Self { length: Duration::from_secs(90), renewal: Duration::from_secs(20) }
    }
}

impl LeaseTiming {
    pub(crate) fn seconds(self) -> u64 {
        self.length.as_secs()
    }
}

/// Until when the last heartbeat of a holder counts, by the storage's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    /// The last second of it.
    last: i64,
}

impl Lease {
    /// A lease that has ended at `end`.
    pub fn before(end: i64) -> Self {
        Self { last: end.saturating_sub(1) }
    }

    /// Whether the lock may be taken over.
    pub fn has_ended(self, now: i64) -> bool {
        now > self.last
    }

    /// Whether it ends later than one of so many seconds can that was given at `now`: another clock has set it.
    pub fn is_implausible(self, now: i64, seconds: u64) -> bool {
        self.last >= now.saturating_add_unsigned(seconds)
    }

    /// The second after it.
    pub fn end(self) -> i64 {
        self.last.saturating_add(1)
    }
}

/// Of storages whose clock tells the time of day.
#[cfg(feature = "object")]
impl Lease {
    /// A lease of so many seconds, from a heartbeat on.
    pub fn since(heartbeat: i64, seconds: u64) -> Self {
        Self { last: heartbeat.saturating_add_unsigned(seconds) }
    }

    /// Its last second.
    pub fn shown(self) -> Timestamp {
        Timestamp::from_unix(self.last).unwrap_or_else(Timestamp::now)
    }
}

/// Of the rows of a lock table, which hold their last second.
#[cfg(feature = "lock-table")]
impl Lease {
    /// A lease whose last second is known.
    pub fn until(last: i64) -> Self {
        Self { last }
    }

    /// Its last second.
    pub fn last(self) -> i64 {
        self.last
    }

    /// How many seconds are left until its last one; none or fewer when it has ended.
    pub fn seconds_left(self, now: i64) -> i64 {
        self.last.saturating_sub(now)
    }
}

/// A lock changes hands no more often than this; after that its epoch begins again where no earlier holder can be.
pub(crate) const EPOCH_MAX: u64 = 1 << 52;

/// What is stored when a lock changes hands, also to nobody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Succession {
    /// The new epoch: writes under the former one are refused from now on.
    pub epoch: u64,
    /// The last owner who didn't release the lock: what they had begun is to be looked after.
    pub unsettled: Option<Owner>,
}

impl Succession {
    /// After a lock with this epoch (`None` when it is none that a goloo writes), whose holder never released it, and
    /// whose former holder may not have either.
    pub fn after(epoch: Option<u64>, holder: Option<Owner>, unsettled: Option<Owner>) -> Self {
        Self { epoch: next_epoch(epoch), unsettled: holder.or(unsettled) }
    }
}

fn next_epoch(epoch: Option<u64>) -> u64 {
    match epoch {
        Some(epoch) if epoch < EPOCH_MAX => epoch + 1,
        _ => u64::try_from(Ulid::new().random() % u128::from(EPOCH_MAX)).unwrap_or_default() + 1,
    }
}

/// What a heartbeat has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heartbeat {
    /// The lock is still the sender's, as far as is known: one that failed is sent again at the next turn.
    Alive,
    /// The lock is someone else's, which the sender's next write will be told.
    Lost,
}

/// Sends heartbeats until the lock is lost, or `pause` says that it was released.
pub(crate) async fn keep_alive<P, R>(mut pause: impl FnMut() -> P, mut renew: impl FnMut() -> R)
where
    P: Future<Output = ControlFlow<()>>,
    R: Future<Output = Heartbeat>,
{
    while pause().await.is_continue() {
        if renew().await == Heartbeat::Lost {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::ready;

    use goloo_testkit::samples::owner;

    use super::*;

    #[cfg(feature = "object")]
    #[test]
    fn a_lease_lasts_for_its_seconds_after_the_heartbeat() {
        let lease = Lease::since(1000, 90);
        assert!(!lease.has_ended(1000) && !lease.has_ended(1090) && lease.has_ended(1091));
        assert_eq!(Lease::before(lease.end()), lease);
        assert!(!Lease::since(i64::MAX, u64::MAX).has_ended(i64::MAX));
    }

    #[test]
    fn an_end_that_no_lease_given_by_now_can_have_was_set_by_another_clock() {
        let now = 1000;
        assert!(!Lease::before(now + 90).is_implausible(now, 90));
        assert!(Lease::before(now + 91).is_implausible(now, 90));
    }

    #[test]
    fn each_holder_has_a_higher_epoch_and_looks_after_the_last_one_who_died() {
        let next = |epoch, holder, unsettled| Succession::after(epoch, holder, unsettled);
        assert_eq!(next(Some(0), None, None), Succession { epoch: 1, unsettled: None });
        assert_eq!(next(Some(4), Some(owner(1)), Some(owner(2))).unsettled, Some(owner(1)));
        assert_eq!(next(Some(4), None, Some(owner(2))), Succession { epoch: 5, unsettled: Some(owner(2)) });
    }

    #[test]
    fn an_epoch_that_cannot_be_raised_begins_again() {
        for epoch in [None, Some(EPOCH_MAX), Some(u64::MAX)] {
            let next = Succession::after(epoch, None, None).epoch;
            assert!(Some(next) != epoch && (1..=EPOCH_MAX).contains(&next), "{epoch:?}: {next}");
        }
    }

    #[test]
    fn heartbeats_end_when_the_lock_is_released_or_lost() {
        let beats = |released: usize, lost: usize| {
            let (pauses, sent) = (Cell::new(0), Cell::new(0));
            let pause = || {
                pauses.set(pauses.get() + 1);
                ready(if pauses.get() > released {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                })
            };
            let renew = || {
                sent.set(sent.get() + 1);
                ready(if sent.get() == lost { Heartbeat::Lost } else { Heartbeat::Alive })
            };
            pollster::block_on(keep_alive(pause, renew));
            sent.get()
        };
        assert_eq!((beats(3, 9), beats(9, 3), beats(0, 1)), (3, 3, 0));
    }
}
