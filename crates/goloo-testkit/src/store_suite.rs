//! What every store must hold: one case a rule of [`goloo_core::store`], each with two handles or more
//! on the same store.
//!
//! A back end joins with a [`Subject`] and one line in an integration test:
//! ```ignore
//! goloo_testkit::store_suite!(MySubject::new);
//! ```
//! or, where a store takes long to start, with one test of all cases, each with a place of its own:
//! ```ignore
//! goloo_testkit::store_suite!(emulator_mine_keeps_every_rule, |case| server().place(case));
//! ```

// A failing expectation here is a failing test.
#![allow(clippy::unwrap_used)]
// Each case's name is its rule.
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use goloo_core::name::{ArchiveId, VmName};
use goloo_core::record::{Phase, Record, SCHEMA, to_json};
use goloo_core::store::{Archived, Snapshot, Store, StoreError, Summary, VmLock};
use goloo_core::time::Timestamp;

use crate::samples::{creating, in_aws, name, owner, ready, snapshot, time};

/// A store under test, with a back door for damage.
#[async_trait]
pub trait Subject: Send + Sync {
    /// A new handle on the store, as another process would open it.
    fn handle(&self) -> Box<dyn Store>;

    /// Puts any text in the place of an active record's; the record need not be there.
    async fn plant(&self, name: &VmName, json: &[u8]);

    /// Puts any text in the place of an archived record's; the record need not be there.
    async fn plant_archived(&self, id: &ArchiveId, json: &[u8]);
}

/// Makes a `#[test]` of every case, run on what the given function makes; or, with a name, one `#[test]` of
/// all, where the function is given the name of the case.
#[macro_export]
macro_rules! store_suite {
    ($make:expr) => {
        $crate::store_suite! { @cases tests $make }
    };
    ($test:ident, $make:expr) => {
        $crate::store_suite! { @cases one_test $test $make }
    };
    (@cases $($how:tt)+) => {
        $crate::store_suite_cases! { $($how)+;
            a_store_in_which_nothing_was_written_is_empty
            nothing_has_no_snapshot
            nothing_can_be_removed_from_an_empty_archive
            a_store_says_where_it_is
            a_created_record_is_seen_by_the_other_handle
            a_created_record_has_serial_one
            a_snapshot_is_kept_byte_for_byte
            an_empty_snapshot_is_an_empty_one
            a_taken_name_is_refused_and_nothing_changes
            a_taken_name_is_refused_under_the_same_lock
            a_record_that_was_saved_before_is_not_created
            a_record_of_another_name_is_not_created
            a_record_of_a_newer_format_is_not_created
            a_snapshot_with_a_file_of_another_name_is_refused
            the_shortest_and_the_longest_name_are_kept_apart
            a_saved_record_is_seen_by_the_other_handle
            each_save_raises_the_serial_by_one
            a_save_says_when_it_was
            a_stale_serial_is_refused_and_changes_nothing
            a_stale_serial_is_refused_under_the_same_lock
            a_serial_from_the_future_is_refused
            a_refused_save_leaves_the_writer_s_record_as_it_was
            nothing_is_saved_under_a_name_that_nobody_has
            nothing_is_saved_after_the_archive
            a_record_of_another_name_is_not_saved
            a_record_of_a_former_vm_of_that_name_is_refused
            fields_of_a_later_version_survive_a_save
            a_record_of_a_megabyte_is_kept_whole
            a_save_leaves_the_snapshot_and_other_vms_alone
            a_newer_record_is_read_and_listed
            a_newer_record_is_not_written
            a_newer_record_is_not_made_older
            a_newer_archived_record_is_not_removed
            a_held_lock_refuses_the_other_handle
            a_held_lock_refuses_its_own_handle
            a_refused_lock_names_its_holder
            a_dropped_lock_is_free_again
            locks_of_two_names_are_apart
            a_lock_needs_no_vm_and_leaves_none
            a_lock_knows_its_name
            reading_needs_no_lock
            a_lock_reads_what_the_other_handle_wrote
            an_archived_vm_is_in_the_archive_and_no_longer_active
            the_name_is_free_after_the_archive
            the_archive_keeps_the_last_save_and_the_snapshot
            only_a_destroyed_record_is_archived
            a_stale_record_is_not_archived
            a_newer_record_is_not_archived
            the_archive_is_listed_newest_first
            one_name_can_be_archived_many_times
            one_archived_record_is_removed_and_the_others_stay
            an_archived_record_is_removed_once
            a_destroyed_record_is_not_active_and_goes_to_the_archive_with_the_next_lock
            names_and_lists_are_sorted
            a_list_shows_what_the_records_hold
            a_list_of_hundreds_is_whole_and_sorted
            a_broken_record_is_shown_and_breaks_no_other
            a_broken_record_keeps_its_name_and_is_not_saved_over
            a_record_under_another_s_name_is_broken
            a_broken_archived_record_breaks_no_other_and_can_be_removed
            of_many_claims_of_one_name_one_wins
            claims_of_many_names_at_once_all_succeed
            of_two_writers_of_one_serial_one_wins
            increments_of_many_handles_are_all_counted
            readers_beside_a_writer_see_whole_records
            readers_beside_claims_and_archives_see_all_or_nothing
            of_many_who_remove_one_archived_record_one_does
            a_record_from_elsewhere_keeps_id_serial_and_bytes
            a_record_put_again_is_success_and_changes_nothing
            a_newer_record_from_elsewhere_replaces_an_older_one
            an_older_record_from_elsewhere_is_refused
            another_vm_s_record_is_not_put_over_one
            a_record_that_can_t_be_created_is_not_put
            a_record_that_was_put_is_saved_and_archived_like_any_other
            of_many_who_put_one_record_all_succeed
            of_two_vms_that_are_put_under_one_name_one_wins
            of_many_serials_that_are_put_the_highest_stays
            an_archived_record_from_elsewhere_keeps_id_serial_and_bytes
            an_archived_record_put_again_is_success_and_changes_nothing
            a_newer_archived_record_from_elsewhere_replaces_an_older_one
            an_older_archived_record_from_elsewhere_is_refused
            an_archived_record_is_not_put_under_another_name_s_id
            of_many_who_put_one_archived_record_all_succeed
            of_many_serials_put_into_the_archive_the_highest_stays
            records_are_what_a_load_of_each_gives
            locks_are_shown_with_their_holders
            looking_at_locks_refuses_nobody_one
            a_lease_s_end_is_told_alike_to_its_holder_and_to_others
            nobody_s_lock_can_t_be_broken
            a_broken_lock_writes_no_more
            a_moved_store_says_where_it_is_now
            a_moved_store_refuses_every_lock
            a_moved_store_refuses_every_change_of_its_archive
            a_moved_store_is_read_as_before
            a_moved_store_can_be_used_again
            a_moved_store_refuses_another_mark
            a_mark_that_is_there_can_be_put_again
            a_mark_is_taken_back_and_replaced_only_by_its_name
            of_many_marks_at_once_one_stays
            of_many_who_replace_one_mark_one_does
            a_lock_that_is_held_while_the_store_is_marked_can_t_write_afterwards
            writers_beside_the_mark_change_nothing_after_it
        }
    };
}

/// The list of cases, as tests; [`store_suite!`] is what to use.
#[doc(hidden)]
#[macro_export]
macro_rules! store_suite_cases {
    (one_test $test:ident $make:expr; $($case:ident)+) => {
        #[test]
        fn $test() {
            let make = $make;
            $crate::store_suite::all(&[$(
                (stringify!($case), &|| {
                    let subject = make(stringify!($case));
                    $crate::store_suite::run($crate::store_suite::$case(&subject));
                }),
            )+]);
        }
    };
    (tests $make:expr; $($case:ident)+) => {
        $(
            #[test]
            fn $case() {
                let subject = ($make)();
                $crate::store_suite::run($crate::store_suite::$case(&subject));
            }
        )+
    };
}

/// So many cases at once keep an emulator busy without a queue in which answers come too late.
const CASES_AT_ONCE: usize = 4;

/// Runs all cases to their ends, several at once, each on a thread of its name.
///
/// # Panics
/// When a case did; says which.
pub fn all(cases: &[(&'static str, &(dyn Fn() + Sync))]) {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some((name, case)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let ended = thread::scope(|scope| {
                thread::Builder::new().name((*name).to_owned()).spawn_scoped(scope, *case).unwrap().join()
            });
            if ended.is_err() {
                failed.lock().unwrap().push(*name);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..CASES_AT_ONCE {
            scope.spawn(work);
        }
    });
    assert_eq!(*failed.lock().unwrap(), [""; 0], "these cases failed");
}

/// Drives a future on a runtime of its own.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

type Lock = Box<dyn VmLock>;

async fn lock(store: &dyn Store, name: &VmName) -> Lock {
    store.lock(name, &owner(1)).await.unwrap()
}

/// Waits for its turn, as the engine's callers don't.
async fn lock_when_free(store: &dyn Store, name: &VmName) -> Lock {
    loop {
        match store.lock(name, &owner(1)).await {
            Ok(lock) => return lock,
            Err(StoreError::Locked { .. }) => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

async fn create(store: &dyn Store, record: &mut Record) {
    lock(store, &record.name.clone()).await.create(record, &snapshot()).await.unwrap();
}

async fn created(store: &dyn Store, name: &VmName) -> Record {
    let mut record = ready(name);
    create(store, &mut record).await;
    record
}

async fn read(store: &dyn Store, name: &VmName) -> Option<Record> {
    store.load(name).await.unwrap().map(|loaded| loaded.record)
}

async fn archive(store: &dyn Store, record: &mut Record, at: &str) -> ArchiveId {
    record.phase = Phase::Destroyed;
    record.operation = None;
    lock(store, &record.name.clone()).await.archive(record, time(at)).await.unwrap()
}

async fn archived(store: &dyn Store, name: &VmName, at: &str) -> ArchiveId {
    let mut record = created(store, name).await;
    archive(store, &mut record, at).await
}

/// Runs `work` on `count` threads at once, each with its own handle and runtime.
fn race<T: Send, F: Future<Output = T>>(
    subject: &dyn Subject,
    count: usize,
    work: impl Fn(usize, Box<dyn Store>) -> F + Sync,
) -> Vec<T> {
    let start = Barrier::new(count);
    thread::scope(|scope| {
        let runners: Vec<_> = (0..count)
            .map(|n| {
                let (start, work) = (&start, &work);
                scope.spawn(move || {
                    let store = subject.handle();
                    start.wait();
                    run(work(n, store))
                })
            })
            .collect();
        runners.into_iter().map(|runner| runner.join().unwrap()).collect()
    })
}

macro_rules! assert_error {
    ($result:expr, $pattern:pat $(if $guard:expr)?) => {
        match $result {
            Err($pattern) $(if $guard)? => {}
            Err(other) => panic!("another error: {other:?}"),
            Ok(_) => panic!("it succeeded"),
        }
    };
}

// Nothing there.

pub async fn a_store_in_which_nothing_was_written_is_empty(subject: &dyn Subject) {
    for store in [subject.handle(), subject.handle()] {
        assert!(store.names().await.unwrap().is_empty());
        assert_eq!(store.list().await.unwrap(), Default::default());
        assert_eq!(store.load(&name("devbox")).await.unwrap(), None);
        assert_eq!(store.archive_list().await.unwrap(), Default::default());
        let id = ArchiveId::parse("devbox-20250115T103000Z-3f9c").unwrap();
        assert_eq!(store.archive_load(&id).await.unwrap(), None);
    }
}

pub async fn nothing_has_no_snapshot(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    assert_error!(store.snapshot(&name("devbox")).await, StoreError::NotFound { .. });
    let id = ArchiveId::parse("devbox-20250115T103000Z-3f9c").unwrap();
    assert_error!(other.archive_snapshot(&id).await, StoreError::NotArchived { .. });
}

pub async fn nothing_can_be_removed_from_an_empty_archive(subject: &dyn Subject) {
    let id = ArchiveId::parse("devbox-20250115T103000Z-3f9c").unwrap();
    for store in [subject.handle(), subject.handle()] {
        assert_error!(store.archive_delete(&id, &owner(1)).await, StoreError::NotArchived { id: gone } if gone == id);
    }
}

pub async fn a_store_says_where_it_is(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    assert!(!store.location().is_empty());
    assert_eq!(store.location(), other.location());
}

// Create.

pub async fn a_created_record_is_seen_by_the_other_handle(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = creating(&devbox);
    create(&*store, &mut record).await;
    let loaded = other.load(&devbox).await.unwrap().unwrap();
    assert_eq!((loaded.record, loaded.recovered), (record.clone(), None));
    assert_eq!(other.names().await.unwrap(), ["devbox"]);
    assert_eq!(other.list().await.unwrap().entries, [Summary::from(&record)]);
}

pub async fn a_created_record_has_serial_one(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    assert_eq!(created(&*store, &name("devbox")).await.serial, 1);
    assert_eq!(read(&*other, &name("devbox")).await.unwrap().serial, 1);
}

pub async fn a_snapshot_is_kept_byte_for_byte(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let all = Snapshot {
        files: BTreeMap::from([
            ("config.json".to_owned(), b"{}\r\n\xff\x00".to_vec()),
            ("cloud-init.yaml".to_owned(), Vec::new()),
            ("configure.sh".to_owned(), vec![b'x'; 300_000]),
        ]),
    };
    let mut held = lock(&*store, &devbox).await;
    held.create(&mut creating(&devbox), &all).await.unwrap();
    assert_eq!(held.snapshot().await.unwrap(), all);
    assert_eq!(other.snapshot(&devbox).await.unwrap(), all);
}

pub async fn an_empty_snapshot_is_an_empty_one(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    lock(&*store, &devbox).await.create(&mut creating(&devbox), &Snapshot::default()).await.unwrap();
    assert_eq!(other.snapshot(&devbox).await.unwrap(), Snapshot::default());
}

pub async fn a_taken_name_is_refused_and_nothing_changes(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let first = created(&*store, &devbox).await;
    let mut second = in_aws(&devbox);
    let refused = lock(&*other, &devbox).await.create(&mut second, &Snapshot::default()).await;
    assert_error!(refused, StoreError::NameTaken { name } if name == devbox);
    assert_eq!(second.serial, 0, "the refused record was touched");
    assert_eq!(read(&*store, &devbox).await.unwrap(), first);
    assert_eq!(store.snapshot(&devbox).await.unwrap(), snapshot());
}

pub async fn a_taken_name_is_refused_under_the_same_lock(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut first = creating(&devbox);
    let mut held = lock(&*store, &devbox).await;
    held.create(&mut first, &snapshot()).await.unwrap();
    let second = held.create(&mut creating(&devbox), &snapshot()).await;
    assert_error!(second, StoreError::NameTaken { .. });
    assert_eq!(read(&*other, &devbox).await.unwrap(), first);
}

pub async fn a_record_that_was_saved_before_is_not_created(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = Record { serial: 3, ..creating(&devbox) };
    assert!(lock(&*store, &devbox).await.create(&mut record, &snapshot()).await.is_err());
    assert_eq!(record.serial, 3);
    assert_eq!(read(&*other, &devbox).await, None);
}

pub async fn a_record_of_another_name_is_not_created(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let mut record = creating(&name("web"));
    assert!(lock(&*store, &name("devbox")).await.create(&mut record, &snapshot()).await.is_err());
    assert!(other.names().await.unwrap().is_empty());
}

pub async fn a_record_of_a_newer_format_is_not_created(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = Record { schema: SCHEMA + 1, ..creating(&devbox) };
    let refused = lock(&*store, &devbox).await.create(&mut record, &snapshot()).await;
    assert_error!(refused, StoreError::Newer { .. });
    assert_eq!(read(&*other, &devbox).await, None);
}

pub async fn a_snapshot_with_a_file_of_another_name_is_refused(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    for odd in ["state.json", "../config.json", ""] {
        let odd = Snapshot { files: BTreeMap::from([(odd.to_owned(), b"x".to_vec())]) };
        assert!(lock(&*store, &devbox).await.create(&mut creating(&devbox), &odd).await.is_err());
    }
    assert_eq!(read(&*other, &devbox).await, None);
}

pub async fn the_shortest_and_the_longest_name_are_kept_apart(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let names = ["a".to_owned(), "a".repeat(63), "a-1".to_owned(), "a1".to_owned()].map(|text| name(&text));
    for (n, each) in names.iter().enumerate() {
        let mut record = Record { stack: format!("stack-{n}"), ..ready(each) };
        create(&*store, &mut record).await;
    }
    for (n, each) in names.iter().enumerate() {
        assert_eq!(read(&*other, each).await.unwrap().stack, format!("stack-{n}"));
    }
}

// Save.

pub async fn a_saved_record_is_seen_by_the_other_handle(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = creating(&devbox);
    create(&*store, &mut record).await;
    let id = record.id.clone();
    record = Record { serial: record.serial, id, ..in_aws(&devbox) };
    lock(&*store, &devbox).await.save(&mut record).await.unwrap();
    assert_eq!(read(&*other, &devbox).await.unwrap(), record);
    assert_eq!(other.list().await.unwrap().entries, [Summary::from(&record)]);
}

pub async fn each_save_raises_the_serial_by_one(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = created(&*store, &devbox).await;
    for serial in 2..=6 {
        let writer = if serial % 2 == 0 { &store } else { &other };
        lock(&**writer, &devbox).await.save(&mut record).await.unwrap();
        assert_eq!(record.serial, serial);
        assert_eq!(read(&*store, &devbox).await.unwrap().serial, serial);
    }
}

pub async fn a_save_says_when_it_was(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = created(&*store, &devbox).await;
    let before = Timestamp::now();
    lock(&*store, &devbox).await.save(&mut record).await.unwrap();
    assert!(before <= record.updated_at && record.updated_at <= Timestamp::now());
    assert_eq!(read(&*other, &devbox).await.unwrap().updated_at, record.updated_at);
}

pub async fn a_stale_serial_is_refused_and_changes_nothing(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = created(&*store, &devbox).await;
    let mut stale = record.clone();
    lock(&*store, &devbox).await.save(&mut record).await.unwrap();
    stale.stack = "other".to_owned();
    let refused = lock(&*other, &devbox).await.save(&mut stale).await;
    assert_error!(refused, StoreError::Stale { expected: 1, found: 2, .. });
    assert_eq!(read(&*other, &devbox).await.unwrap(), record);
}

pub async fn a_stale_serial_is_refused_under_the_same_lock(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = created(&*store, &devbox).await;
    let mut stale = record.clone();
    let mut held = lock(&*store, &devbox).await;
    held.save(&mut record).await.unwrap();
    stale.stack = "other".to_owned();
    assert_error!(held.save(&mut stale).await, StoreError::Stale { expected: 1, found: 2, .. });
    assert_eq!(read(&*other, &devbox).await.unwrap(), record);
}

pub async fn a_serial_from_the_future_is_refused(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let record = created(&*store, &devbox).await;
    let mut ahead = Record { serial: 9, ..record.clone() };
    let refused = lock(&*other, &devbox).await.save(&mut ahead).await;
    assert_error!(refused, StoreError::Stale { expected: 9, found: 1, .. });
    assert_eq!(read(&*store, &devbox).await.unwrap(), record);
}

pub async fn a_refused_save_leaves_the_writer_s_record_as_it_was(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = created(&*store, &devbox).await;
    let mut stale = record.clone();
    lock(&*store, &devbox).await.save(&mut record).await.unwrap();
    let before = stale.clone();
    assert!(lock(&*other, &devbox).await.save(&mut stale).await.is_err());
    assert_eq!(stale, before);
}

pub async fn nothing_is_saved_under_a_name_that_nobody_has(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = Record { serial: 1, ..ready(&devbox) };
    let refused = lock(&*store, &devbox).await.save(&mut record).await;
    assert_error!(refused, StoreError::NotFound { name } if name == devbox);
    assert_eq!(read(&*other, &devbox).await, None);
}

pub async fn nothing_is_saved_after_the_archive(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = created(&*store, &devbox).await;
    record.phase = Phase::Destroyed;
    let mut held = lock(&*store, &devbox).await;
    held.archive(&mut record, time("2025-02-01T00:00:00Z")).await.unwrap();
    assert_error!(held.save(&mut record).await, StoreError::NotFound { .. });
    drop(held);
    assert_error!(lock(&*other, &devbox).await.save(&mut record).await, StoreError::NotFound { .. });
}

pub async fn a_record_of_another_name_is_not_saved(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let (devbox, web) = (name("devbox"), name("web"));
    let first = created(&*store, &devbox).await;
    let mut second = created(&*store, &web).await;
    assert!(lock(&*other, &devbox).await.save(&mut second).await.is_err());
    assert_eq!(read(&*store, &devbox).await.unwrap(), first);
    assert_eq!(read(&*store, &web).await.unwrap(), second);
}

pub async fn a_record_of_a_former_vm_of_that_name_is_refused(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    archived(&*store, &devbox, "2025-02-01T00:00:00Z").await;
    let second = created(&*store, &devbox).await;
    let mut former = Record { serial: second.serial, ..ready(&devbox) };
    assert_error!(lock(&*other, &devbox).await.save(&mut former).await, StoreError::Stale { .. });
    assert_eq!(read(&*store, &devbox).await.unwrap(), second);
}

pub async fn fields_of_a_later_version_survive_a_save(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = ready(&devbox);
    record.extra.insert("later".to_owned(), serde_json::json!({"a": [1, null, "ä"]}));
    create(&*store, &mut record).await;
    let mut again = read(&*other, &devbox).await.unwrap();
    lock(&*other, &devbox).await.save(&mut again).await.unwrap();
    assert_eq!(read(&*store, &devbox).await.unwrap().extra, record.extra);
}

pub async fn a_record_of_a_megabyte_is_kept_whole(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = created(&*store, &devbox).await;
    record.tags.insert("large".to_owned(), "\u{1F600}\n\"".repeat(150_000));
    lock(&*store, &devbox).await.save(&mut record).await.unwrap();
    assert_eq!(read(&*other, &devbox).await.unwrap(), record);
    assert_eq!(other.list().await.unwrap().entries, [Summary::from(&record)]);
}

pub async fn a_save_leaves_the_snapshot_and_other_vms_alone(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let (devbox, web) = (name("devbox"), name("web"));
    let mut record = created(&*store, &devbox).await;
    let neighbour = created(&*store, &web).await;
    lock(&*store, &devbox).await.save(&mut record).await.unwrap();
    assert_eq!(other.snapshot(&devbox).await.unwrap(), snapshot());
    assert_eq!(read(&*other, &web).await.unwrap(), neighbour);
}

// Formats of a later version.

async fn newer(subject: &dyn Subject, name: &VmName) -> Record {
    let record = Record { schema: SCHEMA + 1, ..created(&*subject.handle(), name).await };
    subject.plant(name, &to_json(&record)).await;
    record
}

pub async fn a_newer_record_is_read_and_listed(subject: &dyn Subject) {
    let devbox = name("devbox");
    let record = newer(subject, &devbox).await;
    for store in [subject.handle(), subject.handle()] {
        assert_eq!(read(&*store, &devbox).await.unwrap(), record);
        assert_eq!(store.list().await.unwrap().entries, [Summary::from(&record)]);
    }
}

pub async fn a_newer_record_is_not_written(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = newer(subject, &devbox).await;
    let refused = lock(&*store, &devbox).await.save(&mut record).await;
    assert_error!(refused, StoreError::Newer { found, known: SCHEMA, .. } if found == SCHEMA + 1);
    assert_eq!(read(&*other, &devbox).await.unwrap(), record);
}

pub async fn a_newer_record_is_not_made_older(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let record = newer(subject, &devbox).await;
    let mut older = Record { schema: SCHEMA, ..record.clone() };
    assert_error!(lock(&*store, &devbox).await.save(&mut older).await, StoreError::Newer { .. });
    assert_eq!(read(&*other, &devbox).await.unwrap(), record);
}

pub async fn a_newer_archived_record_is_not_removed(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let id = archived(&*store, &name("devbox"), "2025-02-01T00:00:00Z").await;
    let record = store.archive_load(&id).await.unwrap().unwrap().record;
    let record = Record { schema: SCHEMA + 1, ..record };
    subject.plant_archived(&id, &to_json(&record)).await;
    assert_error!(store.archive_delete(&id, &owner(1)).await, StoreError::Newer { .. });
    assert_eq!(other.archive_load(&id).await.unwrap().unwrap().record, record);
}

// Locks.

pub async fn a_held_lock_refuses_the_other_handle(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let _held = lock(&*store, &devbox).await;
    assert_error!(other.lock(&devbox, &owner(2)).await, StoreError::Locked { name, .. } if name == devbox);
}

pub async fn a_held_lock_refuses_its_own_handle(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    created(&*other, &devbox).await;
    let _held = lock(&*store, &devbox).await;
    assert_error!(store.lock(&devbox, &owner(1)).await, StoreError::Locked { .. });
}

pub async fn a_refused_lock_names_its_holder(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    drop(store.lock(&devbox, &owner(1_234_567)).await.unwrap());
    let _held = store.lock(&devbox, &owner(42)).await.unwrap();
    let refused = other.lock(&devbox, &owner(43)).await;
    assert_error!(refused, StoreError::Locked { holder: Some(holder), .. } if holder == "ann on laptop (pid 42)");
}

pub async fn a_dropped_lock_is_free_again(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    for _ in 0..3 {
        drop(lock(&*store, &devbox).await);
        drop(lock(&*other, &devbox).await);
    }
}

pub async fn locks_of_two_names_are_apart(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let _devbox = lock(&*store, &name("devbox")).await;
    let _web = lock(&*other, &name("web")).await;
    let _web1 = lock(&*store, &name("web-1")).await;
}

pub async fn a_lock_needs_no_vm_and_leaves_none(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut held = lock(&*store, &devbox).await;
    assert_eq!(held.load().await.unwrap(), None);
    assert_error!(held.snapshot().await, StoreError::NotFound { .. });
    assert!(other.names().await.unwrap().is_empty());
    drop(held);
    assert_eq!(other.list().await.unwrap(), Default::default());
}

pub async fn a_lock_knows_its_name(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    assert_eq!(lock(&*store, &name("devbox")).await.name(), &name("devbox"));
    assert_eq!(lock(&*other, &name("web")).await.name(), &name("web"));
}

pub async fn reading_needs_no_lock(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let record = created(&*store, &devbox).await;
    let _held = lock(&*store, &devbox).await;
    assert_eq!(read(&*other, &devbox).await.unwrap(), record);
    assert_eq!(other.list().await.unwrap().entries.len(), 1);
    assert_eq!(other.snapshot(&devbox).await.unwrap(), snapshot());
}

pub async fn a_lock_reads_what_the_other_handle_wrote(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = created(&*store, &devbox).await;
    lock(&*other, &devbox).await.save(&mut record).await.unwrap();
    let mut held = lock(&*store, &devbox).await;
    assert_eq!(held.load().await.unwrap().unwrap().record, record);
    assert_eq!(held.snapshot().await.unwrap(), snapshot());
}

// Archive.

pub async fn an_archived_vm_is_in_the_archive_and_no_longer_active(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = created(&*store, &devbox).await;
    let id = archive(&*store, &mut record, "2025-02-01T00:00:00Z").await;
    assert_eq!(id, ArchiveId::new(&devbox, time("2025-02-01T00:00:00Z"), &record.id));
    assert_eq!(read(&*other, &devbox).await, None);
    assert!(other.names().await.unwrap().is_empty());
    assert_eq!(other.list().await.unwrap(), Default::default());
    let archived = other.archive_load(&id).await.unwrap().unwrap();
    assert_eq!((archived.id, archived.deleted_at), (id, time("2025-02-01T00:00:00Z")));
    assert_eq!(archived.record, record);
}

pub async fn the_name_is_free_after_the_archive(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut first = created(&*store, &devbox).await;
    first.phase = Phase::Destroyed;
    let mut held = lock(&*store, &devbox).await;
    held.archive(&mut first, time("2025-02-01T00:00:00Z")).await.unwrap();
    let mut second = creating(&devbox);
    held.create(&mut second, &Snapshot::default()).await.unwrap();
    assert_eq!(read(&*other, &devbox).await.unwrap(), second);
    assert_eq!(other.snapshot(&devbox).await.unwrap(), Snapshot::default());
}

pub async fn the_archive_keeps_the_last_save_and_the_snapshot(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = created(&*store, &devbox).await;
    lock(&*store, &devbox).await.save(&mut record).await.unwrap();
    record.stack = "as it was at the end".to_owned();
    let id = archive(&*other, &mut record, "2025-02-01T00:00:00Z").await;
    assert_eq!(record.serial, 3);
    assert_eq!(store.archive_load(&id).await.unwrap().unwrap().record, record);
    assert_eq!(store.archive_snapshot(&id).await.unwrap(), snapshot());
}

pub async fn only_a_destroyed_record_is_archived(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = created(&*store, &devbox).await;
    for phase in [Phase::Creating, Phase::Ready, Phase::Degraded, Phase::Deleting] {
        let mut living = Record { phase, ..record.clone() };
        let refused = lock(&*store, &devbox).await.archive(&mut living, time("2025-02-01T00:00:00Z")).await;
        assert!(refused.is_err(), "{phase}");
    }
    assert_eq!(read(&*other, &devbox).await.unwrap(), record);
    assert_eq!(other.archive_list().await.unwrap(), Default::default());
    archive(&*other, &mut record, "2025-02-01T00:00:00Z").await;
}

pub async fn a_stale_record_is_not_archived(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = created(&*store, &devbox).await;
    let mut stale = Record { phase: Phase::Destroyed, ..record.clone() };
    lock(&*store, &devbox).await.save(&mut record).await.unwrap();
    let refused = lock(&*other, &devbox).await.archive(&mut stale, time("2025-02-01T00:00:00Z")).await;
    assert_error!(refused, StoreError::Stale { .. });
    assert_eq!(read(&*store, &devbox).await.unwrap(), record);
    assert_eq!(store.archive_list().await.unwrap(), Default::default());
}

pub async fn a_newer_record_is_not_archived(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let record = newer(subject, &devbox).await;
    let mut older = Record { schema: SCHEMA, phase: Phase::Destroyed, ..record.clone() };
    let refused = lock(&*store, &devbox).await.archive(&mut older, time("2025-02-01T00:00:00Z")).await;
    assert_error!(refused, StoreError::Newer { .. });
    assert_eq!(read(&*other, &devbox).await.unwrap(), record);
}

pub async fn the_archive_is_listed_newest_first(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let middle = archived(&*store, &name("web"), "2025-02-02T00:00:00Z").await;
    let newest = archived(&*store, &name("api"), "2025-02-03T00:00:00Z").await;
    let oldest = archived(&*other, &name("zoo"), "2025-02-01T00:00:00Z").await;
    let listing = other.archive_list().await.unwrap();
    let ids: Vec<_> = listing.entries.into_iter().map(|archived| archived.id).collect();
    assert_eq!(ids, [newest, middle, oldest]);
    assert!(listing.broken.is_empty());
}

pub async fn one_name_can_be_archived_many_times(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(archived(&*store, &devbox, "2025-02-01T00:00:00Z").await);
    }
    for id in &ids {
        assert_eq!(other.archive_load(id).await.unwrap().unwrap().id, *id);
    }
    assert_eq!(other.archive_list().await.unwrap().entries.len(), 3);
}

pub async fn one_archived_record_is_removed_and_the_others_stay(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let stays = archived(&*store, &name("web"), "2025-02-02T00:00:00Z").await;
    let goes = archived(&*store, &name("devbox"), "2025-02-01T00:00:00Z").await;
    let active = created(&*store, &name("devbox")).await;
    other.archive_delete(&goes, &owner(1)).await.unwrap();
    assert_eq!(store.archive_load(&goes).await.unwrap(), None);
    assert_error!(store.archive_snapshot(&goes).await, StoreError::NotArchived { .. });
    let left = store.archive_list().await.unwrap();
    assert_eq!((left.entries.len(), left.broken.len()), (1, 0));
    assert_eq!(left.entries[0].id, stays);
    assert_eq!(read(&*store, &name("devbox")).await.unwrap(), active);
}

pub async fn an_archived_record_is_removed_once(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let id = archived(&*store, &name("devbox"), "2025-02-01T00:00:00Z").await;
    store.archive_delete(&id, &owner(1)).await.unwrap();
    assert_error!(other.archive_delete(&id, &owner(1)).await, StoreError::NotArchived { .. });
}

pub async fn a_destroyed_record_is_not_active_and_goes_to_the_archive_with_the_next_lock(
    subject: &dyn Subject,
) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = created(&*store, &devbox).await;
    record.phase = Phase::Destroyed;
    // As a process leaves it that dies between the two steps of its archive.
    lock(&*store, &devbox).await.save(&mut record).await.unwrap();
    assert_eq!(read(&*other, &devbox).await, None);
    assert_eq!(other.list().await.unwrap(), Default::default());
    let mut held = lock(&*other, &devbox).await;
    assert_eq!(held.load().await.unwrap(), None);
    let mut second = creating(&devbox);
    held.create(&mut second, &snapshot()).await.unwrap();
    assert_eq!(read(&*store, &devbox).await.unwrap(), second);
    let archive = store.archive_list().await.unwrap().entries;
    assert_eq!(archive.len(), 1);
    assert_eq!((&archive[0].record, archive[0].deleted_at), (&record, record.updated_at));
}

// List.

pub async fn names_and_lists_are_sorted(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    for each in ["web-2", "api", "web", "web-10", "a1"] {
        created(&*store, &name(each)).await;
    }
    let sorted = ["a1", "api", "web", "web-10", "web-2"];
    assert_eq!(other.names().await.unwrap(), sorted);
    let listed = other.list().await.unwrap().entries;
    assert_eq!(listed.iter().map(|summary| summary.name.as_str()).collect::<Vec<_>>(), sorted);
}

pub async fn a_list_shows_what_the_records_hold(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let mut odd = in_aws(&name("d"));
    odd.source_config_path = None;
    odd.stack = "a \"b\"\n\u{e4}\u{1F600}".to_owned();
    odd.aws = Some(Default::default());
    let mut records = [creating(&name("a")), ready(&name("b")), in_aws(&name("c")), odd];
    for record in &mut records {
        create(&*store, record).await;
    }
    let expected: Vec<_> = records.iter().map(Summary::from).collect();
    assert_eq!(other.list().await.unwrap().entries, expected);
}

pub async fn a_list_of_hundreds_is_whole_and_sorted(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let mut expected = Vec::new();
    for n in 0..300 {
        let vm = name(&format!("vm-{n:03}"));
        let mut record = if n % 2 == 0 { ready(&vm) } else { in_aws(&vm) };
        create(&*store, &mut record).await;
        expected.push(Summary::from(&record));
    }
    assert_eq!(other.list().await.unwrap().entries, expected);
    assert_eq!(other.names().await.unwrap().len(), 300);
}

// Damage.

pub async fn a_broken_record_is_shown_and_breaks_no_other(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let (devbox, web) = (name("devbox"), name("web"));
    let sound = created(&*store, &web).await;
    for damage in ["", "{", "null", "{\"schema\": 1}", "\u{0}\u{0}\u{0}"] {
        subject.plant(&devbox, damage.as_bytes()).await;
        let listing = other.list().await.unwrap();
        assert_eq!(listing.entries, [Summary::from(&sound)], "{damage:?}");
        assert_eq!(listing.broken.len(), 1, "{damage:?}");
        assert_eq!(listing.broken[0].name, "devbox");
        assert!(!listing.broken[0].path.is_empty() && !listing.broken[0].error.is_empty());
        assert_error!(store.load(&devbox).await, StoreError::Broken(broken) if broken == listing.broken[0]);
        assert_eq!(read(&*store, &web).await.unwrap(), sound);
        assert_eq!(store.names().await.unwrap(), ["devbox", "web"]);
    }
}

pub async fn a_broken_record_keeps_its_name_and_is_not_saved_over(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = created(&*store, &devbox).await;
    subject.plant(&devbox, b"{").await;
    let mut held = lock(&*other, &devbox).await;
    assert_error!(held.load().await, StoreError::Broken(_));
    assert_error!(held.create(&mut creating(&devbox), &snapshot()).await, StoreError::NameTaken { .. });
    assert_error!(held.save(&mut record).await, StoreError::Broken(_));
    record.phase = Phase::Destroyed;
    let refused = held.archive(&mut record, time("2025-02-01T00:00:00Z")).await;
    assert_error!(refused, StoreError::Broken(_));
    drop(held);
    assert_eq!(store.list().await.unwrap().broken.len(), 1);
    assert_eq!(store.snapshot(&devbox).await.unwrap(), snapshot());
}

pub async fn a_record_under_another_s_name_is_broken(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    subject.plant(&devbox, &to_json(&Record { serial: 1, ..ready(&name("web")) })).await;
    assert_error!(store.load(&devbox).await, StoreError::Broken(_));
    let listing = other.list().await.unwrap();
    assert_eq!((listing.entries.len(), listing.broken.len()), (0, 1));
    assert!(listing.broken[0].error.contains("\"web\""), "{:?}", listing.broken);
}

pub async fn a_broken_archived_record_breaks_no_other_and_can_be_removed(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let sound = archived(&*store, &name("web"), "2025-02-01T00:00:00Z").await;
    let id = ArchiveId::parse("devbox-20250115T103000Z-3f9c").unwrap();
    subject.plant_archived(&id, b"{").await;
    let listing = other.archive_list().await.unwrap();
    assert_eq!(listing.entries.iter().map(|archived| &archived.id).collect::<Vec<_>>(), [&sound]);
    assert_eq!(listing.broken.len(), 1);
    assert_eq!(listing.broken[0].name, id.as_str());
    assert_error!(other.archive_load(&id).await, StoreError::Broken(_));
    store.archive_delete(&id, &owner(1)).await.unwrap();
    assert!(other.archive_list().await.unwrap().broken.is_empty());
}

// Races.

pub async fn of_many_claims_of_one_name_one_wins(subject: &dyn Subject) {
    let devbox = name("devbox");
    let claims = race(subject, 8, async |n, store| {
        let mut record = Record { stack: format!("stack-{n}"), ..creating(&name("devbox")) };
        lock_when_free(&*store, &name("devbox")).await.create(&mut record, &snapshot()).await.map(|()| record)
    });
    let mut winners = Vec::new();
    for claim in claims {
        match claim {
            Ok(record) => winners.push(record),
            Err(StoreError::NameTaken { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(read(&*subject.handle(), &devbox).await.unwrap(), winners[0]);
}

pub async fn claims_of_many_names_at_once_all_succeed(subject: &dyn Subject) {
    race(subject, 8, async |n, store| {
        for round in 0..4 {
            let vm = name(&format!("vm-{n}-{round}"));
            lock(&*store, &vm).await.create(&mut creating(&vm), &snapshot()).await.unwrap();
        }
    });
    assert_eq!(subject.handle().list().await.unwrap().entries.len(), 32);
}

pub async fn of_two_writers_of_one_serial_one_wins(subject: &dyn Subject) {
    let devbox = name("devbox");
    let mut record = created(&*subject.handle(), &devbox).await;
    for _ in 0..20 {
        let start = &record;
        let saved = race(subject, 2, async |n, store| {
            let mut mine = Record { stack: format!("stack-{n}"), ..start.clone() };
            lock_when_free(&*store, &name("devbox")).await.save(&mut mine).await.map(|()| mine)
        });
        let won: Vec<_> = saved.iter().filter_map(|result| result.as_ref().ok()).collect();
        assert_eq!(won.len(), 1);
        let lost = saved.iter().find_map(|result| result.as_ref().err()).unwrap();
        assert!(matches!(lost, StoreError::Stale { .. }), "{lost}");
        let stored = read(&*subject.handle(), &devbox).await.unwrap();
        assert_eq!(&stored, won[0]);
        record = stored;
    }
}

pub async fn increments_of_many_handles_are_all_counted(subject: &dyn Subject) {
    let devbox = name("devbox");
    created(&*subject.handle(), &devbox).await;
    race(subject, 4, async |_, store| {
        for _ in 0..10 {
            let mut held = lock_when_free(&*store, &name("devbox")).await;
            let mut record = held.load().await.unwrap().unwrap().record;
            let count: u32 = record.tags.get("count").map_or(0, |count| count.parse().unwrap());
            record.tags.insert("count".to_owned(), (count + 1).to_string());
            held.save(&mut record).await.unwrap();
        }
    });
    let record = read(&*subject.handle(), &devbox).await.unwrap();
    assert_eq!(record.tags["count"], "40");
    assert_eq!(record.serial, 41);
}

pub async fn readers_beside_a_writer_see_whole_records(subject: &dyn Subject) {
    let devbox = name("devbox");
    let first = created(&*subject.handle(), &devbox).await;
    let done = AtomicBool::new(false);
    race(subject, 3, async |n, store| {
        if n == 0 {
            let mut record = first.clone();
            let mut held = lock(&*store, &name("devbox")).await;
            for round in 0..60_usize {
                // Two fields that belong together, and lengths that change.
                record.stack = "x".repeat(round * 97 % 4096);
                record.tags.insert("length".to_owned(), record.stack.len().to_string());
                held.save(&mut record).await.unwrap();
            }
            done.store(true, Ordering::Release);
            return;
        }
        let mut last = 0;
        while !done.load(Ordering::Acquire) {
            let loaded = store.load(&name("devbox")).await.unwrap().unwrap();
            assert_eq!(loaded.recovered, None);
            let record = loaded.record;
            assert!(record.serial >= last, "serial {} after {last}", record.serial);
            last = record.serial;
            if let Some(length) = record.tags.get("length") {
                assert_eq!(length, &record.stack.len().to_string());
            }
            let listing = store.list().await.unwrap();
            assert_eq!((listing.entries.len(), listing.broken.len()), (1, 0));
        }
    });
}

pub async fn readers_beside_claims_and_archives_see_all_or_nothing(subject: &dyn Subject) {
    let done = AtomicBool::new(false);
    race(subject, 3, async |n, store| {
        let devbox = name("devbox");
        if n == 0 {
            for _ in 0..20 {
                archived(&*store, &devbox, "2025-02-01T00:00:00Z").await;
            }
            done.store(true, Ordering::Release);
            return;
        }
        while !done.load(Ordering::Acquire) {
            let loaded = store.load(&devbox).await.unwrap();
            assert!(loaded.is_none_or(|loaded| loaded.recovered.is_none()));
            match store.snapshot(&devbox).await {
                Ok(found) => assert_eq!(found, snapshot()),
                Err(StoreError::NotFound { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            assert_eq!(store.list().await.unwrap().broken, []);
            assert_eq!(store.archive_list().await.unwrap().broken, []);
        }
    });
    assert_eq!(subject.handle().archive_list().await.unwrap().entries.len(), 20);
}

pub async fn of_many_who_remove_one_archived_record_one_does(subject: &dyn Subject) {
    let id = archived(&*subject.handle(), &name("devbox"), "2025-02-01T00:00:00Z").await;
    let removed = race(subject, 6, async |_, store| match store.archive_delete(&id, &owner(1)).await {
        Ok(()) => 1,
        Err(StoreError::NotArchived { .. }) => 0,
        Err(error) => panic!("{error}"),
    });
    assert_eq!(removed.into_iter().sum::<i32>(), 1);
    assert_eq!(subject.handle().archive_list().await.unwrap(), Default::default());
}

// Records from elsewhere.

/// A record as another store holds it after some saves.
fn from_elsewhere(name: &VmName, serial: u64) -> Record {
    let mut record = Record { serial, ..ready(name) };
    record.extra.insert("later".to_owned(), serde_json::json!({"a": [1, null, "\u{e4}"]}));
    record
}

async fn put(store: &dyn Store, record: &Record) -> Result<(), StoreError> {
    lock_when_free(store, &record.name).await.put(record, &snapshot()).await
}

pub async fn a_record_from_elsewhere_keeps_id_serial_and_bytes(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let record = from_elsewhere(&devbox, 17);
    put(&*store, &record).await.unwrap();
    let found = read(&*other, &devbox).await.unwrap();
    assert_eq!((found.serial, &found.id), (17, &record.id));
    assert_eq!(to_json(&found), to_json(&record));
    assert_eq!(other.snapshot(&devbox).await.unwrap(), snapshot());
    assert_eq!(other.list().await.unwrap().entries, [Summary::from(&record)]);
}

pub async fn a_record_put_again_is_success_and_changes_nothing(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let record = from_elsewhere(&name("devbox"), 17);
    put(&*store, &record).await.unwrap();
    put(&*other, &record).await.unwrap();
    let mut held = lock(&*other, &record.name).await;
    held.put(&record, &snapshot()).await.unwrap();
    held.put(&record, &snapshot()).await.unwrap();
    assert_eq!(read(&*store, &record.name).await.unwrap(), record);
}

pub async fn a_newer_record_from_elsewhere_replaces_an_older_one(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let first = created(&*store, &name("devbox")).await;
    let second = Record { serial: 9, stack: "second".to_owned(), ..first };
    put(&*other, &second).await.unwrap();
    assert_eq!(read(&*store, &second.name).await.unwrap(), second);
    assert_eq!(store.snapshot(&second.name).await.unwrap(), snapshot());
}

pub async fn an_older_record_from_elsewhere_is_refused(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let record = from_elsewhere(&name("devbox"), 17);
    put(&*store, &record).await.unwrap();
    let older = Record { serial: 16, stack: "older".to_owned(), ..record.clone() };
    assert_error!(put(&*other, &older).await, StoreError::Stale { expected: 16, found: 17, .. });
    assert_eq!(read(&*store, &record.name).await.unwrap(), record);
}

pub async fn another_vm_s_record_is_not_put_over_one(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let record = created(&*store, &name("devbox")).await;
    for serial in [1, 2] {
        let foreign = from_elsewhere(&name("devbox"), serial);
        assert_error!(put(&*other, &foreign).await, StoreError::NameTaken { name } if name == record.name);
    }
    assert_eq!(read(&*store, &record.name).await.unwrap(), record);
}

pub async fn a_record_that_can_t_be_created_is_not_put(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut held = lock(&*store, &devbox).await;
    assert!(held.put(&from_elsewhere(&name("web"), 3), &snapshot()).await.is_err());
    let newer = Record { schema: SCHEMA + 1, ..from_elsewhere(&devbox, 3) };
    assert_error!(held.put(&newer, &snapshot()).await, StoreError::Newer { .. });
    let odd = Snapshot { files: BTreeMap::from([("../config.json".to_owned(), b"x".to_vec())]) };
    assert!(held.put(&from_elsewhere(&devbox, 3), &odd).await.is_err());
    assert!(other.names().await.unwrap().is_empty());
}

pub async fn a_record_that_was_put_is_saved_and_archived_like_any_other(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let mut record = from_elsewhere(&name("devbox"), 17);
    put(&*store, &record).await.unwrap();
    lock(&*other, &record.name.clone()).await.save(&mut record).await.unwrap();
    assert_eq!(record.serial, 18);
    let id = archive(&*other, &mut record, "2025-02-01T00:00:00Z").await;
    assert_eq!(store.archive_load(&id).await.unwrap().unwrap().record, record);
    assert_eq!(store.archive_snapshot(&id).await.unwrap(), snapshot());
}

pub async fn of_many_who_put_one_record_all_succeed(subject: &dyn Subject) {
    let record = from_elsewhere(&name("devbox"), 17);
    let put = race(subject, 6, async |_, store| put(&*store, &record).await);
    for outcome in put {
        outcome.unwrap();
    }
    assert_eq!(read(&*subject.handle(), &record.name).await.unwrap(), record);
}

pub async fn of_two_vms_that_are_put_under_one_name_one_wins(subject: &dyn Subject) {
    let outcomes = race(subject, 4, async |n, store| {
        let record = from_elsewhere(&name("devbox"), n as u64 + 1);
        put(&*store, &record).await.map(|()| record)
    });
    let won: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
    assert_eq!(won.len(), 1);
    let mut lost = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    assert!(lost.all(|error| matches!(error, StoreError::NameTaken { .. })));
    assert_eq!(read(&*subject.handle(), &name("devbox")).await.as_ref(), Some(won[0]));
}

pub async fn of_many_serials_that_are_put_the_highest_stays(subject: &dyn Subject) {
    let first = from_elsewhere(&name("devbox"), 1);
    let outcomes = race(subject, 6, async |n, store| {
        let mine = Record { serial: n as u64 + 1, stack: format!("stack-{n}"), ..first.clone() };
        put(&*store, &mine).await
    });
    for outcome in outcomes {
        assert!(matches!(outcome, Ok(()) | Err(StoreError::Stale { .. })), "{outcome:?}");
    }
    let found = read(&*subject.handle(), &first.name).await.unwrap();
    assert_eq!((found.serial, found.stack.as_str()), (6, "stack-5"));
}

/// An archived record as another store holds it.
fn archived_elsewhere(name: &VmName, serial: u64) -> Archived {
    let record = Record { phase: Phase::Destroyed, ..from_elsewhere(name, serial) };
    let deleted_at = time("2025-02-01T00:00:00Z");
    Archived { id: ArchiveId::new(name, deleted_at, &record.id), deleted_at, record }
}

pub async fn an_archived_record_from_elsewhere_keeps_id_serial_and_bytes(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let active = created(&*store, &name("devbox")).await;
    let archived = archived_elsewhere(&name("devbox"), 17);
    store.archive_put(&archived, &snapshot()).await.unwrap();
    let found = other.archive_load(&archived.id).await.unwrap().unwrap();
    assert_eq!(found, archived);
    assert_eq!(to_json(&found.record), to_json(&archived.record));
    assert_eq!(other.archive_snapshot(&archived.id).await.unwrap(), snapshot());
    assert_eq!(other.archive_list().await.unwrap().entries, [archived]);
    assert_eq!(read(&*other, &active.name).await.unwrap(), active);
}

pub async fn an_archived_record_put_again_is_success_and_changes_nothing(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let archived = archived_elsewhere(&name("devbox"), 17);
    for store in [&store, &other, &store] {
        store.archive_put(&archived, &snapshot()).await.unwrap();
        assert_eq!(store.archive_list().await.unwrap().entries, std::slice::from_ref(&archived));
    }
}

pub async fn a_newer_archived_record_from_elsewhere_replaces_an_older_one(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let mut archived = archived_elsewhere(&name("devbox"), 17);
    store.archive_put(&archived, &snapshot()).await.unwrap();
    archived.record.serial = 18;
    other.archive_put(&archived, &snapshot()).await.unwrap();
    assert_eq!(store.archive_list().await.unwrap().entries, [archived]);
}

pub async fn an_older_archived_record_from_elsewhere_is_refused(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let archived = archived_elsewhere(&name("devbox"), 17);
    store.archive_put(&archived, &snapshot()).await.unwrap();
    let mut older = archived.clone();
    older.record.serial = 16;
    let refused = other.archive_put(&older, &snapshot()).await;
    assert_error!(refused, StoreError::Stale { expected: 16, found: 17, .. });
    assert_eq!(store.archive_list().await.unwrap().entries, [archived]);
}

pub async fn an_archived_record_is_not_put_under_another_name_s_id(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let mut archived = archived_elsewhere(&name("devbox"), 17);
    archived.record.name = name("web");
    assert!(store.archive_put(&archived, &snapshot()).await.is_err());
    assert_eq!(other.archive_list().await.unwrap(), Default::default());
}

pub async fn of_many_who_put_one_archived_record_all_succeed(subject: &dyn Subject) {
    let archived = archived_elsewhere(&name("devbox"), 17);
    let put = race(subject, 6, async |_, store| store.archive_put(&archived, &snapshot()).await);
    for outcome in put {
        outcome.unwrap();
    }
    assert_eq!(subject.handle().archive_list().await.unwrap().entries, [archived]);
}

pub async fn of_many_serials_put_into_the_archive_the_highest_stays(subject: &dyn Subject) {
    let first = archived_elsewhere(&name("devbox"), 1);
    let outcomes = race(subject, 6, async |n, store| {
        let mut mine = first.clone();
        mine.record.serial = n as u64 + 1;
        store.archive_put(&mine, &snapshot()).await
    });
    for outcome in outcomes {
        assert!(matches!(outcome, Ok(()) | Err(StoreError::Stale { .. })), "{outcome:?}");
    }
    let found = subject.handle().archive_load(&first.id).await.unwrap().unwrap();
    assert_eq!(found.record.serial, 6);
}

pub async fn records_are_what_a_load_of_each_gives(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    assert_eq!(store.records().await.unwrap(), Default::default());
    for each in ["web", "api", "a1"] {
        created(&*store, &name(each)).await;
    }
    archived(&*store, &name("gone"), "2025-02-01T00:00:00Z").await;
    subject.plant(&name("zoo"), b"{").await;
    let records = other.records().await.unwrap();
    let mut loaded = Vec::new();
    for each in ["a1", "api", "web"] {
        loaded.extend(other.load(&name(each)).await.unwrap());
    }
    assert_eq!(records.entries, loaded);
    assert_eq!(records.broken, other.list().await.unwrap().broken);
    assert_eq!(records.broken.len(), 1);
}

// Other people's locks.

async fn holders(store: &dyn Store) -> Vec<(String, Option<u32>)> {
    let locks = store.locks().await.unwrap();
    locks.into_iter().map(|held| (held.name.to_string(), held.owner.map(|owner| owner.pid))).collect()
}

pub async fn locks_are_shown_with_their_holders(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    assert_eq!(holders(&*other).await, []);
    created(&*store, &name("web")).await;
    let web = store.lock(&name("web"), &owner(42)).await.unwrap();
    let devbox = other.lock(&name("devbox"), &owner(43)).await.unwrap();
    let expected = [("devbox".to_owned(), Some(43)), ("web".to_owned(), Some(42))];
    assert_eq!(holders(&*other).await, expected);
    assert_eq!(holders(&*store).await, expected);
    drop(devbox);
    assert_eq!(holders(&*store).await, expected[1..]);
    drop(web);
    assert_eq!(holders(&*other).await, []);
}

pub async fn looking_at_locks_refuses_nobody_one(subject: &dyn Subject) {
    let done = AtomicBool::new(false);
    drop(lock(&*subject.handle(), &name("devbox")).await);
    race(subject, 3, async |n, store| {
        if n == 0 {
            let mut refused = 0;
            for _ in 0..200 {
                // Nobody else takes it, so it is free each time.
                refused += u32::from(store.lock(&name("devbox"), &owner(1)).await.is_err());
            }
            done.store(true, Ordering::Release);
            assert_eq!(refused, 0);
            return;
        }
        while !done.load(Ordering::Acquire) {
            store.locks().await.unwrap();
        }
    });
}

pub async fn a_lease_s_end_is_told_alike_to_its_holder_and_to_others(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut held = lock(&*store, &devbox).await;
    held.create(&mut creating(&devbox), &snapshot()).await.unwrap();
    let own = held.lease_end();
    let shown = other.locks().await.unwrap()[0].lease_end;
    let Err(StoreError::Locked { lease_end: refused, .. }) = other.lock(&devbox, &owner(2)).await else {
        panic!("it was not refused");
    };
    // A service's clock tells whole seconds, and this one's may be behind.
    let near = |end: Timestamp| {
        own.is_some_and(|own| {
            own.since(end) <= Duration::from_secs(5) && end.since(own) <= Duration::from_secs(5)
        })
    };
    for told in [shown, refused] {
        assert!(told.map_or(own.is_none(), near), "{own:?} and {told:?}");
    }
}

pub async fn nobody_s_lock_can_t_be_broken(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    assert_eq!(store.break_lock(&devbox).await.unwrap(), None);
    drop(lock(&*store, &devbox).await);
    assert_eq!(other.break_lock(&devbox).await.unwrap(), None);
    assert_eq!(lock(&*store, &devbox).await.taken_over(), None);
}

/// Where locks end with their process, breaking one is refused and its holder works on; elsewhere the
/// holder's next write is refused, and who comes next knows from whom.
pub async fn a_broken_lock_writes_no_more(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = created(&*store, &devbox).await;
    let mut held = store.lock(&devbox, &owner(42)).await.unwrap();
    match other.break_lock(&devbox).await {
        Err(StoreError::Unbreakable { holder, .. }) => {
            assert!(holder.contains("42"), "{holder}");
            held.save(&mut record).await.unwrap();
            assert_error!(other.lock(&devbox, &owner(43)).await, StoreError::Locked { .. });
        }
        broken => {
            let broken = broken.unwrap().unwrap();
            assert_eq!((broken.name, broken.owner), (devbox.clone(), Some(owner(42))));
            assert_error!(held.save(&mut record.clone()).await, StoreError::LockLost { .. });
            let mut next = other.lock(&devbox, &owner(43)).await.unwrap();
            assert_eq!(next.taken_over(), Some(&owner(42)));
            next.save(&mut record).await.unwrap();
            assert_error!(held.save(&mut record.clone()).await, StoreError::LockLost { .. });
            drop(held);
            next.save(&mut record).await.unwrap();
        }
    }
    assert_eq!(read(&*store, &devbox).await.unwrap(), record);
}

// Stores that were moved.

const ELSEWHERE: &str = "dir:/home/ann/elsewhere";

pub async fn a_moved_store_says_where_it_is_now(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    assert_eq!(other.moved_to().await.unwrap(), None);
    store.set_moved(None, Some(ELSEWHERE)).await.unwrap();
    assert_eq!(other.moved_to().await.unwrap().as_deref(), Some(ELSEWHERE));
    other.set_moved(Some(ELSEWHERE), Some("dir:/third")).await.unwrap();
    assert_eq!(store.moved_to().await.unwrap().as_deref(), Some("dir:/third"));
}

pub async fn a_moved_store_refuses_every_lock(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    created(&*store, &name("devbox")).await;
    store.set_moved(None, Some(ELSEWHERE)).await.unwrap();
    for store in [&store, &other] {
        for each in ["devbox", "web"] {
            let refused = store.lock(&name(each), &owner(1)).await;
            assert_error!(refused, StoreError::Moved { to, .. } if to == ELSEWHERE);
        }
    }
    assert_eq!(holders(&*other).await, []);
}

pub async fn a_moved_store_refuses_every_change_of_its_archive(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let id = archived(&*store, &name("devbox"), "2025-02-01T00:00:00Z").await;
    store.set_moved(None, Some(ELSEWHERE)).await.unwrap();
    let before = other.archive_list().await.unwrap();
    assert_error!(other.archive_delete(&id, &owner(1)).await, StoreError::Moved { to, .. } if to == ELSEWHERE);
    let more = archived_elsewhere(&name("web"), 3);
    assert_error!(other.archive_put(&more, &snapshot()).await, StoreError::Moved { .. });
    assert_eq!(other.archive_list().await.unwrap(), before);
}

pub async fn a_moved_store_is_read_as_before(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let record = created(&*store, &name("devbox")).await;
    let id = archived(&*store, &name("gone"), "2025-02-01T00:00:00Z").await;
    store.set_moved(None, Some(ELSEWHERE)).await.unwrap();
    assert_eq!(other.names().await.unwrap(), ["devbox"]);
    assert_eq!(other.list().await.unwrap().entries, [Summary::from(&record)]);
    assert_eq!(read(&*other, &record.name).await.unwrap(), record);
    assert_eq!(other.records().await.unwrap().entries[0].record, record);
    assert_eq!(other.snapshot(&record.name).await.unwrap(), snapshot());
    assert_eq!(other.archive_load(&id).await.unwrap().unwrap().id, id);
    assert_eq!(other.archive_snapshot(&id).await.unwrap(), snapshot());
}

pub async fn a_moved_store_can_be_used_again(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let mut record = created(&*store, &name("devbox")).await;
    store.set_moved(None, Some(ELSEWHERE)).await.unwrap();
    other.set_moved(Some(ELSEWHERE), None).await.unwrap();
    other.set_moved(Some(ELSEWHERE), None).await.unwrap();
    assert_eq!(store.moved_to().await.unwrap(), None);
    lock(&*store, &record.name.clone()).await.save(&mut record).await.unwrap();
    archive(&*other, &mut record, "2025-02-01T00:00:00Z").await;
}

pub async fn a_moved_store_refuses_another_mark(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    store.set_moved(None, Some(ELSEWHERE)).await.unwrap();
    for store in [&store, &other] {
        let refused = store.set_moved(None, Some("dir:/third")).await;
        assert_error!(refused, StoreError::Moved { to, .. } if to == ELSEWHERE);
        assert_eq!(store.moved_to().await.unwrap().as_deref(), Some(ELSEWHERE));
    }
}

pub async fn a_mark_that_is_there_can_be_put_again(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    created(&*store, &name("devbox")).await;
    store.set_moved(None, Some(ELSEWHERE)).await.unwrap();
    other.set_moved(None, Some(ELSEWHERE)).await.unwrap();
    other.set_moved(Some("dir:/third"), Some(ELSEWHERE)).await.unwrap();
    assert_eq!(store.moved_to().await.unwrap().as_deref(), Some(ELSEWHERE));
    assert_error!(store.lock(&name("devbox"), &owner(1)).await, StoreError::Moved { .. });
}

pub async fn a_mark_is_taken_back_and_replaced_only_by_its_name(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    store.set_moved(None, Some(ELSEWHERE)).await.unwrap();
    for to in [None, Some("dir:/third")] {
        let refused = other.set_moved(Some("dir:/second"), to).await;
        assert_error!(refused, StoreError::Moved { to, .. } if to == ELSEWHERE);
    }
    assert_eq!(store.moved_to().await.unwrap().as_deref(), Some(ELSEWHERE));
    store.set_moved(Some(ELSEWHERE), None).await.unwrap();
    let refused = other.set_moved(Some(ELSEWHERE), Some("dir:/third")).await;
    assert_error!(refused, StoreError::NotMoved { .. });
    assert_eq!(other.moved_to().await.unwrap(), None);
}

pub async fn of_many_marks_at_once_one_stays(subject: &dyn Subject) {
    let place = |n: usize| format!("dir:/place-{n}");
    let outcomes = race(subject, 6, async |n, store| (n, store.set_moved(None, Some(&place(n))).await));
    let stays = subject.handle().moved_to().await.unwrap().unwrap();
    for (n, outcome) in outcomes {
        match outcome {
            Ok(()) => assert_eq!(place(n), stays),
            Err(StoreError::Moved { to, .. }) => assert!(to == stays && place(n) != stays, "{n}: {to}"),
            Err(error) => panic!("{error}"),
        }
    }
}

pub async fn of_many_who_replace_one_mark_one_does(subject: &dyn Subject) {
    subject.handle().set_moved(None, Some(ELSEWHERE)).await.unwrap();
    // Half of them want to take it back.
    let place = |n: usize| (n.is_multiple_of(2)).then(|| format!("dir:/place-{n}"));
    let outcomes =
        race(subject, 6, async |n, store| (n, store.set_moved(Some(ELSEWHERE), place(n).as_deref()).await));
    let stays = subject.handle().moved_to().await.unwrap();
    for (n, outcome) in outcomes {
        match outcome {
            Ok(()) => assert_eq!(place(n), stays),
            Err(StoreError::Moved { to, .. }) => assert!(Some(&to) == stays.as_ref() && place(n) != stays),
            Err(StoreError::NotMoved { .. }) => assert!(stays.is_none() && place(n).is_some()),
            Err(error) => panic!("{error}"),
        }
    }
}

pub async fn a_lock_that_is_held_while_the_store_is_marked_can_t_write_afterwards(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = created(&*store, &devbox).await;
    let before = record.clone();
    let mut held = lock(&*store, &devbox).await;
    match other.set_moved(None, Some(ELSEWHERE)).await {
        // It isn't marked as long as someone may write.
        Err(StoreError::Locked { name, .. }) => {
            assert_eq!(name, devbox);
            assert_eq!(other.moved_to().await.unwrap(), None);
            held.save(&mut record).await.unwrap();
            drop(held);
            other.set_moved(None, Some(ELSEWHERE)).await.unwrap();
        }
        marked => {
            marked.unwrap();
            assert_error!(held.save(&mut record).await, StoreError::Moved { to, .. } if to == ELSEWHERE);
            assert_error!(held.put(&record, &snapshot()).await, StoreError::Moved { .. });
            assert_eq!(record, before);
        }
    }
    assert_eq!(read(&*other, &devbox).await.unwrap(), record);
}

pub async fn writers_beside_the_mark_change_nothing_after_it(subject: &dyn Subject) {
    let start = created(&*subject.handle(), &name("devbox")).await;
    let marked = race(subject, 4, async |n, store| {
        if n == 0 {
            loop {
                match store.set_moved(None, Some(ELSEWHERE)).await {
                    Ok(()) => return read(&*store, &name("devbox")).await,
                    Err(StoreError::Locked { .. }) => thread::yield_now(),
                    Err(error) => panic!("{error}"),
                }
            }
        }
        loop {
            let written = async {
                let mut held = store.lock(&name("devbox"), &owner(1)).await?;
                let mut record = held.load().await?.unwrap().record;
                held.save(&mut record).await
            };
            match written.await {
                Ok(()) | Err(StoreError::Locked { .. }) => thread::yield_now(),
                Err(StoreError::Moved { .. }) => return None,
                Err(error) => panic!("{error}"),
            }
        }
    });
    let at_the_mark = marked.into_iter().flatten().next().unwrap();
    assert!(at_the_mark.serial >= start.serial);
    assert_eq!(read(&*subject.handle(), &name("devbox")).await.unwrap(), at_the_mark);
}
