//! Operations on a store while requests fail and processes die, and checks of whether they have happened.

use std::time::{Duration, Instant};

use goloo_model::name::{ArchiveId, VmId};
use goloo_model::record::{Phase, Record};
use goloo_model::store::{Archived, Snapshot, Store, StoreError, VmLock};
use goloo_store::object::{ObjectStore, Options};
use goloo_testkit::samples::{creating, name, owner, ready, snapshot, time};
use goloo_testkit::store_suite::run;

/// An operation that isn't part of a VM's life cycle; these have separate sweeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Copies a record from another store into an empty place.
    Put,
    /// Copies it over an older one.
    PutOver,
    BreakLock,
    /// Marks the store as moved.
    Mark,
    /// Marks it as in use again.
    Unmark,
    /// Copies a record from another store into the archive.
    ArchivePut,
    /// Copies it over an older one.
    ArchivePutOver,
    ArchiveDelete,
    /// Deletes a record whose move to the archive was interrupted by a crash.
    ArchiveDeleteHalf,
}

const DEVBOX: &str = "devbox";
const ELSEWHERE: &str = "dir:/srv/goloo";
/// The owner of a lock that is to be ended by the operation, and must not end by itself.
const HOLDER: u32 = 42;

/// The record that is copied, which is the same in all processes.
fn devbox(serial: u64) -> Record {
    let id = VmId::parse("01JHN3W1T3K9Q2Z8F6B4C7D5E0").unwrap();
    let updated_at = time("2025-02-01T00:00:00Z");
    Record { id, serial, updated_at, stack: format!("put {serial}").into(), ..ready(&name(DEVBOX)) }
}

fn gone(serial: u64) -> Archived {
    let record = Record { phase: Phase::Destroyed, ..devbox(serial) };
    let id = ArchiveId::new(&record.name, record.updated_at, &record.id);
    Archived { deleted_at: id.deleted_at(), id, record }
}

fn older() -> Snapshot {
    Snapshot::default()
}

fn put(store: &dyn Store, record: &Record, files: &Snapshot) -> Result<(), StoreError> {
    run(run(store.lock(&record.name, &owner(std::process::id())))?.put(record, files))
}

fn mark(store: &dyn Store) -> Result<(), StoreError> {
    run(store.set_moved(None, Some(ELSEWHERE)))
}

fn unmark(store: &dyn Store) -> Result<(), StoreError> {
    run(store.set_moved(Some(ELSEWHERE), None))
}

impl Act {
    pub const ALL: [Self; 9] = [
        Self::Put,
        Self::PutOver,
        Self::BreakLock,
        Self::Mark,
        Self::Unmark,
        Self::ArchivePut,
        Self::ArchivePutOver,
        Self::ArchiveDelete,
        Self::ArchiveDeleteHalf,
    ];

    /// The operation with this name.
    pub fn called(text: &str) -> Self {
        Self::ALL.into_iter().find(|act| format!("{act:?}") == text).unwrap()
    }

    /// Creates what the operation requires, and an unrelated VM.
    pub fn prepare(self, store: &ObjectStore) {
        put(store, &Record { serial: 1, ..ready(&name("web")) }, &snapshot()).unwrap();
        match self {
            Self::Put | Self::ArchivePut => {}
            Self::PutOver | Self::BreakLock | Self::Mark => put(store, &devbox(1), &older()).unwrap(),
            Self::Unmark => mark(store).unwrap(),
            Self::ArchivePutOver => run(store.archive_put(&gone(1), &older())).unwrap(),
            Self::ArchiveDelete => run(store.archive_put(&gone(9), &snapshot())).unwrap(),
            Self::ArchiveDeleteHalf => put(store, &gone(9).record, &snapshot()).unwrap(),
        }
    }

    /// The holder of a lock that the operation ends; the lease outlives the test.
    pub fn holder(self, open: impl Fn(Options) -> ObjectStore) -> Option<Box<dyn VmLock>> {
        let held = matches!(self, Self::BreakLock | Self::Mark);
        held.then(|| run(open(Options::default()).lock(&name(DEVBOX), &owner(HOLDER))).unwrap())
    }

    /// Runs the operation once.
    pub fn attempt(self, store: &dyn Store) -> Result<(), StoreError> {
        match self {
            Self::Put | Self::PutOver => put(store, &devbox(9), &snapshot()),
            Self::BreakLock => run(store.break_lock(&name(DEVBOX))).map(drop),
            Self::Mark => mark(store),
            Self::Unmark => unmark(store),
            Self::ArchivePut | Self::ArchivePutOver => run(store.archive_put(&gone(9), &snapshot())),
            Self::ArchiveDelete | Self::ArchiveDeleteHalf => {
                run(store.archive_delete(&gone(9).id, &owner(std::process::id())))
            }
        }
    }

    /// Runs the operation again, as after a failure or a crash: it succeeds as soon as no lease of
    /// the earlier attempt is in the way.
    pub fn again(self, store: &dyn Store, when: &str) {
        let happened = self.has_happened(store, when);
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            match self.attempt(store) {
                Ok(()) => return,
                Err(StoreError::NotArchived { .. }) if happened => return,
                Err(StoreError::Locked { .. }) if Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(error) => panic!("{when}, again: {error:?}"),
            }
        }
    }

    /// Whether it has happened; either completely or not at all, and everything else is unchanged.
    pub fn has_happened(self, store: &dyn Store, when: &str) -> bool {
        let active = run(store.records()).unwrap();
        assert_eq!(active.broken, [], "{when}");
        assert!(active.entries.iter().any(|loaded| loaded.record.name == name("web")), "{when}: web is gone");
        assert_eq!(run(store.snapshot(&name("web"))).unwrap(), snapshot(), "{when}");
        let archive = run(store.archive_list()).unwrap();
        assert_eq!(archive.broken, [], "{when}");
        match self {
            Self::Put => active_serial(store, when) == Some(9),
            Self::PutOver => active_serial(store, when).expect("neither old nor new is there") == 9,
            Self::BreakLock => {
                let locks = run(store.locks()).unwrap();
                assert!(locks.iter().all(|held| held.owner == Some(owner(HOLDER))), "{when}: {locks:?}");
                locks.is_empty()
            }
            Self::Mark => run(store.moved_to()).unwrap().is_some(),
            Self::Unmark => run(store.moved_to()).unwrap().is_none(),
            Self::ArchivePut => archived_serial(store, when) == Some(9),
            Self::ArchivePutOver => archived_serial(store, when).expect("neither is there") == 9,
            Self::ArchiveDelete | Self::ArchiveDeleteHalf => archived_serial(store, when).is_none(),
        }
    }

    /// The final state: the operation has happened, the former lock holder can't write any more, and everyone else
    /// can.
    pub fn assert_over(self, store: &dyn Store, holder: Option<Box<dyn VmLock>>, when: &str) {
        assert!(self.has_happened(store, when), "{when}: it was said to be done");
        if let Some(mut holder) = holder {
            let refused = run(holder.save(&mut devbox(1)));
            let lost = match self {
                Self::Mark => {
                    matches!(&refused, Err(StoreError::Moved { to, .. }) if to == ELSEWHERE)
                }
                _ => matches!(&refused, Err(StoreError::LockLost { by: None, .. })),
            };
            assert!(lost, "{when}: the former holder: {refused:?}");
        }
        if self == Self::Mark {
            let refused = run(store.lock(&name(DEVBOX), &owner(1))).map(drop);
            assert!(matches!(refused, Err(StoreError::Moved { .. })), "{when}: {refused:?}");
            unmark(store).unwrap();
        }
        self.assert_goes_on(store, when);
    }

    /// The next process gets the lock, at the latest when the lease of a dead one expires, and can write.
    fn assert_goes_on(self, store: &dyn Store, when: &str) {
        let vm = name(DEVBOX);
        let end = Instant::now() + Duration::from_secs(20);
        let mut lock = loop {
            match run(store.lock(&vm, &owner(1))) {
                Ok(lock) => break lock,
                Err(StoreError::Locked { .. }) if Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(error) => panic!("{when}: the lock is held for ever: {error:?}"),
            }
        };
        if self == Self::BreakLock {
            assert_eq!(lock.taken_over(), Some(&owner(HOLDER)), "{when}");
        }
        match run(lock.load()).unwrap() {
            Some(loaded) => run(lock.save(&mut { loaded.record })).unwrap(),
            None => run(lock.create(&mut creating(&vm), &snapshot())).unwrap(),
        }
    }
}

/// The serial of the active record, with its own stack and files; `None` if there is none.
fn active_serial(store: &dyn Store, when: &str) -> Option<u64> {
    let record = run(store.load(&name(DEVBOX))).unwrap()?.record;
    whole(&record, &run(store.snapshot(&record.name)).unwrap(), when);
    Some(record.serial)
}

fn archived_serial(store: &dyn Store, when: &str) -> Option<u64> {
    let id = gone(9).id;
    let record = run(store.archive_load(&id)).unwrap()?.record;
    whole(&record, &run(store.archive_snapshot(&id)).unwrap(), when);
    Some(record.serial)
}

fn whole(record: &Record, files: &Snapshot, when: &str) {
    let expected = if record.serial == 9 { snapshot() } else { older() };
    assert_eq!(
        (record.stack.as_str(), files),
        (format!("put {}", record.serial).as_str(), &expected),
        "{when}"
    );
}
