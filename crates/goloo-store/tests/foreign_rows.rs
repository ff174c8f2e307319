//! What others can do to a store that several people write to: rows of any kind and size, triggers and views, locks
//! that they don't give back.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use goloo_core::store::{Store, StoreError};
use goloo_store::{DirStore, LockTimeouts, Options, SqliteStore, WaitNotice};
use goloo_testkit::samples::{name, owner, ready, snapshot};
use pollster::block_on as run;
use rusqlite::Connection;
use tempfile::TempDir;

struct Shared {
    _folder: TempDir,
    file: PathBuf,
    store: SqliteStore,
}

/// A SQLite file with one sound VM.
fn shared() -> Shared {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("goloo.db");
    let store = SqliteStore::open(&file, Options::default());
    run(run(store.lock(&name("devbox"), &owner(1)))
        .unwrap()
        .create(&mut ready(&name("devbox")), &snapshot()))
    .unwrap();
    Shared { _folder: folder, file, store }
}

impl Shared {
    fn by_hand(&self, statements: &str) {
        Connection::open(&self.file).unwrap().execute_batch(statements).unwrap();
    }
}

#[test]
fn a_row_of_any_kind_or_size_breaks_itself_alone() {
    let shared = shared();
    shared.by_hand(
        "INSERT INTO vms (name, record) VALUES ('huge', zeroblob(900000000));
         INSERT INTO vms (name, record) VALUES ('large', '{' || replace(hex(zeroblob(3000000)), '0', ' ') || '}');
         INSERT INTO vms (name, record) VALUES (CAST(x'ff1b5b' AS TEXT), 'x');
         INSERT INTO vms (name, record) VALUES (x'00', 5);
         INSERT INTO vms (name, record) VALUES ('number', 5);
         INSERT INTO archive (archive_id, record) VALUES (x'ff', x'ff');
         INSERT INTO archive (archive_id, record) VALUES ('../../x-20250115T103000Z-3f9c', '{}');",
    );
    // The peak of memory counts from here (proc(5)): making the rows took more.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let listing = run(shared.store.list()).unwrap();
    assert_eq!(listing.entries.iter().map(|vm| vm.name.as_str()).collect::<Vec<_>>(), ["devbox"]);
    assert_eq!(listing.broken.len(), 5);
    let said = |name: &str| listing.broken.iter().find(|broken| broken.name == name).unwrap().error.clone();
    assert!(said("huge").contains("larger than"), "{}", said("huge"));
    assert!(said("large").contains("larger than"), "{}", said("large"));
    let records = run(shared.store.records()).unwrap();
    assert_eq!((records.entries.len(), records.broken.len()), (1, 5));
    assert!(matches!(run(shared.store.load(&name("huge"))), Err(StoreError::Broken(_))));
    assert_eq!(run(shared.store.names()).unwrap(), ["devbox", "huge", "large", "number"]);
    assert_eq!(run(shared.store.archive_list()).unwrap().broken.len(), 2);
    let memory = fs::read_to_string("/proc/self/status").unwrap();
    let peak = memory.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    let peak: u64 = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(peak < 300_000, "{peak} KiB were used");
}

#[test]
fn a_file_that_no_stack_has_or_that_is_too_large_is_no_part_of_a_snapshot() {
    for statement in [
        "INSERT INTO vm_files VALUES ('devbox', '../../.ssh/authorized_keys', 'x')",
        "UPDATE vm_files SET content = zeroblob(500000000) WHERE file = 'config.json'",
    ] {
        let shared = shared();
        shared.by_hand(statement);
        let refused = run(shared.store.snapshot(&name("devbox"))).unwrap_err();
        let text = format!("{refused:?}");
        assert!(text.contains("holds no file") || text.contains("larger than"), "{text}");
    }
}

#[test]
fn triggers_of_others_do_not_run_and_a_view_takes_no_tables_place() {
    let shared = shared();
    shared.by_hand("CREATE TRIGGER t AFTER UPDATE ON vms BEGIN DELETE FROM vms; END;");
    let mut lock = run(shared.store.lock(&name("devbox"), &owner(1))).unwrap();
    let mut record = run(lock.load()).unwrap().unwrap().record;
    run(lock.save(&mut record)).unwrap();
    assert_eq!(run(shared.store.names()).unwrap(), ["devbox"]);
    drop(lock);
    shared.by_hand(
        "ALTER TABLE vms RENAME TO others;
         CREATE VIEW vms AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS name, i AS record FROM n;",
    );
    let refused = SqliteStore::open(&shared.file, Options::default());
    assert!(run(refused.list()).is_err());
}

type Told = Arc<Mutex<Vec<PathBuf>>>;

/// Options of somebody who waits for tenths of seconds, and what they are told.
fn impatient() -> (Options, Told) {
    let told = Told::default();
    let timeouts = LockTimeouts { notice: Duration::from_millis(100), limit: Duration::from_millis(400) };
    let notice = told.clone();
    let on_wait = WaitNotice::new(move |lock: &Path| notice.lock().unwrap().push(lock.to_owned()));
    (Options { timeouts, on_wait, ..Options::default() }, told)
}

#[test]
fn a_transaction_that_somebody_leaves_open_is_waited_for_with_a_notice_and_a_limit() {
    let shared = shared();
    let (options, told) = impatient();
    let store = SqliteStore::open(&shared.file, options);
    let other = Connection::open(&shared.file).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = run(store.lock(&name("devbox"), &owner(1))).err().unwrap();
    assert!(format!("{refused:?}").contains("Busy"), "{refused:?}");
    assert_eq!(*told.lock().unwrap(), std::slice::from_ref(&shared.file));
    // Reading waits for nobody.
    assert_eq!(run(store.list()).unwrap().entries.len(), 1);
    other.execute_batch("ROLLBACK").unwrap();
    run(store.lock(&name("devbox"), &owner(1))).unwrap();
}

#[test]
fn a_folder_whose_lock_somebody_keeps_is_waited_for_with_a_notice_and_a_limit() {
    let folder = TempDir::new().unwrap();
    let (options, told) = impatient();
    let store = DirStore::open(folder.path(), options);
    drop(run(store.lock(&name("devbox"), &owner(1))).unwrap());
    let path = folder.path().join("locks/.store");
    let other = fs::File::options().write(true).open(&path).unwrap();
    other.lock().unwrap();
    match run(store.lock(&name("devbox"), &owner(1))) {
        Err(StoreError::Io { source, .. }) => assert_eq!(source.kind(), ErrorKind::TimedOut),
        other => panic!("{:?}", other.err()),
    }
    assert_eq!(*told.lock().unwrap(), [path]);
    drop(other);
    run(store.lock(&name("devbox"), &owner(1))).unwrap();
}
