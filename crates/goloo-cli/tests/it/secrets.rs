//! No command prints the private key in the record of an unfinished create.

use crate::common;
use std::fs;
use std::process::Stdio;

use crate::common::World;
use clap::CommandFactory;
use goloo_model::record::{self, Phase, Record};
use goloo_model::store::Store;
use goloo_model::time::Timestamp;
use goloo_store::{DirStore, Options};
use goloo_testkit::samples::{creating, name, owner, snapshot};
use goloo_testkit::store_suite::run;

/// A world with an unfinished create, including its inputs, in the records of the VM `hello`, one active and one
/// archived.
fn world_with_an_unfinished_create() -> World {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    let made = world.json(&["status", "hello", "--json"]);
    world.run(&["delete", "hello", "--yes"]).expect(0);
    let created_by = serde_json::from_value(made["vm"]["createdBy"].clone()).unwrap();
    let unfinished = Record { created_by, ..creating(&name("hello")) };
    let store = DirStore::open(&world.state(), Options::default());
    for archived in [true, false] {
        let mut lock = run(store.lock(&unfinished.name, &owner(1))).unwrap();
        run(lock.create(&mut unfinished.clone(), &snapshot())).unwrap();
        if archived {
            let mut record = run(lock.load()).unwrap().unwrap().record;
            record.phase = Phase::Destroyed;
            run(lock.archive(&mut record, Timestamp::now())).unwrap();
        }
    }
    let file = fs::read(world.state().join("active/hello/state.json")).unwrap();
    let kept = record::from_json(&file).unwrap().operation.unwrap().inputs.unwrap();
    assert_eq!(Some(kept), unfinished.operation.unwrap().inputs, "the store has lost the inputs");
    world
}

/// The command lines of this command and all its subcommands that accept `--json`, with their required arguments.
fn with_json(command: &clap::Command, before: &[String]) -> Vec<Vec<String>> {
    let mut path = before.to_vec();
    path.push(command.get_name().to_owned());
    let mut lines: Vec<_> = command.get_subcommands().flat_map(|below| with_json(below, &path)).collect();
    if command.get_arguments().any(|argument| argument.get_long() == Some("json")) {
        for argument in command.get_arguments().filter(|argument| argument.is_required_set()) {
            path.extend(argument.get_long().map(|long| format!("--{long}")));
            path.push(match argument.get_id().as_str() {
                "provider" => "qemu".to_owned(),
                "id" if before.ends_with(&["archive".to_owned()]) => "ARCHIVED".to_owned(),
                _ => "hello".to_owned(),
            });
        }
        lines.push(path.split_off(1));
    }
    lines
}

#[test]
fn no_command_prints_the_key_of_an_unfinished_create() {
    let world = world_with_an_unfinished_create();
    let archived = world.json(&["archive", "list", "--json"]);
    let ids = archived["archived"].as_array().unwrap().iter().map(|entry| &entry["archiveId"]);
    let archived = ids.map(|id| id.as_str().unwrap().to_owned());
    let with_key = |id: &String| {
        let file = fs::read_to_string(world.state().join("archive").join(id).join("state.json")).unwrap();
        file.contains("PRIVATE KEY")
    };
    let archived = archived.into_iter().find(with_key).expect("an archived record with inputs");
    let mut root = goloo_cli::args::Cli::command();
    root.build();
    let lines = with_json(&root, &[]);
    assert!(lines.len() > 20, "{lines:?}");
    for line in lines {
        let line: Vec<_> =
            line.iter().map(|word| if word == "ARCHIVED" { &archived } else { word }).collect();
        for json in [&["--json"][..], &[]] {
            let mut command = world.command();
            let ran = command.args(&line).args(json).stdin(Stdio::null()).output().unwrap();
            let ran = common::Ran(ran);
            let printed = ran.stdout() + &ran.stderr();
            assert!(!printed.contains("panicked"), "{line:?}: {ran:?}");
            assert!(!printed.contains("PRIVATE KEY"), "{line:?}: {ran:?}");
            if json == ["--json"] {
                serde_json::from_str::<serde_json::Value>(&ran.stdout())
                    .unwrap_or_else(|error| panic!("{line:?}: {error}: {ran:?}"));
            }
        }
    }
}
