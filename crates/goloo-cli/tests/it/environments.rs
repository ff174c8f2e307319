//! `goloo up` and `goloo down`, with QEMU's stand-in.

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::common::kill::{SAVES_AND_PROGRAMS, at_calls};
use crate::common::{HELLO, Ran, World, wait_until};

const DONE: &str = r#"{"status": "done", "errors": []}"#;
const SHOP: &str = r#"{"name": "shop", "machines": {
    "db": {"stack": "hello"},
    "web": {"stack": "hello", "count": 2, "after": ["db"]}}}"#;

/// A world whose machines answer as provisioned ones.
fn world(goloo_json: &str) -> World {
    let world = World::new();
    world.ssh_finds(DONE);
    describe(&world, goloo_json);
    world
}

fn describe(world: &World, goloo_json: &str) {
    let work = world.path().join("work");
    fs::create_dir_all(&work).unwrap();
    fs::write(work.join("goloo.json"), goloo_json).unwrap();
}

/// The actions of a plan, by the names of the machines.
fn actions(plan: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let machines = plan["machines"].as_array().unwrap().iter();
    machines.map(|machine| (text(&machine["machine"]), text(&machine["action"]))).collect()
}

fn planned(world: &World) -> Vec<(String, String)> {
    actions(&world.json(&["up", "--dry-run", "--json"]))
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(machine, action)| ((*machine).to_owned(), (*action).to_owned())).collect()
}

fn status(world: &World, name: &str) -> Value {
    world.json(&["status", name, "--json"])["vm"].take()
}

#[test]
fn up_makes_what_is_missing_and_down_deletes_all() {
    let world = world(SHOP);
    assert_eq!(planned(&world), pairs(&[("db", "create"), ("web-1", "create"), ("web-2", "create")]));
    assert!(world.names().is_empty(), "a dry run makes nothing");
    world.run(&["up"]).expect(0);
    assert_eq!(world.names(), ["shop-db", "shop-web-1", "shop-web-2"]);
    assert_eq!(
        status(&world, "shop-web-2")["membership"],
        json!({"environment": "shop", "machine": "web", "number": 2})
    );
    let created = |name: &str| status(&world, name)["createdAt"].as_str().unwrap().to_owned();
    assert!(created("shop-db") <= created("shop-web-1"));

    let again = world.run(&["up"]).expect(0);
    assert_eq!(
        planned(&world),
        pairs(&[("db", "nothing"), ("web-1", "nothing"), ("web-2", "nothing")]),
        "{again:?}"
    );

    world.run(&["stop", "shop-db", "--force"]).expect(0);
    world.run(&["up"]).expect(0);
    assert_eq!(world.json(&["status", "shop-db", "--json"])["live"]["state"], "running");

    let refused = world.run(&["down"]).expect(2);
    assert!(refused.stderr().contains("goloo down --env shop --yes"), "{refused:?}");
    world.run(&["down", "--yes"]).expect(0);
    world.assert_empty("down");
    let archive = world.json(&["list", "--archive", "--env", "shop", "--json"]);
    assert_eq!(archive["archived"].as_array().unwrap().len(), 3);
}

#[test]
fn up_changes_what_differs_and_asks_before_it_restarts() {
    let world = world(SHOP);
    world.run(&["up"]).expect(0);
    let with_variable = SHOP.replace(r#""count": 2"#, r#""count": 3, "memory": "640M", "vars": {"a": 1}"#);
    describe(&world, &with_variable);
    let plan = world.json(&["up", "--yes", "--dry-run", "--json"]);
    assert_eq!(
        actions(&plan),
        pairs(&[("db", "nothing"), ("web-1", "apply"), ("web-2", "apply"), ("web-3", "create")])
    );
    let web = &plan["machines"][1];
    assert_eq!((&web["restarts"], &web["reprovisions"]), (&json!(true), &json!(false)), "{plan:#}");
    describe(&world, &SHOP.replace(r#""count": 2"#, r#""count": 3, "memory": "640M""#));
    let refused = world.run(&["up"]).expect(2);
    assert!(refused.stderr().contains("up asks before it restarts machines"), "{refused:?}");
    assert_eq!(world.names().len(), 3, "nothing was made before the answer");
    describe(&world, &with_variable);
    world.run(&["up", "--yes"]).expect(0);
    let web = status(&world, "shop-web-2");
    assert_eq!(web["overrides"], json!({"cloud_init.vars.a": 1, "vm.memory": "640M"}));
    assert_eq!(world.names().len(), 4);

    // What the file no longer says is undone; machines that it no longer has are only named.
    describe(&world, &SHOP.replace(r#""count": 2"#, r#""count": 1"#));
    let ran = world.run(&["up", "--yes"]).expect(0);
    assert!(ran.stderr().contains("goloo delete shop-web-2 shop-web-3"), "{ran:?}");
    assert_eq!(status(&world, "shop-web-1")["overrides"], Value::Null);
    assert_eq!(world.names().len(), 4);
}

#[test]
fn all_problems_of_the_file_and_its_stacks_are_reported_before_anything_is_made() {
    let world = world(
        r#"{"name": "shop", "machines": {
  "a": {"stack": "hello", "memory": "lots"},
  "b": {"stack": "helo"},
  "c": {"stack": "./broken", "count": 2}}}"#,
    );
    let broken = world.path().join("work/broken");
    fs::create_dir_all(&broken).unwrap();
    fs::write(broken.join("config.json"), r#"{"vm": {"cpus": 0}}"#).unwrap();
    let error = world.run(&["up", "--json"]).expect(2);
    let document: Value = serde_json::from_str(&error.stdout()).unwrap();
    let problems = document["error"]["problems"].as_array().unwrap();
    let found: Vec<String> = problems
        .iter()
        .map(|problem| {
            format!(
                "{}:{}:{}",
                problem["file"].as_str().unwrap(),
                problem["line"],
                problem["pointer"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            "broken/config.json:1:/vm/cpus",
            "goloo.json:2:/machines/a/memory",
            "goloo.json:3:/machines/b/stack"
        ]
    );
    let message = problems[2]["message"].as_str().unwrap();
    for place in ["work/helo/config.json", "work/stacks/helo/config.json", "config/stacks/helo/config.json"] {
        assert!(message.contains(place), "{message}");
    }
    assert_eq!(problems[2]["hint"], "did you mean \"hello\"?");
    assert!(world.names().is_empty());
}

#[test]
fn a_vm_that_belongs_to_no_environment_is_not_taken_over() {
    let world = world(SHOP);
    world.run(&["create", "hello", "--as", "shop-db", "--no-wait"]).expect(0);
    let before = status(&world, "shop-db")["serial"].clone();
    let ran = world.run(&["up"]).expect(3);
    assert!(ran.stderr().contains("the VM \"shop-db\" exists and belongs to no environment"), "{ran:?}");
    assert!(ran.stderr().contains("goloo rename shop-db OTHER"), "{ran:?}");
    assert!(ran.stderr().contains("shop-web-1 was skipped, since shop-db is not ready"), "{ran:?}");
    assert_eq!((world.names(), &status(&world, "shop-db")["serial"]), (vec!["shop-db".to_owned()], &before));
    let none = world.run(&["down", "--yes"]).expect(3);
    assert!(none.stderr().contains("no VM belongs to \"shop\""), "{none:?}");
    world.run(&["rename", "shop-db", "mine"]).expect(0);
    world.run(&["up"]).expect(0);
    assert_eq!(world.names().len(), 4);
}

#[test]
fn a_failure_stops_what_depends_on_it_and_up_again_continues() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = port.local_addr().unwrap().port();
    let machines = json!({
        "db": {"stack": "hello", "ports": [format!("127.0.0.1:{taken}:80")]},
        "web": {"stack": "hello", "after": ["db"]},
        "cache": {"stack": "hello"},
    });
    let world = world(&json!({"name": "shop", "machines": machines}).to_string());
    let ran = world.run(&["up", "--json"]);
    assert_ne!(ran.code(), 0, "{ran:?}");
    let document: Value = serde_json::from_str(&ran.stdout()).unwrap();
    let results: Vec<_> = document["machines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|machine| (machine["name"].as_str().unwrap(), machine["result"].as_str().unwrap()))
        .collect();
    assert_eq!(
        results,
        [("shop-cache", "ready"), ("shop-db", "failed"), ("shop-web", "skipped")],
        "{document:#}"
    );
    assert_eq!(world.names(), ["shop-cache"]);
    drop(port);
    world.run(&["up"]).expect(0);
    assert_eq!(world.names(), ["shop-cache", "shop-db", "shop-web"]);
}

#[test]
fn a_machine_whose_provisioning_failed_stops_what_depends_on_it() {
    let world = world(SHOP);
    world.ssh_finds(r#"{"status": "error", "errors": ["no"]}"#);
    world.run(&["up"]).expect(8);
    assert_eq!(world.names(), ["shop-db"]);
    assert_eq!(planned(&world)[0].1, "check");
    world.run(&["up"]).expect(8);
    assert_eq!(world.names(), ["shop-db"]);
}

#[test]
fn commands_take_environments_and_their_machines() {
    let world = world(SHOP);
    world.run(&["up"]).expect(0);
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    let quiet = |arguments: &[&str]| {
        world.run(arguments).expect(0).stdout().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(quiet(&["list", "-q"]), ["hello", "shop-db", "shop-web-1", "shop-web-2"]);
    assert_eq!(quiet(&["list", "-q", "shop/web"]), ["shop-web-1", "shop-web-2"]);
    assert_eq!(quiet(&["list", "-q", "shop/web-2", "hello"]), ["hello", "shop-web-2"]);
    assert_eq!(quiet(&["list", "-q", "--env", "shop"]).len(), 3);
    let table = world.run(&["list"]).expect(0).stdout();
    assert!(table.contains("ENVIRONMENT"), "{table}");
    let listed = world.json(&["list", "shop/web-1", "--json"]);
    assert_eq!(
        (&listed["vms"][0]["environment"], &listed["vms"][0]["machine"]),
        (&json!("shop"), &json!("web-1"))
    );

    world.run(&["stop", "--force", "shop/web"]).expect(0);
    let state =
        |name: &str| world.json(&["status", name, "--json"])["live"]["state"].as_str().unwrap().to_owned();
    assert_eq!(
        [state("shop/db"), state("shop/web-1"), state("shop/web-2")],
        ["running", "stopped", "stopped"]
    );
    world.run(&["start", "shop"]).expect(0);
    assert_eq!(state("shop-web-2"), "running");
    let several = world.run(&["status", "shop/web"]).expect(2);
    assert!(
        several.stderr().contains("means 2 VMs") && several.stderr().contains("shop-web-1, shop-web-2"),
        "{several:?}"
    );
    let unknown = world.run(&["stop", "shop/wbe"]).expect(3);
    assert!(unknown.stderr().contains("no VM belongs to \"shop/wbe\""), "{unknown:?}");

    let lines = world.run(&["exec", "shop/web", "--", "tail"]).expect(0).stdout();
    let mut lines: Vec<&str> = lines.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["shop-web-1: the last line of the log", "shop-web-2: the last line of the log"]);
    let logs = world.run(&["logs", "shop"]).expect(0).stdout();
    assert!(logs.contains("shop-db: the last line of the log"), "{logs}");
    world.run(&["delete", "shop/web-1", "--yes"]).expect(0);
    assert_eq!(world.names(), ["hello", "shop-db", "shop-web-2"]);

    // A VM comes before an environment of the same name.
    world.run(&["create", "hello", "--no-wait", "--as", "shop"]).expect(0);
    assert_eq!(quiet(&["list", "-q", "shop"]), ["shop"]);
    assert_eq!(quiet(&["list", "-q", "shop/"]), ["shop-db", "shop-web-2"]);
}

#[test]
fn down_keeps_what_is_protected_or_named_and_needs_no_file() {
    let world = world(SHOP);
    world.run(&["up"]).expect(0);
    world.run(&["protect", "shop-web-1"]).expect(0);
    let ran = world.json(&["down", "--keep", "db", "--yes", "--json"]);
    assert_eq!((&ran["protected"], &ran["kept"]), (&json!(["shop-web-1"]), &json!(["shop-db"])), "{ran:#}");
    assert_eq!(world.names(), ["shop-db", "shop-web-1"]);
    world.run(&["unprotect", "shop/web-1"]).expect(0);
    fs::remove_file(world.path().join("work/goloo.json")).unwrap();
    let lost = world.run(&["down", "--yes"]).expect(3);
    assert!(lost.stderr().contains("goloo down --env NAME"), "{lost:?}");
    let unknown = world.run(&["down", "--env", "shop", "dbb", "--yes"]).expect(2);
    assert!(unknown.stderr().contains("its machines are db, web, web-1"), "{unknown:?}");
    world.run(&["down", "--env", "shop", "--yes"]).expect(0);
    world.assert_empty("down without a file");
}

#[test]
fn a_recreated_machine_belongs_to_its_environment_again() {
    let world = world(SHOP);
    world.run(&["up"]).expect(0);
    world.run(&["recreate", "shop-db", "--as", "copy", "--no-wait"]).expect(0);
    assert_eq!(status(&world, "copy")["membership"], Value::Null);
    world.run(&["delete", "shop/db", "--yes"]).expect(0);
    world.run(&["recreate", "shop-db", "--no-wait"]).expect(0);
    assert_eq!(status(&world, "shop-db")["membership"], json!({"environment": "shop", "machine": "db"}));
    assert_eq!(planned(&world)[1], ("web-1".to_owned(), "nothing".to_owned()));
    world.run(&["up"]).expect(0);
    world.run(&["apply", "shop-db", "--replace", "--set", "disk=2G", "--yes"]).expect(0);
    assert_eq!(
        status(&world, "shop-db")["membership"]["machine"],
        "db",
        "a new VM in its place is the same machine"
    );
    world.run(&["stop", "shop-db", "--force"]).expect(0);
    world.run(&["clone", "shop-db", "twin"]).expect(0);
    assert_eq!(status(&world, "twin")["membership"], Value::Null);
}

#[test]
fn of_two_ups_at_once_one_works_and_the_other_is_told_by_whom() {
    let world = world(SHOP);
    // The first one waits for its machine until the file exists.
    let go = world.path().join("go");
    let script = format!(
        "#!/bin/sh\nwhile ! [ -e {} ]; do sleep 0.05; done\nfor last; do :; done\ncase $last in *goloo:status*) echo '@goloo:status@'; echo '{DONE}' ;; esac\n",
        go.display()
    );
    world.program("ssh", &script);
    let mut first = world.command();
    let mut first = first.arg("up").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the first one works", || world.names() == ["shop-db"]);
    for command in [&["up"][..], &["down", "--yes"]] {
        let second = world.run(command).expect(5);
        let told = second.stderr();
        assert!(told.contains("the environment \"shop\" is being changed by ann on "), "{second:?}");
        assert!(told.contains(&format!("(pid {})", first.id())), "{second:?}");
    }
    fs::write(&go, "").unwrap();
    assert!(first.wait().unwrap().success());
    world.run(&["up"]).expect(0);
    assert_eq!(world.names().len(), 3);
}

/// Leaves the create of the first machine unfinished.
fn interrupt_up(world: &World) {
    // The machine never answers.
    world.program("ssh", "#!/bin/sh\necho $$ >>sleeping; exec sleep 60\n");
    let mut up = world.command();
    let up = up.arg("up").stdout(Stdio::null()).stderr(Stdio::null());
    let mut up = up.spawn().unwrap();
    let sleeping = world.path().join("work/sleeping");
    wait_until("it waits for its machine", || world.names() == ["shop-db"] && sleeping.exists());
    assert!(Command::new("kill").args(["-INT", &up.id().to_string()]).status().unwrap().success());
    assert_eq!(up.wait().unwrap().code(), Some(6), "the create of the first machine is left");
}

#[test]
fn an_interrupted_up_starts_nothing_more_and_up_again_continues() {
    let world = world(SHOP);
    interrupt_up(&world);
    assert_eq!(world.names(), ["shop-db"]);
    assert_eq!(planned(&world)[0].1, "resume");
    world.ssh_finds(DONE);
    world.run(&["up"]).expect(0);
    assert_eq!(world.names().len(), 3);
    assert!(planned(&world).iter().all(|(_, action)| action == "nothing"));
}

#[test]
fn templates_know_the_names_of_other_machines() {
    let world = world(
        r#"{"name": "shop", "machines": {"data-base": {"stack": "hello"}, "web": {"stack": "web", "after": ["data-base"]}}}"#,
    );
    let document = |field: &str| {
        format!(
            "## template: goloo\n#cloud-config\nruncmd: [\"true {{{{ machines.data_base.{field} }}}}\"]\n"
        )
    };
    world.stack("web", HELLO, &document("name"));
    let alone = world.run(&["create", "web", "--dry-run"]).expect(2);
    assert!(alone.stderr().contains("the variable machines.data_base isn't defined"), "{alone:?}");
    world.run(&["up"]).expect(0);
    assert_eq!(
        status(&world, "shop-web")["overrides"]["cloud_init.vars.machines.data_base.name"],
        "data-base"
    );
    assert_eq!(planned(&world), pairs(&[("data-base", "nothing"), ("web", "nothing")]));
    world.run(&["down", "--yes"]).expect(0);
    world.stack("web", HELLO, &document("address"));
    let unknown = world.run(&["up"]).expect(2);
    assert!(unknown.stderr().contains("address of the machine data_base isn't known"), "{unknown:?}");
    assert!(world.names().is_empty());
}

#[test]
fn a_machine_in_a_network_is_cloned_when_it_is_stopped() {
    let world = world(r#"{"name": "shop", "network": true, "machines": {"db": {"stack": "hello"}}}"#);
    world.run(&["up"]).expect(0);
    for state in ["running", "suspended"] {
        let refused = world.run(&["clone", "shop-db", "twin"]).expect(2);
        assert!(refused.stderr().contains("is in the private network of its environment"), "{refused:?}");
        assert!(refused.stderr().contains("goloo stop shop-db"), "{refused:?}");
        assert_eq!(world.json(&["status", "shop-db", "--json"])["live"]["state"], state);
        world.run(&["stop", "shop-db", "--suspend"]).expect(0);
    }
    world.run(&["start", "shop-db"]).expect(0);
    world.run(&["stop", "shop-db", "--force"]).expect(0);
    world.run(&["clone", "shop-db", "twin"]).expect(0);
    world.run(&["start", "twin"]).expect(0);
    assert!(status(&world, "twin")["membership"].is_null());
}

const FIVE: &str = r#"{"name": "shop", "machines": {
    "a": {"stack": "hello"}, "b": {"stack": "hello", "after": ["a"]}, "c": {"stack": "hello", "count": 3}}}"#;

fn assert_consistent(world: &World, when: &str) {
    let list = world.json(&["list", "--json"]);
    assert_eq!(list["broken"], json!([]), "{when}");
    assert!(list["vms"].as_array().unwrap().iter().all(|vm| vm["environment"] == "shop"), "{when}: {list:#}");
    let refreshed = world.json(&["refresh", "--json"]);
    assert_eq!(refreshed["strays"], json!([]), "{when}: {refreshed:#}");
}

// Only calls of the main thread are counted, which works on machines as the others do. Those are killed wherever they are.
#[test]
fn kill_up_at_any_step_then_up_again() {
    let world = world(FIVE);
    world.run(&["image", "pull", "./stacks/hello/disk.img"]).expect(0);
    let again = |when: &str, _| {
        assert_consistent(&world, when);
        world.run(&["up"]).expect(0);
        assert_eq!(world.names(), ["shop-a", "shop-b", "shop-c-1", "shop-c-2", "shop-c-3"], "{when}");
        assert_eq!((world.machines().len(), world.qemus().len()), (5, 5), "{when}");
        assert!(planned(&world).iter().all(|(_, action)| action == "nothing"), "{when}");
        world.run(&["down", "--yes"]).expect(0);
        world.assert_empty(when);
    };
    let killed = at_calls(&SAVES_AND_PROGRAMS, &world, &["up"], || {}, again);
    assert!(killed > 30, "up was killed only {killed} times");
}

#[test]
fn kill_down_at_any_step_then_down_again() {
    let world = world(FIVE);
    let up = || drop(world.run(&["up"]).expect(0));
    let again = |when: &str, _| {
        assert_consistent(&world, when);
        let ran = world.run(&["down", "--yes"]);
        assert!([0, 3].contains(&ran.code()), "{when}: {ran:?}");
        world.assert_empty(when);
    };
    let killed = at_calls(&SAVES_AND_PROGRAMS, &world, &["down", "--yes"], up, again);
    assert!(killed > 15, "down was killed only {killed} times");
}

/// A shop that is up, and whose file has a change of the first machine that takes a new VM, and one in what the documents
/// of the others see.
fn changed_shop() -> World {
    let world =
        world(&SHOP.replace(r#""db": {"stack": "hello""#, r#""db": {"stack": "hello", "disk": "2G""#));
    world.run(&["up"]).expect(0);
    describe(&world, &SHOP.replace(r#""count": 2"#, r#""count": 2, "vars": {"a": 1}"#));
    world
}

fn ids(world: &World) -> Vec<Value> {
    ["shop-db", "shop-web-1", "shop-web-2"].map(|name| status(world, name)["id"].clone()).into()
}

#[test]
fn up_replaces_and_provisions_again_only_if_it_was_agreed_to() {
    let world = changed_shop();
    let plan = world.json(&["up", "--dry-run", "--json"]);
    assert_eq!(
        actions(&plan),
        pairs(&[("db", "replace"), ("web-1", "apply"), ("web-2", "apply")]),
        "{plan:#}"
    );
    let machines = &plan["machines"];
    assert_eq!((&machines[0]["changes"], &machines[1]["reprovisions"]), (&json!(["vm.disk"]), &json!(true)));

    let before = ids(&world);
    let serials = || ["shop-db", "shop-web-1"].map(|name| status(&world, name)["serial"].clone());
    let unchanged = serials();
    let refused = world.run(&["up"]).expect(2).stderr();
    for said in [
        "up asks before it replaces VMs",
        "  shop-db (qemu at ",
        "commands in runcmd too, in: shop-web-1, shop-web-2",
        "`goloo up --reprovision --replace --yes` does it, `goloo up --yes` makes the other changes alone",
    ] {
        assert!(refused.contains(said), "{said}: {refused}");
    }
    assert_eq!(serials(), unchanged, "nothing was changed before the answer");

    let left = world.run(&["up", "--yes"]).expect(0).stderr();
    assert!(
        left.contains("shop-db: vm.disk changed, which needs a new VM; `goloo up --replace` makes one"),
        "{left}"
    );
    assert!(left.contains("`goloo up --reprovision` runs it in the machine"), "{left}");
    assert_eq!(ids(&world), before);
    assert_eq!(status(&world, "shop-web-1")["reprovisioned"], Value::Null);

    let asked = world.run(&["up", "--reprovision"]).expect(2).stderr();
    assert!(asked.contains("up asks before it provisions machines again"), "{asked}");
    let ran = world.run(&["up", "--reprovision", "--yes"]).expect(0);
    assert!(ran.stdout().contains("shop-web-2 is changed and provisioned again"), "{ran:?}");
    assert_eq!(ids(&world), before);
    assert_ne!(status(&world, "shop-web-2")["reprovisioned"], Value::Null);

    let ran = world.run(&["up", "--replace", "--yes"]).expect(0);
    assert!(ran.stdout().contains("shop-db is a new VM"), "{ran:?}");
    assert_eq!(status(&world, "shop-db")["replaces"], before[0]);
    assert_eq!(ids(&world)[1..], before[1..]);
    assert!(planned(&world).iter().all(|(_, action)| action == "nothing"));
    assert_eq!((world.names().len(), world.machines().len(), world.qemus().len()), (3, 3, 3));
}

#[test]
fn on_a_terminal_up_asks_once_for_all() {
    let world = changed_shop();
    let before = ids(&world);
    let asked = |answer: &str| world.answering(answer, "up");
    let declined = asked("n").expect(130).stdout();
    let question = "Replace shop-db, provision shop-web-1, shop-web-2 again?";
    assert!(declined.contains(question) && declined.contains("nothing was changed"), "{declined}");
    assert_eq!(ids(&world), before);
    asked("y").expect(0);
    assert_eq!(status(&world, "shop-db")["replaces"], before[0]);
    assert_ne!(status(&world, "shop-web-1")["reprovisioned"], Value::Null);
    assert!(planned(&world).iter().all(|(_, action)| action == "nothing"));
}

#[test]
fn a_replacement_that_is_not_ready_stays_beside_the_old_machine() {
    let world = changed_shop();
    let before = ids(&world);
    let up = ["up", "--replace", "--reprovision", "--yes"];
    world.ssh_finds(r#"{"status": "error", "errors": ["no"]}"#);
    let failed = world.run(&up).expect(8).stderr();
    assert!(
        failed.contains("shop-db is as it was, and shop-db-new, which was to replace it, is kept"),
        "{failed}"
    );
    assert!(failed.contains("goloo delete shop-db-new"), "{failed}");
    assert!(failed.contains("shop-web-1 was skipped, since shop-db is not ready"), "{failed}");
    assert_eq!(ids(&world), before);
    world.ssh_finds(DONE);
    let again = world.run(&up).expect(6).stderr();
    assert!(again.contains("\"shop-db-new\", which is to replace \"shop-db\", isn't ready"), "{again}");
    assert!(again.contains("goloo delete shop-db-new"), "{again}");
    // What needs no new VM is still done.
    world.run(&["up", "--reprovision", "--yes"]).expect(0);
    assert_eq!(ids(&world), before);
    world.run(&["delete", "shop-db-new", "--yes"]).expect(0);
    world.run(&up).expect(0);
    assert_eq!(status(&world, "shop-db")["replaces"], before[0]);
}

#[test]
fn down_deletes_a_replacement_that_is_not_ready_too() {
    let world = changed_shop();
    world.ssh_finds(r#"{"status": "error", "errors": ["no"]}"#);
    world.run(&["up", "--replace", "--yes"]).expect(8);
    world.run(&["down", "--yes"]).expect(0);
    world.assert_empty("down");
}

#[test]
fn a_stopped_machine_is_started_to_be_provisioned_again_and_a_protected_one_is_not_replaced() {
    let world = changed_shop();
    world.run(&["stop", "--force", "shop/web-1"]).expect(0);
    world.run(&["protect", "shop-db"]).expect(0);
    let before = ids(&world);
    let ran = world.run(&["up", "--replace", "--reprovision", "--yes"]).expect(0);
    let told = ran.stderr();
    assert!(
        told.contains("shop-db: vm.disk changed, but shop-db is protected; `goloo unprotect shop-db`"),
        "{told}"
    );
    assert_eq!(ids(&world), before);
    assert_ne!(status(&world, "shop-web-1")["reprovisioned"], Value::Null);
    assert_eq!(world.json(&["status", "shop-web-1", "--json"])["live"]["state"], "running");
}

#[test]
fn what_nobody_agreed_to_is_left_after_an_interrupted_operation() {
    let world =
        world(&SHOP.replace(r#""db": {"stack": "hello""#, r#""db": {"stack": "hello", "disk": "2G""#));
    interrupt_up(&world);
    let id = status(&world, "shop-db")["id"].clone();
    world.ssh_finds(DONE);
    describe(&world, SHOP);
    let ran = world.run(&["up", "db"]).expect(0);
    let said = "shop-db: the interrupted operation is finished; `goloo up` shows what it needs now";
    assert!(ran.stdout().contains(said), "{ran:?}");
    assert_eq!(status(&world, "shop-db")["id"], id);
    assert_eq!(planned(&world)[0].1, "replace");
    world.run(&["up", "db", "--replace", "--yes"]).expect(0);
    assert_eq!(status(&world, "shop-db")["replaces"], id);
}

/// An operation was interrupted.
const MIDWAY: i32 = 6;
const ONE: &str = r#"{"name": "shop", "machines": {"a": {"stack": "hello", "disk": "SIZE"}}}"#;

// Only calls of the main thread are counted, which works on machines as the others do. Those are killed wherever they are.
#[test]
fn kill_up_with_a_replacement_at_any_step_then_up_again_or_down() {
    let world = world(&ONE.replace("SIZE", "3G"));
    let up = ["up", "--replace", "--yes"];
    let old = std::cell::RefCell::new(Value::Null);
    let prepare = || {
        describe(&world, &ONE.replace("SIZE", "3G"));
        world.run(&up).expect(0);
        old.replace(status(&world, "shop-a")["id"].clone());
        describe(&world, &ONE.replace("SIZE", "2G"));
    };
    let again = |when: &str, n: usize| {
        assert_consistent(&world, when);
        if n.is_multiple_of(5) {
            let down = world.run(&["down", "--yes"]);
            if down.code() == MIDWAY {
                // A name is on its way from one VM to the other.
                assert!(down.stderr().contains("goloo resume shop-a"), "{when}: {down:?}");
                world.run(&["resume", "shop-a"]).expect(0);
                world.run(&["down", "--yes"]).expect(0);
            }
            world.assert_empty(when);
            return;
        }
        world.run(&up).expect(0);
        assert_eq!(world.names(), ["shop-a"], "{when}");
        assert_eq!((world.machines().len(), world.qemus().len()), (1, 1), "{when}");
        assert_eq!(status(&world, "shop-a")["replaces"], *old.borrow(), "{when}");
        assert!(planned(&world).iter().all(|(_, action)| action == "nothing"), "{when}");
    };
    // Killed replacements have tests of their own; here it is what `up` makes of the records.
    let killed = at_calls(&["rename", "renameat", "renameat2", "unlink"], &world, &up, prepare, again);
    assert!(killed > 10, "up was killed only {killed} times");
}

/// Answers as provisioned machines do, and keeps what the guests are told.
fn keep_what_guests_are_told(world: &World) -> PathBuf {
    let told = world.path().join("told");
    let script = "#!/bin/sh\nfor last; do :; done\necho \"$* @@\" | tr '\\n' ' ' >>TOLD\necho >>TOLD\n\
        case $last in *goloo:status*) echo '@goloo:status@'; echo 'DONE' ;; esac\n";
    world.program("ssh", &script.replace("TOLD", told.to_str().unwrap()).replace("DONE", DONE));
    told
}

/// Where goloo reaches a VM, by its record.
fn address(world: &World, vm: &str) -> String {
    let record = fs::read(world.state().join("active").join(vm).join("state.json")).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    record["endpoint"]["address"].as_str().unwrap().to_owned()
}

/// Whether the guest of `vm` was told the address and the names of a machine.
fn is_told(world: &World, told: &Path, vm: &str, (machine, at): (&str, &str)) -> bool {
    let (host, names) = (address(world, vm), format!("{at} {machine} {machine}.shop"));
    let told = fs::read_to_string(told).unwrap();
    told.lines().any(|line| line.contains(&format!("-- {host} ")) && line.contains(&names))
}

/// Whether anything was run in the guest of `vm`.
fn is_contacted(world: &World, told: &Path, vm: &str) -> bool {
    fs::read_to_string(told).unwrap().contains(&format!("-- {} ", address(world, vm)))
}

/// Whether its stand-in has a socket in the network of its environment.
fn is_connected(world: &World, vm: &str) -> bool {
    let networks = fs::read_dir(world.state().join("net")).unwrap();
    let address = private_address(world, vm);
    networks.into_iter().any(|network| network.unwrap().path().join(&address).exists())
}

fn private_address(world: &World, vm: &str) -> String {
    let network = status(world, vm)["membership"]["network"].clone();
    network.as_str().unwrap().split('/').next().unwrap().to_owned()
}

#[test]
fn a_machine_that_is_made_again_is_in_the_network_and_known_to_the_others_at_once() {
    let shop = SHOP.replace(r#""name": "shop""#, r#""name": "shop", "network": true"#);
    let world = world(&shop);
    let told = keep_what_guests_are_told(&world);
    world.run(&["up"]).expect(0);
    let id = |name: &str| status(&world, name)["membership"]["environmentID"].clone();
    let others_know = |machine: &str, others: &[&str]| {
        let address = private_address(&world, &format!("shop-{machine}"));
        for vm in others {
            assert!(is_told(&world, &told, vm, (machine, &address)), "{vm} knows {machine} at {address}");
        }
    };
    others_know("db", &["shop-web-1", "shop-web-2", "shop-db"]);
    // Its documents can use the names.
    let position = |vm: &str, words: &str| {
        let (host, told) = (format!("-- {} ", address(&world, vm)), fs::read_to_string(&told).unwrap());
        told.lines().position(|line| line.contains(&host) && line.contains(words)).unwrap()
    };
    assert!(position("shop-web-1", " db db.shop") < position("shop-web-1", "goloo:status"));

    // Another machine has got its address meanwhile.
    let first = private_address(&world, "shop-db");
    world.run(&["delete", "shop-db", "--yes"]).expect(0);
    describe(&world, &shop.replace(r#""machines": {"#, r#""machines": {"cache": {"stack": "hello"},"#));
    world.run(&["up", "cache"]).expect(0);
    assert_eq!(private_address(&world, "shop-cache"), first);
    fs::remove_file(&told).unwrap();
    world.run(&["recreate", "shop-db"]).expect(0);
    assert_ne!(private_address(&world, "shop-db"), first);
    assert_eq!((id("shop-db"), id("shop-db").is_string()), (id("shop-web-1"), true));
    others_know("db", &["shop-web-1", "shop-web-2", "shop-db"]);

    world.run(&["stop", "--force", "shop-web-2"]).expect(0);
    fs::remove_file(&told).unwrap();
    let replace = ["apply", "shop-db", "--replace", "--set", "cloud_init.vars.a=1", "--yes"];
    let replaced = world.run(&replace).expect(0).stderr();
    assert!(!replaced.contains("may not know"), "nobody asks a machine that is off: {replaced}");
    others_know("db", &["shop-web-1", "shop-db"]);
    assert!(is_connected(&world, "shop-db") && !is_contacted(&world, &told, "shop-web-2"));
    // The one that is off is told when it starts, and its own address too.
    world.run(&["start", "shop-web-2"]).expect(0);
    others_know("db", &["shop-web-2"]);
    assert!(position("shop-web-2", &format!("address={}/24", private_address(&world, "shop-web-2"))) > 0);

    // Alone, it is the first machine of a network again.
    world.run(&["down", "--yes"]).expect(0);
    world.run(&["recreate", "shop-db"]).expect(0);
    assert!(id("shop-db").is_string() && is_connected(&world, "shop-db"));
}

#[test]
fn machines_are_connected_when_their_environment_gets_a_network() {
    let world = world(SHOP);
    world.run(&["up"]).expect(0);
    assert_eq!(status(&world, "shop-db")["membership"]["network"], Value::Null);
    describe(&world, &SHOP.replace(r#""name": "shop""#, r#""name": "shop", "network": true"#));
    world.run(&["up"]).expect(0);
    for vm in ["shop-db", "shop-web-1", "shop-web-2"] {
        assert!(is_connected(&world, vm), "{vm}");
    }
    let has_switch = || {
        let mut networks = fs::read_dir(world.state().join("net")).unwrap();
        let switch = networks.next().unwrap().unwrap().path().join("switch");
        UnixDatagram::unbound().unwrap().connect(switch).is_ok()
    };
    assert!(has_switch());
    world.run(&["stop", "--force", "shop"]).expect(0);
    wait_until("the switch ends with the last machine", || !has_switch());
    world.run(&["start", "shop-db"]).expect(0);
    assert!(has_switch());
}

#[test]
fn environments_know_nothing_of_each_other() {
    let world = world("");
    let told = keep_what_guests_are_told(&world);
    for name in ["shop", "lab"] {
        let file = r#"{"name": "NAME", "network": true, "machines": {"a": {"stack": "hello"}, "b": {"stack": "hello"}}}"#;
        describe(&world, &file.replace("NAME", name));
        world.run(&["up"]).expect(0);
    }
    let of = |vm: &str| {
        let host = format!("-- {} ", address(&world, vm));
        let lines = fs::read_to_string(&told).unwrap();
        lines.lines().filter(|line| line.contains(&host)).collect::<Vec<_>>().join("\n")
    };
    for (vm, own, other) in [("shop-a", "b.shop", ".lab"), ("lab-a", "b.lab", ".shop")] {
        assert!(of(vm).contains(own) && !of(vm).contains(other), "{vm}: {}", of(vm));
    }
    world.run(&["delete", "shop-a", "--yes"]).expect(0);
    fs::remove_file(&told).unwrap();
    world.run(&["recreate", "shop-a"]).expect(0);
    assert!(is_contacted(&world, &told, "shop-b") && !is_contacted(&world, &told, "lab-a"));
}

#[test]
fn a_guest_that_can_not_be_told_is_only_a_warning() {
    let world = world(&SHOP.replace(r#""name": "shop""#, r#""name": "shop", "network": true"#));
    world.run(&["up"]).expect(0);
    let deaf = status(&world, "shop-web-1")["endpoint"]["address"].as_str().unwrap().to_owned();
    world.run(&["delete", "shop-db", "--yes"]).expect(0);
    let script = "#!/bin/sh\nfor last; do :; done\ncase \"$*\" in *DEAF*) echo no >&2; exit 1 ;; esac\n\
        case $last in *goloo:status*) echo '@goloo:status@'; echo 'DONE' ;; esac\n";
    world.program("ssh", &script.replace("DEAF", &deaf).replace("DONE", DONE));
    let made = world.run(&["recreate", "shop-db"]).expect(0).stderr();
    assert!(made.contains("\"shop-web-1\" may not know where \"shop-db\" is now"), "{made}");
    assert!(!made.contains("\"shop-web-2\" may not"), "{made}");
}

/// Runs the rest of its arguments in a network of its own, where something answers like an SSH server at the addresses of
/// the guests.
const IN_PRIVATE_NETWORK: &str = r#"#!/bin/sh
ip link set lo up
for n in 2 3 4 5 6; do ip addr add 10.111.0.$n/24 dev lo; done
python3 -c '
import os, socket
server = socket.create_server(("0.0.0.0", int(os.environ["GOLOO_MULTIPASS_SSH_PORT"])))
print(flush=True)
while True: server.accept()[0].send(b"SSH-2.0-stand-in\r\n")' >ready &
server=$!
until [ -s ready ]; do sleep 0.01; done
"$@"
code=$?
kill $server
exit $code
"#;

#[test]
fn guests_of_multipass_know_each_other_by_name() {
    let world = World::multipass();
    world.stack("hello", r#"{"vm": {"cpus": 1, "memory": "1G", "disk": "5G"}}"#, "");
    world.multipass_faults(&["private-network"]);
    describe(&world, &SHOP.replace(r#""name": "shop""#, r#""name": "shop", "network": true"#));
    let told = keep_what_guests_are_told(&world);
    let script = world.path().join("in-private-network");
    fs::write(&script, IN_PRIVATE_NETWORK).unwrap();
    let answers = world.path().join("bin/ssh");
    let run_to = |code: i32, arguments: &[&str]| {
        let mut command = Command::new("unshare");
        world.settle(&mut command);
        command.args(["--map-root-user", "--net", "sh"]).arg(&script).arg(crate::common::goloo());
        drop(Ran(command.args(arguments).output().unwrap()).expect(code));
        fs::remove_file(world.path().join("work/ready")).unwrap();
    };
    let run = |arguments: &[&str]| run_to(0, arguments);
    run(&["up", "--provider", "multipass"]);
    let machines = ["db", "web-1", "web-2"];
    for (vm, machine) in machines.iter().flat_map(|vm| machines.map(|machine| (vm, machine))) {
        let at = address(&world, &format!("shop-{machine}"));
        assert!(at.starts_with("10.111.0."), "{at}");
        assert!(
            is_told(&world, &told, &format!("shop-{vm}"), (machine, &at)),
            "{vm} knows {machine} at {at}"
        );
    }

    let before = address(&world, "shop-db");
    run(&["apply", "shop-db", "--replace", "--set", "cloud_init.vars.a=1", "--yes"]);
    let now = address(&world, "shop-db");
    assert_ne!(now, before);
    for vm in ["shop-web-1", "shop-web-2", "shop-db"] {
        assert!(is_told(&world, &told, vm, ("db", &now)), "{vm} knows db at {now}");
    }

    // A new VM that isn't ready is no machine of the environment.
    let failed = DONE.replace("done", "error");
    fs::write(&answers, fs::read_to_string(&answers).unwrap().replace(DONE, &failed)).unwrap();
    run_to(8, &["apply", "shop-db", "--replace", "--set", "cloud_init.vars.a=2", "--yes"]);
    fs::remove_file(&told).unwrap();
    run(&["up", "--yes"]);
    let unready = address(&world, "shop-db-new");
    assert!(is_told(&world, &told, "shop-web-1", ("db", &now)));
    assert!(!is_told(&world, &told, "shop-web-1", ("db", &unready)), "{unready}");
    run(&["down", "--yes"]);
    assert!(world.names().is_empty());
}

#[test]
fn up_warns_if_the_machines_need_more_memory_than_is_available() {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
    let available = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap();
    let mebibytes = available.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10;
    let machine = json!({"stack": "hello", "memory": format!("{}M", mebibytes * 3 / 5)});
    let machines = json!({"name": "shop", "machines": {"a": machine, "b": machine}});
    let world = world(&machines.to_string());
    let warnings = |arguments: &[&str]| {
        let plan = world.json(&[&["up", "--dry-run", "--json"], arguments].concat());
        plan["warnings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|text| text.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(warnings(&["a"]), [""; 0], "one alone");
    let both = warnings(&[]);
    assert!(both[0].starts_with("the machines that are made or started need "), "{both:?}");
    // One that runs already has its part of what isn't available; one that is off hasn't.
    world.run(&["up", "a"]).expect(0);
    world.run(&["stop", "--force", "shop-a"]).expect(0);
    assert_eq!(warnings(&[]).len(), 1);
}

#[test]
fn vm_a_hundred_machines_twenty_at_a_time() {
    let world = world(r#"{"name": "farm", "machines": {"node": {"stack": "hello", "count": 100}}}"#);
    world.run(&["up", "--jobs", "20"]).expect(0);
    assert_eq!((world.names().len(), world.machines().len(), world.qemus().len()), (100, 100, 100));
    let list = world.json(&["list", "--json"]);
    assert_eq!(list["broken"], json!([]));
    assert!(planned(&world).iter().all(|(_, action)| action == "nothing"));
    world.run(&["down", "--yes", "--jobs", "20"]).expect(0);
    world.assert_empty("down");
}
