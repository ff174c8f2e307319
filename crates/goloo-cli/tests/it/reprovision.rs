//! `goloo apply --reprovision` through the real command. What it does in the guest is tested with cloud-init itself, in
//! goloo-testkit and in `vm.rs`; here `ssh` is a script that keeps what it is sent.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::common::World;
use crate::common::kill::everywhere;

const DONE: &str = r#"{"status": "done", "errors": [], "recoverable_errors": {}}"#;
const FAILED: &str = r#"{"status": "error", "errors": ["runcmd failed"], "recoverable_errors": {}}"#;
const APPLY: [&str; 4] = ["apply", "hello", "--reprovision", "--yes"];

/// Answers goloo's questions, and does what the script for provisioning again does: it keeps standard input, and tells
/// whether the machine has started since, by the process of QEMU.
const SSH: &str = r#"#!/bin/sh
cd FOLDER || exit 1
echo "$*" >>arguments
for last; do :; done
process() { sed -n '/"process"/,$p' MACHINE; }
case $last in
*goloo:booted*)
    [ ! -e refusal ] || { cat refusal >&2; exit 1; }
    token=$(echo "$last" | sed -n 's/.*operation=\([0-9A-Z]*\).*/\1/p')
    if [ "$token" = "$(cat token)" ]; then
        [ "$(process)" = "$(cat process)" ] || echo @goloo:booted@
        exit 0
    fi
    cat >user-data
    process >process
    echo "$token" | tee -a tokens >token ;;
*user-data.txt*) [ ! -e ignores ] ;;
*goloo:status*)
    while [ -e hangs ]; do sleep 0.1; done
    echo '@goloo:status@'; cat status; echo '@goloo:end@' ;;
*tail*) echo 'the last line of the log' ;;
esac
"#;

/// With the running VM `hello` and a guest that reports this result.
struct Guest {
    world: World,
    folder: PathBuf,
}

impl Guest {
    fn new() -> Self {
        let world = World::new();
        world.ssh_finds(DONE);
        world.run(&["create", "hello"]).expect(0);
        let folder = world.path().join("guest");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("token"), "").unwrap();
        let machine = world.machines()[0].join("machine.json");
        let script = SSH.replace("FOLDER", folder.to_str().unwrap());
        world.program("ssh", &script.replace("MACHINE", machine.to_str().unwrap()));
        let guest = Self { world, folder };
        guest.reports(DONE);
        guest
    }

    fn reports(&self, status: &str) {
        fs::write(self.folder.join("status"), format!("{status}\n")).unwrap();
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(name)).unwrap_or_default()
    }

    /// How often the machine was prepared.
    fn prepared(&self) -> usize {
        self.file("tokens").lines().count()
    }

    fn document(&self, text: &str) {
        let path = self.world.path().join("work/stacks/hello/cloud-init.yaml");
        fs::write(path, format!("#cloud-config\nruncmd: [{text}]\n")).unwrap();
    }

    fn record(&self) -> Value {
        self.world.json(&["status", "hello", "--json"])["vm"].clone()
    }

    /// The phase, the result of provisioning and the operation.
    fn state(&self) -> [Value; 3] {
        let record = self.record();
        [record["phase"].clone(), record["provisioning"]["result"].clone(), record["operation"].clone()]
    }
}

const READY: [&str; 2] = ["ready", "done"];

fn state(words: [&str; 2]) -> [Value; 3] {
    [json!(words[0]), json!(words[1]), Value::Null]
}

#[test]
fn changed_documents_are_run_in_the_machine_after_it_was_asked_for() {
    let guest = Guest::new();
    let world = &guest.world;
    guest.document("secret-of-the-document");
    fs::write(world.path().join("work/stacks/hello/configure.sh"), "#!/bin/sh\ntrue\n").unwrap();
    let qemu = world.qemus();
    let refused = world.run(&APPLY[..3]).expect(2);
    assert!(refused.stderr().contains("apply asks before it provisions a machine again"), "{refused:?}");
    assert!(refused.stderr().contains("goloo apply hello --reprovision --yes"), "{refused:?}");
    let plan = world.run(&["apply", "hello", "--reprovision", "--dry-run"]).expect(0).stdout();
    assert!(plan.contains("provisioning again") && plan.contains("runs a second time"), "{plan}");
    assert_eq!((world.qemus(), guest.prepared()), (qemu.clone(), 0));

    let said = world.run(&APPLY).expect(0).stdout();
    assert!(said.contains("changed hello: cloud-init.yaml, configure.sh\n"), "{said}");
    assert!(said.contains("hello is provisioned again\n"), "{said}");
    assert_ne!(world.qemus(), qemu, "it was restarted");
    let sent = guest.file("user-data");
    assert!(sent.contains("secret-of-the-document") && !sent.contains("PRIVATE KEY"), "{sent}");
    assert!(!guest.file("arguments").contains("secret-of"), "others see a program's arguments");
    assert_eq!(guest.state(), state(READY));
    // It is what the VM has now.
    assert_eq!(world.run(&["apply", "hello"]).expect(0).stdout(), "hello is as its stack says\n");
    assert_eq!(world.run(&["diff", "hello"]).expect(0).stdout(), "");
    assert_eq!(world.run(&APPLY).expect(0).stdout(), "hello is as its stack says\n");
    assert_eq!(guest.prepared(), 1);
    world.run(&["rename", "hello", "shop"]).expect(0);
    assert_eq!(world.run(&["diff", "shop"]).expect(0).stdout(), "");
    assert_eq!(world.run(&["apply", "shop"]).expect(0).stdout(), "shop is as its stack says\n");
}

#[test]
fn a_failed_document_is_reported_as_by_create_and_can_be_run_again() {
    let guest = Guest::new();
    guest.document("wrong");
    guest.reports(FAILED);
    // A verdict of before isn't in question, so the fake guest fails it from the start.
    let failed = guest.world.run(&APPLY).expect(8);
    for words in ["the last line of the log", "its provisioning failed", "runcmd failed"] {
        assert!(failed.stderr().contains(words), "{words} isn't in {failed:?}");
    }
    assert!(failed.stderr().contains("goloo apply hello --reprovision"), "{failed:?}");
    assert_eq!(guest.state(), state(["degraded", "failed"]));
    let history = guest.record()["history"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(history["reason"], "provisioning failed", "{history}");
    // With the same files: a mirror that didn't answer may answer now.
    guest.reports(DONE);
    assert_eq!(guest.world.run(&["apply", "hello"]).expect(0).stdout(), "hello is as its stack says\n");
    let again = guest.world.json(&["apply", "hello", "--reprovision", "--yes", "--json"]);
    assert_eq!((&again["reprovisioned"], guest.prepared()), (&json!("done"), 2));
    assert_eq!(guest.state(), state(READY));
}

#[test]
fn what_the_machine_refuses_leaves_it_as_it_was() {
    let guest = Guest::new();
    guest.document("two");
    let qemu = guest.world.qemus();
    fs::write(guest.folder.join("refusal"), "provisioning again takes systemd\n").unwrap();
    let refused = guest.world.run(&APPLY).expect(1);
    assert!(refused.stderr().contains("provisioning again takes systemd"), "{refused:?}");
    assert_eq!((guest.state(), guest.world.qemus()), (state(READY), qemu));
    let plan = guest.world.run(&["apply", "hello", "--dry-run"]).expect(0).stdout();
    assert!(plan.contains("cloud-init.yaml"), "{plan}");
    // cloud-init went on with the document that it was created with.
    fs::remove_file(guest.folder.join("refusal")).unwrap();
    fs::write(guest.folder.join("ignores"), "").unwrap();
    let ignored = guest.world.run(&APPLY).expect(1);
    assert!(ignored.stderr().contains("didn't take the new configuration"), "{ignored:?}");
    assert_eq!(guest.state(), state(["degraded", "unknown"]));
}

#[test]
fn a_stopped_machine_is_not_provisioned_again() {
    let guest = Guest::new();
    guest.world.run(&["stop", "hello"]).expect(0);
    guest.document("two");
    let refused = guest.world.run(&APPLY).expect(1);
    assert!(refused.stderr().contains("can only be provisioned again while it is running"), "{refused:?}");
    assert!(refused.stderr().contains("goloo start hello"), "{refused:?}");
    assert_eq!((guest.state(), guest.prepared()), (state(READY), 0));
    let both = guest.world.run(&["apply", "hello", "--reprovision", "--no-restart"]).expect(2);
    assert!(both.stderr().contains("cannot be used with"), "{both:?}");
}

#[test]
fn overridden_variables_are_those_of_the_machine_afterwards() {
    let guest = Guest::new();
    let world = &guest.world;
    let set = world.run(&["set", "hello", "cloud_init.packages=[\"tmux\"]"]).expect(0).stdout();
    assert!(set.contains("goloo apply hello --reprovision"), "{set}");
    let said = world.run(&APPLY).expect(0).stdout();
    assert!(said.contains("changed hello: cloud_init\n"), "{said}");
    assert_eq!(world.run(&["apply", "hello"]).expect(0).stdout(), "hello is as its stack says\n");
    world.run(&["apply", "hello", "--unset", "cloud_init.packages", "--reprovision", "--yes"]).expect(0);
    assert_eq!(guest.prepared(), 2);
    assert_eq!(world.run(&["apply", "hello"]).expect(0).stdout(), "hello is as its stack says\n");
}

#[test]
fn an_interrupted_reprovision_continues_with_its_own_files_only() {
    let guest = Guest::new();
    let world = &guest.world;
    guest.document("two");
    // Whether the machine is still being provisioned isn't known in time.
    fs::write(guest.folder.join("hangs"), "").unwrap();
    let mut command = world.command();
    command.args(APPLY).args(["--timeout", "2s"]);
    let stopped = crate::common::Ran(command.output().unwrap());
    assert!(!stopped.0.status.success(), "{stopped:?}");
    assert_eq!(guest.record()["operation"]["kind"], "apply", "{stopped:?}");
    fs::remove_file(guest.folder.join("hangs")).unwrap();
    guest.document("three");
    let refused = world.run(&["resume", "hello"]).expect(1);
    assert!(refused.stderr().contains("has changed since"), "{refused:?}");
    assert!(refused.stderr().contains("goloo apply hello --reprovision"), "{refused:?}");
    let set = world.run(&["set", "hello", "cpus=2", "--yes"]).expect(6);
    assert!(set.stderr().contains("goloo resume hello"), "{set:?}");
    // Without the option too: it has begun.
    world.run(&["apply", "hello", "--yes"]).expect(0);
    assert!(guest.file("user-data").contains("three"));
    assert_eq!((guest.state(), guest.prepared()), (state(READY), 1));
}

/// Killed at any call; then `resume`, or the same command again. Nothing runs a third time.
#[test]
fn kill_reprovision_at_any_call_then_resume_or_apply() {
    let guest = Guest::new();
    let world = &guest.world;
    let round = std::cell::Cell::new(0);
    let prepare = || {
        round.set(round.get() + 1);
        guest.document(&format!("round-{}", round.get()));
    };
    let killed = everywhere(world, &APPLY, prepare, |when, n| {
        if n.is_multiple_of(2) {
            world.run(&["resume", "hello"]).expect(0);
        }
        world.run(&APPLY).expect(0);
        assert_eq!((world.qemus().len(), guest.prepared()), (1, round.get()), "{when}");
        assert!(guest.file("user-data").contains(&format!("round-{}]", round.get())), "{when}");
        assert_eq!(guest.state(), state(READY), "{when}");
        assert_eq!(world.run(&["diff", "hello"]).expect(0).stdout(), "", "{when}");
    });
    assert!(killed > 40, "it changes something more often than {killed} times");
}
