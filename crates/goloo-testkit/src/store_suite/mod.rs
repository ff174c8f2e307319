//! The conformance suite of stores: one case per rule of [`goloo_model::store`], each with at least two handles on the
//! same store.
//!
//! A back end needs a [`Subject`] and one line in an integration test:
//! ```ignore
//! goloo_testkit::store_suite!(MySubject::new);
//! ```
//! or, if a store is slow to start, one test for all cases, each with its own place:
//! ```ignore
//! goloo_testkit::store_suite!(emulator_mine_keeps_every_rule, |case| server().place(case));
//! ```

// A failed expectation here is a failed test.
#![allow(clippy::unwrap_used)]
// The name of each case is its rule.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use goloo_model::name::{ArchiveId, VmName};
use goloo_model::record::{Phase, Record, SCHEMA, to_json};
use goloo_model::store::{Archived, Snapshot, Store, StoreError, Summary, VmLock};
use goloo_model::time::Timestamp;

use crate::samples::{creating, in_aws, name, owner, ready, snapshot, time};

/// A store under test, with a back door for corrupting data.
#[async_trait]
pub trait Subject: Send + Sync {
    /// A new handle on the store, as another process would open it.
    fn handle(&self) -> Box<dyn Store>;

    /// Replaces an active record's text; the record need not exist.
    async fn plant(&self, name: &VmName, json: &[u8]);

    /// Replaces an archived record's text; the record need not exist.
    async fn plant_archived(&self, id: &ArchiveId, json: &[u8]);

    /// How often a case does what it does `times` times: less often where each call takes long.
    fn rounds(&self, times: usize) -> usize {
        times
    }
}

/// Generates a `#[test]` for each case, run on the given function's result; or, with a name, one `#[test]` for all
/// cases, whose names are passed to the function.
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
            a_record_and_its_snapshot_are_replaced_together
            a_replacement_that_is_refused_changes_neither
            a_replaced_snapshot_moves_with_its_record
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
            a_long_list_is_whole_and_sorted
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
            a_removed_record_leaves_no_archive_entry_and_frees_the_name
            only_the_stored_record_is_removed
            one_vm_can_be_put_under_another_name_before_it_is_removed
            nothing_is_removed_by_a_broken_lock
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

/// Expands the list of cases to tests; use [`store_suite!`] instead.
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

/// Keeps an emulator busy without a queue that delays responses too much.
const CASES_AT_ONCE: usize = 4;

/// Runs all cases to completion, several at a time, each on a thread with its name.
///
/// # Panics
/// If a case panicked; the message names it.
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

/// Drives a future on its own runtime.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

type Lock = Box<dyn VmLock>;

async fn lock(store: &dyn Store, name: &VmName) -> Lock {
    store.lock(name, &owner(1)).await.unwrap()
}

/// A service that is asked without a pause has less time for the one who has the lock.
const ASK_AGAIN: Duration = Duration::from_millis(2);

/// Waits until the lock is free, unlike the engine's callers.
async fn lock_when_free(store: &dyn Store, name: &VmName) -> Lock {
    loop {
        match store.lock(name, &owner(1)).await {
            Ok(lock) => return lock,
            Err(StoreError::Locked { .. }) => tokio::time::sleep(ASK_AGAIN).await,
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

mod archive;
mod create;
mod damage;
mod elsewhere;
mod empty;
mod later_formats;
mod list;
mod locks;
mod moved;
mod others_locks;
mod races;
mod remove;
mod reprovisioned;
mod save;

pub use archive::*;
pub use create::*;
pub use damage::*;
pub use elsewhere::*;
pub use empty::*;
pub use later_formats::*;
pub use list::*;
pub use locks::*;
pub use moved::*;
pub use others_locks::*;
pub use races::*;
pub use remove::*;
pub use reprovisioned::*;
pub use save::*;
