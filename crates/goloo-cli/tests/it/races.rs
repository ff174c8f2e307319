//! Many concurrent processes of the real command.

use crate::common;
use std::process::{Child, Stdio};

use crate::common::World;

fn spawn(world: &World, arguments: &[&str]) -> Child {
    world.command().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn one_of_32_concurrent_creates_of_a_name_succeeds() {
    let world = World::new();
    // The image is cached, so that the processes only compete for the name.
    world.run(&["image", "pull", "./stacks/hello/disk.img"]).expect(0);
    let children: Vec<_> = (0..32).map(|_| spawn(&world, &["create", "hello", "--no-wait"])).collect();
    let ran = children.into_iter().map(|child| common::Ran(child.wait_with_output().unwrap()));
    let (won, lost): (Vec<_>, Vec<_>) = ran.partition(|ran| ran.code() == 0);
    assert_eq!(won.len(), 1, "{lost:?}");
    for loser in &lost {
        assert!(matches!(loser.code(), 3 | 5), "{loser:?}");
    }
    assert_eq!(world.names(), ["hello"]);
    assert_eq!((world.machines().len(), world.qemus().len()), (1, 1));
    world.run(&["delete", "hello", "--yes"]).expect(0);
    world.assert_empty("after the delete");
}

#[test]
fn eight_concurrent_creates_of_different_names_succeed() {
    let world = World::new();
    let names: Vec<String> = (1..=8).map(|number| format!("vm-{number}")).collect();
    let create = |name: &String| spawn(&world, &["create", "hello", "--no-wait", "--as", name]);
    let children: Vec<_> = names.iter().map(create).collect();
    for child in children {
        common::Ran(child.wait_with_output().unwrap()).expect(0);
    }
    assert_eq!(world.names(), names);
    assert_eq!(world.qemus().len(), 8);
    let list = world.json(&["list", "--json"]);
    let ports: std::collections::BTreeSet<_> =
        list["vms"].as_array().unwrap().iter().map(|vm| vm["sshPort"].as_u64().unwrap()).collect();
    assert_eq!(ports.len(), 8, "each VM has a port of its own");
    let mut delete = vec!["delete", "--yes"];
    delete.extend(names.iter().map(String::as_str));
    world.run(&delete).expect(0);
    world.assert_empty("after the delete");
}
