//! Concurrent real processes on one folder. A test starts copies of this program, which
//! run [`one_process`] with their role in the environment.
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use goloo_model::store::{Store, StoreError};
use goloo_store::{DirStore, Options};
use goloo_testkit::samples::{creating, name, owner, snapshot};
use goloo_testkit::store_suite::run;
use tempfile::TempDir;

const ROOT: &str = "GOLOO_TEST_ROOT";
const NAME: &str = "GOLOO_TEST_NAME";
const PART: &str = "GOLOO_TEST_PART";

fn store(root: &Path) -> DirStore {
    DirStore::open(root, Options::default())
}

/// Plays one role and reports the result; run as a regular test, without a role, it does nothing.
#[test]
fn one_process() {
    let Ok(part) = std::env::var(PART) else { return };
    let root = std::env::var_os(ROOT).unwrap();
    let vm = name(&std::env::var(NAME).unwrap());
    let store = store(Path::new(&root));
    let lock = run(store.lock(&vm, &owner(std::process::id())));
    let said = match (lock, part.as_str()) {
        (Err(StoreError::Locked { .. }), _) => "locked".to_owned(),
        (Err(error), _) => format!("failed: {error}"),
        (Ok(lock), "hold") => {
            println!("@held");
            // Until the parent process ends it.
            std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
            drop(lock);
            "released".to_owned()
        }
        (Ok(mut lock), _) => match run(lock.create(&mut creating(&vm), &snapshot())) {
            Ok(()) => "created".to_owned(),
            Err(StoreError::NameTaken { .. }) => "taken".to_owned(),
            Err(error) => format!("failed: {error}"),
        },
    };
    println!("@{said}");
}

fn start(root: &Path, vm: &str, part: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "dir_processes::one_process", "--nocapture"])
        .env(ROOT, root)
        .env(NAME, vm)
        .env(PART, part)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn said(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (_, said) = text.split_once('@').unwrap_or_else(|| panic!("it said nothing: {text}"));
    said.lines().next().unwrap().to_owned()
}

fn assert_whole(root: &Path, names: &[String]) {
    let listing = run(store(root).list()).unwrap();
    assert_eq!(listing.broken, []);
    assert_eq!(listing.entries.len(), names.len());
    for vm in names {
        assert_eq!(run(store(root).snapshot(&name(vm))).unwrap(), snapshot());
    }
    let staged = std::fs::read_dir(root.join("active"))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
    assert_eq!(staged.count(), 0, "a claim left something");
}

#[test]
fn exactly_one_of_32_processes_gets_a_contested_name() {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("goloo");
    let children: Vec<_> = (0..32).map(|_| start(&root, "devbox", "create")).collect();
    let ends: Vec<_> = children.into_iter().map(said).collect();
    assert_eq!(ends.iter().filter(|end| *end == "created").count(), 1, "{ends:?}");
    assert!(ends.iter().all(|end| ["created", "taken", "locked"].contains(&end.as_str())), "{ends:?}");
    assert_whole(&root, &["devbox".to_owned()]);
}

#[test]
fn processes_that_claim_different_names_all_succeed() {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("goloo");
    let names: Vec<_> = (0..8).map(|n| format!("vm-{n}")).collect();
    let children: Vec<_> = names.iter().map(|vm| start(&root, vm, "create")).collect();
    for child in children {
        assert_eq!(said(child), "created");
    }
    assert_whole(&root, &names);
}

#[test]
fn a_killed_process_leaves_no_lock() {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("goloo");
    let mut holder = start(&root, "devbox", "hold");
    let pid = holder.id();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("@held")), "the lock was never held");
    let refused = run(store(&root).lock(&name("devbox"), &owner(1)));
    let Err(StoreError::Locked { holder: Some(said), .. }) = refused else { panic!("it was not refused") };
    assert_eq!(said, format!("ann on laptop (pid {pid})"));
    holder.kill().unwrap();
    holder.wait().unwrap();
    run(store(&root).lock(&name("devbox"), &owner(1))).unwrap();
}

#[test]
fn a_machine_that_outlives_its_parent_does_not_inherit_the_lock() {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("goloo");
    let lock = run(store(&root).lock(&name("devbox"), &owner(1))).unwrap();
    // `cat` waits for the end of its input, as a machine would keep running.
    let mut machine = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    drop(lock);
    // The kernel may let the parent continue a moment before the new program has closed its close-on-exec
    // descriptors. An inherited lock would last as long as the machine, which outlasts this wait.
    let end = Instant::now() + Duration::from_secs(20);
    while run(store(&root).lock(&name("devbox"), &owner(2))).is_err() {
        assert!(Instant::now() < end, "the machine holds the lock");
        std::thread::yield_now();
    }
    assert!(machine.try_wait().unwrap().is_none(), "the machine runs all the while");
    machine.kill().unwrap();
    machine.wait().unwrap();
}
