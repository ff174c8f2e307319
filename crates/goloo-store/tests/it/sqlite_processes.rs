//! Real processes on one SQLite file: concurrent, killed at every system call that changes
//! something, and with every such call failing. A test starts copies of this program, which
//! run [`one_process`] with their role in the environment; `strace` injects signals and errors.
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use goloo_model::name::{ArchiveId, VmName};
use goloo_model::record::{Phase, Record};
use goloo_model::store::{Archived, Snapshot, Store, StoreError, VmLock};
use goloo_store::{Options, SqliteStore};
use goloo_testkit::samples::{creating, name, owner, ready, snapshot, time};
use pollster::block_on as run;
use tempfile::TempDir;

const FILE: &str = "GOLOO_TEST_FILE";
const NAME: &str = "GOLOO_TEST_NAME";
const PART: &str = "GOLOO_TEST_PART";
const AT: &str = "2025-02-01T00:00:00Z";

fn store(file: &Path) -> SqliteStore {
    SqliteStore::open(file, Options::default())
}

fn archive_id() -> ArchiveId {
    ArchiveId::parse("old-20250115T103000Z-3f9c").unwrap()
}

/// Plays a role, with a separate handle.
fn play(part: &str, file: &Path, vm: &str) -> Result<(), StoreError> {
    let (store, vm) = (store(file), name(vm));
    let mine = owner(std::process::id());
    match part {
        "lock" => run(store.lock(&vm, &mine)).map(drop),
        "create" => run(run(store.lock(&vm, &mine))?.create(&mut creating(&vm), &snapshot())),
        "save" => {
            let mut lock = run(store.lock(&vm, &mine))?;
            let mut record = run(lock.load())?.unwrap().record;
            record.stack = "saved".into();
            run(lock.save(&mut record))
        }
        "archive" => {
            let mut lock = run(store.lock(&vm, &mine))?;
            let mut record = run(lock.load())?.unwrap().record;
            record.phase = Phase::Destroyed;
            run(lock.archive(&mut record, time(AT))).map(drop)
        }
        "put" => {
            let mut lock = run(store.lock(&vm, &mine))?;
            let record = run(lock.load())?.unwrap().record;
            let higher = Record { serial: 9, stack: "put".into(), ..record };
            run(lock.put(&higher, &Snapshot::default()))
        }
        "archive-put" => {
            let id = archive_id();
            let record = Record { serial: 3, phase: Phase::Destroyed, ..ready(&name("old")) };
            run(store.archive_put(&Archived { deleted_at: id.deleted_at(), id, record }, &snapshot()))
        }
        "archive-delete" => run(store.archive_delete(&archive_id(), &owner(1))),
        "move" => run(store.set_moved(None, Some("dir:/srv/goloo"))),
        "move-back" => run(store.set_moved(Some("dir:/srv/goloo"), None)),
        "break-lock" => run(store.break_lock(&vm)).map(drop),
        other => panic!("no part {other}"),
    }
}

/// Plays one role and reports the result; run as a regular test, without a role, it does nothing.
#[test]
fn one_process() {
    let Ok(part) = std::env::var(PART) else { return };
    let file = PathBuf::from(std::env::var_os(FILE).unwrap());
    let vm = std::env::var(NAME).unwrap();
    if part == "hold" {
        let lock = run(store(&file).lock(&name(&vm), &owner(std::process::id()))).unwrap();
        println!("@held");
        // Until the parent process ends it.
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        drop(lock);
        return;
    }
    let said = match play(&part, &file, &vm) {
        Ok(()) => "done".to_owned(),
        Err(StoreError::Locked { .. }) => "locked".to_owned(),
        Err(StoreError::NameTaken { .. }) => "taken".to_owned(),
        Err(error) => format!("failed: {error:?}"),
    };
    println!("@{said}");
}

fn prepared(mut command: Command, file: &Path, vm: &str, part: &str) -> Command {
    command
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "sqlite_processes::one_process", "--nocapture", "--test-threads=1"])
        .env(FILE, file)
        .env(NAME, vm)
        .env(PART, part)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

fn start(file: &Path, vm: &str, part: &str) -> Child {
    prepared(Command::new("env"), file, vm, part).spawn().unwrap()
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    let (_, said) = text.split_once('@').unwrap_or_else(|| panic!("it said nothing: {output:?}"));
    said.lines().next().unwrap().to_owned()
}

fn end(child: Child) -> String {
    said(&child.wait_with_output().unwrap())
}

fn place() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("goloo/goloo.db");
    (folder, file)
}

// Concurrent processes.

#[test]
fn exactly_one_of_32_processes_gets_a_contested_name() {
    let (_folder, file) = place();
    let children: Vec<_> = (0..32).map(|_| start(&file, "devbox", "create")).collect();
    let ends: Vec<_> = children.into_iter().map(end).collect();
    assert_eq!(ends.iter().filter(|end| *end == "done").count(), 1, "{ends:?}");
    assert!(ends.iter().all(|end| ["done", "taken", "locked"].contains(&end.as_str())), "{ends:?}");
    assert_eq!(run(store(&file).list()).unwrap().entries.len(), 1);
    assert_eq!(run(store(&file).snapshot(&name("devbox"))).unwrap(), snapshot());
}

#[test]
fn processes_that_claim_different_names_all_succeed() {
    let (_folder, file) = place();
    let names: Vec<_> = (0..8).map(|n| format!("vm-{n}")).collect();
    let children: Vec<_> = names.iter().map(|vm| start(&file, vm, "create")).collect();
    for child in children {
        assert_eq!(end(child), "done");
    }
    assert_eq!(run(store(&file).names()).unwrap(), names);
}

#[test]
fn a_killed_process_leaves_no_lock_and_the_next_owner_learns_of_it() {
    let (_folder, file) = place();
    let mut holder = start(&file, "devbox", "hold");
    let pid = holder.id();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("@held")), "the lock was never held");
    let refused = run(store(&file).lock(&name("devbox"), &owner(1)));
    let Err(StoreError::Locked { holder: Some(said), .. }) = refused else { panic!("it was not refused") };
    assert_eq!(said, format!("ann on laptop (pid {pid})"));
    holder.kill().unwrap();
    holder.wait().unwrap();
    let lock = run(store(&file).lock(&name("devbox"), &owner(1))).unwrap();
    assert_eq!(lock.taken_over(), Some(&owner(pid)));
}

// Killed processes and failing calls.

/// The complete contents of a store.
#[derive(Debug, Clone, PartialEq)]
struct Held {
    active: BTreeMap<String, (u64, String, Snapshot)>,
    archive: BTreeMap<ArchiveId, Snapshot>,
    moved_to: Option<String>,
    /// Excludes those of dead processes.
    locks: Vec<VmName>,
}

fn held(file: &Path) -> Held {
    let store = store(file);
    let listing = run(store.records()).unwrap();
    assert_eq!(listing.broken, []);
    let archive = run(store.archive_list()).unwrap();
    assert_eq!(archive.broken, []);
    let active = listing.entries.into_iter().map(|loaded| loaded.record).map(|record| {
        let files = run(store.snapshot(&record.name)).unwrap();
        (record.name.to_string(), (record.serial, record.stack.to_string(), files))
    });
    // Times differ between runs.
    let archive = archive.entries.into_iter().map(|archived| {
        let files = run(store.archive_snapshot(&archived.id)).unwrap();
        let short = ArchiveId::parse(&format!("{}-20250115T103000Z-0000", archived.id.name())).unwrap();
        (short, files)
    });
    let locks = run(store.locks()).unwrap().into_iter().map(|held| held.name);
    Held {
        active: active.collect(),
        archive: archive.collect(),
        moved_to: run(store.moved_to()).unwrap(),
        locks: locks.collect(),
    }
}

/// The initial state for each role: one active VM, one archived one.
fn fill(file: &Path) {
    play("create", file, "devbox").unwrap();
    play("archive-put", file, "old").unwrap();
}

/// Creates the initial state, and takes the lock that the role is to break.
fn fresh(part: &str, file: &Path) -> Option<Box<dyn VmLock>> {
    let _ = std::fs::remove_dir_all(file.parent().unwrap());
    match part {
        // From nothing: the file, its folder and its tables are created too.
        "create" | "lock" => {}
        "archive-put" => play("create", file, "devbox").unwrap(),
        _ => fill(file),
    }
    if part == "move-back" {
        play("move", file, "devbox").unwrap();
    }
    let lock = || run(store(file).lock(&name("devbox"), &owner(std::process::id()))).unwrap();
    (part == "break-lock").then(lock)
}

/// The system calls that change files.
const CALLS: [&str; 9] =
    ["pwrite64", "write", "fsync", "fdatasync", "ftruncate", "unlink", "mkdir", "fallocate", "clone3"];

const PARTS: [&str; 10] = [
    "lock",
    "create",
    "save",
    "archive",
    "put",
    "archive-put",
    "archive-delete",
    "move",
    "move-back",
    "break-lock",
];

/// Plays the role with a fault at some of its calls of this kind: `signal=KILL:when=3`.
fn with_fault(file: &Path, part: &str, call: &str, fault: &str) -> Output {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace=?{call}")]);
    strace.args(["-e", &format!("inject=?{call}:{fault}")]);
    prepared(strace, file, "devbox", part).output().unwrap()
}

/// The number of calls of this kind that the role makes.
fn calls(file: &Path, part: &str, call: &str) -> usize {
    let _holder = fresh(part, file);
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-e", "signal=none", "-e", &format!("trace=?{call}"), "-o"]).arg(log.path());
    assert_eq!(said(&prepared(strace, file, "devbox", part).output().unwrap()), "done");
    std::fs::read_to_string(log.path()).unwrap().lines().count()
}

/// The contents of the store before and after the role.
fn both_ends(part: &str, file: &Path) -> [Held; 2] {
    let _holder = fresh(part, file);
    let before = held(file);
    play(part, file, "devbox").unwrap();
    [before, held(file)]
}

/// The next handle can continue: it gets the lock at once, and can write. The holder of the broken lock can't.
fn goes_on(file: &Path, holder: Option<Box<dyn VmLock>>, when: &str) {
    let store = store(file);
    run(store.set_moved(Some("dir:/srv/goloo"), None)).unwrap();
    let vm = name("devbox");
    if let Some(mut holder) = holder {
        run(store.break_lock(&vm)).unwrap();
        let mut record = run(holder.load()).unwrap().unwrap().record;
        let refused = run(holder.save(&mut record));
        assert!(matches!(refused, Err(StoreError::LockLost { by: None, .. })), "{when}: {refused:?}");
    }
    let mut lock = run(store.lock(&vm, &owner(1))).unwrap_or_else(|error| panic!("{when}: {error:?}"));
    match run(lock.load()).unwrap() {
        Some(loaded) => run(lock.save(&mut { loaded.record })).unwrap(),
        None => run(lock.create(&mut creating(&vm), &snapshot())).unwrap(),
    }
}

fn kill_anywhere(part: &str) {
    let (_folder, file) = place();
    let ends = both_ends(part, &file);
    let mut killed = 0;
    for call in CALLS {
        for n in 1.. {
            let holder = fresh(part, &file);
            let ran = with_fault(&file, part, call, &format!("signal=KILL:when={n}"));
            let when = format!("{part} killed at {call} {n}");
            let found = held(&file);
            assert!(ends.contains(&found), "{when}: {found:?}");
            if ran.status.success() {
                assert_eq!((said(&ran).as_str(), &found), ("done", &ends[1]), "{when}");
                break;
            }
            assert_eq!(ran.status.signal(), Some(9), "{when}: {ran:?}");
            goes_on(&file, holder, &when);
            killed += 1;
        }
    }
    println!("{part} was killed {killed} times");
    assert!(killed > 5, "{part} changes something more often than {killed} times");
}

/// The disk is full or read-only, once or from then on.
fn refuse_anywhere(part: &str) {
    let (_folder, file) = place();
    let ends = both_ends(part, &file);
    let mut refused = 0;
    for call in ["pwrite64", "fsync", "fdatasync", "ftruncate", "mkdir"] {
        for n in 1..=calls(&file, part, call) {
            for fault in ["error=ENOSPC", "error=EACCES", "error=EIO"] {
                for when in [format!("{n}"), format!("{n}+")] {
                    let holder = fresh(part, &file);
                    let ran = with_fault(&file, part, call, &format!("{fault}:when={when}"));
                    let when = format!("{part} with {fault} at {call} {when}");
                    let (said, found) = (said(&ran), held(&file));
                    assert!(ends.contains(&found), "{when}: {found:?}");
                    assert!(said != "done" || found == ends[1], "{when}: what was acknowledged isn't there");
                    refused += usize::from(said != "done");
                    goes_on(&file, holder, &when);
                }
            }
        }
    }
    println!("{part} was refused {refused} times");
    assert!(refused > 5, "{part} was refused only {refused} times");
}

macro_rules! parts {
    ($($kill:ident $refuse:ident $part:literal)+) => {
        $(
            #[test]
            fn $kill() {
                kill_anywhere($part);
            }

            #[test]
            fn $refuse() {
                refuse_anywhere($part);
            }
        )+

        #[test]
        fn every_part_has_a_kill_test_and_a_refusal_test() {
            assert_eq!([$($part),+], PARTS);
        }
    };
}

parts! {
    kill_a_lock_anywhere kill_no_lock_by_refusing_it_anything "lock"
    kill_a_create_anywhere kill_no_create_by_refusing_it_anything "create"
    kill_a_save_anywhere kill_no_save_by_refusing_it_anything "save"
    kill_an_archive_anywhere kill_no_archive_by_refusing_it_anything "archive"
    kill_a_put_anywhere kill_no_put_by_refusing_it_anything "put"
    kill_an_archive_put_anywhere kill_no_archive_put_by_refusing_it_anything "archive-put"
    kill_an_archive_delete_anywhere kill_no_archive_delete_by_refusing_it_anything "archive-delete"
    kill_a_move_anywhere kill_no_move_by_refusing_it_anything "move"
    kill_a_move_back_anywhere kill_no_move_back_by_refusing_it_anything "move-back"
    kill_a_break_of_a_lock_anywhere kill_no_break_of_a_lock_by_refusing_it_anything "break-lock"
}
