//! What others can do to a store that several people write to: rows of any kind and size, triggers and views, locks
//! that they don't give back.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use goloo_core::store::{Store, StoreError};
use goloo_store::sqlite::Untrusted;
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
    /// By another program: this process's SQLite has limits.
    fn by_hand(&self, statements: &str) {
        let done = Command::new("sqlite3").arg("-bail").arg(&self.file).arg(statements).output().unwrap();
        assert!(done.status.success(), "{statements}: {done:?}");
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
    assert!(peak() < 300_000, "{} KiB were used", peak());
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
        let is_refused = ["holds no file", "larger than", "values that goloo never writes"];
        assert!(is_refused.iter().any(|said| text.contains(said)), "{text}");
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

fn untrusted(refused: StoreError) -> (String, String) {
    let StoreError::Backend { source, .. } = refused else { panic!("{refused:?}") };
    let untrusted = source.downcast_ref::<Untrusted>().unwrap_or_else(|| panic!("{source:?}"));
    (untrusted.to_string(), untrusted.hint().to_owned())
}

/// Asserts that both reads and writes are refused, and returns the error's message and hint.
fn refused_by_all(file: &Path) -> (String, String) {
    let store = SqliteStore::open(file, Options::default());
    let said = untrusted(run(store.list()).unwrap_err());
    assert_eq!(untrusted(run(store.locks()).unwrap_err()), said);
    assert_eq!(untrusted(run(store.moved_to()).unwrap_err()), said);
    assert_eq!(untrusted(run(store.load(&name("devbox"))).unwrap_err()), said);
    assert_eq!(untrusted(run(store.lock(&name("devbox"), &owner(1))).err().unwrap()), said);
    said
}

#[test]
fn tables_that_run_sql_of_others_are_refused_by_name() {
    let of_vms = "ALTER TABLE vms RENAME TO others; CREATE";
    for (statements, table, fault) in [
        ("ALTER TABLE vms ADD COLUMN x AS (hex(zeroblob(100000000)))", "vms", "generated"),
        ("ALTER TABLE archive_files ADD COLUMN x AS (vm)", "archive_files", "generated"),
        ("ALTER TABLE locks ADD COLUMN x DEFAULT 'x'", "locks", "default"),
        ("DROP TABLE store; CREATE VIRTUAL TABLE store USING fts5(key, value)", "store", "virtual table"),
        (&format!("{of_vms} VIEW vms AS SELECT * FROM others"), "vms", "view"),
        (&format!("{of_vms} VIRTUAL TABLE VMS USING fts5(name, record)"), "vms", "virtual table"),
        ("CREATE INDEX i ON vms (upper(name))", "vms", "index i"),
        ("CREATE INDEX i ON archive (name) WHERE name GLOB '*a*'", "archive", "index i"),
    ] {
        let shared = shared();
        shared.by_hand(statements);
        let (what, hint) = refused_by_all(&shared.file);
        assert!(
            what.contains(&format!("the table {table} ")) && what.contains(fault),
            "{statements}: {what}"
        );
        assert!(hint.contains(&format!("\".schema {table}\"")), "{hint}");
        // A store that has the file open already refuses it, too.
        assert_eq!(untrusted(run(shared.store.list()).unwrap_err()).0, what);
    }
}

/// What people add for themselves, and what stays off.
#[test]
fn tables_columns_and_indexes_without_expressions_are_no_matter() {
    let shared = shared();
    shared.by_hand(
        "ALTER TABLE vms ADD COLUMN note TEXT;
         CREATE INDEX by_ip ON vms (ip);
         CREATE TABLE own (x PRIMARY KEY, y AS (x + 1));
         DROP TABLE store;
         CREATE TABLE store (key PRIMARY KEY, value CHECK (length(value) > 1000), FOREIGN KEY (key) REFERENCES own (x));",
    );
    let store = SqliteStore::open(&shared.file, Options::default());
    run(store.set_moved(None, Some("dir:/new"))).unwrap();
    assert_eq!(run(store.moved_to()).unwrap().as_deref(), Some("dir:/new"));
    assert_eq!(run(store.list()).unwrap().entries.len(), 1);
    assert!(store.examine().iter().all(|finding| finding.ok), "{:?}", store.examine());
}

#[test]
fn text_of_any_length_costs_no_memory() {
    // 40 MB: SQLite keeps a key in its index too, and reads it there as a whole.
    let long = "replace(hex(zeroblob(20000000)), '00', 'xx')";
    let said = "(40000000 bytes)";
    for statement in [
        format!("UPDATE vms SET stack = {long}"),
        format!("INSERT INTO vms (name, record) VALUES ({long}, '{{}}')"),
        format!("INSERT INTO store VALUES ('moved_to', {long})"),
        format!("UPDATE locks SET unfinished = {long}, boot = {long}"),
        format!("INSERT INTO archive (archive_id, record) VALUES ({long}, '{{}}')"),
    ] {
        let shared = shared();
        shared.by_hand(&statement);
        fs::write("/proc/self/clear_refs", "5").unwrap();
        let store = SqliteStore::open(&shared.file, Options::default());
        let listing = run(store.list()).unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        assert_eq!(listing.entries.len(), 1, "{statement}");
        assert!(listing.broken.iter().all(|broken| broken.name == said), "{statement}");
        assert_eq!(run(store.names()).unwrap(), ["devbox"]);
        assert!(run(store.archive_list()).unwrap().broken.iter().all(|broken| broken.name == said));
        assert!(run(store.moved_to()).unwrap().is_none_or(|to| to == said));
        run(store.locks()).unwrap();
        assert!(peak() < 300_000, "{} KiB were used", peak());
    }
}

/// The most memory that this process has used, in KiB (proc(5)).
fn peak() -> u64 {
    let memory = fs::read_to_string("/proc/self/status").unwrap();
    let peak = memory.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    peak.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn what_is_no_number_in_a_lock_stops_nobody() {
    for broken in [
        "epoch = 9223372036854775807",
        "epoch = -9223372036854775808",
        "epoch = 'x'",
        "epoch = x'ff'",
        "epoch = 1e300",
        "owner = x'ff', boot = 5, pid_space = x'00', pid = 'x', pid_start = 'y', lease_end = 'z', unfinished = 7",
        "owner = '{}', pid = -1, pid_start = 9223372036854775807, lease_end = 9223372036854775807",
        "owner = '{}', lease_end = -9223372036854775808",
    ] {
        let shared = shared();
        shared.by_hand(&format!("UPDATE locks SET {broken}"));
        run(shared.store.locks()).unwrap();
        let mut lock = run(shared.store.lock(&name("devbox"), &owner(1)))
            .unwrap_or_else(|error| panic!("{broken}: {error}"));
        let mut record = run(lock.load()).unwrap().unwrap().record;
        run(lock.save(&mut record)).unwrap();
        shared.by_hand(&format!("UPDATE locks SET {broken}"));
        run(shared.store.break_lock(&name("devbox"))).unwrap();
        let saved = run(lock.save(&mut record));
        let is_lost = matches!(saved, Err(StoreError::LockLost { .. }));
        assert!(is_lost || saved.is_ok() && !broken.starts_with("epoch"), "{broken}: {saved:?}");
    }
}

fn pipe(path: &Path) {
    rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
}

#[test]
fn what_stands_beside_the_database_is_a_regular_file_or_refused() {
    for ending in ["", "-journal", "-wal", "-shm"] {
        for (make, kind) in [
            ((|path| pipe(path)) as fn(&Path), "a named pipe"),
            (|path| fs::create_dir(path).unwrap(), "a folder"),
            (|path| drop(std::os::unix::net::UnixListener::bind(path).unwrap()), "a socket"),
        ] {
            let shared = shared();
            drop(shared.store);
            let path = PathBuf::from(format!("{}{ending}", shared.file.display()));
            let _ = fs::remove_file(&path);
            make(&path);
            let (what, hint) = refused_by_all(&shared.file);
            assert_eq!(what, format!("{} is {kind}, not a regular file", path.display()));
            assert!(hint.contains(&format!("ls -ld {}", path.display())), "{hint}");
        }
    }
}

#[test]
fn a_journal_that_names_another_file_is_refused_before_sqlite_opens_that() {
    let shared = shared();
    drop(shared.store);
    let named = shared.file.with_file_name("x-mj012345901");
    pipe(&named);
    let name = named.to_str().unwrap().as_bytes();
    let magic = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
    let mut journal = magic.to_vec();
    for number in [0, 0, 1, 512, 4096_u32] {
        journal.extend(number.to_be_bytes());
    }
    journal.resize(512, 0);
    journal.extend(0x4000_0001_u32.to_be_bytes());
    journal.extend(name);
    journal.extend(u32::try_from(name.len()).unwrap().to_be_bytes());
    journal.extend(name.iter().map(|byte| u32::from(*byte)).sum::<u32>().to_be_bytes());
    journal.extend(magic);
    fs::write(shared.file.with_file_name("goloo.db-journal"), journal).unwrap();
    assert!(refused_by_all(&shared.file).0.contains("names a file that SQLite would open"));
}

#[test]
fn a_link_is_followed_where_it_is_this_user_s_own_and_none_beside_the_database() {
    let shared = shared();
    let link = shared.file.with_file_name("link.db");
    std::os::unix::fs::symlink("goloo.db", &link).unwrap();
    let store = SqliteStore::open(&link, Options::default());
    assert_eq!(run(store.list()).unwrap().entries.len(), 1);
    let elsewhere = shared.file.with_file_name("elsewhere");
    fs::write(&elsewhere, "").unwrap();
    let log = shared.file.with_file_name("goloo.db-journal");
    std::os::unix::fs::symlink(&elsewhere, &log).unwrap();
    assert!(refused_by_all(&link).0.contains("goloo.db-journal is a link"));
    fs::remove_file(&log).unwrap();
    // A link of somebody else can only be made by root.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (uid, gid) = (rustix::fs::Uid::from_raw(12345), rustix::fs::Gid::from_raw(12345));
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(rustix::fs::CWD, &link, Some(uid), Some(gid), flags).unwrap();
    assert!(refused_by_all(&link).0.contains("is a link of another user (uid 12345)"));
    // An empty file would have become a database.
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
    rustix::fs::chownat(rustix::fs::CWD, &link, Some(uid), Some(gid), flags).unwrap();
    refused_by_all(&link);
    assert_eq!(fs::read(&elsewhere).unwrap(), b"");
}

#[test]
fn a_database_that_somebody_locks_for_good_is_waited_for_once() {
    let shared = shared();
    drop(shared.store);
    let (options, told) = impatient();
    let store = SqliteStore::open(&shared.file, options.clone());
    let other = Connection::open(&shared.file).unwrap();
    other
        .execute_batch(
            "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; UPDATE vms SET stack = 'x'; COMMIT;",
        )
        .unwrap();
    let begin = Instant::now();
    for _ in 0..3 {
        let refused = run(store.list()).unwrap_err();
        assert!(format!("{refused:?}").contains("Busy"), "{refused:?}");
    }
    assert!(format!("{:?}", run(store.lock(&name("devbox"), &owner(1))).err().unwrap()).contains("Busy"));
    let waited = begin.elapsed();
    assert!(waited >= options.timeouts.limit && waited < 2 * options.timeouts.limit, "{waited:?}");
    assert_eq!(*told.lock().unwrap(), std::slice::from_ref(&shared.file));
    drop(other);
    assert_eq!(run(store.list()).unwrap().entries.len(), 1);
}
