//! One computer, one store, several state folders: a machine belongs to one of them, and the others neither change it
//! nor report it as missing.

use crate::common;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{NEEDS_THE_MACHINE, Ran, World};
use serde_json::Value;

/// Ann and Bob on one computer, sharing a SQLite file. Both are this process's user; only the state folder differs.
struct Shared {
    world: World,
}

impl Shared {
    fn new() -> Self {
        Self { world: World::new() }
    }

    fn database(&self) -> PathBuf {
        self.world.path().join("share.db")
    }

    fn state(&self, user: &str) -> PathBuf {
        self.world.path().join("state-of").join(user)
    }

    fn command(&self, user: &str) -> Command {
        let mut command = self.world.command();
        command
            .env("USER", user)
            .env("GOLOO_STATE_DIR", self.state(user))
            .env("GOLOO_STATE_BACKEND", format!("sqlite:{}", self.database().display()));
        command
    }

    fn run(&self, user: &str, arguments: &[&str]) -> Ran {
        Ran(self.command(user).args(arguments).output().unwrap())
    }

    fn json(&self, user: &str, arguments: &[&str]) -> Value {
        let ran = self.run(user, arguments);
        serde_json::from_str(&ran.stdout()).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
    }

    /// Writes a changed record of `hello` over its row.
    fn change(&self, change: impl FnOnce(&mut Value)) {
        let database = rusqlite::Connection::open(self.database()).unwrap();
        let query = "SELECT record FROM vms WHERE name = 'hello'";
        let text: String = database.query_row(query, [], |row| row.get(0)).unwrap();
        let mut record: Value = serde_json::from_str(&text).unwrap();
        change(&mut record);
        database.execute("UPDATE vms SET record = ?1 WHERE name = 'hello'", [record.to_string()]).unwrap();
    }
}

fn drop_state_id(record: &mut Value) {
    record["createdBy"].as_object_mut().unwrap().remove("stateId").expect("new records have one");
}

const ELSEWHERE: &str = "belongs to ann on this computer";

/// Anyone who can write to the store can copy a whole record, including the ids of the VM, the host and the state
/// folder.
#[test]
fn a_record_copied_to_another_name_owns_no_machine() {
    let shared = Shared::new();
    shared.run("ann", &["create", "hello", "--no-wait"]).expect(0);
    let database = rusqlite::Connection::open(shared.database()).unwrap();
    let query = "SELECT record FROM vms WHERE name = 'hello'";
    let text: String = database.query_row(query, [], |row| row.get(0)).unwrap();
    let copy = text.replacen("\"name\": \"hello\"", "\"name\": \"copy\"", 1);
    assert_ne!(copy, text);
    database.execute("INSERT INTO vms (name, record) VALUES ('copy', ?1)", [copy]).unwrap();
    for command in [&["delete", "copy", "--yes"][..], &["stop", "copy", "--force"], &["ssh", "copy"]] {
        let refused = shared.run("ann", command).expect(1);
        assert!(refused.stderr().contains("carries the id of another VM"), "{refused:?}");
    }
    shared.run("ann", &["delete", "copy", "--yes", "--forget"]).expect(0);
    assert_eq!(shared.json("ann", &["status", "hello", "--json"])["live"]["state"], "running");
    shared.run("ann", &["delete", "hello", "--yes"]).expect(0);
}

#[test]
fn a_machine_of_another_state_folder_is_unknown_and_refused() {
    let shared = Shared::new();
    shared.run("ann", &["create", "hello", "--no-wait"]).expect(0);
    for command in NEEDS_THE_MACHINE {
        let ran = shared.run("bob", command).expect(1);
        assert!(ran.stderr().contains(ELSEWHERE), "{command:?}: {ran:?}");
        assert!(ran.stderr().contains("in another state folder"), "{command:?}: {ran:?}");
    }
    let status = shared.json("bob", &["status", "hello", "--json"]);
    assert_eq!(status["live"]["state"], "unknown");
    assert!(status["live"]["reason"].as_str().unwrap().contains(ELSEWHERE), "{status}");
    assert_eq!(shared.json("bob", &["list", "--refresh", "--json"])["vms"][0]["live"], "unknown");
    let refresh = shared.json("bob", &["refresh", "--json"]);
    assert_eq!((&refresh["missing"], &refresh["strays"]), (&serde_json::json!([]), &serde_json::json!([])));
    assert_eq!(refresh["elsewhere"][0]["user"], "ann");
    let doctor = shared.run("bob", &["doctor"]);
    assert!(!doctor.stdout().contains("has no machine hello"), "{doctor:?}");
    assert_eq!(shared.world.qemus().len(), 1, "the machine was touched");
    let forgotten = shared.run("bob", &["delete", "hello", "--yes", "--forget"]).expect(0);
    assert!(forgotten.stderr().contains("in another state folder of ann"), "{forgotten:?}");
    assert_eq!(shared.world.qemus().len(), 1, "forgetting touched the machine");
    // Its own state folder then sees a machine without a record.
    let refresh = shared.json("ann", &["refresh", "--json"]);
    let id = refresh["strays"][0]["id"].as_str().unwrap().to_owned();
    shared.run("ann", &["adopt", "hello", "--provider", "qemu", "--id", &id]).expect(0);
    shared.run("bob", &["stop", "hello", "--force"]).expect(1);
    shared.run("ann", &["delete", "hello", "--yes"]).expect(0);
}

#[test]
fn two_state_folders_of_one_user_are_separate_owners() {
    let shared = Shared::new();
    shared.run("ann", &["create", "hello", "--no-wait"]).expect(0);
    let other = |arguments: &[&str]| {
        let mut command = shared.command("ann");
        command.env("GOLOO_STATE_DIR", shared.state("other")).args(arguments);
        Ran(command.output().unwrap())
    };
    assert!(other(&["delete", "hello", "--yes"]).expect(1).stderr().contains(ELSEWHERE));
    assert!(other(&["status", "hello"]).expect(0).stdout().contains("unknown"));
    assert_eq!(shared.world.qemus().len(), 1);
    shared.run("ann", &["delete", "hello", "--yes"]).expect(0);
}

#[test]
fn a_moved_state_folder_keeps_its_machines() {
    let shared = Shared::new();
    shared.run("ann", &["create", "hello", "--no-wait"]).expect(0);
    shared.run("ann", &["stop", "hello", "--force"]).expect(0);
    fs::rename(shared.state("ann"), shared.state("moved")).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = shared.command("ann");
        command.env("GOLOO_STATE_DIR", shared.state("moved")).args(arguments);
        Ran(command.output().unwrap())
    };
    assert!(run(&["status", "hello"]).expect(0).stdout().contains("stopped"));
    // Without its machine, the record still belongs to this folder: that is what "missing" means.
    let machine = fs::read_dir(shared.state("moved").join("vms")).unwrap().next().unwrap().unwrap();
    fs::remove_dir_all(machine.path()).unwrap();
    assert!(run(&["status", "hello"]).expect(0).stdout().contains("missing"));
    run(&["delete", "hello", "--yes"]).expect(0);
}

#[test]
fn a_record_without_a_state_id_belongs_to_the_folder_it_names() {
    let shared = Shared::new();
    shared.run("ann", &["create", "hello", "--no-wait"]).expect(0);
    shared.change(drop_state_id);
    assert!(shared.run("bob", &["stop", "hello", "--force"]).expect(1).stderr().contains(ELSEWHERE));
    assert!(shared.run("ann", &["status", "hello"]).expect(0).stdout().contains("running"));
    shared.run("ann", &["stop", "hello", "--force"]).expect(0);
    fs::rename(shared.state("ann").join("vms"), shared.world.path().join("lost")).unwrap();
    assert!(shared.run("ann", &["status", "hello"]).expect(0).stdout().contains("missing"));
    assert!(shared.run("bob", &["status", "hello"]).expect(0).stdout().contains("unknown"));
    fs::rename(shared.world.path().join("lost"), shared.state("ann").join("vms")).unwrap();
    shared.run("ann", &["delete", "hello", "--yes"]).expect(0);
}

#[test]
fn restoring_a_backup_into_another_state_folder_transfers_no_machines() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    let backup = world.path().join("backup");
    world.run(&["state", "backup", backup.to_str().unwrap()]).expect(0);
    let other = |arguments: &[&str]| {
        let mut command = world.command();
        command.env("GOLOO_STATE_DIR", world.path().join("other")).args(arguments);
        Ran(command.output().unwrap())
    };
    other(&["state", "restore", backup.to_str().unwrap(), "--yes"]).expect(0);
    assert!(!world.path().join("other/state-id").exists(), "two folders would have one id");
    assert!(other(&["status", "hello"]).expect(0).stdout().contains("unknown"));
    assert!(other(&["delete", "hello", "--yes"]).expect(1).stderr().contains("in another state folder"));
    assert_eq!(world.qemus().len(), 1);
    world.run(&["delete", "hello", "--yes"]).expect(0);
}

#[test]
fn a_damaged_state_id_refuses_creates_and_loses_no_vm() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    let file = world.state().join("state-id");
    for damaged in ["", "garbage"] {
        fs::write(&file, damaged).unwrap();
        world.stack("other", common::HELLO, "");
        let ran = world.run(&["create", "other", "--no-wait"]).expect(1);
        assert!(
            ran.stderr().contains("state-id is damaged") && ran.stderr().contains("hint: rm "),
            "{ran:?}"
        );
        assert!(world.run(&["status", "hello"]).expect(0).stdout().contains("running"));
        assert!(world.run(&["doctor"]).stdout().contains("state-id is damaged"));
    }
    fs::remove_file(&file).unwrap();
    world.run(&["create", "other", "--no-wait"]).expect(0);
    world.run(&["delete", "hello", "other", "--yes"]).expect(0);
    world.assert_empty("after the delete");
}

#[test]
fn each_state_folder_owns_only_its_multipass_instances() {
    let shared = Shared { world: World::multipass() };
    let create = ["create", "hello", "--provider", "multipass", "--no-wait"];
    shared.run("ann", &create).expect(0);
    // Gives Bob's state folder a key of its own.
    shared.run("bob", &["create", "hello", "--as", "other", "--provider", "qemu", "--no-wait"]).expect(0);
    let status = shared.json("bob", &["status", "hello", "--json"]);
    assert_eq!(status["live"]["state"], "unknown");
    for command in
        [&["delete", "hello", "--yes"][..], &["stop", "hello", "--force"], &["exec", "hello", "--", "true"]]
    {
        let ran = shared.run("bob", command).expect(1);
        assert!(ran.stderr().contains(ELSEWHERE), "{command:?}: {ran:?}");
    }
    let orphans = |user: &str, backend: Option<&str>| {
        let mut command = shared.command(user);
        backend.map(|backend| command.env("GOLOO_STATE_BACKEND", backend));
        let ran = Ran(command.args(["refresh", "--json"]).output().unwrap());
        let json: Value = serde_json::from_str(&ran.stdout()).unwrap();
        let names =
            json["strays"].as_array().unwrap().iter().filter(|orphan| orphan["provider"] == "multipass");
        names.map(|orphan| orphan["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(orphans("bob", None), [""; 0], "a record leads to it");
    assert_eq!(orphans("bob", Some("dir")), [""; 0], "without a record it is still Ann's");
    assert_eq!(orphans("ann", Some("dir")), ["hello"], "Ann's goloo made it");
    shared.run("ann", &["delete", "hello", "--yes"]).expect(0);
    shared.run("bob", &["delete", "other", "--yes"]).expect(0);
}

/// A user account that exists for the duration of a test.
struct Account(String);

impl Account {
    fn new(name: &str, group: &str) -> Self {
        let made =
            Command::new("useradd").args(["--no-create-home", "--groups", group, name]).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        Self(name.to_owned())
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let _ = Command::new("userdel").arg(&self.0).output();
    }
}

struct Group(String);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = Command::new("groupdel").arg(&self.0).output();
    }
}

/// A command that runs as another user of this computer.
fn as_user(user: &str, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--regid", user, "--init-groups", "--"]).arg(program);
    command
}

#[test]
fn two_users_share_a_sqlite_file_in_a_group_folder() {
    if !rustix::process::getuid().is_root() {
        eprintln!("skipped: only root makes users");
        return;
    }
    let tag = std::process::id() % 100_000;
    let group = Group(format!("goloo-t{tag}"));
    assert!(Command::new("groupadd").arg(&group.0).status().unwrap().success());
    let (ann, bob) =
        (Account::new(&format!("goloo-a{tag}"), &group.0), Account::new(&format!("goloo-b{tag}"), &group.0));
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let chmod = |mode: &str, path: &Path| {
        assert!(Command::new("chmod").arg(mode).arg(path).status().unwrap().success())
    };
    let chown = |owner: &str, path: &Path| {
        assert!(Command::new("chown").arg(owner).arg(path).status().unwrap().success())
    };
    chmod("755", root);
    for (program, path) in [("goloo", common::goloo()), ("stand-in", common::stand_in())] {
        fs::copy(path, root.join(program)).unwrap();
        chmod("755", &root.join(program));
    }
    for user in [&ann.0, &bob.0] {
        fs::create_dir(root.join(user)).unwrap();
        chown(user, &root.join(user));
        chmod("700", &root.join(user));
    }
    let share = root.join("share");
    fs::create_dir(&share).unwrap();
    chown(&format!("root:{}", group.0), &share);
    chmod("2770", &share);
    let work = World::new();
    let stack = root.join("hello");
    fs::create_dir(&stack).unwrap();
    for file in ["config.json", "disk.img"] {
        fs::copy(work.path().join("work/stacks/hello").join(file), stack.join(file)).unwrap();
    }
    let run = |user: &Account, arguments: &[&str]| {
        let mut command = as_user(&user.0, &root.join("goloo"));
        let home = root.join(&user.0);
        command.env_clear().current_dir(&home).args(arguments);
        command.envs([
            ("HOME", home.as_os_str()),
            ("USER", user.0.as_ref()),
            ("PATH", "/usr/bin:/bin".as_ref()),
        ]);
        command.env("GOLOO_QEMU", root.join("stand-in")).env("GOLOO_QEMU_ACCEL", "tcg");
        command.env("GOLOO_MULTIPASS", "/nonexistent").env("GOLOO_HOSTS_FILE", home.join("hosts"));
        command.env("GOLOO_STATE_BACKEND", format!("sqlite:{}", share.join("goloo.db").display()));
        Ran(command.output().unwrap())
    };
    let stack = stack.display().to_string();
    run(&ann, &["create", "hello", "-f", &stack, "--no-wait"]).expect(0);
    assert_eq!(run(&bob, &["list", "-q"]).expect(0).stdout(), "hello\n");
    let status = run(&bob, &["status", "hello"]).expect(0).stdout();
    assert!(status.contains("unknown: it belongs to") && status.contains(&ann.0), "{status}");
    for command in [&["delete", "hello", "--yes"][..], &["stop", "hello", "--force"], &["ssh", "hello"]] {
        let ran = run(&bob, command).expect(1);
        assert!(ran.stderr().contains(&format!("belongs to {}", ann.0)), "{ran:?}");
    }
    run(&bob, &["create", "second", "-f", &stack, "--as", "second", "--no-wait"]).expect(0);
    assert_eq!(run(&ann, &["list", "-q"]).expect(0).stdout(), "hello\nsecond\n");
    let doctor = run(&bob, &["doctor"]).stdout();
    assert!(!doctor.contains("can be read by other users"), "{doctor}");
    assert!(run(&ann, &["status", "hello"]).expect(0).stdout().contains("running"));
    run(&bob, &["delete", "second", "--yes"]).expect(0);
    run(&ann, &["delete", "hello", "--yes"]).expect(0);
}
