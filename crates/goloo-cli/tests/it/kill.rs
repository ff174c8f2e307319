//! Kills the real command at every system call that changes something: for each kind of call at its first, its second,
//! and so on until the command completes. `strace` does the killing: goloo knows nothing about it.

use crate::common::World;
use crate::common::kill::{Kept, everywhere};

const DONE: &str = r#"{"status":"done","errors":[]}"#;
const HOSTS: &str = "127.0.0.1 localhost\n";

/// Restores the hosts file to its content before goloo.
fn reset_hosts(world: &World) {
    std::fs::create_dir_all(world.hosts_file().parent().unwrap()).unwrap();
    std::fs::write(world.hosts_file(), HOSTS).unwrap();
}

fn hosts(world: &World) -> String {
    std::fs::read_to_string(world.hosts_file()).unwrap()
}

fn list_works(world: &World, when: &str) -> bool {
    let list = world.json(&["list", "--json"]);
    assert_eq!(list["broken"], serde_json::json!([]), "{when}");
    !world.names().is_empty()
}

/// Alternates between the two commands, so that both are tested with every kind of call.
fn way_out(n: usize) -> &'static str {
    if n.is_multiple_of(2) { "resume" } else { "delete" }
}

/// Cleans up after a killed create.
fn finish(world: &World, when: &str, by: &str) {
    if !list_works(world, when) {
        world.assert_empty(when);
        return;
    }
    let unfinished = world.json(&["status", "hello", "--json"])["vm"]["operation"].is_object();
    match by {
        "resume" => {
            world.run(&["resume", "hello"]).expect(0);
            assert_eq!((world.machines().len(), world.qemus().len()), (1, 1), "{when}, resumed");
            assert_eq!(world.shares().len(), 1, "{when}, resumed");
            assert_eq!(
                world.json(&["status", "hello", "--json"])["vm"]["operation"],
                serde_json::Value::Null
            );
        }
        _ if unfinished => {
            let refused = world.run(&["create", "hello", "--no-wait"]).expect(6);
            assert!(refused.stderr().contains("goloo resume hello"), "{when}: {refused:?}");
        }
        _ => {}
    }
    world.run(&["delete", "hello", "--yes"]).expect(0);
    world.assert_empty(when);
    assert_eq!(hosts(world), HOSTS, "{when}: a name is left");
}

/// Alternates between `resume` and `delete` to clean up.
#[test]
fn kill_create_at_any_call_then_resume_or_delete() {
    let world = World::new();
    let config =
        r#"{"vm": {"image": "./disk.img", "disk": "1G", "mounts": [{"source": ".", "target": "/srv"}]}}"#;
    world.stack("hello", config, "");
    world.run(&["image", "pull", "./stacks/hello/disk.img"]).expect(0);
    reset_hosts(&world);
    let create = ["create", "hello", "--no-wait", "--hosts"];
    let killed = everywhere(&world, &create, || {}, |when, n| finish(&world, when, way_out(n)));
    assert!(killed > 60, "a create changes something more often than {killed} times");
}

#[test]
fn kill_delete_at_any_call_then_resume_or_delete() {
    let world = World::new();
    reset_hosts(&world);
    let create = || drop(world.run(&["create", "hello", "--no-wait", "--hosts"]).expect(0));
    let go_on = |when: &str, n: usize| {
        if list_works(&world, when) {
            let by =
                if n.is_multiple_of(2) { vec!["resume", "hello"] } else { vec!["delete", "hello", "--yes"] };
            world.run(&by).expect(0);
            if !world.names().is_empty() {
                // Killed before the intent was saved: there was nothing to resume.
                world.run(&["delete", "hello", "--yes"]).expect(0);
            }
        }
        world.assert_empty(when);
        assert_eq!(hosts(&world), HOSTS, "{when}: a name is left");
    };
    let killed = everywhere(&world, &["delete", "hello", "--yes"], create, go_on);
    assert!(killed > 25, "a delete changes something more often than {killed} times");
}

#[test]
fn kill_a_hosts_edit_at_any_call_then_retry() {
    let world = World::new();
    let path = world.hosts_file().display().to_string();
    let edit = ["__edit-hosts", &path, "set", "web", "10.0.0.2"];
    let after = format!("{HOSTS}# BEGIN goloo\n10.0.0.2 web\n# END goloo\n");
    let check = |when: &str, _| {
        assert!([HOSTS, &after].contains(&hosts(&world).as_str()), "{when}: {}", hosts(&world));
        world.run(&edit).expect(0);
        assert_eq!(hosts(&world), after, "{when}");
        let beside = std::fs::read_dir(world.hosts_file().parent().unwrap()).unwrap();
        assert_eq!(beside.count(), 1, "{when}: a temporary file is left");
    };
    let killed = everywhere(&world, &edit, || reset_hosts(&world), check);
    assert!(killed > 3, "an edit changes something more often than {killed} times");
}

#[test]
fn kill_migrate_at_any_call_then_retry() {
    let world = World::new();
    for name in ["old-1", "old-2"] {
        world.stack(name, r#"{"local": {"ip": "10.0.0.1"}}"#, "");
    }
    let again = |when: &str, _| {
        world.run(&["migrate"]).expect(0);
        let active = world.state().join("active");
        let mut left: Vec<_> = std::fs::read_dir(&active).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["old-1", "old-2"], "{when}");
        assert_eq!(world.names(), ["old-1", "old-2"], "{when}");
        std::fs::remove_dir_all(world.state()).unwrap();
    };
    let killed = everywhere(&world, &["migrate"], || {}, again);
    assert!(killed > 20, "a migration changes something more often than {killed} times");
}

/// The source is paused while it is copied; both what continues the clone and what gives it up let it go on.
#[test]
fn kill_clone_of_a_running_vm_at_any_call_then_resume_or_delete() {
    let world = World::new();
    world.ssh_finds(DONE);
    world.run(&["create", "hello"]).expect(0);
    let paused = std::cell::Cell::new(0);
    let go_on = |when: &str, n: usize| {
        assert!(list_works(&world, when));
        paused.set(paused.get() + u32::from(world.run_state("hello") != "running"));
        if world.names() == ["hello", "twin"] {
            if n.is_multiple_of(2) {
                world.run(&["resume", "twin"]).expect(0);
                assert_eq!(world.run_state("hello"), "running", "{when}, resumed");
                world.run(&["start", "twin"]).expect(0);
                assert_eq!(world.run_state("twin"), "running", "{when}, resumed");
            }
            world.run(&["delete", "twin", "--yes"]).expect(0);
        }
        assert_eq!((world.names(), world.machines().len()), (vec!["hello".to_owned()], 1), "{when}");
        assert_eq!((world.run_state("hello"), world.qemus().len()), ("running".into(), 1), "{when}");
    };
    let killed = everywhere(&world, &["clone", "hello", "twin"], || {}, go_on);
    assert!(killed > 25, "a clone changes something more often than {killed} times");
    assert!(paused.get() > 3, "kills while the source is paused");
}

/// The stand-in's QEMU exits if it gets memory that is older than its disk.
#[test]
fn kill_suspend_at_any_call_then_resume_or_start() {
    let world = World::new();
    world.ssh_finds(DONE);
    world.run(&["create", "hello"]).expect(0);
    let go_on = |when: &str, n: usize| {
        if n.is_multiple_of(2) {
            world.run(&["resume", "hello"]).expect(0);
            let status = world.json(&["status", "hello", "--json"]);
            assert!(status["vm"]["operation"].is_null(), "{when}, resumed");
        } else if world.json(&["status", "hello", "--json"])["vm"]["operation"].is_object() {
            world.run(&["resume", "hello"]).expect(0);
        }
        world.run(&["start", "hello"]).expect(0);
        assert_eq!(world.json(&["status", "hello", "--json"])["live"]["state"], "running", "{when}");
        assert_eq!(world.qemus().len(), 1, "{when}");
    };
    let killed = everywhere(&world, &["stop", "hello", "--suspend"], || {}, go_on);
    assert!(killed > 20, "a suspend changes something more often than {killed} times");
}

#[test]
fn kill_the_start_of_a_suspended_vm_at_any_call_then_start() {
    let world = World::new();
    world.ssh_finds(DONE);
    world.run(&["create", "hello"]).expect(0);
    let suspend = || drop(world.run(&["stop", "hello", "--suspend"]).expect(0));
    let go_on = |when: &str, _| {
        if world.json(&["status", "hello", "--json"])["vm"]["operation"].is_object() {
            world.run(&["resume", "hello"]).expect(0);
        }
        world.run(&["start", "hello"]).expect(0);
        assert_eq!(world.json(&["status", "hello", "--json"])["live"]["state"], "running", "{when}");
        assert_eq!(world.qemus().len(), 1, "{when}");
    };
    let killed = everywhere(&world, &["start", "hello"], suspend, go_on);
    assert!(killed > 20, "a start changes something more often than {killed} times");
}

/// The names in the working folder, without those of the stacks.
fn files(world: &World) -> Vec<String> {
    let entries = std::fs::read_dir(world.path().join("work")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != "stacks");
    names.sort();
    names
}

#[test]
fn kill_export_at_any_call_then_export_again() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    world.run(&["stop", "hello", "--force"]).expect(0);
    let again = |when: &str, _: usize| {
        let names = files(&world);
        let one_of = ["", ".hello.goloo.partial", "hello.goloo"];
        assert!(one_of.contains(&names.join(" ").as_str()), "{when}: {names:?}");
        if names == ["hello.goloo"] {
            // It has its name only when it is complete.
            world.run(&["import", "hello.goloo", "--as", "moved"]).expect(0);
            world.run(&["delete", "moved", "--yes"]).expect(0);
        } else {
            world.run(&["export", "hello", "hello.goloo"]).expect(0);
        }
        assert_eq!(files(&world), ["hello.goloo"], "{when}, and again");
        std::fs::remove_file(world.path().join("work/hello.goloo")).unwrap();
        let hello = world.json(&["status", "hello", "--json"]);
        assert_eq!(
            (&hello["vm"]["operation"], &hello["live"]["state"]),
            (&().into(), &"stopped".into()),
            "{when}"
        );
    };
    let killed = everywhere(&world, &["export", "hello", "hello.goloo"], || {}, again);
    assert!(killed > 20, "an export changes something more often than {killed} times");
}

#[test]
fn kill_import_at_any_call_then_resume_or_delete() {
    let source = World::new();
    source.run(&["create", "hello", "--no-wait"]).expect(0);
    source.run(&["stop", "hello", "--force"]).expect(0);
    source.run(&["export", "hello", "hello.goloo"]).expect(0);
    let world = World::new();
    let file = source.path().join("work/hello.goloo").display().to_string();
    let go_on = |when: &str, n: usize| {
        if list_works(&world, when) {
            if n.is_multiple_of(2) {
                world.run(&["resume", "hello"]).expect(0);
                let hello = world.json(&["status", "hello", "--json"]);
                assert!(hello["vm"]["operation"].is_null(), "{when}, resumed");
                assert_eq!(
                    (&hello["live"]["state"], world.machines().len()),
                    (&"stopped".into(), 1),
                    "{when}"
                );
            }
            world.run(&["delete", "hello", "--yes"]).expect(0);
        }
        world.assert_empty(when);
    };
    let killed = everywhere(&world, &["import", &file], || {}, go_on);
    assert!(killed > 25, "an import changes something more often than {killed} times");
}

#[test]
fn kill_rename_at_any_call_then_resume_by_either_name() {
    let world = World::new();
    reset_hosts(&world);
    world.run(&["create", "hello", "--no-wait", "--hosts"]).expect(0);
    let machine = (world.qemus(), world.machines());
    let go_on = |when: &str, n: usize| {
        assert!(list_works(&world, when));
        let names = world.names();
        assert!(names == ["hello"] || names == ["twin"], "{when}: {names:?}");
        let stored =
            ["hello", "twin"].into_iter().filter(|name| world.state().join("active").join(name).exists());
        let stored: Vec<&str> = stored.collect();
        let unfinished = |name: &str| world.json(&["status", name, "--json"])["vm"]["operation"].is_object();
        assert!(stored.len() == 1 || stored.iter().all(|name| unfinished(name)), "{when}: {stored:?}");
        world.run(&["resume", stored[n % stored.len()]]).expect(0);
        let name = world.names().remove(0);
        assert_eq!((world.names().len(), unfinished(&name)), (1, false), "{when}, resumed");
        assert_eq!((world.qemus(), world.machines()), machine, "{when}");
        assert_eq!(hosts(&world).matches("127.").count(), 2, "{when}: {}", hosts(&world));
        assert!(hosts(&world).contains(&format!(" {name}\n")), "{when}: {}", hosts(&world));
        if name == "twin" {
            world.run(&["rename", "twin", "hello"]).expect(0);
        }
    };
    let killed = everywhere(&world, &["rename", "hello", "twin"], || {}, go_on);
    assert!(killed > 25, "a rename changes something more often than {killed} times");
    world.run(&["delete", "hello", "--yes"]).expect(0);
    world.assert_empty("after the delete");
}

/// The client of the launch survives, and so does the daemon: what they create must be found.
#[test]
fn kill_create_in_multipass_at_any_call_then_resume_or_delete() {
    let world = World::multipass();
    let instances = || {
        let list: serde_json::Value =
            serde_json::from_str(&world.by_hand(&["list", "--format", "json"]).stdout()).unwrap();
        list["list"].as_array().unwrap().len()
    };
    let finish = |when: &str, n: usize| {
        if list_works(&world, when) {
            if way_out(n) == "resume" {
                world.run(&["resume", "hello"]).expect(0);
                assert_eq!(instances(), 1, "{when}, resumed");
            }
            world.run(&["delete", "hello", "--yes"]).expect(0);
        }
        assert_eq!(world.names(), Vec::<String>::new(), "{when}");
        assert_eq!(instances(), 0, "{when}");
        assert_eq!(world.multipass_file("violations"), [""; 0], "{when}");
    };
    let create = ["create", "hello", "--provider", "multipass", "--no-wait"];
    let killed = everywhere(&world, &create, || {}, finish);
    assert!(killed > 40, "a create changes something more often than {killed} times");
}

fn pulled(world: &World) -> String {
    world.run(&["state", "pull", "-"]).expect(0).stdout()
}

/// A world with two VMs and a deleted one.
fn with_records() -> World {
    let world = World::new();
    for vm in ["gone", "api", "web"] {
        world.run(&["create", "hello", "--as", vm, "--no-wait"]).expect(0);
    }
    world.run(&["delete", "gone", "--yes"]).expect(0);
    for vm in ["api", "web"] {
        world.run(&["stop", vm, "--force"]).expect(0);
    }
    world
}

/// Which of the two stores' folders accept writes.
fn live(world: &World) -> Vec<&'static str> {
    let mut places = vec!["state", "elsewhere"];
    places.retain(|place| {
        let root = if *place == "state" { world.state() } else { world.path().join(place) };
        root.join("active").exists() && !root.join("moved.json").exists()
    });
    places
}

#[test]
fn kill_a_move_at_any_call_then_retry() {
    let kept = Kept::new(with_records());
    let world = &kept.world;
    let before = pulled(world);
    let to = format!("dir:{}", world.path().join("elsewhere").display());
    let check = |when: &str, _: usize| {
        let settings = std::fs::read_to_string(world.path().join("config/settings.json")).unwrap();
        let switched = settings.contains("elsewhere");
        // Only the store in use accepts writes; in between, neither does.
        assert_eq!(pulled(world), before, "{when}");
        if switched {
            assert_eq!(live(world), ["elsewhere"], "{when}");
        }
        world.run(&["state", "move", &to]).expect(0);
        assert_eq!(pulled(world), before, "{when}, and again");
        assert_eq!(live(world), ["elsewhere"], "{when}, and again");
        assert_eq!(world.json(&["state", "show", "--json"])["address"], to.as_str(), "{when}");
        world.run(&["protect", "web"]).expect(0);
    };
    let killed = everywhere(world, &["state", "move", &to], || kept.put_back(), check);
    assert!(killed > 60, "a move changes something more often than {killed} times");
}

#[test]
fn kill_a_move_back_at_any_call_then_retry() {
    let world = with_records();
    let to = format!("dir:{}", world.path().join("elsewhere").display());
    world.run(&["state", "move", &to]).expect(0);
    world.run(&["protect", "web"]).expect(0);
    world.run(&["delete", "api", "--yes"]).expect(0);
    let kept = Kept::new(world);
    let world = &kept.world;
    let before = pulled(world);
    let check = |when: &str, _: usize| {
        assert!(live(world).len() < 2, "{when}: {:?}", live(world));
        world.run(&["state", "move", "dir"]).expect(0);
        assert_eq!((pulled(world), live(world)), (before.clone(), vec!["state"]), "{when}, and again");
        world.run(&["unprotect", "web"]).expect(0);
    };
    let killed = everywhere(world, &["state", "move", "dir"], || kept.put_back(), check);
    assert!(killed > 40, "a move changes something more often than {killed} times");
}

#[test]
fn kill_a_restore_at_any_call_then_retry() {
    let world = with_records();
    let before = pulled(&world);
    let file = world.path().join("goloo.tar.zst").display().to_string();
    world.run(&["state", "backup", &file]).expect(0);
    std::fs::remove_dir_all(world.state()).unwrap();
    let again = |when: &str, _: usize| {
        assert!(world.json(&["list", "--json"])["broken"].as_array().unwrap().is_empty(), "{when}");
        world.run(&["state", "restore", &file, "--yes"]).expect(0);
        assert_eq!(pulled(&world), before, "{when}, and again");
        assert!(world.state().join("keys/id_ed25519").is_file(), "{when}");
        std::fs::remove_dir_all(world.state()).unwrap();
    };
    let killed = everywhere(&world, &["state", "restore", &file, "--yes"], || {}, again);
    assert!(killed > 40, "a restore changes something more often than {killed} times");
}

#[test]
fn kill_a_backup_at_any_call_leaves_a_complete_file_or_none() {
    let world = with_records();
    let file = world.path().join("goloo.tar.zst");
    let path = file.display().to_string();
    let check = |when: &str, _: usize| {
        if file.exists() {
            let said = world.run(&["state", "restore", &path, "--dry-run"]).expect(0);
            assert!(said.stderr().contains("0 records would be written"), "{when}: {said:?}");
            std::fs::remove_file(&file).unwrap();
        }
    };
    let killed = everywhere(&world, &["state", "backup", &path], || {}, check);
    assert!(killed > 3, "a backup changes something more often than {killed} times");
}
