//! Command lines of goloo v0, option by option.

use crate::common::{HELLO, Ran, World};
use goloo_testkit::image_server::ImageServer;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

/// The note that shows the current form of an old command line.
fn now_called(ran: &Ran) -> Option<String> {
    let said = ran.stderr();
    said.lines()
        .find_map(|line| line.strip_prefix("note: the current form of this command is: "))
        .map(str::to_owned)
}

#[test]
fn legacy_create_uses_aws_and_prints_the_new_command() {
    let world = World::new();
    for old in [
        ["-c", "-n", "hello", "--dry-run"].as_slice(),
        &["--dry-run", "-n", "hello", "-c"],
        &["-cn", "hello", "--dry-run"],
        &["-c", "-n=hello", "--dry-run"],
        &["-c", "--name=hello", "--dry-run"],
        &["--create", "--name", "hello", "--dry-run"],
    ] {
        let ran = world.run(old);
        assert_eq!(now_called(&ran).unwrap(), "goloo create hello --aws --dry-run", "{old:?}: {ran:?}");
        assert!(!ran.stdout().contains("qemu"), "{old:?}: {ran:?}");
    }
    assert!(world.names().is_empty());
}

#[test]
fn legacy_create_accepts_the_options_of_create() {
    let world = World::new();
    let folder = world.path().join("work/stacks").display().to_string();
    let ran = world.run(&["-f", &folder, "--provider", "qemu", "--no-wait", "-c", "-n", "hello"]).expect(0);
    let now = now_called(&ran).unwrap();
    assert_eq!(now, format!("goloo create hello -f {folder} --provider qemu --no-wait"));
    assert_eq!(world.names(), ["hello"]);
}

#[test]
fn legacy_delete_deletes() {
    let world = World::new();
    for old in [
        ["-d", "-n", "hello", "--yes"].as_slice(),
        &["--yes", "-n", "hello", "-d"],
        &["-dn", "hello", "--yes", "-f", "./stacks"],
        &["--delete", "--name=hello", "--yes"],
    ] {
        world.run(&["create", "hello", "--no-wait"]).expect(0);
        let ran = world.run(old).expect(0);
        assert_eq!(now_called(&ran).unwrap(), "goloo delete hello --yes", "{old:?}");
        world.assert_empty(&format!("after {old:?}"));
    }
}

#[test]
fn legacy_delete_requires_confirmation() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    world.run(&["-d", "-n", "hello"]).expect(2);
    assert_eq!(world.names(), ["hello"]);
}

#[test]
fn current_commands_print_no_note() {
    let world = World::new();
    for line in [["list"].as_slice(), &["create", "hello", "--dry-run"], &["list", "--aws"]] {
        let ran = world.run(line).expect(0);
        assert_eq!(now_called(&ran), None, "{ran:?}");
    }
}

#[test]
fn destroy_and_rm_are_aliases_of_delete() {
    let world = World::new();
    for word in ["destroy", "rm"] {
        world.run(&["create", "hello", "--no-wait"]).expect(0);
        world.run(&[word, "hello", "--yes"]).expect(0);
        world.assert_empty(word);
    }
}

#[test]
fn list_filters_by_aws_or_local() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    let listed = |arguments: &[&str]| world.run(arguments).expect(0).stdout();
    assert_eq!(listed(&["list", "-q"]), "hello\n");
    assert_eq!(listed(&["list", "--local", "-q"]), "hello\n");
    assert_eq!(listed(&["ls", "-q", "--aws"]), "");
    world.run(&["list", "--aws", "--local"]).expect(2);
}

fn keys_in(world: &World, server: &ImageServer, arguments: &[&str]) -> Vec<&'static str> {
    let mut command = world.command();
    command.env("GOLOO_GITHUB_URL", server.url("")).args(arguments).args(["--dry-run", "--json"]);
    let ran = Ran(command.output().unwrap()).expect(0);
    let plan: serde_json::Value = serde_json::from_str(&ran.stdout()).unwrap();
    let user_data = plan["plan"]["userData"].as_str().unwrap();
    ["ann@key", "bob@key"].into_iter().filter(|comment| user_data.contains(comment)).collect()
}

#[test]
fn users_are_accepted_in_every_form_and_position() {
    let world = World::new();
    let server = ImageServer::start();
    for user in ["ann", "bob"] {
        server.put(&format!("/{user}.keys"), format!("{KEY} {user}@key\n").as_bytes());
    }
    for line in [
        ["create", "hello", "-u", "ann,bob"].as_slice(),
        &["create", "hello", "-u", "ann, bob"],
        &["create", "hello", "-u", " ann , bob "],
        &["create", "-u", "ann,bob", "hello", "--local"],
        &["create", "--local", "-u", "ann, bob", "hello"],
        &["create", "-uann,bob", "hello"],
        &["create", "hello", "--users=ann, bob"],
        &["create", "hello", "-u", "ann", "-u", "bob"],
        &["-u", "ann, bob", "-c", "-n", "hello", "--local"],
    ] {
        assert_eq!(keys_in(&world, &server, line), ["ann@key", "bob@key"], "{line:?}");
    }
    assert_eq!(keys_in(&world, &server, &["create", "hello", "-u", "bob"]), ["bob@key"]);
    // The second word would be parsed as a second stack.
    world.run(&["create", "hello", "-u", "ann,", "bob"]).expect(2);
}

#[test]
fn options_are_accepted_before_and_after_names() {
    let world = World::new();
    world.run(&["create", "--no-wait", "--local", "hello", "--as", "one"]).expect(0);
    world.run(&["create", "--as=two", "hello", "--no-wait"]).expect(0);
    let json = world.run(&["list", "--json", "--local"]).expect(0);
    assert!(json.stdout().contains("\"one\""), "{json:?}");
    let misplaced = world.run(&["--json", "list"]).expect(2);
    assert!(misplaced.stdout().contains("'list --json' exists"), "{misplaced:?}");
    world.run(&["delete", "--yes", "one", "--keep-going", "two"]).expect(0);
    world.assert_empty("after the delete");
}

#[test]
fn the_stack_folder_of_the_environment_takes_precedence() {
    let world = World::new();
    let infra = world.path().join("infra");
    let stack = world.stack("hello", &HELLO.replace("512M", "768M"), "");
    std::fs::create_dir_all(&infra).unwrap();
    std::fs::rename(stack, infra.join("hello")).unwrap();
    world.stack("hello", HELLO, "");
    let from = |folder: &str, at: &std::path::Path| {
        let mut command = world.command();
        command.env("GOLOO_STACK_FOLDER", folder).current_dir(at);
        Ran(command.args(["create", "hello", "--dry-run"]).output().unwrap())
    };
    let infra_text = infra.display().to_string();
    for at in [&world.path().join("work"), std::path::Path::new("/")] {
        let ran = from(&infra_text, at).expect(0);
        assert!(ran.stdout().contains("infra/hello:") && ran.stdout().contains("768M"), "{ran:?}");
    }
    // A folder without this stack doesn't hide the other places, nor does an empty variable.
    for folder in ["/nowhere", ""] {
        let ran = from(folder, &world.path().join("work")).expect(0);
        assert!(ran.stdout().contains("work/stacks/hello:"), "{ran:?}");
    }
    let lost = from("/nowhere", std::path::Path::new("/")).expect(3);
    assert!(lost.stderr().contains("/nowhere/hello/config.json does not exist"), "{lost:?}");
}
