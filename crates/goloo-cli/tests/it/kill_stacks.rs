//! Commands that change the user's stacks, and `delete --forget`, killed at every system call that changes something:
//! the user loses nothing, and the next command continues.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::World;
use crate::common::kill::{Kept, everywhere};
use serde_json::Value;

/// A valid stack that needs no other files, and a later version of it.
const OLD: &str = r#"{"vm": {"cpus": 1, "image": "24.04"}}"#;
const NEW: &str = r#"{"vm": {"cpus": 2, "image": "24.04"}}"#;
const CLOUD_INIT: &str = "#cloud-config\nruncmd: [\"true\"]\n";

fn write_stack(folder: &Path, config: &str) -> String {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("config.json"), config).unwrap();
    fs::write(folder.join("cloud-init.yaml"), CLOUD_INIT).unwrap();
    folder.display().to_string()
}

fn library(world: &World) -> PathBuf {
    world.path().join("config/stacks")
}

/// The config of the stack `web` in the library, which must be complete or absent.
fn web(world: &World, when: &str) -> Option<String> {
    let folder = library(world).join("web");
    let mut names = names(&folder)?;
    // Temporary files that a dead process would have renamed.
    names.retain(|name| !name.starts_with(".goloo-"));
    assert_eq!(names, ["cloud-init.yaml", "config.json"], "{when}");
    assert_eq!(fs::read_to_string(folder.join("cloud-init.yaml")).unwrap(), CLOUD_INIT, "{when}");
    Some(fs::read_to_string(folder.join("config.json")).unwrap())
}

fn names(folder: &Path) -> Option<Vec<String>> {
    let entries = fs::read_dir(folder).ok()?;
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    Some(names)
}

/// The stacks that goloo lists, which must not include leftovers of a dead process.
fn shown(world: &World) -> Vec<String> {
    let list = world.json(&["config", "list", "--json"]);
    let mut names: Vec<_> = list["stacks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stack| stack["name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// A world whose library has the old version of the stack `web`.
fn with_web() -> Kept {
    let world = World::new();
    let source = write_stack(&world.path().join("source"), OLD);
    world.run(&["config", "import", "web", &source]).expect(0);
    Kept::new(world)
}

#[test]
fn kill_an_import_at_any_call_then_retry() {
    let kept = Kept::new(World::new());
    let world = &kept.world;
    let folder = world.path().join("source");
    let source = write_stack(&folder, NEW);
    let import = ["config", "import", "web", &source];
    let again = |when: &str, _| {
        let there = web(world, when);
        assert!(there.as_deref().is_none_or(|config| config == NEW), "{when}: {there:?}");
        assert_eq!(shown(world).contains(&"web".to_owned()), there.is_some(), "{when}");
        world.run(&import).expect(if there.is_some() { 3 } else { 0 });
        world.run(&["config", "import", "web", &source, "--force"]).expect(0);
        assert_eq!(web(world, when).as_deref(), Some(NEW), "{when}, again");
        assert_eq!(names(&library(world)).unwrap(), ["web"], "{when}, again: something is left");
        assert_eq!(names(&folder).unwrap(), ["cloud-init.yaml", "config.json"], "{when}: the user's own");
    };
    let killed = everywhere(world, &import, || kept.put_back(), again);
    assert!(killed > 8, "an import changes something more often than {killed} times");
}

#[test]
fn kill_an_import_over_an_existing_stack_at_any_call_then_retry() {
    let kept = with_web();
    let world = &kept.world;
    let source = write_stack(&world.path().join("newer"), NEW);
    let import = ["config", "import", "web", &source, "--force"];
    let again = |when: &str, _| {
        let there = web(world, when).expect("neither the old nor the new one is there");
        assert!([OLD, NEW].contains(&there.as_str()), "{when}: {there}");
        assert_eq!(shown(world), ["hello", "web"], "{when}");
        world.run(&import).expect(0);
        assert_eq!(web(world, when).as_deref(), Some(NEW), "{when}, again");
        assert_eq!(names(&library(world)).unwrap(), ["web"], "{when}, again: something is left");
    };
    let killed = everywhere(world, &import, || kept.put_back(), again);
    assert!(killed > 8, "an import changes something more often than {killed} times");
}

#[test]
fn kill_an_edit_at_any_call_loses_no_typed_text() {
    let kept = with_web();
    let world = &kept.world;
    // The draft's path is the last argument.
    let typed = world.path().join("typed");
    world.program("edit", &format!("#!/bin/sh\necho '{NEW}' > \"$1\"\ntouch {}\n", typed.display()));
    let new = format!("{NEW}\n");
    let drafts = world.state().join("drafts/web");
    let is_kept = || {
        let folders = names(&drafts).unwrap_or_default();
        let texts = folders.iter().map(|folder| fs::read_to_string(drafts.join(folder).join("config.json")));
        texts.flatten().any(|text| text == new)
    };
    let again = |when: &str, _| {
        let there = web(world, when).expect("the stack is gone");
        assert!(there == OLD || there == new, "{when}: {there}");
        let saved = there == new;
        assert!(saved || is_kept() || !typed.exists(), "{when}: what was typed is lost");
        let ran = world.run(&["config", "edit", "web"]).expect(0);
        assert_eq!(web(world, when), Some(new.clone()), "{when}, again");
        assert!(
            saved || !typed.exists() || ran.stderr().contains("another draft") || !drafts.exists(),
            "{when}: {ran:?}"
        );
    };
    let prepare = || {
        kept.put_back();
        let _ = fs::remove_file(&typed);
    };
    let killed = everywhere(world, &["config", "edit", "web"], prepare, again);
    assert!(killed > 8, "an edit changes something more often than {killed} times");
}

#[test]
fn kill_a_removal_at_any_call_then_retry() {
    let kept = with_web();
    let world = &kept.world;
    let remove = ["config", "rm", "web", "--yes"];
    let again = |when: &str, _| {
        let there = web(world, when);
        assert!(there.as_deref().is_none_or(|config| config == OLD), "{when}: {there:?}");
        assert_eq!(shown(world).contains(&"web".to_owned()), there.is_some(), "{when}");
        world.run(&remove).expect(if there.is_some() { 0 } else { 3 });
        assert_eq!(web(world, when), None, "{when}, again");
        // The next import removes leftovers.
        world.run(&["config", "import", "web", &world.path().join("source").display().to_string()]).expect(0);
        assert_eq!(names(&library(world)).unwrap(), ["web"], "{when}: something is left");
    };
    let killed = everywhere(world, &remove, || kept.put_back(), again);
    assert!(killed > 4, "a removal changes something more often than {killed} times");
}

#[test]
fn kill_a_relocation_at_any_call_then_retry() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    world.run(&["delete", "hello", "--yes"]).expect(0);
    let before = world.path().join("work/stacks/hello");
    let after = world.path().join("work/moved/hello");
    fs::create_dir(after.parent().unwrap()).unwrap();
    fs::rename(&before, &after).unwrap();
    let kept = Kept::new(world);
    let world = &kept.world;
    let known = || {
        let list = world.json(&["config", "list", "--json"]);
        let stacks = list["stacks"].as_array().unwrap().clone();
        let found: Vec<Value> = stacks.into_iter().filter(|stack| stack["name"] == "hello").collect();
        assert_eq!(found.len(), 1, "{list}");
        PathBuf::from(found[0]["path"].as_str().unwrap())
    };
    let folder = after.display().to_string();
    let relocate = ["config", "relocate", "hello", &folder];
    let again = |when: &str, _| {
        assert!([&before, &after].contains(&&known()), "{when}: {:?}", known());
        world.run(&relocate).expect(0);
        assert_eq!(known(), after, "{when}, again");
    };
    let killed = everywhere(world, &relocate, || kept.put_back(), again);
    assert!(killed > 3, "a relocation changes something more often than {killed} times");
}

#[test]
fn kill_a_forget_at_any_call_then_retry() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    let path = world.state().join("active/hello/state.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    record["createdBy"]["hostId"] = "another".into();
    fs::write(&path, record.to_string()).unwrap();
    let kept = Kept::new(world);
    let world = &kept.world;
    let forget = ["delete", "hello", "--yes", "--forget"];
    let again = |when: &str, _| {
        let list = world.json(&["list", "--all", "--json"]);
        assert_eq!(list["broken"], serde_json::json!([]), "{when}");
        let known = [&list["vms"], &list["archived"]].map(|part| part.as_array().unwrap().len());
        assert!(known == [1, 0] || known == [0, 1], "{when}: {list}");
        world.run(&forget).expect(if known[0] == 1 { 0 } else { 3 });
        let list = world.json(&["list", "--all", "--json"]);
        let known = [&list["vms"], &list["archived"]].map(|part| part.as_array().unwrap().len());
        assert_eq!(known, [0, 1], "{when}, again");
        assert_eq!(list["archived"][0]["id"].as_str().map(str::is_empty), Some(false), "{when}: {list}");
        let history = world.json(&["history", "hello", "--json"]);
        assert_eq!(history["history"].as_array().unwrap().last().unwrap()["what"], "forget", "{when}");
        assert_eq!((world.machines().len(), world.qemus().len()), (1, 1), "{when}: the machine was touched");
    };
    let killed = everywhere(world, &forget, || kept.put_back(), again);
    assert!(killed > 8, "a forget changes something more often than {killed} times");
}
