//! Changes of VMs, through the real command. QEMU's stand-in has no guest, and the real one is in `vm.rs`.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use goloo_testkit::image_server::ImageServer;
use serde_json::{Value, json};

use crate::common::kill::{everywhere, killed_at};
use crate::common::{HELLO, Ran, World};

const DONE: &str = r#"{"status": "done", "errors": [], "recoverable_errors": {}}"#;

/// With the running VM `hello`, and an `ssh` that answers like a machine.
fn world() -> World {
    let world = World::new();
    world.ssh_finds(DONE);
    world.run(&["create", "hello"]).expect(0);
    world
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap().local_addr().unwrap().port()
}

/// Rewrites the stack of `hello` with these keys of `vm`.
fn edit(world: &World, keys: Value) {
    let mut config: Value = serde_json::from_str(HELLO).unwrap();
    config["vm"].as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    fs::write(world.path().join("work/stacks/hello/config.json"), config.to_string()).unwrap();
}

fn record(world: &World) -> Value {
    world.json(&["status", "hello", "--json"])["vm"].clone()
}

/// The value after a flag of the running QEMU.
fn argument(world: &World, flag: &str) -> String {
    let [pid] = world.qemus()[..] else { panic!("one QEMU") };
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    line.split('\0').skip_while(|word| *word != flag).nth(1).unwrap().to_owned()
}

fn disk(world: &World) -> PathBuf {
    world.machines()[0].join("disk.qcow2")
}

fn disk_size(world: &World) -> u64 {
    let output =
        Command::new("qemu-img").args(["info", "-U", "--output=json"]).arg(disk(world)).output().unwrap();
    serde_json::from_slice::<Value>(&output.stdout).unwrap()["virtual-size"].as_u64().unwrap()
}

fn is_reachable(address: &str, port: u16) -> bool {
    TcpStream::connect((address.parse::<IpAddr>().unwrap(), port)).is_ok()
}

#[test]
fn a_vm_that_is_as_its_stack_says_is_left_alone() {
    let world = world();
    let before = record(&world);
    let said = world.run(&["apply", "hello"]).expect(0).stdout();
    assert_eq!(said, "hello is as its stack says\n");
    assert_eq!(record(&world), before, "nothing is written");
}

#[test]
fn a_dry_run_shows_each_change_with_what_it_takes_and_changes_nothing() {
    let world = world();
    edit(
        &world,
        json!({"cpus": 2, "disk": "2G", "image": "debian-12", "ports": [8080], "ssh_cidr": "10.0.0.0/8"}),
    );
    let before = record(&world);
    let plan = world.json(&["apply", "hello", "--dry-run", "--json"]);
    let costs: Vec<_> = plan["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| (change["key"].clone(), change["cost"].clone()))
        .collect();
    let expected = [
        ("vm.cpus", "restart"),
        ("vm.disk", "now"),
        ("vm.ports", "now"),
        ("vm.ssh_cidr", "ignored"),
        ("vm.image", "replace"),
    ];
    assert_eq!(costs, expected.map(|(key, cost)| (json!(key), json!(cost))));
    let said = world.run(&["apply", "hello", "--dry-run"]).expect(0).stdout();
    assert!(said.contains("vm.cpus") && said.contains("a restart"), "{said}");
    assert_eq!((record(&world), disk_size(&world)), (before, 1 << 30));
}

#[test]
fn cpus_and_memory_take_a_restart_which_is_asked_for() {
    let world = world();
    edit(&world, json!({"cpus": 2, "memory": "768M"}));
    let before = world.qemus();
    let refused = world.run(&["apply", "hello"]).expect(2);
    assert!(refused.stderr().contains("apply asks before it restarts a machine"), "{refused:?}");
    assert_eq!(world.qemus(), before);
    let said = world.run(&["apply", "hello", "--yes"]).expect(0).stdout();
    assert!(said.contains("changed hello: vm.cpus, vm.memory\n"), "{said}");
    assert_eq!((argument(&world, "-smp"), argument(&world, "-m")), ("2".to_owned(), "768M".to_owned()));
    assert_eq!(record(&world)["resolved"]["cpus"], 2);
    assert_eq!(world.json(&["list", "--json"])["vms"][0]["phase"], "ready");
    assert_eq!(world.run(&["apply", "hello"]).expect(0).stdout(), "hello is as its stack says\n");
    let diff = world.run(&["diff", "hello"]).expect(0);
    assert_eq!(diff.stdout(), "", "the stack was applied");
}

#[test]
fn without_a_restart_the_change_is_pending_until_the_next_start() {
    let world = world();
    edit(&world, json!({"cpus": 2}));
    let said = world.run(&["apply", "hello", "--no-restart"]).expect(0).stdout();
    assert!(said.contains("vm.cpus of hello will change at its next start: `goloo restart hello`"), "{said}");
    assert_eq!(argument(&world, "-smp"), "1");
    let status = world.run(&["status", "hello"]).expect(0).stdout();
    assert!(status.contains("pending") && status.contains("vm.cpus (goloo restart hello)"), "{status}");
    let list = world.run(&["list"]).expect(0).stdout();
    assert!(list.contains("restart pending"), "{list}");
    world.run(&["restart", "hello", "--force"]).expect(0);
    assert_eq!(argument(&world, "-smp"), "2");
    assert_eq!(record(&world)["restartPending"], Value::Null);
}

#[test]
fn a_restart_that_cannot_help_is_not_made() {
    let world = world();
    let before = world.qemus();
    edit(&world, json!({"cpus": 2, "mounts": [{"source": "./gone", "target": "/srv/gone"}]}));
    let failed = world.run(&["apply", "hello", "--yes"]).expect(1);
    assert!(failed.stderr().contains("that the machine shares doesn't exist"), "{failed:?}");
    assert_eq!((world.qemus(), argument(&world, "-smp")), (before, "1".to_owned()));
    assert_eq!(record(&world)["operation"], Value::Null);
    world.run(&["restart", "hello", "--force"]).expect(0);
    assert_eq!(argument(&world, "-smp"), "1", "nothing was noted");
}

#[test]
fn a_machine_that_does_not_start_with_what_was_changed_is_started_as_it_was() {
    let world = world();
    edit(&world, json!({"memory": "2G"}));
    let mut command = world.command();
    command.args(["apply", "hello", "--yes"]).env("GOLOO_STAND_IN", "little-memory");
    let failed = Ran(command.output().unwrap()).expect(1);
    assert!(failed.stderr().contains("Cannot allocate memory"), "{failed:?}");
    assert!(failed.stderr().contains("so it is started as it was"), "{failed:?}");
    assert_eq!(argument(&world, "-m"), "512M");
    let now = record(&world);
    assert_eq!((&now["operation"], &now["resolved"]["memory"]), (&Value::Null, &json!(512u64 << 20)));
}

#[test]
fn a_stopped_vm_is_changed_without_a_start() {
    let world = world();
    world.run(&["stop", "hello"]).expect(0);
    edit(&world, json!({"cpus": 3, "disk": "2G"}));
    let said = world.run(&["apply", "hello"]).expect(0).stdout();
    assert!(said.contains("changed hello: vm.cpus, vm.disk\n"), "{said}");
    assert_eq!((world.qemus().len(), disk_size(&world)), (0, 2 << 30));
    world.run(&["start", "hello"]).expect(0);
    assert_eq!(argument(&world, "-smp"), "3");
}

#[test]
fn ports_change_while_the_vm_runs() {
    let world = world();
    let (first, second, third) = (free_port(), free_port(), free_port());
    let qemu = world.qemus();
    let address = record(&world)["endpoint"]["address"].as_str().unwrap().to_owned();
    edit(&world, json!({"ports": [format!("{first}:80"), format!("{second}:81")]}));
    world.run(&["apply", "hello"]).expect(0);
    assert!(is_reachable(&address, first) && is_reachable("127.0.0.1", second));
    edit(&world, json!({"ports": [format!("{second}:82"), format!("{third}:80")]}));
    world.run(&["apply", "hello"]).expect(0);
    assert!(
        !is_reachable(&address, first) && is_reachable(&address, second) && is_reachable(&address, third)
    );
    assert_eq!(world.qemus(), qemu, "it wasn't restarted");
    let guest: Vec<_> = record(&world)["endpoint"]["ports"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|port| port["address"] == address.as_str())
        .map(|port| port["guestPort"].clone())
        .collect();
    assert_eq!(guest, [82, 80]);
    world.run(&["restart", "hello", "--force"]).expect(0);
    assert!(is_reachable(&address, second) && is_reachable(&address, third), "the next start has them");
}

#[test]
fn a_port_that_is_taken_leaves_all_ports_as_they_were() {
    let world = world();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (port, taken) = (free_port(), taken.local_addr().unwrap().port());
    let address = record(&world)["endpoint"]["address"].as_str().unwrap().to_owned();
    edit(&world, json!({"ports": [format!("{port}:80")]}));
    world.run(&["apply", "hello"]).expect(0);
    edit(&world, json!({"cpus": 2, "ports": [format!("127.0.0.1:{taken}:81")]}));
    let failed = world.run(&["apply", "hello", "--yes"]).expect(1);
    assert!(failed.stderr().contains(&format!("port {taken} on 127.0.0.1 is taken")), "{failed:?}");
    assert!(is_reachable(&address, port));
    let now = record(&world);
    assert_eq!((&now["operation"], &now["resolved"]["cpus"]), (&Value::Null, &json!(1)));
    assert_eq!(now["history"].as_array().unwrap().last().unwrap()["outcome"], "failed");
}

#[test]
fn a_running_machine_s_disk_grows_and_never_shrinks() {
    let world = world();
    edit(&world, json!({"disk": "3G"}));
    let said = world.run(&["apply", "hello"]).expect(0).stdout();
    assert!(said.contains("changed hello: vm.disk\n"), "{said}");
    assert_eq!(disk_size(&world), 3 << 30);
    edit(&world, json!({"disk": "1G"}));
    let said = world.run(&["apply", "hello"]).expect(0).stdout();
    assert!(said.contains("not changed, since it needs a new VM: vm.disk"), "{said}");
    assert_eq!((disk_size(&world), &record(&world)["resolved"]["disk"]), (3 << 30, &json!(3u64 << 30)));
}

#[test]
fn overrides_are_kept_over_the_stack_until_they_are_removed() {
    let world = world();
    world.run(&["set", "hello", "cpus=2", "memory=768M", "--yes"]).expect(0);
    assert_eq!((argument(&world, "-smp"), argument(&world, "-m")), ("2".to_owned(), "768M".to_owned()));
    let status = world.run(&["status", "hello"]).expect(0).stdout();
    assert!(status.contains("vm.cpus=2, vm.memory=\"768M\""), "{status}");
    // The config is the user's, and isn't written.
    assert_eq!(fs::read_to_string(world.path().join("work/stacks/hello/config.json")).unwrap(), HELLO);
    assert_eq!(world.run(&["apply", "hello"]).expect(0).stdout(), "hello is as its stack says\n");
    edit(&world, json!({"cpus": 4, "disk": "2G"}));
    world.run(&["apply", "hello", "--yes"]).expect(0);
    assert_eq!((argument(&world, "-smp"), disk_size(&world)), ("2".to_owned(), 2 << 30));
    world.run(&["apply", "hello", "--unset", "cpus", "--yes"]).expect(0);
    assert_eq!((argument(&world, "-smp"), argument(&world, "-m")), ("4".to_owned(), "768M".to_owned()));
    assert_eq!(record(&world)["overrides"], json!({"vm.memory": "768M"}));
    let none = world.run(&["apply", "hello", "--unset", "cpus"]).expect(2);
    assert!(none.stderr().contains("\"hello\" has no override of cpus"), "{none:?}");
}

#[test]
fn a_set_after_an_apply_changes_nothing_else() {
    let world = world();
    edit(&world, json!({"cpus": 2, "disk": "2G"}));
    world.run(&["apply", "hello", "--yes"]).expect(0);
    // The config that it was created from still has one, and the one now has two.
    let said = world.run(&["set", "hello", "memory=768M", "--yes"]).expect(0).stdout();
    assert!(said.contains("changed hello: vm.memory\n"), "{said}");
    assert_eq!((argument(&world, "-smp"), argument(&world, "-m")), ("2".to_owned(), "768M".to_owned()));
    world.run(&["set", "hello", "cpus=1", "--yes"]).expect(0);
    assert_eq!((argument(&world, "-smp"), disk_size(&world)), ("1".to_owned(), 2 << 30));
}

#[test]
fn an_invalid_override_is_reported_as_such_and_not_kept() {
    let world = world();
    for (set, said) in [
        ("cpus=9999", "vm.cpus is 9999"),
        ("memory=lots", "isn't a size"),
        ("colour=red", "colour"),
        ("cpus", "\"cpus\" has no value"),
        ("a b=1", "isn't a key of config.json"),
    ] {
        let refused = world.run(&["set", "hello", set]);
        assert!(refused.stderr().contains(said) && refused.stderr().contains("hint:"), "{set}: {refused:?}");
        assert!(
            !refused.0.status.success() && !refused.stderr().contains("config.json:"),
            "{set}: {refused:?}"
        );
    }
    assert_eq!(record(&world)["overrides"], Value::Null);
}

#[test]
fn a_vm_without_a_stack_of_its_own_can_be_set() {
    let world = world();
    world.run(&["stop", "hello"]).expect(0);
    world.run(&["clone", "hello", "twin"]).expect(0);
    fs::remove_dir_all(world.path().join("work/stacks/hello")).unwrap();
    world.run(&["set", "twin", "cpus=2"]).expect(0);
    world.run(&["start", "twin"]).expect(0);
    assert_eq!(argument(&world, "-smp"), "2");
    let said = world.run(&["apply", "twin"]).expect(0);
    assert!(said.stdout().contains("twin is as its stack says"), "{said:?}");
    assert!(said.stderr().contains("its recorded files are used"), "{said:?}");
}

#[test]
fn a_recreated_vm_has_what_was_applied_and_its_overrides() {
    let world = world();
    let port = free_port();
    edit(&world, json!({"memory": "768M", "ports": [port]}));
    world.run(&["apply", "hello", "--yes"]).expect(0);
    world.run(&["set", "hello", "cpus=2", "--yes"]).expect(0);
    let before = record(&world);
    world.run(&["delete", "hello", "--yes"]).expect(0);
    world.run(&["recreate", "hello"]).expect(0);
    let after = record(&world);
    assert_eq!((argument(&world, "-smp"), argument(&world, "-m")), ("2".to_owned(), "768M".to_owned()));
    for same in ["resolved", "overrides", "appliedConfig"] {
        assert_eq!(after[same], before[same], "{same}");
    }
    assert_eq!(world.run(&["apply", "hello"]).expect(0).stdout(), "hello is as its stack says\n");
    assert_eq!(world.run(&["diff", "hello"]).expect(0).stdout(), "");
    world.run(&["apply", "hello", "--unset", "cpus", "--yes"]).expect(0);
    assert_eq!(argument(&world, "-smp"), "1");
}

/// The files of a create don't have these settings, and it may have to continue from them.
#[test]
fn an_interrupted_recreate_continues_with_what_was_applied() {
    let world = world();
    world.run(&["set", "hello", "cpus=2", "memory=768M", "--yes"]).expect(0);
    world.run(&["delete", "hello", "--yes"]).expect(0);
    assert!(killed_at(&world, "connect", 1, &["recreate", "hello"]));
    world.run(&["resume", "hello"]).expect(0);
    assert_eq!((argument(&world, "-smp"), argument(&world, "-m")), ("2".to_owned(), "768M".to_owned()));
}

#[test]
fn there_and_back_is_the_machine_of_before() {
    let world = world();
    let port = free_port();
    let file = || fs::read_to_string(world.machines()[0].join("machine.json")).unwrap();
    let machine = || {
        let mut machine: Value = serde_json::from_str(&file()).unwrap();
        machine.as_object_mut().unwrap().remove("process");
        machine
    };
    edit(&world, json!({}));
    let (before, resolved) = (machine(), record(&world)["resolved"].clone());
    edit(&world, json!({"cpus": 2, "memory": "1G", "ports": [port]}));
    world.run(&["apply", "hello", "--yes"]).expect(0);
    edit(&world, json!({}));
    world.run(&["apply", "hello", "--yes"]).expect(0);
    assert_eq!((machine(), record(&world)["resolved"].clone()), (before, resolved));
}

#[test]
fn changed_documents_are_named_and_not_run() {
    let world = world();
    fs::write(world.path().join("work/stacks/hello/cloud-init.yaml"), "#cloud-config\nruncmd: [\"false\"]\n")
        .unwrap();
    edit(&world, json!({"cpus": 2}));
    let said = world.run(&["apply", "hello", "--yes"]).expect(0).stdout();
    assert!(
        said.contains("not changed: cloud-init.yaml; `goloo apply hello --reprovision` runs it"),
        "{said}"
    );
    assert_eq!(argument(&world, "-smp"), "2");
    let diff = world.run(&["diff", "hello"]).expect(0).stdout();
    assert!(diff.contains("cloud-init.yaml"), "{diff}");
}

const KEYS: [&str; 2] = [
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA one",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB two",
];

#[test]
fn keys_that_changed_at_github_or_in_a_file_are_found_and_installed() {
    let world = World::new();
    world.ssh_finds(DONE);
    let server = ImageServer::start();
    let put = |keys: &[&str]| server.put("/ann.keys", keys.join("\n").as_bytes());
    let file = world.path().join("work/stacks/hello/bob.pub");
    fs::write(&file, KEYS[0]).unwrap();
    let users = json!([{"username": "ann", "github_username": "ann"}, {"username": "bob", "ssh_key_files": ["bob.pub"]}]);
    edit(&world, json!({"users": users}));
    let at = |url: &str, arguments: &[&str]| {
        let mut command = world.command();
        command.env("GOLOO_GITHUB_URL", url).args(arguments);
        Ran(command.output().unwrap()).expect(0)
    };
    let run = |arguments: &[&str]| at(&server.url(""), arguments).stdout();
    let unchanged = "hello is as its stack says\n";
    put(&KEYS);
    run(&["create", "hello"]);
    put(&[KEYS[1], KEYS[0]]);
    assert_eq!(run(&["apply", "hello"]), unchanged, "the order doesn't count");
    put(&KEYS[1..]);
    let plan = run(&["apply", "hello", "--dry-run"]);
    assert!(plan.contains("vm.users") && plan.contains("other keys"), "{plan}");
    let said = run(&["apply", "hello"]);
    assert!(said.contains("changed hello: vm.users\n"), "{said}");
    assert_eq!(run(&["apply", "hello"]), unchanged);
    fs::write(&file, KEYS[1]).unwrap();
    let said = run(&["apply", "hello"]);
    assert!(said.contains("changed hello: vm.users\n"), "{said}");
    // `set` leaves them alone.
    put(&KEYS);
    assert!(run(&["set", "hello", "cpus=2", "--no-restart"]).contains("vm.cpus of hello"));
    // Without an answer, what else is to be done is done.
    fs::remove_dir_all(world.path().join("cache/github-keys")).unwrap();
    edit(&world, json!({"users": users, "disk": "2G"}));
    let offline = at("http://127.0.0.1:9", &["apply", "hello"]);
    assert!(offline.stdout().contains("changed hello: vm.disk\n"), "{offline:?}");
    assert!(offline.stderr().contains("whether keys of users have changed is unknown"), "{offline:?}");
}

#[test]
fn list_v_shows_what_each_machine_was_given() {
    let world = world();
    let port = free_port();
    let shared = world.path().join("work/shared");
    fs::create_dir(&shared).unwrap();
    edit(&world, json!({"ports": [format!("{port}:80")], "mounts": [{"source": shared, "target": "/srv"}]}));
    world.run(&["apply", "hello", "--set", "memory=768M", "--yes"]).expect(0);
    let list = world.run(&["list", "-v"]).expect(0).stdout();
    let mount = format!("{} at /srv", shared.display());
    for text in [
        "CPUS",
        "MEMORY",
        "DISK",
        "IMAGE",
        "PORTS",
        "MOUNTS",
        "OVERRIDES",
        "768.0 MiB",
        "1.0 GiB",
        "disk.img",
    ] {
        assert!(list.contains(text), "{text} isn't in {list}");
    }
    for text in [&format!(":{port} to 80"), &mount, "vm.memory=\"768M\""] {
        assert!(list.contains(text), "{text} isn't in {list}");
    }
    let brief = world.run(&["list"]).expect(0).stdout();
    assert!(!brief.contains("CPUS") && !brief.contains("768"), "{brief}");
    fs::write(world.machines()[0].join("machine.json"), "{").unwrap();
    assert!(world.run(&["list", "-v"]).expect(0).stdout().contains(&mount), "the record says it");
}

#[test]
fn two_at_once_make_one_change_each_or_are_told() {
    let world = world();
    edit(&world, json!({"cpus": 2}));
    let start = || {
        let mut command = world.command();
        command
            .args(["apply", "hello", "--yes"])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        command.spawn().unwrap()
    };
    let ended: Vec<_> = [start(), start()].map(|child| child.wait_with_output().unwrap()).into();
    for output in &ended {
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() || said.contains("hello") && said.contains("hint:"), "{said}");
    }
    assert!(ended.iter().any(|output| output.status.success()), "{ended:?}");
    assert_eq!((argument(&world, "-smp"), world.qemus().len()), ("2".to_owned(), 1));
    assert_eq!(record(&world)["operation"], Value::Null);
}

/// What the stand-in's daemon knows about the instance of `hello`.
fn instance(world: &World) -> Value {
    let info = world.by_hand(&["info", "hello", "--format", "json"]).expect(0).stdout();
    serde_json::from_str::<Value>(&info).unwrap()["info"]["hello"].clone()
}

#[test]
fn multipass_changes_a_stopped_instance_and_mounts_at_once() {
    let world = World::multipass();
    world.ssh_finds(DONE);
    let config = |keys: Value| {
        let mut config = json!({"vm": {"cpus": 1, "memory": "1G", "disk": "5G"}});
        config["vm"].as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        world.stack("hello", &config.to_string(), "");
    };
    config(json!({}));
    world.run(&["create", "hello", "--provider", "multipass"]).expect(0);
    let shared = world.path().join("work/shared");
    fs::create_dir(&shared).unwrap();
    config(json!({"mounts": [{"source": shared, "target": "/srv/shared"}], "ports": [80]}));
    let said = world.run(&["apply", "hello"]).expect(0).stdout();
    assert!(said.contains("changed hello: vm.mounts\n"), "{said}");
    assert_eq!(instance(&world)["mounts"]["/srv/shared"]["source_path"], json!(shared));
    config(json!({"cpus": 4, "disk": "8G"}));
    let waits = world.run(&["apply", "hello", "--no-restart"]).expect(0).stdout();
    assert!(waits.contains("not changed: vm.cpus, vm.disk; run `goloo apply hello`"), "{waits}");
    let said = world.run(&["apply", "hello", "--yes"]).expect(0).stdout();
    assert!(said.contains("changed hello: vm.cpus, vm.disk\n"), "{said}");
    let now = instance(&world);
    assert_eq!(
        (&now["cpu_count"], &now["state"], &now["mounts"]),
        (&json!("4"), &json!("Running"), &json!({}))
    );
}

/// Killed at any call; then `resume`, or the same command again, makes what is left.
#[test]
fn kill_apply_at_any_call_then_resume_or_apply() {
    let world = world();
    let (one, two) = (free_port(), free_port());
    let address = record(&world)["endpoint"]["address"].as_str().unwrap().to_owned();
    let apply = ["apply", "hello", "--yes"];
    let prepare = || {
        edit(&world, json!({"ports": [format!("{one}:80")]}));
        world.run(&apply).expect(0);
        edit(&world, json!({"cpus": 2, "ports": [format!("{two}:80")]}));
    };
    let killed = everywhere(&world, &apply, prepare, |when, n| {
        if n.is_multiple_of(2) {
            world.run(&["resume", "hello"]).expect(0);
        }
        world.run(&apply).expect(0);
        assert_eq!((world.qemus().len(), argument(&world, "-smp")), (1, "2".to_owned()), "{when}");
        assert!(is_reachable(&address, two) && !is_reachable(&address, one), "{when}");
        let now = record(&world);
        assert_eq!((&now["operation"], &now["resolved"]["cpus"]), (&Value::Null, &json!(2)), "{when}");
    });
    assert!(killed > 40, "an apply changes something more often than {killed} times");
}
