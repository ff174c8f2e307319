//! Stores that can't be written: from the start, or from the middle of an operation.
//!
//! The tests may run as root, which bypasses permissions: goloo then runs without root's capabilities for that, by
//! util-linux's `setpriv`, and each test checks that the permissions take effect.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{Ran, World, goloo};

const DIR: &str = r#"{"localProvider": "qemu"}"#;
const SQLITE: &str = r#"{"localProvider": "qemu", "stateBackend": {"type": "sqlite"}}"#;

/// Runs a program in this world to which permissions apply.
fn held_to_permissions(world: &World, program: &Path) -> Command {
    let is_root = fs::metadata(world.path()).unwrap().uid() == 0;
    let mut command = Command::new(if is_root { Path::new("setpriv") } else { program });
    world.settle(&mut command);
    if is_root {
        command.args(["--bounding-set", "-dac_override,-dac_read_search", "--"]).arg(program);
    }
    command
}

fn run(world: &World, arguments: &[&str]) -> Ran {
    Ran(held_to_permissions(world, &goloo()).args(arguments).output().unwrap())
}

/// Makes paths unwritable for everybody while the value exists.
struct Closed<'w> {
    world: &'w World,
    paths: Vec<PathBuf>,
}

impl<'w> Closed<'w> {
    fn new(world: &'w World, paths: &[PathBuf]) -> Self {
        let closed = Self { world, paths: paths.to_vec() };
        closed.change("a-w");
        for path in paths {
            let mut write = held_to_permissions(world, Path::new("test"));
            let may = write.arg("-w").arg(path).status().unwrap();
            assert_eq!(may.code(), Some(1), "{} can be written here whatever its mode", path.display());
        }
        closed
    }

    /// The whole state folder, or another one.
    fn all(world: &'w World) -> Self {
        Self::new(world, &[world.state()])
    }

    fn change(&self, mode: &str) {
        for path in &self.paths {
            let status = Command::new("chmod").args(["-R", mode]).arg(path).status().unwrap();
            assert!(status.success(), "{}", self.world.path().display());
        }
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.change("u+w");
    }
}

/// A world with this store and the stopped VM `hello`.
fn with_hello(settings: &str) -> World {
    let world = World::new();
    world.settings(settings);
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    world.run(&["stop", "hello", "--force"]).expect(0);
    world
}

fn pulled(world: &World) -> String {
    world.run(&["state", "pull", "-"]).expect(0).stdout()
}

/// Asserts that read-only commands print the same as before and writing commands are refused, with an error that names
/// the place and a hint; afterwards the contents are unchanged.
fn assert_only_read(world: &World, closed: &[PathBuf], blamed: &Path) {
    let before = pulled(world);
    let reads: [&[&str]; 6] = [
        &["list"],
        &["list", "--all", "--json"],
        &["status", "hello"],
        &["history", "hello"],
        &["archive", "list"],
        &["state", "pull", "-"],
    ];
    let shown = |command: &&[&str]| world.run(command).expect(0).stdout();
    // Without ages.
    let words = |text: String| text.split_whitespace().take(4).collect::<Vec<_>>().join(" ");
    let expected: Vec<_> = reads.iter().map(shown).map(words).collect();
    {
        let _closed = Closed::new(world, closed);
        for (command, expected) in reads.iter().zip(&expected) {
            let ran = run(world, command).expect(0);
            assert_eq!(&words(ran.stdout()), expected, "{command:?}: {ran:?}");
        }
        for command in [
            &["create", "hello", "--as", "other", "--no-wait"][..],
            &["delete", "hello", "--yes"],
            &["start", "hello"],
            &["protect", "hello"],
        ] {
            let ran = run(world, command).expect(4);
            let (said, place) = (ran.stderr(), blamed.display().to_string());
            assert!(said.contains(&place), "{command:?} doesn't name {place}: {ran:?}");
            assert!(said.contains("hint: check who owns it: ls -ld "), "{command:?}: {ran:?}");
        }
        let error = run(world, &["protect", "hello", "--json"]).expect(4).stdout();
        let error: serde_json::Value = serde_json::from_str(&error).unwrap();
        assert_eq!(error["error"]["code"], "permission", "{error}");
    }
    assert_eq!(pulled(world), before);
    assert_eq!((world.machines().len(), world.qemus().len()), (1, 0));
    world.run(&["delete", "hello", "--yes"]).expect(0);
    world.assert_empty("writable again");
}

#[test]
fn an_unwritable_folder_is_read_only() {
    let world = with_hello(DIR);
    assert_only_read(&world, &[world.state()], &world.state().join("locks"));
}

#[test]
fn an_unwritable_database_is_read_only() {
    let world = with_hello(SQLITE);
    let file = world.state().join("goloo.db");
    assert_only_read(&world, std::slice::from_ref(&file), &file);
}

#[test]
fn an_unwritable_database_in_an_unwritable_folder_is_read_only() {
    let world = with_hello(SQLITE);
    assert_only_read(&world, &[world.state()], &world.state());
}

/// The only case in which the file seems to be writable.
#[test]
fn a_writable_database_in_an_unwritable_folder_is_read_only() {
    let world = with_hello(SQLITE);
    let folder = world.path().join("db#1 100%");
    fs::create_dir(&folder).unwrap();
    fs::rename(world.state().join("goloo.db"), folder.join("goloo.db")).unwrap();
    let file = folder.join("goloo.db").display().to_string();
    world.settings(&format!(
        r#"{{"localProvider": "qemu", "stateBackend": {{"type": "sqlite", "path": "{file}"}}}}"#
    ));
    let before = world.run(&["list", "--json"]).expect(0).stdout();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o500)).unwrap();
    let (list, refused) = (run(&world, &["list", "--json"]), run(&world, &["protect", "hello"]));
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(list.expect(0).stdout(), before);
    let said = refused.expect(4).stderr();
    assert!(said.contains(&format!("can't write in {}\n", folder.display())), "{said}");
}

#[test]
fn doctor_reports_an_unwritable_state_folder() {
    let world = with_hello(DIR);
    let _closed = Closed::all(&world);
    let said = run(&world, &["doctor"]).expect(1).stdout();
    assert!(said.contains(&format!("✗ {} can't be written", world.state().display())), "{said}");
}

#[test]
fn unwritable_settings_and_library_folders_are_reported_alike() {
    let world = with_hello(DIR);
    let config = world.path().join("config");
    let commands: [&[&str]; 2] =
        [&["settings", "set", "hosts", "true"], &["config", "import", "hello", "stacks/hello"]];
    let _closed = Closed::new(&world, &[config]);
    for arguments in commands {
        let said = run(&world, arguments).expect(4).stderr();
        assert!(
            said.starts_with("error: can't write ") && said.contains("hint: check who owns it"),
            "{said}"
        );
    }
}

/// The error of a file system that is mounted read-only. Injected with strace, since mounting requires more privileges.
#[test]
fn a_read_only_file_system_is_reported_with_a_hint() {
    for (settings, closed) in
        [(DIR, ["locks/.store", "locks/hello.lock"]), (SQLITE, ["goloo.db-shm", "goloo.db-wal"])]
    {
        let world = with_hello(settings);
        let on_read_only = |arguments: &[&str]| {
            let mut strace = Command::new("strace");
            world.settle(&mut strace);
            strace.args(["-qq", "-o", "/dev/null", "-e", "inject=openat:error=EROFS"]);
            for path in closed {
                strace.arg("-P").arg(world.state().join(path));
            }
            Ran(strace.arg(goloo()).args(arguments).output().unwrap())
        };
        let listed = on_read_only(&["list", "-q"]).expect(0);
        assert_eq!(listed.stdout(), "hello\n", "{listed:?}");
        let refused = on_read_only(&["protect", "hello"]);
        assert_ne!(refused.code(), 0, "{refused:?}");
        if settings == DIR {
            let said = refused.expect(4).stderr();
            assert!(said.contains("Read-only file system"), "{said}");
            assert!(said.contains("set GOLOO_STATE_DIR to another folder: "), "{said}");
        }
    }
}

/// Adds an `ssh` that makes the state folder unwritable, and then answers like a provisioned machine.
fn ssh_closes_the_store(world: &World) {
    let state = world.state().display().to_string();
    let status = r#"{"status": "done", "extended_status": "done", "errors": []}"#;
    world.program(
        "ssh",
        &format!(
            "#!/bin/sh\nchmod -R a-w {state}\nfor last; do :; done\ncase $last in\n  *goloo:status*) echo '@goloo:status@'; echo '{status}' ;;\nesac\n"
        ),
    );
}

/// The machine is already running when its record can no longer be saved.
#[test]
fn losing_write_permission_after_the_machine_starts_loses_nothing() {
    let world = World::new();
    ssh_closes_the_store(&world);
    let ran = run(&world, &["create", "hello"]);
    Command::new("chmod").args(["-R", "u+w"]).arg(world.state()).status().unwrap();
    let ran = ran.expect(7);
    let said = ran.stderr();
    assert!(said.contains("Permission denied"), "{said}");
    let kept: Vec<_> =
        fs::read_dir(world.path().join("home")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert!(said.contains(&kept[0].display().to_string()), "the emergency copy isn't named: {said}");
    assert_eq!(
        (world.names(), world.machines().len(), world.qemus().len()),
        (vec!["hello".to_owned()], 1, 1)
    );
    world.program("ssh", "#!/bin/sh\nexit 255\n");
    world.run(&["resume", "hello", "--no-wait"]);
    assert_eq!((world.machines().len(), world.qemus().len()), (1, 1), "it made another");
    world.run(&["delete", "hello", "--yes"]).expect(0);
    world.assert_empty("after the delete");
}

/// The machine's folder can no longer be written.
#[test]
fn losing_write_permission_before_the_machine_is_made_leaves_a_record() {
    for settings in [DIR, SQLITE] {
        let world = World::new();
        world.settings(settings);
        world.run(&["image", "pull", "./stacks/hello/disk.img"]).expect(0);
        let real = String::from_utf8(
            Command::new("sh").args(["-c", "command -v qemu-img"]).output().unwrap().stdout,
        )
        .unwrap();
        let script =
            format!("#!/bin/sh\nchmod -R a-w {}\nexec {} \"$@\"\n", world.state().display(), real.trim());
        world.program("qemu-img", &script);
        let ran = run(&world, &["create", "hello", "--no-wait"]);
        Command::new("chmod").args(["-R", "u+w"]).arg(world.state()).status().unwrap();
        fs::remove_file(world.path().join("bin/qemu-img")).unwrap();
        assert!([4, 6, 7].contains(&ran.code()), "{ran:?}");
        assert!(ran.stderr().contains("ermission denied"), "{ran:?}");
        assert_eq!(world.names(), ["hello"], "{ran:?}");
        world.run(&["delete", "hello", "--yes"]).expect(0);
        world.assert_empty("after the delete");
    }
}
