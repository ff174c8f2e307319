//! What other users can do to a shared store: rows of any kind and size, triggers and views, locks
//! that are never released.
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use goloo_model::database_error::UntrustedDatabase;
use goloo_model::name::ArchiveId;
use goloo_model::record::Phase;
use goloo_model::store::{Store, StoreError};
use goloo_store::{DirStore, LockTimeouts, Options, SqliteStore, WaitNotice};
use goloo_testkit::samples::{name, owner, ready, snapshot, time};
use goloo_testkit::store_suite;
use pollster::block_on as run;
use rusqlite::Connection;
use tempfile::TempDir;

struct Shared {
    _folder: TempDir,
    file: PathBuf,
    store: SqliteStore,
}

/// A SQLite file with one valid VM.
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
    /// With another program: this process's SQLite has limits.
    fn by_hand(&self, statements: &str) {
        let done = Command::new("sqlite3").arg("-bail").arg(&self.file).arg(statements).output().unwrap();
        assert!(done.status.success(), "{statements}: {done:?}");
    }
}

#[test]
fn a_malformed_row_of_any_type_or_size_does_not_affect_others() {
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
    // Resets the peak of memory (proc(5)): creating the rows needed more.
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

/// The last SQLite connection to a file removes its log. Open connections are detected by their locks, and a process
/// loses its locks when it closes any descriptor of the file.
#[test]
fn the_wal_file_is_kept_while_the_store_is_open() {
    let shared = shared();
    shared.by_hand("INSERT INTO vms (name, record) VALUES ('web', 'x')");
    assert!(shared.file.with_extension("db-wal").exists());
    assert_eq!(run(shared.store.names()).unwrap(), ["devbox", "web"]);
}

/// Statements that create this many rows, with values computed from their number `i`.
fn rows(count: usize, table: &str, values: &str) -> String {
    let numbers = format!("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {count})");
    format!("INSERT INTO {table} {numbers} SELECT {values} FROM n;")
}

#[test]
fn too_many_rows_fail_a_listing_with_a_hint() {
    let shared = shared();
    shared.by_hand(&rows(200_001, "vms (name, record)", "'vm' || i, 'x'"));
    shared.by_hand(&rows(200_001, "archive (archive_id, record)", "i, 'x'"));
    shared.by_hand(&rows(10_001, "locks (name, epoch, owner)", "'vm' || i, 1, 'x'"));
    let refused = |answer: Result<(), StoreError>| match answer.unwrap_err() {
        StoreError::Untrusted { source, .. } => source.to_string(),
        other => panic!("{other:?}"),
    };
    let store = &shared.store;
    let vms = "its table vms has more than 200000 rows";
    assert_eq!(refused(run(store.names()).map(drop)), vms);
    assert_eq!(refused(run(store.list()).map(drop)), vms);
    assert_eq!(refused(run(store.records()).map(drop)), vms);
    assert_eq!(refused(run(store.archive_list()).map(drop)), "its table archive has more than 200000 rows");
    assert_eq!(
        refused(run(store.locks()).map(drop)),
        "its table locks has more than 10000 locks that are held"
    );
    // Operations on a named VM aren't affected.
    assert!(run(store.load(&name("devbox"))).unwrap().is_some());
    drop(run(store.lock(&name("devbox"), &owner(1))).unwrap());
}

#[test]
fn only_the_first_broken_rows_are_listed_and_the_rest_is_counted() {
    let shared = shared();
    let long = "printf('%0300d', i)";
    shared.by_hand(&rows(3000, "vms (name, record)", &format!("{long}, 'x'")));
    shared.by_hand(&rows(3000, "archive (archive_id, record)", &format!("{long}, 'x'")));
    let store = &shared.store;
    let active = run(store.list()).unwrap();
    assert_eq!(active.entries.len(), 1);
    let records = run(store.records()).unwrap();
    for broken in [active.broken, records.broken, run(store.archive_list()).unwrap().broken] {
        assert_eq!(broken.len(), 1001);
        assert_eq!(broken[0].name, "(300 bytes)");
        assert_eq!(broken[1000].error, "2000 more broken records are not listed");
        assert!(broken[1000].path.starts_with(&format!("{}#", shared.file.display())));
    }
}

#[test]
fn foreign_rows_with_the_archive_id_of_a_vm_are_replaced() {
    let shared = shared();
    let mut lock = run(shared.store.lock(&name("devbox"), &owner(1))).unwrap();
    let mut record = run(lock.load()).unwrap().unwrap().record;
    let at = time("2025-02-01T00:00:00Z");
    let id = ArchiveId::new(&name("devbox"), at, &record.id);
    shared.by_hand(&format!(
        "INSERT INTO archive_files VALUES ('{id}', 'config.json', 'x'); INSERT INTO archive_files VALUES ('{id}', 'odd', 'x');"
    ));
    record.phase = Phase::Destroyed;
    assert_eq!(run(lock.archive(&mut record, at)).unwrap(), id);
    assert_eq!(run(shared.store.archive_snapshot(&id)).unwrap(), snapshot());
}

#[test]
fn a_save_never_writes_a_record_that_is_too_large_to_read() {
    let folder = TempDir::new().unwrap();
    let sqlite = SqliteStore::open(&folder.path().join("goloo.db"), Options::default());
    store_suite::run(store_suite::no_save_makes_a_record_that_is_too_large_to_be_read(&sqlite));
    let dir = DirStore::open(&folder.path().join("dir"), Options::default());
    store_suite::run(store_suite::no_save_makes_a_record_that_is_too_large_to_be_read(&dir));
}

#[test]
fn a_snapshot_with_an_unknown_or_oversized_file_is_refused() {
    for statement in [
        "INSERT INTO vm_files VALUES ('devbox', '../../.ssh/authorized_keys', 'x')",
        "UPDATE vm_files SET content = zeroblob(500000000) WHERE file = 'config.json'",
    ] {
        let shared = shared();
        shared.by_hand(statement);
        let refused = run(shared.store.snapshot(&name("devbox"))).unwrap_err();
        let text = goloo_sys::error_chain::in_one_line(&refused);
        let is_refused = ["holds no file", "larger than", "values that goloo never writes"];
        assert!(is_refused.iter().any(|said| text.contains(said)), "{text}");
    }
}

#[test]
fn foreign_triggers_do_not_run_and_a_view_cannot_replace_a_table() {
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

/// Options with timeouts of tenths of seconds, and the notices sent to them.
fn impatient() -> (Options, Told) {
    let told = Told::default();
    let timeouts = LockTimeouts { notice: Duration::from_millis(100), limit: Duration::from_millis(400) };
    let notice = told.clone();
    let on_wait = WaitNotice::new(move |lock: &Path| notice.lock().unwrap().push(lock.to_owned()));
    (Options { timeouts, on_wait, ..Options::default() }, told)
}

#[test]
fn waiting_for_a_foreign_transaction_has_a_notice_and_a_time_limit() {
    let shared = shared();
    let (options, told) = impatient();
    let store = SqliteStore::open(&shared.file, options);
    let other = Connection::open(&shared.file).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = run(store.lock(&name("devbox"), &owner(1))).err().unwrap();
    assert!(format!("{refused:?}").contains("Busy"), "{refused:?}");
    assert_eq!(*told.lock().unwrap(), std::slice::from_ref(&shared.file));
    // Reading waits for no lock.
    assert_eq!(run(store.list()).unwrap().entries.len(), 1);
    other.execute_batch("ROLLBACK").unwrap();
    run(store.lock(&name("devbox"), &owner(1))).unwrap();
}

#[test]
fn waiting_for_a_foreign_folder_lock_has_a_notice_and_a_time_limit() {
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

fn untrusted(refused: StoreError) -> UntrustedDatabase {
    let StoreError::Untrusted { source, .. } = refused else { panic!("{refused:?}") };
    source
}

/// Asserts that both reads and writes are refused, and returns what was found.
fn refused_by_all(file: &Path) -> UntrustedDatabase {
    let store = SqliteStore::open(file, Options::default());
    let said = untrusted(run(store.list()).unwrap_err());
    assert_eq!(untrusted(run(store.locks()).unwrap_err()), said);
    assert_eq!(untrusted(run(store.moved_to()).unwrap_err()), said);
    assert_eq!(untrusted(run(store.load(&name("devbox"))).unwrap_err()), said);
    assert_eq!(untrusted(run(store.lock(&name("devbox"), &owner(1))).err().unwrap()), said);
    said
}

#[test]
fn tables_with_foreign_sql_expressions_are_refused_by_name() {
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
        let found = refused_by_all(&shared.file);
        let what = found.to_string();
        assert!(
            what.contains(&format!("the table {table} ")) && what.contains(fault),
            "{statements}: {what}"
        );
        // A store that already has the file open refuses it, too.
        assert_eq!(untrusted(run(shared.store.list()).unwrap_err()), found);
    }
}

/// What users add for themselves, and features that stay disabled.
#[test]
fn added_tables_columns_and_indexes_without_expressions_are_accepted() {
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
    assert!(store.examine().iter().all(|finding| finding.is_ok()), "{:?}", store.examine());
}

#[test]
fn memory_use_is_independent_of_text_length() {
    // 40 MB: SQLite stores a key in its index too, and reads it there as a whole.
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

/// The peak memory usage of this process, in KiB (proc(5)).
fn peak() -> u64 {
    let memory = fs::read_to_string("/proc/self/status").unwrap();
    let peak = memory.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    peak.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn malformed_values_in_a_lock_row_block_no_operation() {
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
fn database_and_companion_files_that_are_not_regular_are_refused() {
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
            let what = refused_by_all(&shared.file).to_string();
            assert_eq!(what, format!("{} is {kind}, not a regular file", path.display()));
        }
    }
}

#[test]
fn a_journal_that_names_another_file_is_refused_before_opening() {
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
    assert!(refused_by_all(&shared.file).to_string().contains("names a file that SQLite would open"));
}

#[test]
fn only_own_symlinks_to_the_database_are_followed() {
    let shared = shared();
    let link = shared.file.with_file_name("link.db");
    std::os::unix::fs::symlink("goloo.db", &link).unwrap();
    let store = SqliteStore::open(&link, Options::default());
    assert_eq!(run(store.list()).unwrap().entries.len(), 1);
    let elsewhere = shared.file.with_file_name("elsewhere");
    fs::write(&elsewhere, "").unwrap();
    let log = shared.file.with_file_name("goloo.db-journal");
    std::os::unix::fs::symlink(&elsewhere, &log).unwrap();
    assert!(refused_by_all(&link).to_string().contains("goloo.db-journal is a symbolic link"));
    fs::remove_file(&log).unwrap();
    // Only root can create a link of another user.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (uid, gid) = (rustix::fs::Uid::from_raw(12345), rustix::fs::Gid::from_raw(12345));
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(rustix::fs::CWD, &link, Some(uid), Some(gid), flags).unwrap();
    assert!(refused_by_all(&link).to_string().contains("is a symbolic link of another user (uid 12345)"));
    // An empty file would have been turned into a database.
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
    rustix::fs::chownat(rustix::fs::CWD, &link, Some(uid), Some(gid), flags).unwrap();
    refused_by_all(&link);
    assert_eq!(fs::read(&elsewhere).unwrap(), b"");
}

#[test]
fn a_permanently_locked_database_is_waited_for_only_once() {
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
