//! Rules that are specific to a store in a SQLite file.
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use goloo_model::name::VmName;
use goloo_model::record::{Phase, Record, to_json};
use goloo_model::store::{Store, StoreError, VmLock};
use goloo_model::time::Timestamp;
use goloo_store::lease::LeaseTiming;
use goloo_store::seal::Identity;
use goloo_store::sqlite::{Machine, ThisMachine};
use goloo_store::{Options, Seal, SqliteStore};
use goloo_sys::process::Process;
use goloo_testkit::samples::{in_aws, name, owner, ready, snapshot, time};
use pollster::block_on as run;
use rusqlite::Connection;
use tempfile::TempDir;

struct File {
    folder: TempDir,
    store: SqliteStore,
}

fn empty() -> File {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(&folder.path().join("share/goloo/goloo.db"), Options::default());
    File { folder, store }
}

fn devbox() -> VmName {
    name("devbox")
}

fn lock(store: &SqliteStore) -> Box<dyn VmLock> {
    run(store.lock(&devbox(), &owner(1))).unwrap()
}

impl File {
    fn path(&self) -> PathBuf {
        self.folder.path().join("share/goloo/goloo.db")
    }

    fn by_hand(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }

    fn create(&self) -> Record {
        let mut record = ready(&devbox());
        run(lock(&self.store).create(&mut record, &snapshot())).unwrap();
        record
    }

    /// The same file as seen by the container with this number on the same host.
    fn in_container(&self, number: u32, uptime: &Arc<AtomicI64>) -> SqliteStore {
        let machine = Container { number, uptime: uptime.clone() };
        SqliteStore::with_machine(&self.path(), Options::default(), Arc::new(machine), LeaseTiming::default())
    }
}

/// Sees only its own processes, and the host's clock.
struct Container {
    number: u32,
    uptime: Arc<AtomicI64>,
}

impl Machine for Container {
    fn uptime(&self) -> i64 {
        self.uptime.load(Ordering::SeqCst)
    }

    fn this_process(&self) -> Process {
        Process { boot: "b".into(), pid_space: format!("pid:[{}]", self.number), pid: 1, start: 7 }
    }

    fn start_of(&self, pid: u32) -> Option<u64> {
        (pid == 1).then_some(7)
    }
}

fn uptime(seconds: i64) -> Arc<AtomicI64> {
    Arc::new(AtomicI64::new(seconds))
}

// The file.

#[test]
fn reading_a_missing_store_creates_nothing() {
    let file = empty();
    assert!(run(file.store.list()).unwrap().entries.is_empty());
    assert_eq!(run(file.store.load(&devbox())).unwrap(), None);
    assert!(run(file.store.archive_list()).unwrap().entries.is_empty());
    assert!(run(file.store.records()).unwrap().entries.is_empty());
    assert!(run(file.store.locks()).unwrap().is_empty());
    assert_eq!(run(file.store.break_lock(&devbox())).unwrap(), None);
    assert_eq!(run(file.store.moved_to()).unwrap(), None);
    assert!(fs::read_dir(file.folder.path()).unwrap().next().is_none());
}

#[test]
fn files_and_folders_are_accessible_only_to_their_owner() {
    let file = empty();
    file.create();
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let mut seen = 0;
    for entry in fs::read_dir(file.path().parent().unwrap()).unwrap() {
        assert_eq!(mode(entry.unwrap().path()), 0o600);
        seen += 1;
    }
    assert_eq!(seen, 3, "the database, its log and its index");
    assert_eq!(mode(file.path().parent().unwrap().to_owned()), 0o700);
}

#[test]
fn the_sqlite3_command_shows_the_columns_and_the_text_of_a_record() {
    let file = empty();
    let record = file.create();
    let mut other = in_aws(&name("web"));
    run(run(file.store.lock(&name("web"), &owner(1))).unwrap().create(&mut other, &snapshot())).unwrap();
    let shown = std::process::Command::new("sqlite3")
        .arg(file.path())
        .arg("select name, provider, phase, ip, fqdn, tags ->> 'team', created_by, serial from vms order by name;
              select record from vms where name = 'devbox'")
        .output()
        .unwrap();
    let text = String::from_utf8(shown.stdout).unwrap();
    let fqdn = other.fqdn().unwrap_or_default();
    let ip = other.ip().unwrap();
    let team = other.tags.get("team").map(String::as_str).unwrap_or_default();
    let rows = format!("devbox|qemu|ready|127.0.0.1||infra|ann|1\nweb|aws|ready|{ip}|{fqdn}|{team}|ann|1\n");
    assert_eq!(text, format!("{rows}{}\n", String::from_utf8(to_json(&record)).unwrap()));
}

#[test]
fn the_columns_are_updated_with_the_record() {
    let file = empty();
    let mut record = file.create();
    record.tags.insert("team".into(), "web".into());
    run(lock(&file.store).save(&mut record)).unwrap();
    let row: (i64, String) = file
        .by_hand()
        .query_row("SELECT serial, tags ->> 'team' FROM vms", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    assert_eq!(row, (2, "web".to_owned()));
}

#[test]
fn the_columns_of_an_encrypted_record_reveal_no_details() {
    let file = empty();
    let ann = Identity::generate();
    let seal = Seal::age(vec![ann.to_public()], vec![ann]);
    let store = SqliteStore::open(&file.path(), Options { seal, ..Options::default() });
    let mut record = in_aws(&devbox());
    record.tags.insert("team".into(), "infra".into());
    run(lock(&store).create(&mut record, &snapshot())).unwrap();
    drop(store);
    let bytes = fs::read(file.path()).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    for secret in ["infra", record.ip().unwrap(), "ubuntu", "/home/ann", "cloud-config"] {
        assert!(!text.contains(secret), "{secret}");
    }
    let phase: String = file.by_hand().query_row("SELECT phase FROM vms", [], |row| row.get(0)).unwrap();
    assert_eq!(phase, "ready");
}

#[test]
fn an_undecryptable_record_is_listed_as_broken_and_never_overwritten() {
    let file = empty();
    let ann = Identity::generate();
    let seal = Seal::age(vec![ann.to_public()], vec![ann]);
    let sealed = SqliteStore::open(&file.path(), Options { seal, ..Options::default() });
    let mut record = ready(&devbox());
    run(lock(&sealed).create(&mut record, &snapshot())).unwrap();
    let shown = run(file.store.list()).unwrap();
    assert!(shown.entries.is_empty());
    assert!(shown.broken[0].error.contains("encryption.identityFile"), "{:?}", shown.broken);
    let mut held = lock(&file.store);
    let mut again = record.clone();
    assert!(matches!(run(held.save(&mut again)), Err(StoreError::Broken(_))));
    assert!(matches!(run(held.put(&again, &snapshot())), Err(StoreError::Broken(_))));
    assert!(matches!(
        run(held.create(&mut ready(&devbox()), &snapshot())),
        Err(StoreError::NameTaken { .. })
    ));
    assert!(run(held.snapshot()).is_err());
    drop(held);
    assert_eq!(run(sealed.load(&devbox())).unwrap().unwrap().record, record);
}

#[test]
fn encryption_can_be_turned_on_and_off_record_by_record() {
    let file = empty();
    let mut record = file.create();
    let ann = Identity::generate();
    let open = |seal| SqliteStore::open(&file.path(), Options { seal, ..Options::default() });
    let sealing = open(Seal::age(vec![ann.to_public()], vec![ann.clone()]));
    assert_eq!(run(sealing.load(&devbox())).unwrap().unwrap().record, record);
    run(lock(&sealing).save(&mut record)).unwrap();
    assert_eq!(run(file.store.list()).unwrap().broken.len(), 1);
    let opening = open(Seal::age(vec![], vec![ann]));
    run(lock(&opening).save(&mut record)).unwrap();
    assert_eq!(run(file.store.load(&devbox())).unwrap().unwrap().record, record);
}

#[test]
fn a_database_of_another_program_is_refused_and_left_unchanged() {
    let file = empty();
    fs::create_dir_all(file.path().parent().unwrap()).unwrap();
    file.by_hand().execute_batch("CREATE TABLE notes (text)").unwrap();
    let before = fs::read(file.path()).unwrap();
    for error in
        [run(file.store.list()).unwrap_err(), run(file.store.lock(&devbox(), &owner(1))).err().unwrap()]
    {
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("another program"), "{error}: {source}");
    }
    assert_eq!(fs::read(file.path()).unwrap(), before);
}

#[test]
fn a_database_of_a_newer_goloo_is_read_only() {
    let file = empty();
    let record = file.create();
    let mut held = lock(&file.store);
    file.by_hand().pragma_update(None, "user_version", 2).unwrap();
    let store = SqliteStore::open(&file.path(), Options::default());
    assert_eq!(run(store.load(&devbox())).unwrap().unwrap().record, record);
    for error in [
        run(store.lock(&name("web"), &owner(1))).err().unwrap(),
        run(store.set_moved(None, Some("dir"))).unwrap_err(),
        // Also for a handle that was in use when the newer version came.
        run(held.save(&mut record.clone())).unwrap_err(),
    ] {
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("newer goloo"), "{error}: {source}");
    }
}

#[test]
fn a_damaged_database_is_an_error_with_a_recovery_command() {
    let file = empty();
    file.create();
    drop(SqliteStore::open(&file.path(), Options::default()));
    let path = file.path();
    let File { folder: _folder, store } = file;
    drop(store);
    let mut bytes = fs::read(&path).unwrap();
    bytes[..64].fill(0xAA);
    fs::write(&path, &bytes).unwrap();
    let store = SqliteStore::open(&path, Options::default());
    let error = run(store.list()).unwrap_err();
    let StoreError::Damaged { source, .. } = &error else { panic!("{error}") };
    assert_eq!(source.file, path);
    assert!(source.hint().debug_text().contains(".recover"), "{:?}", source.hint());
    assert!(run(store.lock(&devbox(), &owner(1))).is_err());
    assert_eq!(fs::read(&path).unwrap(), bytes, "it is left as it is");
}

#[test]
fn examine_reports_the_path_of_the_file_and_unsafe_permissions() {
    let file = empty();
    let [found] = file.store.examine().try_into().unwrap();
    assert!(found.is_ok() && found.what.contains("created on first use"), "{found:?}");
    file.create();
    let [found] = file.store.examine().try_into().unwrap();
    assert!(found.is_ok() && found.what.contains(&file.path().display().to_string()), "{found:?}");
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
    let [_, found] = file.store.examine().try_into().unwrap();
    assert!(!found.is_ok() && found.hint.debug_text().starts_with("chmod 600 "), "{found:?}");
}

#[test]
fn examine_detects_a_damaged_page() {
    let file = empty();
    file.create();
    let page = {
        let by_hand = file.by_hand();
        by_hand.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'vms'";
        by_hand.query_row(root, [], |row| row.get::<_, u32>(0)).unwrap()
    };
    let mut bytes = fs::read(file.path()).unwrap();
    let page_bytes = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
    let start = (usize::try_from(page).unwrap() - 1) * page_bytes;
    // The cells of the page seem to begin beyond its end.
    bytes[start + 8..start + 12].fill(0xff);
    fs::write(file.path(), bytes).unwrap();
    let found = SqliteStore::open(&file.path(), Options::default()).examine();
    assert!(!found[0].is_ok() && found[0].what.contains("damaged"), "{found:?}");
    assert!(found[0].hint.debug_text().contains(".recover"), "{found:?}");
}

#[test]
fn an_empty_file_is_an_empty_store() {
    let file = empty();
    fs::create_dir_all(file.path().parent().unwrap()).unwrap();
    fs::write(file.path(), "").unwrap();
    assert!(run(file.store.list()).unwrap().entries.is_empty());
    file.create();
    assert_eq!(run(file.store.list()).unwrap().entries.len(), 1);
}

#[test]
fn archiving_moves_the_record_and_its_files_together() {
    let file = empty();
    let mut record = file.create();
    record.phase = Phase::Destroyed;
    let id = run(lock(&file.store).archive(&mut record, time("2025-02-01T00:00:00Z"))).unwrap();
    let count = |table: &str| -> u32 {
        file.by_hand().query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    };
    assert_eq!((count("vms"), count("vm_files"), count("archive")), (0, 0, 1));
    assert_eq!(count("archive_files"), u32::try_from(snapshot().files.len()).unwrap());
    run(file.store.archive_delete(&id, &owner(1))).unwrap();
    assert_eq!((count("archive"), count("archive_files")), (0, 0));
}

// Owners.

#[test]
fn a_takeover_after_lease_expiry_from_another_container_blocks_the_old_owner() {
    let (file, clock) = (empty(), uptime(1_000));
    let (here, there) = (file.in_container(1, &clock), file.in_container(2, &clock));
    let mut record = ready(&devbox());
    let mut held = run(here.lock(&devbox(), &owner(42))).unwrap();
    run(held.create(&mut record, &snapshot())).unwrap();
    clock.fetch_add(89, Ordering::SeqCst);
    let refused = run(there.lock(&devbox(), &owner(43)));
    assert!(matches!(refused, Err(StoreError::Locked { holder: Some(by), .. }) if by.contains("pid 42")));
    clock.fetch_add(1, Ordering::SeqCst);
    let mut taken = run(there.lock(&devbox(), &owner(43))).unwrap();
    assert_eq!(taken.taken_over(), Some(&owner(42)));
    let lost = run(held.save(&mut record));
    assert!(matches!(lost, Err(StoreError::LockLost { by: Some(by), .. }) if by.contains("pid 43")));
    assert_eq!(record.serial, 1);
    run(taken.save(&mut record)).unwrap();
    // The former owner's release has no effect on the new lock.
    drop(held);
    assert!(matches!(run(here.lock(&devbox(), &owner(44))), Err(StoreError::Locked { .. })));
    drop(taken);
    assert_eq!(run(here.lock(&devbox(), &owner(44))).unwrap().taken_over(), None);
}

#[test]
fn a_clock_that_jumps_an_hour_loses_no_update() {
    for jump in [3_600, -3_600] {
        let (file, clock) = (empty(), uptime(10_000));
        let (here, there) = (file.in_container(1, &clock), file.in_container(2, &clock));
        let mut record = ready(&devbox());
        let mut held = run(here.lock(&devbox(), &owner(1))).unwrap();
        run(held.create(&mut record, &snapshot())).unwrap();
        clock.fetch_add(jump, Ordering::SeqCst);
        // Nobody waits an hour for a lease, and only one of the two can write.
        let mut taken = run(there.lock(&devbox(), &owner(2))).unwrap();
        let mut mine = record.clone();
        assert!(matches!(run(held.save(&mut record)), Err(StoreError::LockLost { .. })), "{jump}");
        run(taken.save(&mut mine)).unwrap();
        assert_eq!(run(here.load(&devbox())).unwrap().unwrap().record, mine, "{jump}");
    }
}

#[test]
fn a_lock_from_before_a_reboot_is_released() {
    struct Restarted;
    impl Machine for Restarted {
        fn uptime(&self) -> i64 {
            5
        }
        fn this_process(&self) -> Process {
            Process { boot: "next".into(), ..ThisMachine.this_process() }
        }
        fn start_of(&self, pid: u32) -> Option<u64> {
            ThisMachine.start_of(pid)
        }
    }
    let file = empty();
    let _held = lock(&file.store);
    let restarted = SqliteStore::with_machine(
        &file.path(),
        Options::default(),
        Arc::new(Restarted),
        LeaseTiming::default(),
    );
    assert!(run(restarted.locks()).unwrap().is_empty());
    assert_eq!(run(restarted.lock(&devbox(), &owner(2))).unwrap().taken_over(), Some(&owner(1)));
}

#[test]
fn a_held_lock_is_renewed() {
    let file = empty();
    let clock = uptime(1_000);
    let machine = Arc::new(Container { number: 1, uptime: clock.clone() });
    let lease = LeaseTiming { length: Duration::from_secs(90), renewal: Duration::from_millis(20) };
    let store = SqliteStore::with_machine(&file.path(), Options::default(), machine, lease);
    let _held = lock(&store);
    let there = file.in_container(2, &clock);
    for _ in 0..5 {
        clock.fetch_add(60, Ordering::SeqCst);
        let left = || {
            let end = run(there.locks()).unwrap()[0].lease_end.unwrap();
            end.unix() - Timestamp::now().unix()
        };
        let limit = Instant::now() + Duration::from_secs(20);
        while left() < 80 {
            assert!(Instant::now() < limit, "no sign of life");
            std::thread::yield_now();
        }
        assert!(matches!(run(there.lock(&devbox(), &owner(2))), Err(StoreError::Locked { .. })));
    }
}

#[test]
fn a_broken_lock_prevents_writes_and_the_next_owner_learns_of_it() {
    let file = empty();
    let mut record = file.create();
    let mut held = run(file.store.lock(&devbox(), &owner(42))).unwrap();
    let broken = run(file.store.break_lock(&devbox())).unwrap().unwrap();
    assert_eq!((broken.name, broken.owner), (devbox(), Some(owner(42))));
    assert!(run(file.store.locks()).unwrap().is_empty());
    assert!(matches!(run(held.save(&mut record)), Err(StoreError::LockLost { by: None, .. })));
    drop(held);
    assert_eq!(run(file.store.break_lock(&devbox())).unwrap(), None);
    assert_eq!(lock(&file.store).taken_over(), Some(&owner(42)));
    assert_eq!(lock(&file.store).taken_over(), None);
}

#[test]
fn held_locks_are_listed_by_name() {
    let file = empty();
    let _second = run(file.store.lock(&name("web"), &owner(2))).unwrap();
    let _first = lock(&file.store);
    drop(run(file.store.lock(&name("free"), &owner(3))).unwrap());
    let locks = run(file.store.locks()).unwrap();
    let named: Vec<_> = locks.iter().map(|lock| (lock.name.as_str(), lock.owner.clone())).collect();
    assert_eq!(named, [("devbox", Some(owner(1))), ("web", Some(owner(2)))]);
    assert!(locks[0].lease_end.unwrap() > Timestamp::now());
}

#[test]
fn a_lock_held_when_the_store_moved_prevents_writes() {
    let file = empty();
    let mut record = file.create();
    let mut held = lock(&file.store);
    run(file.store.set_moved(None, Some("dir:/srv/goloo"))).unwrap();
    let moved = |error: StoreError| matches!(error, StoreError::Moved { to, .. } if to == "dir:/srv/goloo");
    assert!(moved(run(held.save(&mut record)).unwrap_err()));
    assert!(moved(run(file.store.lock(&name("web"), &owner(1))).err().unwrap()));
    assert_eq!(run(file.store.moved_to()).unwrap().as_deref(), Some("dir:/srv/goloo"));
    assert_eq!(run(file.store.load(&devbox())).unwrap().unwrap().record, record);
    run(file.store.set_moved(Some("dir:/srv/goloo"), None)).unwrap();
    run(held.save(&mut record)).unwrap();
}
