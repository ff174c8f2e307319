//! The real command, killed at its n-th system call that changes something, for every n until it gets
//! through. `strace` does the killing: nothing in goloo knows of it.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::process::Command;

use common::{Ran, World, goloo};

/// Calls that change files, processes or connections.
const CALLS: &str = "openat,write,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,\
                     link,linkat,ftruncate,flock,clone,clone3,vfork,connect,sendto,bind";

/// Runs goloo and kills it right before its `n`-th such call; `None` when it got through unharmed.
fn killed_at(world: &World, n: usize, arguments: &[&str]) -> Option<()> {
    let mut command = Command::new("strace");
    world.settle(&mut command);
    command.args(["-qq", "-o", "/dev/null", "-e", &format!("trace={CALLS}")]);
    command.args(["-e", &format!("inject={CALLS}:signal=KILL:when={n}")]);
    let ran = Ran(command.arg(goloo()).args(arguments).output().unwrap());
    // strace ends the way the program ended: by the signal, or with its exit code.
    if ran.0.status.success() {
        return None;
    }
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(ran.0.status.signal(), Some(9), "{arguments:?} at call {n}: {ran:?}");
    Some(())
}

fn list_works(world: &World, when: &str) -> bool {
    let list = world.json(&["list", "--json"]);
    assert_eq!(list["broken"], serde_json::json!([]), "{when}");
    !world.names().is_empty()
}

/// How a killed create is dealt with.
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
}

/// The number of a call up to which every call is tried; more means that the counting is broken.
const MOST: usize = 2_000;

#[test]
fn kill_create_anywhere_then_delete() {
    kill_create("delete");
}

#[test]
fn kill_create_anywhere_then_resume() {
    kill_create("resume");
}

fn kill_create(by: &str) {
    let world = World::new();
    world.run(&["image", "pull", "./stacks/hello/disk.img"]).expect(0);
    let mut n = 0;
    loop {
        n += 1;
        assert!(n < MOST);
        let when = format!("create killed at call {n}");
        let through = killed_at(&world, n, &["create", "hello", "--no-wait"]).is_none();
        finish(&world, &when, by);
        if through {
            break;
        }
    }
    println!("create was killed at {} calls", n - 1);
    assert!(n > 40, "a create makes more calls than {n}");
}

#[test]
fn kill_delete_anywhere_then_delete() {
    let world = World::new();
    let mut n = 0;
    loop {
        n += 1;
        assert!(n < MOST);
        let when = format!("delete killed at call {n}");
        world.run(&["create", "hello", "--no-wait"]).expect(0);
        let through = killed_at(&world, n, &["delete", "hello", "--yes"]).is_none();
        if !through && list_works(&world, &when) {
            let by = if n % 2 == 0 { vec!["resume", "hello"] } else { vec!["delete", "hello", "--yes"] };
            world.run(&by).expect(0);
            if !world.names().is_empty() {
                // Killed before the intent was written: there was nothing to resume.
                world.run(&["delete", "hello", "--yes"]).expect(0);
            }
        }
        world.assert_empty(&when);
        if through {
            break;
        }
    }
    println!("delete was killed at {} calls", n - 1);
    assert!(n > 20, "a delete makes more calls than {n}");
}
