//! VMs of goloo v0, through the real command. Its configs are in `fixtures/legacy`; their providers can't be queried
//! here.

use crate::common;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::common::{Ran, World};
use serde_json::{Value, json};

const ALL: [&str; 6] = ["both", "both-aws", "devbox", "flat", "per-provider", "web-aws"];

/// The fixtures as `./stacks` of a world without other stacks.
fn legacy() -> World {
    let world = World::new();
    fs::remove_dir_all(stacks(&world)).unwrap();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/legacy"), &stacks(&world));
    world
}

/// A world with these configs in `./stacks`.
fn world_of(configs: &[(&str, &str)]) -> World {
    let world = World::new();
    fs::remove_dir_all(stacks(&world)).unwrap();
    for (path, config) in configs {
        write(&stacks(&world).join(path).join("config.json"), config);
    }
    world
}

fn stacks(world: &World) -> PathBuf {
    world.path().join("work/stacks")
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn copy(from: &Path, to: &Path) {
    for (path, content) in files(from) {
        let to = to.join(path);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, content).unwrap();
    }
}

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                all.insert(path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    all
}

/// The names of the records, read without goloo, which would migrate.
fn records(world: &World) -> Vec<String> {
    let entries = fs::read_dir(world.state().join("active")).into_iter().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A record without the fields that differ from run to run.
fn record(world: &World, name: &str) -> Value {
    let text = fs::read_to_string(world.state().join("active").join(name).join("state.json")).unwrap();
    let root = world.path().canonicalize().unwrap().display().to_string();
    let mut record: Value = serde_json::from_str(&text.replace(&root, "ROOT")).unwrap();
    assert_eq!(record["createdBy"]["user"], "ann");
    let history = record.as_object_mut().unwrap().remove("history").unwrap();
    assert_eq!((&history[0]["what"], &history[0]["user"]), (&json!("migrate"), &json!("ann")));
    for key in ["id", "createdAt", "updatedAt", "createdBy", "proof"] {
        assert!(record[key] != Value::Null, "{key}");
        record[key] = json!("…");
    }
    record["resources"][0]["operation"] = json!("…");
    record
}

fn delete_record(world: &World, name: &str) {
    // The provider can't be queried here, so the result of a delete is created manually.
    let active = world.state().join("active").join(name);
    let mut record: Value = serde_json::from_slice(&fs::read(active.join("state.json")).unwrap()).unwrap();
    record["phase"] = json!("destroyed");
    fs::write(active.join("state.json"), record.to_string()).unwrap();
    let id = record["id"].as_str().unwrap().to_ascii_lowercase();
    let archive = world.state().join("archive");
    fs::create_dir_all(&archive).unwrap();
    fs::rename(active, archive.join(format!("{name}-20250115T103000Z-{}", &id[id.len() - 4..]))).unwrap();
}

const LOCAL: &str = r#"{"local": {"ip": "10.0.0.1"}}"#;
const ARN: &str = "arn:aws:cloudformation:us-east-1:123456789012:stack/goloo-web/88bb";

#[test]
fn every_shape_becomes_a_record() {
    let world = legacy();
    let before = files(&stacks(&world));
    let done = world.json(&["migrate", "--json"]);
    assert_eq!((&done["schema"], &done["problems"], &done["skipped"]), (&json!(1), &json!([]), &json!([])));
    assert_eq!(records(&world), ALL);
    let all: Vec<_> = ALL.iter().map(|name| record(&world, name)).collect();
    insta::assert_snapshot!(serde_json::to_string_pretty(&all).unwrap());
    assert_eq!(files(&stacks(&world)), before, "the configs are as they were");
}

#[test]
fn migrate_reports_the_config_of_each_vm_and_whether_it_was_checked() {
    let world = world_of(&[("devbox", LOCAL)]);
    let done = world.json(&["migrate", "--json"]);
    let from = stacks(&world).canonicalize().unwrap().join("devbox/config.json");
    let vm = &done["migrated"][0];
    assert_eq!((&vm["name"], &vm["provider"]), (&json!("devbox"), &json!("multipass")));
    assert_eq!((&vm["checked"], &vm["live"]), (&json!(false), &json!("unknown")));
    assert_eq!(vm["from"], json!(from));
    assert!(!vm["reason"].as_str().unwrap().is_empty());
}

#[test]
fn the_snapshot_contains_the_stack_files() {
    let world = world_of(&[("devbox", LOCAL), ("web", "{}"), ("web/local", LOCAL)]);
    write(&stacks(&world).join("devbox/cloud-init.yaml"), "#cloud-config\n");
    write(&stacks(&world).join("web/cloud-init.yaml"), "#cloud-config\n# the stack's\n");
    write(&stacks(&world).join("web/configure.sh"), "true\n");
    write(&stacks(&world).join("web/local/cloud-init.yaml"), "#cloud-config\n# its own\n");
    world.run(&["migrate"]).expect(0);
    let file = |name: &str| fs::read_to_string(world.state().join("active").join(name)).unwrap();
    assert_eq!(file("devbox/config.json"), LOCAL);
    assert_eq!(file("devbox/cloud-init.yaml"), "#cloud-config\n");
    assert_eq!(file("web/config.json"), LOCAL);
    assert_eq!(file("web/cloud-init.yaml"), "#cloud-config\n# its own\n");
    assert_eq!(file("web/configure.sh"), "true\n");
}

#[test]
fn a_second_migrate_changes_nothing() {
    let world = legacy();
    world.run(&["migrate"]).expect(0);
    let before = files(&world.state());
    let again = world.json(&["migrate", "--json"]);
    assert_eq!((&again["migrated"], &again["problems"]), (&json!([]), &json!([])));
    assert_eq!(again["skipped"].as_array().unwrap().len(), ALL.len());
    let list = world.run(&["list"]).expect(0);
    assert!(!list.stderr().contains("migrated"), "{list:?}");
    assert_eq!(files(&world.state()), before);
}

#[test]
fn a_dry_run_writes_nothing() {
    let world = legacy();
    let done = world.json(&["migrate", "--dry-run", "--json"]);
    let names: Vec<_> = done["migrated"].as_array().unwrap().iter().map(|vm| vm["name"].as_str()).collect();
    assert_eq!(names, ["both", "both-aws", "devbox", "flat", "per-provider", "web-aws"].map(Some));
    assert!(!world.state().exists());
}

#[test]
fn a_deleted_vm_is_not_migrated_again() {
    let world = legacy();
    world.run(&["migrate"]).expect(0);
    for name in ALL {
        delete_record(&world, name);
    }
    assert_eq!(world.names(), [""; 0]);
    write(&stacks(&world).join("empty/config.json"), r#"{"aws": {}}"#);
    let status = world.run(&["status", "devbox"]).expect(3);
    assert!(status.stderr().contains("it was migrated and deleted"), "{status:?}");
    assert!(!status.stderr().contains("empty"), "that is another stack: {status:?}");
    let again = world.json(&["migrate", "--json"]);
    assert_eq!((&again["migrated"], &again["problems"]), (&json!([]), &json!([])));
    assert_eq!(records(&world), [""; 0]);
}

#[test]
fn the_name_of_a_deleted_vm_can_be_reused() {
    let world = world_of(&[("devbox", LOCAL)]);
    world.run(&["migrate"]).expect(0);
    delete_record(&world, "devbox");
    world.stack("hello", common::HELLO, "");
    world.run(&["create", "hello", "--as", "devbox", "--no-wait"]).expect(0);
    let list = world.run(&["list"]).expect(0);
    assert_eq!(list.stderr(), "", "the old config has nothing more to say");
    world.run(&["delete", "devbox", "--yes"]).expect(0);
}

#[test]
fn list_and_status_show_unimported_vms_and_write_nothing() {
    let world = legacy();
    let before = files(world.path());
    let list = world.run(&["list"]).expect(0);
    for name in ALL {
        let row = list.stdout().lines().any(|line| line.starts_with(name) && line.contains("not imported"));
        assert!(row, "{list:?}");
    }
    assert!(list.stderr().contains("are not imported; run `goloo migrate`"), "{list:?}");
    let shown = world.json(&["list", "--refresh", "--json"]);
    let of =
        |name: &str| shown["vms"].as_array().unwrap().iter().find(|vm| vm["name"] == name).unwrap().clone();
    assert_eq!((&of("devbox")["imported"], &of("devbox")["live"]), (&json!(false), &json!("unknown")));
    assert!(of("devbox")["origin"]["from"].as_str().unwrap().ends_with("devbox/config.json"));
    let status = world.run(&["status", "devbox"]).expect(0);
    assert!(status.stderr().contains("not imported; run `goloo migrate`"), "{status:?}");
    assert_eq!(world.json(&["status", "devbox", "--json"])["imported"], false);
    assert_eq!(files(world.path()), before, "something was written");
    world.run(&["migrate"]).expect(0);
    let list = world.run(&["list"]).expect(0);
    assert!(!list.stdout().contains("not imported") && list.stderr().is_empty(), "{list:?}");
    assert_eq!(world.json(&["list", "--json"])["vms"][0].get("imported"), None);
}

#[test]
fn a_command_migrates_only_the_vm_it_names() {
    let world = legacy();
    let status = world.run(&["ssh-config", "both-aws"]).expect(0);
    assert!(status.stderr().contains("note: migrated both-aws from "), "{status:?}");
    assert!(status.stderr().contains("the config is unchanged"), "{status:?}");
    assert_eq!(records(&world), ["both-aws"]);
}

#[test]
fn every_command_on_a_vm_migrates_its_v0_config() {
    for command in [
        vec!["delete", "devbox", "--yes"],
        vec!["ssh", "devbox"],
        vec!["exec", "devbox", "--", "true"],
        vec!["cp", "devbox:/etc/motd", "."],
        vec!["start", "devbox"],
        vec!["stop", "devbox"],
        vec!["restart", "devbox"],
        vec!["logs", "devbox"],
        vec!["wait", "devbox"],
        vec!["diff", "devbox"],
        vec!["resume", "devbox"],
    ] {
        let world = legacy();
        let ran = world.run(&command);
        assert!(ran.stderr().contains("migrated devbox from "), "{command:?}: {ran:?}");
    }
}

#[test]
fn a_name_without_a_config_is_not_found() {
    let world = legacy();
    let status = world.run(&["status", "nobody"]).expect(3);
    assert_eq!(status.stderr(), "error: no VM is called \"nobody\"\nhint: goloo list --all\n");
    assert_eq!(records(&world), [""; 0]);
}

#[test]
fn a_stack_whose_name_differs_from_its_folder_is_found_by_its_name() {
    let world = world_of(&[("web", r#"{"vm": {"name": "shop"}, "local": {"ip": "10.0.0.1"}}"#)]);
    let ran = world.run(&["ssh-config", "shop"]).expect(0);
    assert!(ran.stderr().contains("migrated shop from "), "{ran:?}");
    assert_eq!(record(&world, "shop")["stack"], "web");
    assert_eq!(record(&world, "shop")["resources"][0]["id"], "shop");
}

#[test]
fn the_second_config_claiming_a_name_is_refused_and_both_are_named() {
    let config = |ip: &str| format!(r#"{{"vm": {{"name": "devbox"}}, "local": {{"ip": "{ip}"}}}}"#);
    let world = world_of(&[("a", &config("10.0.0.1")), ("b", &config("10.0.0.2"))]);
    for _ in ["both are new", "the first has a record"] {
        let refused = world.run(&["migrate"]).expect(3);
        for path in ["a/config.json", "b/config.json"] {
            assert!(refused.stderr().contains(&format!("stacks/{path}")), "{refused:?}");
        }
        assert_eq!(record(&world, "devbox")["endpoint"]["address"], "10.0.0.1");
    }
    let list = world.run(&["list"]).expect(0);
    assert!(list.stderr().contains("warning: "), "{list:?}");
}

#[test]
fn a_copy_of_a_config_is_not_migrated_twice() {
    let config = r#"{"vm": {"name": "devbox"}, "local": {"ip": "10.0.0.1"}}"#;
    let aws = json!({"vm": {"name": "web"}, "aws": {"stack_id": ARN}}).to_string();
    let other = json!({"vm": {"name": "shop"}, "aws": {"stack_id": ARN}}).to_string();
    let world = world_of(&[("a", config), ("b", config), ("c", &aws), ("d", &other)]);
    world.run(&["migrate"]).expect(0);
    world.run(&["migrate"]).expect(0);
    assert_eq!(records(&world), ["devbox", "web"]);
}

#[test]
fn a_vm_of_a_moved_stack_is_not_migrated_again() {
    let world = world_of(&[("devbox", LOCAL)]);
    world.run(&["migrate"]).expect(0);
    fs::create_dir_all(world.path().join("config")).unwrap();
    fs::rename(stacks(&world), world.path().join("config/stacks")).unwrap();
    write(&world.path().join("config/stacks/devbox/config.json"), r#"{"local": {"ip": "10.0.0.7"}}"#);
    let again = world.json(&["migrate", "--json"]);
    assert_eq!((&again["migrated"], &again["problems"]), (&json!([]), &json!([])));
}

#[test]
fn a_record_of_another_vm_with_the_same_name_is_never_overwritten() {
    let world = World::new();
    world.run(&["create", "hello", "--as", "both-aws", "--no-wait"]).expect(0);
    let before = files(&world.state().join("active/both-aws"));
    let both = json!({"vm": {"name": "both"}, "local": {"ip": "10.0.0.1"}, "aws": {"stack_id": ARN}});
    write(&stacks(&world).join("both/config.json"), &both.to_string());
    let refused = world.run(&["migrate"]).expect(3);
    assert!(refused.stderr().contains("goloo adopt both-aws-2 --provider aws --id arn:"), "{refused:?}");
    assert_eq!(files(&world.state().join("active/both-aws")), before);
    assert_eq!(records(&world), ["both", "both-aws"]);
    world.run(&["delete", "both-aws", "--yes"]).expect(0);
}

#[test]
fn a_broken_config_is_reported_with_its_line_and_stops_no_other() {
    let world = world_of(&[
        ("bad", "{\"vm\": {},\n \"local\": {\"ip\": \"there\"}}"),
        ("torn", "{\"local\": {"),
        ("devbox", LOCAL),
        ("Upper", LOCAL),
    ]);
    let done = world.run(&["migrate", "--json"]).expect(2);
    let done: Value = serde_json::from_str(&done.stdout()).unwrap();
    assert_eq!(records(&world), ["devbox"]);
    let problems = done["problems"].as_array().unwrap();
    let root = stacks(&world).canonicalize().unwrap();
    let bad = problems.iter().find(|problem| problem["pointer"] == "/local/ip").unwrap();
    assert_eq!((&bad["file"], &bad["line"]), (&json!(root.join("bad/config.json")), &json!(2)));
    let upper = problems.iter().find(|problem| problem["pointer"] == "/local").unwrap();
    assert_eq!(upper["hint"], "goloo adopt upper --provider multipass --id Upper");
    assert_eq!(problems.len(), 3);
    let list = world.run(&["list"]).expect(0);
    assert_eq!(list.stderr().matches("warning: ").count(), 1, "{list:?}");
    world.run(&["ssh-config", "devbox"]).expect(0);
}

#[test]
fn an_empty_section_is_skipped_and_reported() {
    let world = world_of(&[("devbox", "{\n\"aws\": {}}")]);
    let done = world.json(&["migrate", "--json"]);
    assert_eq!(done["skipped"][0]["reason"], "line 2: /aws is empty: there is no VM");
    assert_eq!(world.run(&["list"]).expect(0).stderr(), "no VMs; run `goloo create NAME` to create one\n");
}

#[test]
fn a_path_may_name_a_stack_or_a_folder_of_stacks() {
    let world = legacy();
    let elsewhere = world.path().join("elsewhere");
    fs::rename(stacks(&world), &elsewhere).unwrap();
    assert_eq!(world.json(&["migrate", "--json"])["migrated"], json!([]));
    let one = elsewhere.join("devbox").display().to_string();
    world.run(&["migrate", "-f", &one]).expect(0);
    assert_eq!(records(&world), ["devbox"]);
    world.run(&["migrate", "-f", &elsewhere.display().to_string()]).expect(0);
    assert_eq!(records(&world), ALL);
    world.run(&["migrate", "-f", "nowhere"]).expect(3);
}

#[test]
fn all_stack_folders_and_the_current_folder_are_searched() {
    let world = world_of(&[("a", LOCAL)]);
    write(&world.path().join("config/stacks/b/config.json"), LOCAL);
    write(&world.path().join("infra/c/config.json"), LOCAL);
    write(&world.path().join("work/config.json"), r#"{"vm": {"name": "d"}, "local": {"ip": "10.0.0.4"}}"#);
    let mut command = world.command();
    let ran = command.env("GOLOO_STACK_FOLDER", world.path().join("infra")).arg("migrate").output().unwrap();
    Ran(ran).expect(0);
    assert_eq!(records(&world), ["a", "b", "c", "d"]);
}

#[test]
fn a_folder_reachable_by_two_paths_is_searched_once() {
    let world = legacy();
    let mut command = world.command();
    command.env("GOLOO_STACK_FOLDER", "../work/stacks").args(["migrate", "--json"]);
    let done: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    assert_eq!((done["migrated"].as_array().unwrap().len(), &done["skipped"]), (ALL.len(), &json!([])));
}

#[test]
fn an_adopted_machine_is_recognized_under_any_name() {
    let world = world_of(&[("devbox", LOCAL)]);
    world.run(&["migrate"]).expect(0);
    let active = world.state().join("active");
    let text = fs::read_to_string(active.join("devbox/state.json")).unwrap();
    let adopted =
        text.replace("\"migrated\"", "\"adopted\"").replace("\"name\": \"devbox\"", "\"name\": \"box\"");
    fs::rename(active.join("devbox"), active.join("box")).unwrap();
    fs::write(active.join("box/state.json"), adopted).unwrap();
    let again = world.json(&["migrate", "--json"]);
    assert_eq!(again["skipped"][0]["reason"], "its machine already has a record, \"box\"");
    assert_eq!(records(&world), ["box"]);
}

#[test]
fn an_invalid_name_is_ignored_once_its_machine_is_adopted() {
    let world = world_of(&[("box", LOCAL)]);
    world.run(&["migrate"]).expect(0);
    write(&stacks(&world).join("Box/config.json"), LOCAL);
    fs::remove_dir_all(stacks(&world).join("box")).unwrap();
    world.run(&["migrate"]).expect(2);
    let state = world.state().join("active/box/state.json");
    let text = fs::read_to_string(&state).unwrap();
    fs::write(
        &state,
        text.replace("\"migrated\"", "\"adopted\"").replace("\"id\": \"box\"", "\"id\": \"Box\""),
    )
    .unwrap();
    let again = world.run(&["migrate", "--json"]).expect(0);
    assert!(again.stdout().contains("its machine already has a record, \\\"box\\\""), "{again:?}");
    assert!(!world.run(&["list"]).expect(0).stderr().contains("warning"));
}

#[test]
fn an_unwritable_state_folder_fails_an_import_but_not_list() {
    let world = legacy();
    // A file in place of the locks folder makes writes fail even for root.
    fs::create_dir_all(world.state()).unwrap();
    fs::write(world.state().join("locks"), "").unwrap();
    let list = world.run(&["list"]).expect(0);
    assert!(!list.stderr().contains("warning: "), "{list:?}");
    let start = world.run(&["start", "devbox"]).expect(1);
    assert!(start.stderr().contains("\"devbox\" can't be imported: can't"), "{start:?}");
    world.run(&["migrate"]).expect(1);
    assert_eq!(records(&world), [""; 0]);
}

#[test]
fn sixteen_concurrent_migrations_succeed_with_one_record_per_vm() {
    let world = legacy();
    let spawn = |number: usize| {
        let arguments: &[&str] =
            if number.is_multiple_of(2) { &["migrate", "--json"] } else { &["ssh-config", "devbox"] };
        world.command().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..16).map(spawn).collect();
    for child in children {
        let ran = Ran(child.wait_with_output().unwrap()).expect(0);
        assert!(!ran.stderr().contains("warning"), "{ran:?}");
    }
    assert_eq!(records(&world), ALL);
    for name in ALL {
        assert_eq!(record(&world, name)["serial"], 1, "{name}");
    }
}

#[test]
fn a_killed_migration_is_completed_by_the_next_one() {
    let world = legacy();
    let mut command = std::process::Command::new("strace");
    world.settle(&mut command);
    command.args([
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=renameat2",
        "-e",
        // The first two renames are for the key and the id of the state folder.
        "inject=renameat2:signal=KILL:when=5",
    ]);
    assert!(!command.arg(common::goloo()).arg("migrate").output().unwrap().status.success());
    let made: Vec<_> = records(&world).into_iter().filter(|name| !name.starts_with('.')).collect();
    assert_eq!(made.len(), 2, "each record appears in one step");
    world.run(&["migrate"]).expect(0);
    assert_eq!(records(&world), ALL);
}

#[test]
fn list_without_stack_folders_checks_no_other_paths() {
    let world = World::new();
    fs::remove_dir_all(stacks(&world)).unwrap();
    let log = world.path().join("strace");
    let mut command = std::process::Command::new("strace");
    world.settle(&mut command);
    command.arg("-o").arg(&log).args(["-e", "trace=%file"]).arg(common::goloo()).arg("list");
    Ran(command.output().unwrap()).expect(0);
    let calls = fs::read_to_string(log).unwrap();
    let looked = calls.lines().filter(|line| line.contains("stacks") || line.contains("config.json"));
    assert_eq!(
        looked.count(),
        6,
        "two folders, of which one must be private, and three configs of this one:\n{calls}"
    );
}

#[test]
fn deleting_a_vm_in_aws_on_a_terminal_requires_its_name() {
    let world = legacy();
    world.run(&["migrate"]).expect(0);
    let asked = |answer: &str| world.answering(answer, "delete web-aws");
    let declined = asked("y").expect(130);
    assert!(declined.stdout().contains("Type web-aws:"), "{declined:?}");
    assert!(declined.stdout().contains("nothing was deleted"), "{declined:?}");
    assert!(!declined.stdout().contains("error:"), "{declined:?}");
    // With its name as the answer, the provider is called.
    assert!(!asked("web-aws").stdout().contains("nothing was deleted"));
}
