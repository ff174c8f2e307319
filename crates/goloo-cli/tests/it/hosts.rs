//! Names of VMs in the hosts file, through the real command.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

use crate::common::{Ran, World, goloo};

const HOSTS: &str = "127.0.0.1\tlocalhost\n";

fn world_with(hosts: &str) -> World {
    let world = World::new();
    fs::create_dir(world.path().join("etc")).unwrap();
    fs::write(world.hosts_file(), hosts).unwrap();
    world
}

fn world() -> World {
    world_with(HOSTS)
}

fn hosts(world: &World) -> String {
    fs::read_to_string(world.hosts_file()).unwrap()
}

fn create(world: &World, options: &[&str]) -> Ran {
    world.run(&[&["create", "hello", "--no-wait"], options].concat())
}

/// The address of the machine, as recorded.
fn address(world: &World, name: &str) -> String {
    world.json(&["status", name, "--json"])["vm"]["endpoint"]["address"].as_str().unwrap().to_owned()
}

/// The file with an entry for this VM.
fn with(world: &World, name: &str) -> String {
    format!("{HOSTS}# BEGIN goloo\n{} {name}\n# END goloo\n", address(world, name))
}

fn with_block(world: &World) -> String {
    with(world, "hello")
}

#[test]
fn a_hosts_entry_is_added_and_removed_with_its_vm() {
    let world = world();
    create(&world, &["--hosts"]).expect(0);
    assert_eq!(hosts(&world), with_block(&world));
    assert_eq!(world.json(&["status", "hello", "--json"])["vm"]["hostsEntry"], true);
    world.run(&["create", "hello", "--no-wait", "--hosts", "--as", "hello-2"]).expect(0);
    world.run(&["delete", "hello", "--yes"]).expect(0);
    assert_eq!(hosts(&world), with(&world, "hello-2"));
    world.run(&["delete", "hello-2", "--yes"]).expect(0);
    assert_eq!(hosts(&world), HOSTS);
}

#[test]
fn a_hosts_entry_follows_the_name_of_its_vm() {
    let world = world();
    create(&world, &["--hosts"]).expect(0);
    world.run(&["rename", "hello", "shop"]).expect(0);
    assert_eq!(hosts(&world), with(&world, "shop"));
    world.run(&["delete", "shop", "--yes"]).expect(0);
    assert_eq!(hosts(&world), HOSTS);
}

#[test]
fn no_vm_gets_a_hosts_entry_by_default() {
    let world = world();
    // Held open so that its inode number isn't reused.
    let before = fs::File::open(world.hosts_file()).unwrap();
    create(&world, &[]).expect(0);
    world.run(&["restart", "hello", "--force", "--timeout", "1s"]);
    world.run(&["delete", "hello", "--yes"]).expect(0);
    assert_eq!(world.hosts_file().metadata().unwrap().ino(), before.metadata().unwrap().ino());
    assert_eq!(hosts(&world), HOSTS);
}

#[test]
fn the_command_line_overrides_the_hosts_setting() {
    let world = world();
    world.settings(r#"{"localProvider": "qemu", "hosts": true}"#);
    create(&world, &["--no-hosts"]).expect(0);
    assert_eq!(hosts(&world), HOSTS);
    world.run(&["delete", "hello", "--yes"]).expect(0);
    create(&world, &[]).expect(0);
    assert_eq!(hosts(&world), with_block(&world));
    // The record decides, not what the settings say later.
    world.settings(r#"{"localProvider": "qemu"}"#);
    world.run(&["delete", "hello", "--yes"]).expect(0);
    assert_eq!(hosts(&world), HOSTS);
}

#[test]
fn a_vm_in_aws_gets_no_hosts_entry() {
    let world = world();
    for aws in [["--aws"].as_slice(), &["--provider", "aws"]] {
        let refused = create(&world, &[&["--hosts"], aws].concat()).expect(2);
        assert!(refused.stderr().contains("dns.domain"), "{refused:?}");
    }
    create(&world, &["--hosts", "--no-hosts"]).expect(2);
    assert_eq!(hosts(&world), HOSTS);
}

#[test]
fn a_dry_run_lists_the_hosts_entry_without_writing_it() {
    let world = world();
    let plan = world.json(&["create", "hello", "--hosts", "--dry-run", "--json"]);
    let steps = plan["plan"]["steps"].as_array().unwrap();
    assert!(steps.last().unwrap().as_str().unwrap().contains("etc/hosts"), "{steps:?}");
    let plan = world.json(&["create", "hello", "--dry-run", "--json"]);
    assert_eq!(plan["plan"]["steps"].as_array().unwrap().len(), steps.len() - 1);
    assert_eq!(hosts(&world), HOSTS);
}

#[test]
fn start_updates_the_address_in_the_hosts_entry() {
    let world = world();
    world.ssh_finds(r#"{"status":"done","errors":[]}"#);
    create(&world, &["--hosts"]).expect(0);
    for command in [["start", "hello"].as_slice(), &["restart", "hello", "--force"]] {
        fs::write(world.hosts_file(), with_block(&world).replace(&address(&world, "hello"), "10.9.9.9"))
            .unwrap();
        world.run(command).expect(0);
        assert_eq!(hosts(&world), with_block(&world), "{command:?}");
    }
}

#[test]
fn recreate_restores_the_hosts_entry() {
    let world = world();
    create(&world, &["--hosts"]).expect(0);
    world.run(&["delete", "hello", "--yes"]).expect(0);
    world.run(&["recreate", "hello", "--no-wait"]).expect(0);
    assert_eq!(hosts(&world), with_block(&world));
    world.run(&["recreate", "hello", "--no-wait", "--as", "twin", "--no-hosts"]).expect(0);
    assert_eq!(hosts(&world), with_block(&world));
    for aws in [["--aws"].as_slice(), &["--provider", "aws"]] {
        let moved = world.run(&[&["recreate", "hello", "--as", "moved", "--dry-run"], aws].concat());
        assert!(!moved.stderr().contains("--hosts"), "nobody gave that option: {moved:?}");
    }
}

#[test]
fn an_unmanaged_hosts_entry_is_left_unchanged_with_a_warning() {
    let theirs = "10.0.0.1\thello\n";
    let world = world_with(theirs);
    let made = create(&world, &["--hosts"]).expect(0);
    assert!(made.stderr().contains("warning:") && made.stderr().contains("goloo start hello"), "{made:?}");
    assert_eq!(hosts(&world), theirs);
    world.run(&["delete", "hello", "--yes"]).expect(0);
    assert_eq!(hosts(&world), theirs);
}

#[test]
fn a_missing_hosts_file_warns_on_create_and_does_not_fail_delete() {
    let world = World::new();
    let made = create(&world, &["--hosts"]).expect(0);
    assert!(made.stderr().contains("etc/hosts: No such file"), "{made:?}");
    world.run(&["delete", "hello", "--yes"]).expect(0);
}

#[test]
fn a_block_without_an_end_marker_is_repaired_with_a_warning() {
    let rest = "10.0.0.5\tprinter\n";
    let world = world_with(&format!("# BEGIN goloo\n10.0.0.2 web\n{rest}"));
    let made = create(&world, &["--hosts"]).expect(0);
    assert!(made.stderr().contains("the end marker of goloo's block was missing"), "{made:?}");
    let whole =
        format!("# BEGIN goloo\n10.0.0.2 web\n{} hello\n# END goloo\n{rest}", address(&world, "hello"));
    assert_eq!(hosts(&world), whole);
}

#[test]
fn concurrent_processes_lose_no_hosts_entries() {
    let world = world();
    let path = world.hosts_file().display().to_string();
    let edit = |words: Vec<String>| {
        let mut command = world.command();
        command.args(["__edit-hosts", &path]).args(words).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let all = |words: fn(u8) -> Vec<String>| {
        let children: Vec<_> = (0..32).map(|number| edit(words(number))).collect();
        children.into_iter().for_each(|child| drop(Ran(child.wait_with_output().unwrap()).expect(0)));
    };
    all(|number| vec!["set".into(), format!("vm-{number}"), format!("10.0.0.{number}")]);
    let lines: Vec<String> = hosts(&world).lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 1 + 32 + 2, "{lines:?}");
    for number in 0..32 {
        assert!(lines.contains(&format!("10.0.0.{number} vm-{number}")), "{number} is lost: {lines:?}");
    }
    all(|number| vec!["remove".into(), format!("vm-{number}")]);
    assert_eq!(hosts(&world), HOSTS);
}

/// A hosts file that only sudo may change; `sudo -n` succeeds if `passwordless`. The first argument of each sudo call
/// is logged in `sudo.log`.
fn guarded(passwordless: bool) -> World {
    let world = world();
    let folder = world.path().join("etc").display().to_string();
    let quiet = if passwordless { "shift" } else { "echo 'sudo: a password is required' >&2; exit 1" };
    world.program(
        "sudo",
        &format!(
            "#!/bin/sh\n\
             printf '%s\\n' \"$1\" >>'{folder}/../sudo.log'\n\
             if [ \"$1\" = -n ]; then {quiet}; fi\n\
             [ \"$1\" = -- ] && shift\n\
             chmod u+w '{folder}'\n\
             \"$@\"; status=$?\n\
             chmod u-w '{folder}'\n\
             exit $status\n"
        ),
    );
    fs::set_permissions(world.hosts_file(), fs::Permissions::from_mode(0o444)).unwrap();
    allow(&world, false);
    world
}

fn allow(world: &World, writing: bool) {
    let mode = if writing { 0o755 } else { 0o555 };
    fs::set_permissions(world.path().join("etc"), fs::Permissions::from_mode(mode)).unwrap();
}

fn asked(world: &World) -> Vec<String> {
    let log = fs::read_to_string(world.path().join("sudo.log")).unwrap_or_default();
    log.lines().map(str::to_owned).collect()
}

/// goloo without the capabilities with which root bypasses file permissions.
fn bounded(world: &World, arguments: &[&str]) -> Command {
    let is_root = world.path().metadata().unwrap().uid() == 0;
    let mut command = if is_root { Command::new("setpriv") } else { Command::new("env") };
    if is_root {
        command.arg("--bounding-set=-dac_override,-dac_read_search");
    }
    world.settle(&mut command);
    command.arg(goloo()).args(arguments).stdin(Stdio::null());
    command
}

fn run_bounded(world: &World, arguments: &[&str]) -> Ran {
    Ran(bounded(world, arguments).output().unwrap())
}

const CREATE: [&str; 4] = ["create", "hello", "--no-wait", "--hosts"];

#[test]
fn a_hosts_file_owned_by_root_is_changed_with_sudo() {
    let world = guarded(true);
    run_bounded(&world, &CREATE).expect(0);
    assert_eq!(hosts(&world), with_block(&world));
    assert_eq!(world.hosts_file().metadata().unwrap().mode() & 0o777, 0o444);
    run_bounded(&world, &["delete", "hello", "--yes"]).expect(0);
    assert_eq!(hosts(&world), HOSTS);
    assert_eq!(asked(&world), ["-n", "-n"]);
    allow(&world, true);
}

#[test]
fn sudo_is_not_run_when_nothing_changes() {
    let world = guarded(true);
    run_bounded(&world, &CREATE).expect(0);
    run_bounded(&world, &["start", "hello", "--timeout", "1s"]);
    assert_eq!(asked(&world), ["-n"]);
    allow(&world, true);
}

#[test]
fn without_a_terminal_sudo_does_not_ask_for_a_password() {
    let world = guarded(false);
    let made = run_bounded(&world, &CREATE).expect(0);
    let said = made.stderr();
    assert!(said.contains("sudo: a password is required") && said.contains("goloo start hello"), "{made:?}");
    assert_eq!((hosts(&world), asked(&world)), (HOSTS.to_owned(), vec!["-n".to_owned()]));
    // There is no entry, so nothing has to be removed.
    run_bounded(&world, &["delete", "hello", "--yes"]).expect(0);
    allow(&world, true);
}

#[test]
fn a_hosts_entry_that_cannot_be_removed_keeps_the_record_and_exits_4() {
    let world = guarded(false);
    allow(&world, true);
    run_bounded(&world, &CREATE).expect(0);
    allow(&world, false);
    for _ in 0..2 {
        let kept = run_bounded(&world, &["delete", "hello", "--yes"]).expect(4);
        let said = kept.stderr();
        assert!(said.contains("a password is required") && said.contains("sudo -v"), "{kept:?}");
        assert!(said.contains("goloo delete hello"), "{kept:?}");
    }
    assert_eq!(world.json(&["status", "hello", "--json"])["vm"]["phase"], "deleting");
    assert!(world.machines().is_empty());
    allow(&world, true);
    // Done manually, as the hint says.
    fs::remove_file(world.hosts_file()).unwrap();
    fs::write(world.hosts_file(), HOSTS).unwrap();
    run_bounded(&world, &["resume", "hello"]).expect(0);
    world.assert_empty("after the line was gone");
    assert_eq!(hosts(&world), HOSTS);
}

#[test]
fn sudo_may_prompt_for_a_password_on_a_terminal() {
    let world = guarded(false);
    let mut command = Command::new("script");
    world.settle(&mut command);
    let words = bounded(&world, &CREATE);
    let words = std::iter::once(words.get_program()).chain(words.get_args());
    let line: Vec<_> = words.map(|word| word.to_str().unwrap().to_owned()).collect();
    let ran = Ran(command.args(["-qec", &line.join(" "), "/dev/null"]).output().unwrap()).expect(0);
    assert!(ran.stdout().contains("sudo is needed to change"), "{ran:?}");
    assert_eq!(asked(&world), ["-n", "--"]);
    assert_eq!(hosts(&world), with_block(&world));
    allow(&world, true);
}
