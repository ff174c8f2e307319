//! VMs that start at login, with a stand-in for systemctl.

use std::fs;
use std::path::PathBuf;

use crate::common::{Ran, World};

/// Logs its arguments.
const SYSTEMCTL: &str = "#!/bin/sh\necho \"$*\" >> \"$HOME/systemctl-calls\"\n";

fn world() -> World {
    let world = World::new();
    world.program("systemctl", SYSTEMCTL);
    world.ssh_finds(r#"{"status":"done","errors":[]}"#);
    world.run(&["create", "hello"]).expect(0);
    world
}

fn unit(world: &World) -> PathBuf {
    world.path().join("home/.config/systemd/user/goloo-autostart.service")
}

fn calls(world: &World) -> Vec<String> {
    let path = world.path().join("home/systemctl-calls");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let _ = fs::remove_file(path);
    text.lines().map(str::to_owned).collect()
}

/// Runs what the unit says, with only the environment that it sets.
fn log_in(world: &World) -> Ran {
    let unit = fs::read_to_string(unit(world)).unwrap();
    let values = |key: &str| -> Vec<String> {
        let lines =
            unit.lines().filter_map(|line| line.strip_prefix(key)).map(|line| line.replace("%%", "%"));
        lines.flat_map(|line| shlex::split(&line).unwrap()).collect()
    };
    let words = values("ExecStart=");
    let mut command = std::process::Command::new(&words[0]);
    command.args(&words[1..]).env_clear().env("HOME", world.path().join("home"));
    let kept = ["USER", "GOLOO_QEMU_ACCEL", "GOLOO_HOSTS_FILE"];
    command.envs(world.env().into_iter().filter(|(name, _)| kept.contains(&name.as_str())));
    for variable in values("Environment=") {
        let (name, value) = variable.split_once('=').unwrap();
        command.env(name, value);
    }
    Ran(command.current_dir("/").output().unwrap())
}

#[test]
fn a_marked_vm_is_started_at_login_and_others_are_not() {
    let world = world();
    world.run(&["create", "hello", "--as", "other"]).expect(0);
    world.run(&["autostart", "hello", "on"]).expect(0);
    assert_eq!(calls(&world), ["--user daemon-reload", "--user enable goloo-autostart.service"]);
    assert!(world.run(&["status", "hello"]).expect(0).stdout().contains("goloo autostart hello off"));
    assert_eq!(world.json(&["status", "hello", "--json"])["vm"]["autostart"], true);
    world.run(&["stop", "hello", "other", "--force"]).expect(0);
    let ran = log_in(&world).expect(0);
    assert_eq!(ran.stdout(), "hello is running\n");
    assert_eq!(world.qemus().len(), 1);
    // At the next login it is running already.
    log_in(&world).expect(0);

    world.run(&["rename", "hello", "shop"]).expect(0);
    world.run(&["stop", "shop", "--force"]).expect(0);
    assert_eq!(log_in(&world).expect(0).stdout(), "shop is running\n");
    world.run(&["rename", "shop", "hello"]).expect(0);

    world.run(&["autostart", "other", "on"]).expect(0);
    world.run(&["autostart", "hello", "off"]).expect(0);
    assert!(unit(&world).exists(), "another VM needs it");
    calls(&world);
    world.run(&["autostart", "other", "off"]).expect(0);
    assert_eq!(calls(&world), ["--user disable goloo-autostart.service", "--user daemon-reload"]);
    assert!(!unit(&world).exists());
    assert!(world.json(&["status", "hello", "--json"])["vm"]["autostart"].is_null());
    assert!(world.run(&["history", "hello"]).expect(0).stdout().contains("no-autostart"));
    world.run(&["delete", "hello", "other", "--yes"]).expect(0);
}

#[test]
fn without_systemd_no_vm_is_marked() {
    let world = world();
    let bin = world.path().join("bin");
    fs::remove_file(bin.join("systemctl")).unwrap();
    let ran = |path: &PathBuf| {
        Ran(world.command().env("PATH", path).args(["autostart", "hello", "on"]).output().unwrap())
    };
    let missing = ran(&bin).expect(1);
    assert!(missing.stderr().contains("goloo autostart --start"), "{missing:?}");
    world.program("systemctl", "#!/bin/sh\necho 'Failed to connect to bus: No medium found' >&2\nexit 1\n");
    let failed = world.run(&["autostart", "hello", "on"]).expect(1);
    assert!(failed.stderr().contains("daemon-reload failed: Failed to connect to bus"), "{failed:?}");
    assert!(world.json(&["status", "hello", "--json"])["vm"]["autostart"].is_null());
    world.run(&["delete", "hello", "--yes"]).expect(0);
}

/// In a store that others can write to, only a record that proves its origin is trusted; the proof covers the mark.
#[test]
fn a_mark_made_here_is_trusted_in_a_shared_store() {
    let world = World::new();
    world.program("systemctl", SYSTEMCTL);
    world.ssh_finds(r#"{"status":"done","errors":[]}"#);
    let address = format!("sqlite:{}/shared/goloo.db", world.path().display());
    let run = |arguments: &[&str]| {
        Ran(world.command().env("GOLOO_STATE_BACKEND", &address).args(arguments).output().unwrap())
    };
    run(&["create", "hello"]).expect(0);
    run(&["autostart", "hello", "on"]).expect(0);
    // The proof covers tags, too: what is changed here is proven again.
    run(&["tag", "hello", "team=web"]).expect(0);
    run(&["protect", "hello"]).expect(0);
    run(&["unprotect", "hello"]).expect(0);
    run(&["stop", "hello", "--force"]).expect(0);
    assert_eq!(run(&["autostart", "--start"]).expect(0).stdout(), "hello is running\n");
    run(&["delete", "hello", "--yes"]).expect(0);
}
