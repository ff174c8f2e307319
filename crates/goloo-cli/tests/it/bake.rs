//! Baked images through the real command, with QEMU's stand-in and real disks.

use std::process::Command;

use serde_json::Value;

use crate::common::World;
use crate::common::kill::{SAVES_AND_PROGRAMS, at_calls};

const DONE: &str = r#"{"status":"done","errors":[]}"#;
const FAILED: &str = r#"{"status":"error","errors":["runcmd failed"]}"#;
const DOCUMENT: &str = "#cloud-config\nruncmd: [echo]\n";

/// A world with the stack `hello`, which has a document.
fn world() -> World {
    let world = World::new();
    world.ssh_finds(DONE);
    write(&world, DOCUMENT);
    world
}

fn write(world: &World, document: &str) {
    std::fs::write(world.path().join("work/stacks/hello/cloud-init.yaml"), document).unwrap();
}

fn baked_images(world: &World) -> Vec<Value> {
    let images = world.json(&["image", "list", "--json"])["images"].as_array().unwrap().clone();
    images.into_iter().filter(|image| image["origin"] == "baked").collect()
}

fn made_from(world: &World, vm: &str) -> Value {
    world.json(&["status", vm, "--json"])["vm"]["bakedFrom"].clone()
}

#[test]
fn vms_are_made_from_a_baked_stack_until_it_changes() {
    let world = world();
    let baked = world.run(&["bake", "hello"]).expect(0);
    assert!(baked.stdout().contains("baked hello"), "{baked:?}");
    world.assert_empty("after the bake");
    let archived = world.json(&["archive", "list", "--json"]);
    assert_eq!(archived["archived"][0]["name"], "bake-hello");
    let images = baked_images(&world);
    assert_eq!((images.len(), &images[0]["name"]), (1, &"baked:hello".into()));

    let again = world.json(&["bake", "hello", "--json"]);
    let key = again["key"].clone();
    assert_eq!(key.as_str().unwrap().len(), 64);
    assert_eq!(world.names(), [""; 0], "it was there already");

    let dry = world.run(&["create", "hello", "--dry-run"]).expect(0);
    assert!(dry.stdout().contains("use the baked image of the stack hello"), "{dry:?}");
    for (name, options) in [("one", &[][..]), ("two", &["--no-bake"])] {
        let made = world.run(&[&["create", "hello", "--as", name], options].concat()).expect(0);
        let is_said = made.stderr().contains("using the baked image of hello; --no-bake");
        assert_eq!(is_said, options.is_empty(), "{made:?}");
    }
    assert_eq!((made_from(&world, "one"), made_from(&world, "two")), (key.clone(), Value::Null));
    let base = std::fs::read_dir(world.path().join("cache/images/store")).unwrap().count();
    assert_eq!(base, 2, "the stack's image and the baked one");

    write(&world, "#cloud-config\nruncmd: [date]\n");
    world.run(&["create", "hello", "--as", "three"]).expect(0);
    assert_eq!(made_from(&world, "three"), Value::Null, "the document is another one");
    write(&world, DOCUMENT);
    world.run(&["image", "rm", "baked:hello"]).expect(1);
    world.run(&["delete", "one", "--yes"]).expect(0);
    world.run(&["image", "rm", "baked:hello"]).expect(0);
    world.run(&["create", "hello", "--as", "four"]).expect(0);
    assert_eq!(made_from(&world, "four"), Value::Null, "the image was removed");
}

/// As the stack `hello`, with `vm.bake`.
fn with_bake(world: &World) {
    let path = world.path().join("work/stacks/hello/config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["vm"]["bake"] = "disk".into();
    std::fs::write(&path, config.to_string()).unwrap();
}

#[test]
fn a_stack_whose_config_says_so_is_baked_after_its_first_good_create() {
    let world = world();
    with_bake(&world);
    for not in [&["--no-wait"][..], &["--no-bake"], &["--dry-run"]] {
        world.run(&[&["create", "hello", "--as", "other"], not].concat()).expect(0);
        world.run(&["delete", "other", "--yes"]);
        assert!(baked_images(&world).is_empty(), "{not:?}");
    }
    world.ssh_finds(FAILED);
    world.run(&["create", "hello", "--as", "other"]).expect(8);
    world.run(&["delete", "other", "--yes"]).expect(0);
    assert!(baked_images(&world).is_empty(), "its provisioning failed");

    world.ssh_finds(DONE);
    let first = world.run(&["create", "hello", "--json"]).expect(0);
    let printed: Value = serde_json::from_str(&first.stdout()).unwrap();
    assert_eq!(printed["vm"]["name"], "hello");
    assert!(first.stderr().contains("baking hello (vm.bake)") && first.stderr().contains("baked hello"));
    assert_eq!((world.names(), baked_images(&world).len()), (vec!["hello".to_owned()], 1));
    let second = world.run(&["create", "hello", "--as", "two"]).expect(0);
    assert!(!second.stderr().contains("vm.bake"), "{second:?}");
    assert!(made_from(&world, "two").is_string() && made_from(&world, "hello").is_null());
}

#[test]
fn a_bake_after_a_create_that_fails_is_a_warning() {
    let world = world();
    with_bake(&world);
    write(&world, "## template: goloo\n#cloud-config\nruncmd:\n  - echo {{ name }}\n");
    let created = world.run(&["create", "hello"]).expect(0);
    assert!(created.stdout().contains("hello is ready"), "{created:?}");
    assert!(created.stderr().contains("hello isn't baked") && created.stderr().contains("cloud-init.yaml:4"));
    assert_eq!(world.names(), ["hello"]);
    assert!(baked_images(&world).is_empty());
}

#[test]
fn the_list_of_images_shows_the_use_of_baked_ones_and_whether_their_stack_has_changed() {
    let world = world();
    world.run(&["bake", "hello"]).expect(0);
    let baked = || baked_images(&world).remove(0)["baked"].clone();
    assert_eq!(baked(), serde_json::json!({"stack": "hello", "lastUsed": null, "stackChanged": false}));
    world.run(&["create", "hello"]).expect(0);
    assert!(baked()["lastUsed"].is_string(), "{}", baked());
    write(&world, "#cloud-config\nruncmd: [date]\n");
    assert_eq!(baked()["stackChanged"], true);
    let table = world.run(&["image", "list"]).expect(0).stdout();
    let line = table.lines().find(|line| line.contains("baked:hello")).unwrap();
    assert!(table.contains("STACK CHANGED") && line.ends_with(char::is_alphanumeric), "{table}");
    std::fs::remove_dir_all(world.path().join("work/stacks/hello")).unwrap();
    assert_eq!(baked()["stackChanged"], serde_json::Value::Null);

    world.run(&["delete", "hello", "--yes"]).expect(0);
    world.run(&["image", "prune"]).expect(0);
    let used = std::fs::read_dir(world.path().join("cache/images/used")).unwrap().count();
    assert_eq!((baked_images(&world).len(), used), (0, 0));
}

#[test]
fn the_disk_of_a_copy_has_what_was_baked() {
    let world = world();
    // The guest writes to its disk while it is provisioned.
    world.program(
        "ssh",
        &format!(
            "#!/bin/sh\nfor last; do :; done\ncase $last in\n*goloo:status*)\n  for disk in '{0}'/*/disk.qcow2; do qemu-io -c 'write -q -P 7 0 64k' $disk; done\n  echo '@goloo:status@'; echo '{DONE}' ;;\nesac\n",
            world.state().join("vms").display()
        ),
    );
    world.run(&["bake", "hello"]).expect(0);
    world.ssh_finds(DONE);
    world.run(&["create", "hello"]).expect(0);
    world.run(&["stop", "hello", "--force"]).expect(0);
    let disk = world.machines().remove(0).join("disk.qcow2");
    let read = Command::new("qemu-io").args(["-c", "read -q -P 7 0 64k"]).arg(&disk).status().unwrap();
    assert!(read.success());
    let info =
        Command::new("qemu-img").args(["info", "--backing-chain", "--output=json"]).arg(&disk).output();
    let chain: Value = serde_json::from_slice(&info.unwrap().stdout).unwrap();
    assert_eq!(chain.as_array().unwrap().len(), 2, "an overlay on one file");
}

#[test]
fn a_stack_whose_provisioning_fails_is_not_baked() {
    let world = world();
    world.ssh_finds(FAILED);
    let failed = world.run(&["bake", "hello"]).expect(8);
    assert!(failed.stderr().contains("runcmd failed") && failed.stderr().contains("--no-bake"), "{failed:?}");
    world.assert_empty("after the bake");
    assert!(baked_images(&world).is_empty());
    assert_eq!(world.json(&["archive", "list", "--json"])["archived"][0]["name"], "bake-hello");
}

#[test]
fn a_document_with_values_of_one_machine_is_refused_with_their_place() {
    let world = world();
    write(&world, "## template: goloo\n#cloud-config\nruncmd:\n  - echo {{ name }}\n");
    let refused = world.run(&["bake", "hello"]).expect(2);
    assert!(refused.stderr().contains("cloud-init.yaml:4:13"), "{refused:?}");
    assert!(refused.stderr().contains("$(hostname)"), "{refused:?}");
    world.assert_empty("after a refused bake");
}

#[test]
fn kill_bake_at_any_call_then_resume_or_delete() {
    let world = world();
    world.run(&["image", "pull", "./stacks/hello/disk.img"]).expect(0);
    let forget = || drop(world.run(&["image", "rm", "baked:hello"]));
    // A bake with memory is killed at every call.
    let killed = at_calls(&SAVES_AND_PROGRAMS, &world, &["bake", "hello"], forget, |when, n| {
        let list = world.json(&["list", "--json"]);
        assert_eq!(list["broken"], serde_json::json!([]), "{when}");
        if !world.names().is_empty() {
            match n.is_multiple_of(2) {
                true => drop(world.run(&["resume", "bake-hello"]).expect(0)),
                false => drop(world.run(&["delete", "bake-hello", "--yes"]).expect(0)),
            }
        }
        world.assert_empty(when);
        world.run(&["bake", "hello"]).expect(0);
        assert_eq!(baked_images(&world).len(), 1, "{when}");
    });
    assert!(killed > 20, "a bake changes something more often than {killed} times");
}
