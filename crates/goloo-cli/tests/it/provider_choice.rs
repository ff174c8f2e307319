//! Which provider creates a local VM; afterwards the record decides.

use crate::common::{Ran, World};

/// A world with nothing on the PATH except what the test adds, and without settings.
fn bare() -> World {
    let world = World::new();
    world.settings("{}");
    world
}

/// Plans a VM, without access to the programs installed on the machine that runs the tests.
fn plan(world: &World, arguments: &[&str]) -> Ran {
    plan_with(world, arguments, &[])
}

fn plan_with(world: &World, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut command = world.command();
    command.env("PATH", world.path().join("bin")).env_remove("GOLOO_MULTIPASS");
    command.envs(variables.iter().copied());
    Ran(command.args(["create", "hello", "--dry-run"]).args(arguments).output().unwrap())
}

fn multipass(world: &World) {
    world.program("multipass", "#!/bin/sh\necho 'nobody asks the daemon' >&2\nexit 2\n");
}

const CHOSEN: &str = "using multipass, since it is installed";

#[track_caller]
fn assert_qemu(ran: Ran) {
    let ran = ran.expect(0);
    assert!(ran.stdout().contains("hello would be created by qemu"), "{ran:?}");
    assert!(!ran.stderr().contains(CHOSEN), "{ran:?}");
}

#[track_caller]
fn assert_multipass_by_itself(ran: &Ran) {
    assert_eq!(ran.stderr().matches(CHOSEN).count(), 1, "{ran:?}");
    assert!(!ran.stdout().contains("qemu"), "{ran:?}");
}

#[test]
fn qemu_is_the_default_without_multipass() {
    let world = bare();
    assert_qemu(plan(&world, &[]));
    assert_qemu(plan(&world, &["--local"]));
}

#[test]
fn an_installed_multipass_is_the_default_and_reported_once() {
    let world = bare();
    multipass(&world);
    assert_multipass_by_itself(&plan(&world, &[]));
    assert_multipass_by_itself(&plan(&world, &["--local"]));
}

#[test]
fn a_multipass_file_that_is_not_executable_is_ignored() {
    let world = bare();
    std::fs::create_dir_all(world.path().join("bin")).unwrap();
    std::fs::write(world.path().join("bin/multipass"), "notes on multipass").unwrap();
    assert_qemu(plan(&world, &[]));
}

#[test]
fn the_environment_may_name_the_multipass_executable() {
    let world = bare();
    world.program("other", "#!/bin/sh\nexit 2\n");
    let other = world.path().join("bin/other").display().to_string();
    assert_multipass_by_itself(&plan_with(&world, &[], &[("GOLOO_MULTIPASS", &other)]));
    assert_qemu(plan_with(&world, &[], &[("GOLOO_MULTIPASS", "/nowhere/multipass")]));
    assert_qemu(plan_with(&world, &[], &[("GOLOO_MULTIPASS", "")]));
}

#[test]
fn the_settings_override_the_installed_provider() {
    let world = bare();
    multipass(&world);
    world.settings(r#"{"localProvider": "qemu"}"#);
    assert_qemu(plan(&world, &[]));
    world.settings(r#"{"localProvider": "multipass"}"#);
    let ran = plan(&world, &["--local"]);
    assert!(!ran.stderr().contains(CHOSEN), "nothing is news here: {ran:?}");
    assert!(!ran.stdout().contains("qemu"), "{ran:?}");
}

#[test]
fn the_command_line_overrides_all_other_choices() {
    let world = bare();
    multipass(&world);
    assert_qemu(plan(&world, &["--provider", "qemu"]));
    world.settings(r#"{"localProvider": "multipass"}"#);
    assert_qemu(plan(&world, &["--provider", "qemu"]));
    let both = plan(&world, &["--provider", "qemu", "--aws"]).expect(2);
    assert!(both.stderr().contains("cannot be used with"), "{both:?}");
}

#[test]
fn an_existing_vm_keeps_its_recorded_provider() {
    let world = bare();
    world.run(&["create", "hello", "--no-wait", "--provider", "qemu"]).expect(0);
    multipass(&world);
    world.settings(r#"{"localProvider": "multipass"}"#);
    let status = world.json(&["status", "hello", "--json"]);
    assert_eq!((&status["vm"]["provider"], &status["live"]["state"]), (&"qemu".into(), &"running".into()));
    world.run(&["stop", "hello"]).expect(0);
    let plan = world.json(&["recreate", "hello", "--as", "twin", "--dry-run", "--json"]);
    assert_eq!(plan["plan"]["provider"], "qemu");
    world.run(&["delete", "hello", "--yes"]).expect(0);
    world.assert_empty("after the delete");
}
