//! Programs that reach VMs by their names in `~/.ssh/config`: VS Code and Docker, with stand-ins.

use std::fs;

use crate::common::World;

/// A world with a running VM `hello`.
fn world() -> World {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    world
}

fn install(world: &World) {
    world.run(&["ssh-config", "--install", "--yes"]).expect(0);
}

#[test]
fn code_opens_a_folder_of_a_vm() {
    let world = world();
    world.program("code", "#!/bin/sh\nprintf '%s\\n' \"$@\"\n");
    let asked = world.run(&["code", "hello"]).expect(2);
    assert!(asked.stderr().contains("goloo ssh-config --install --yes"), "{asked:?}");
    install(&world);
    let opened = |arguments: &[&str]| world.run(arguments).expect(0).stdout();
    assert_eq!(opened(&["code", "hello"]), "--remote\nssh-remote+hello\n");
    assert_eq!(
        opened(&["code", "hello", "/srv/my site"]),
        "--folder-uri\nvscode-remote://ssh-remote+hello/srv/my%20site\n"
    );
    world.run(&["code", "hello", "src"]).expect(2);
    world.run(&["code", "nothing"]).expect(3);
    world.run(&["stop", "hello", "--force"]).expect(0);
    let off = world.run(&["code", "hello"]).expect(1);
    assert!(off.stderr().contains("goloo start hello"), "{off:?}");
    world.run(&["delete", "hello", "--yes"]).expect(0);
}

/// With no other programs than these.
fn without_programs(world: &World, arguments: &[&str]) -> crate::common::Ran {
    let bin = world.path().join("bin");
    fs::create_dir_all(&bin).unwrap();
    crate::common::Ran(world.command().env("PATH", bin).args(arguments).output().unwrap())
}

#[test]
fn a_program_that_is_not_installed_is_named_with_a_hint() {
    let world = world();
    install(&world);
    for (command, hint) in [("code", "install VS Code"), ("docker", "install Docker's command line")] {
        let missing = without_programs(&world, &[command, "hello"]).expect(1);
        assert!(missing.stderr().contains("is not installed"), "{missing:?}");
        assert!(missing.stderr().contains(&format!("hint: {hint}")), "{missing:?}");
    }
    world.run(&["delete", "hello", "--yes"]).expect(0);
}

/// Contexts are files with their description, below `$HOME/contexts`.
const DOCKER: &str = r#"#!/bin/bash
[ "$1" = context ] || exit 9
cd "$HOME/contexts" || exit 8
for name do :; done
case $2 in
ls)
    [ "$3" = --format ] && [ "$4" = $'{{.Name}}\t{{.Description}}' ] || exit 6
    shopt -s nullglob
    for context in *; do printf '%s\t%s\n' "$context" "$(<"$context")"; done
    ;;
create) [ "$3 $5" = '--description --docker' ] && [ ! -e "$name" ] && echo "$4" >"$name" && echo "$6" >../host ;;
rm) [ "$3" = --force ] && rm "$name" ;;
*) exit 7 ;;
esac
"#;

fn contexts(world: &World) -> Vec<String> {
    let entries = fs::read_dir(world.path().join("home/contexts")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn with_docker() -> World {
    let world = world();
    install(&world);
    world.program("docker", DOCKER);
    fs::create_dir(world.path().join("home/contexts")).unwrap();
    world
}

#[test]
fn a_docker_context_is_created_and_removed_with_its_vm() {
    let world = with_docker();
    let created = world.run(&["docker", "hello"]).expect(0).stdout();
    assert!(created.contains("docker --context goloo-hello ps"), "{created}");
    assert_eq!(fs::read_to_string(world.path().join("home/host")).unwrap(), "host=ssh://hello\n");
    world.run(&["docker", "hello"]).expect(0);
    assert_eq!(contexts(&world), ["goloo-hello"]);
    world.run(&["docker", "hello", "--rm"]).expect(0);
    assert!(contexts(&world).is_empty());
    assert!(
        world.run(&["docker", "hello", "--rm"]).expect(0).stdout().contains("there is no Docker context")
    );

    world.run(&["docker", "hello"]).expect(0);
    world.run(&["delete", "hello", "--yes"]).expect(0);
    assert!(contexts(&world).is_empty());
    assert_eq!(fs::read_dir(world.state().join("docker-contexts")).unwrap().count(), 0);
}

#[test]
fn a_docker_context_follows_the_name_of_its_vm() {
    let world = with_docker();
    world.run(&["rename", "hello", "shop"]).expect(0);
    assert!(contexts(&world).is_empty(), "a VM without a context gets none");
    world.run(&["docker", "shop"]).expect(0);
    world.run(&["rename", "shop", "hello"]).expect(0);
    assert_eq!(contexts(&world), ["goloo-hello"]);
    assert_eq!(fs::read_to_string(world.path().join("home/host")).unwrap(), "host=ssh://hello\n");
    world.run(&["delete", "hello", "--yes"]).expect(0);
    assert!(contexts(&world).is_empty());
}

#[test]
fn docker_is_missed_before_the_ssh_configuration() {
    let world = world();
    let missing = without_programs(&world, &["docker", "hello"]).expect(1);
    assert!(missing.stderr().contains("docker is not installed"), "{missing:?}");
    world.run(&["delete", "hello", "--yes"]).expect(0);
}

#[test]
fn a_docker_context_of_someone_else_is_left_alone() {
    let world = with_docker();
    let path = world.path().join("home/contexts/goloo-hello");
    fs::write(&path, "mine\n").unwrap();
    let refused = world.run(&["docker", "hello"]).expect(3);
    assert!(refused.stderr().contains("docker context rm goloo-hello"), "{refused:?}");
    world.run(&["docker", "hello", "--rm"]).expect(0);
    fs::remove_file(&path).unwrap();
    world.run(&["docker", "hello"]).expect(0);
    fs::write(&path, "mine\n").unwrap();
    world.run(&["delete", "hello", "--yes"]).expect(0);
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine\n");
}

#[test]
fn a_context_that_cannot_be_removed_does_not_fail_the_delete() {
    let world = with_docker();
    world.run(&["docker", "hello"]).expect(0);
    world.program("docker", "#!/bin/sh\necho 'no contexts today' >&2\nexit 1\n");
    let deleted = world.run(&["delete", "hello", "--yes"]).expect(0);
    assert!(deleted.stderr().contains("\"goloo-hello\" was not removed"), "{deleted:?}");
    assert!(deleted.stderr().contains("no contexts today"), "{deleted:?}");
    // The next VM of this name gets a context of its own.
    world.program("docker", DOCKER);
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    world.run(&["docker", "hello"]).expect(0);
    assert_eq!(contexts(&world), ["goloo-hello"]);
    world.run(&["delete", "hello", "--yes"]).expect(0);
    assert!(contexts(&world).is_empty());
}
