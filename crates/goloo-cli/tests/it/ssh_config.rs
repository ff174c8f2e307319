//! `~/.ssh/config` with the VMs of goloo, as the real `ssh` reads it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::common::World;

fn user_config(world: &World) -> PathBuf {
    world.path().join("home/.ssh/config")
}

/// What `ssh` would connect to by this name: a port of this computer, or the name itself.
fn destination(world: &World, name: &str) -> (String, String) {
    let output = Command::new("ssh").arg("-G").arg("-F").arg(user_config(world)).arg(name).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned();
    (value("hostname "), value("port "))
}

fn recorded(world: &World, name: &str) -> (String, String) {
    let endpoint = world.json(&["status", name, "--json"])["vm"]["endpoint"].clone();
    (endpoint["address"].as_str().unwrap().to_owned(), endpoint["sshPort"].to_string())
}

#[test]
fn installed_vms_are_found_by_name_and_stay_up_to_date() {
    let world = World::new();
    fs::create_dir_all(world.path().join("home/.ssh")).unwrap();
    let before = "Host *\n  Port 2200\n  HostName 192.0.2.1\n";
    fs::write(user_config(&world), before).unwrap();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    let added = world.run(&["ssh-config", "--install", "--yes"]).expect(0).stdout();
    assert!(added.contains("home/.ssh/config"), "{added}");
    assert_eq!(destination(&world, "hello"), recorded(&world, "hello"));

    // Each change of a VM is a change of the file.
    world.run(&["create", "hello", "--no-wait", "--as", "other"]).expect(0);
    assert_eq!(destination(&world, "other"), recorded(&world, "other"));
    world.run(&["stop", "other", "--force"]).expect(0);
    world.run(&["clone", "other", "third"]).expect(0);
    world.run(&["start", "third", "--timeout", "1s"]);
    assert_eq!(destination(&world, "third"), recorded(&world, "third"));
    world.run(&["delete", "other", "--yes"]).expect(0);
    assert_eq!(destination(&world, "other").0, "192.0.2.1");
    assert_eq!(destination(&world, "hello"), recorded(&world, "hello"));

    let installed = fs::read(user_config(&world)).unwrap();
    world.run(&["ssh-config", "--install"]).expect(0);
    assert_eq!(fs::read(user_config(&world)).unwrap(), installed, "never twice");
    world.run(&["ssh-config", "--uninstall"]).expect(0);
    assert_eq!(fs::read_to_string(user_config(&world)).unwrap(), before);
    world.run(&["delete", "hello", "third", "--yes"]).expect(0);
    assert!(!world.state().join("ssh_config").exists());
}

#[test]
fn without_consent_nothing_is_changed() {
    let world = World::new();
    let asked = world.run(&["ssh-config", "--install"]).expect(2);
    assert!(asked.stderr().contains("goloo ssh-config --install --yes"), "{asked:?}");
    assert!(!user_config(&world).exists() && !world.state().join("ssh_config").exists());
    assert!(world.run(&["ssh-config", "--uninstall"]).expect(0).stdout().contains("not installed"));
}

#[test]
fn a_file_that_cannot_be_updated_is_only_a_warning() {
    let world = World::new();
    world.run(&["ssh-config", "--install", "--yes"]).expect(0);
    let own = world.state().join("ssh_config");
    fs::remove_file(&own).unwrap();
    fs::create_dir(&own).unwrap();
    let created = world.run(&["create", "hello", "--no-wait"]).expect(0);
    assert!(created.stderr().contains("the SSH configuration was not updated"), "{created:?}");
    fs::remove_dir(&own).unwrap();
    // What isn't installed isn't written.
    let deleted = world.run(&["delete", "hello", "--yes"]).expect(0);
    assert!(!deleted.stderr().contains("SSH configuration") && !own.exists(), "{deleted:?}");
}

#[test]
fn a_config_that_goloo_does_not_change_gets_the_line_as_a_hint() {
    let world = World::new();
    world.run(&["list"]).expect(0);
    fs::create_dir(world.path().join("home/.ssh")).unwrap();
    std::os::unix::fs::symlink("/no/such/file", user_config(&world)).unwrap();
    let refused = world.run(&["ssh-config", "--install", "--yes"]).expect(1);
    for words in ["is not changed: it is a link to a file that doesn't exist", "hint: ", "Include \""] {
        assert!(refused.stderr().contains(words), "{refused:?}");
    }
}
