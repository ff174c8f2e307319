//! Places that other users can change: stores, databases, stacks and state folders that other users named, created or
//! left behind.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use crate::common::{Ran, World};

/// Debian's account `nobody`, which exists on every machine.
const NOBODY: u32 = 65_534;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Without root, the tests about other owners are skipped with a message.
fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("skipped: only root can act as other users");
    }
    is_root
}

fn with_store(world: &World, address: &str, arguments: &[&str]) -> Ran {
    Ran(world.command().env("GOLOO_STATE_BACKEND", address).args(arguments).output().unwrap())
}

#[test]
fn a_store_folder_writable_by_others_is_refused_before_any_write() {
    let world = World::new();
    let (folder, mine) = (world.path().join("shared"), world.path().join("mine"));
    fs::create_dir_all(folder.join("locks")).unwrap();
    fs::write(&mine, "precious").unwrap();
    symlink(&mine, folder.join("locks/hello.lock")).unwrap();
    let address = format!("dir:{}", folder.display());
    for exposed in [&folder, &folder.join("locks")] {
        set_mode(exposed, 0o777);
        for command in [&["create", "hello", "--no-wait"][..], &["list"], &["doctor"]] {
            let ran = with_store(&world, &address, command).expect(4);
            assert!(ran.stderr().contains("hint: chmod -R go-w "), "{command:?}: {ran:?}");
        }
        for command in
            [&["state", "move", &address, "--yes"][..], &["settings", "set", "stateBackend", &address]]
        {
            world.run(command).expect(4);
        }
        set_mode(exposed, 0o700);
    }
    assert_eq!(fs::read_to_string(&mine).unwrap(), "precious");
    fs::remove_file(folder.join("locks/hello.lock")).unwrap();
    with_store(&world, &address, &["create", "hello", "--no-wait"]).expect(0);
    with_store(&world, &address, &["delete", "hello", "--yes"]).expect(0);
}

#[test]
fn a_database_writable_by_others_is_refused_unless_a_group_shares_it() {
    let world = World::new();
    let folder = world.path().join("shared");
    fs::create_dir(&folder).unwrap();
    let file = folder.join("goloo.db");
    let address = format!("sqlite:{}", file.display());
    fs::write(&file, "").unwrap();
    let refused = |text: &str| {
        let ran = with_store(&world, &address, &["create", "hello", "--no-wait"]).expect(1);
        assert!(ran.stderr().contains(text), "{ran:?}");
        assert_eq!(fs::read(&file).unwrap(), b"");
    };
    set_mode(&file, 0o666);
    refused("can be changed by other users");
    set_mode(&file, 0o600);
    set_mode(&folder, 0o777);
    refused("can be replaced by other users");
    if is_root() {
        set_mode(&folder, 0o1777);
        chown(&file, Some(NOBODY), None).unwrap();
        refused("belongs to nobody");
    }
    fs::remove_file(&file).unwrap();
    set_mode(&folder, 0o2770);
    with_store(&world, &address, &["create", "hello", "--no-wait"]).expect(0);
    with_store(&world, &address, &["delete", "hello", "--yes"]).expect(0);
}

#[test]
fn a_stack_that_others_can_change_is_refused_unless_given_by_path() {
    let world = World::new();
    let stack = world.path().join("work/stacks/hello");
    let refused = |text: &str| {
        let ran = world.run(&["create", "hello", "--no-wait"]).expect(4);
        assert!(ran.stderr().contains(text) && ran.stderr().contains("-f "), "{ran:?}");
    };
    for exposed in [stack.clone(), stack.join("config.json"), world.path().join("work/stacks")] {
        let mode = fs::metadata(&exposed).unwrap().permissions().mode();
        set_mode(&exposed, 0o777);
        refused("can be changed by all users");
        set_mode(&exposed, mode & 0o755);
        if is_root() {
            chown(&exposed, Some(NOBODY), None).unwrap();
            refused("belongs to nobody");
            chown(&exposed, Some(0), None).unwrap();
        }
    }
    // Nor is its description of a VM of goloo v0 trusted.
    world.stack("old", r#"{"vm": {"name": "old"}, "local": {"ip": "192.0.2.1", "hosts_entry": true}}"#, "");
    assert!(world.run(&["list"]).expect(0).stdout().contains("not imported"));
    set_mode(&world.path().join("work/stacks/old"), 0o777);
    assert!(!world.run(&["list"]).expect(0).stdout().contains("old"));
    world.run(&["start", "old"]).expect(3);
    set_mode(&stack, 0o777);
    world.run(&["create", "hello", "--no-wait", "-f", stack.to_str().unwrap()]).expect(0);
    world.run(&["delete", "hello", "--yes"]).expect(0);
}

/// What another user put into goloo's folders while they were writable still belongs to that user after the folders are
/// fixed.
#[test]
fn files_of_another_user_in_goloo_folders_are_not_used() {
    if !is_root() {
        return;
    }
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    let theirs = |path: &Path, command: &[&str], code: i32, text: &str| {
        chown(path, Some(NOBODY), None).unwrap();
        let ran = world.run(command).expect(code);
        let said = ran.stdout() + &ran.stderr();
        assert!(said.contains(text), "{} {command:?}: {ran:?}", path.display());
        if path.exists() {
            chown(path, Some(0), None).unwrap();
        }
    };
    let state = world.state();
    let record = state.join("active/hello/state.json");
    fs::remove_file(state.join("active/hello/state.json.prev")).unwrap();
    theirs(&record, &["list"], 0, "it belongs to another user");
    theirs(&record, &["stop", "hello", "--force"], 4, "it belongs to another user");
    theirs(&state.join("registry.json"), &["create", "hello", "--as", "two", "--no-wait"], 0, "another user");
    theirs(&state.join("state-id"), &["doctor"], 1, "another user");
    world.program("scp", "#!/bin/sh\nexit 0\n");
    world.run(&["cp", "../outside", "hello:/tmp/"]);
    let transport = state.join("keys/scp-transport");
    chown(&transport, Some(NOBODY), None).unwrap();
    world.run(&["cp", "../outside", "hello:/tmp/"]).expect(0);
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&fs::metadata(&transport).unwrap()), 0);
    let image =
        fs::read_dir(world.path().join("cache/images/store")).unwrap().next().unwrap().unwrap().path();
    fs::write(&image, "a backdoor").unwrap();
    chown(&image, Some(NOBODY), None).unwrap();
    world.run(&["create", "hello", "--as", "three", "--no-wait"]).expect(0);
    assert_ne!(fs::read(&image).unwrap(), b"a backdoor");
}

#[test]
fn a_state_folder_path_with_control_characters_is_refused_by_create() {
    let world = World::new();
    let folder = world.path().join("a\nb");
    let mut command = world.command();
    command.env("GOLOO_STATE_DIR", &folder).args(["create", "hello", "--no-wait"]);
    let ran = Ran(command.output().unwrap()).expect(2);
    assert!(ran.stderr().contains("control characters"), "{ran:?}");
    assert!(!folder.join("active/hello").exists());
}
