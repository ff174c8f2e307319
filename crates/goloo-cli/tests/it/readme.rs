//! The commands that README shows first, typed as they stand.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use goloo_images::{Arch, alias};
use goloo_testkit::image_server::ImageServer;

use crate::common::{self, Ran, World};

/// The lines of the first block of code after `heading` in README, without their comments.
fn commands_after(heading: &str) -> Vec<String> {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md")).unwrap();
    let (_, rest) = readme.split_once(heading).unwrap_or_else(|| panic!("README has no {heading}"));
    let block = rest.split("```\n").nth(1).unwrap();
    let line = |line: &str| line.split(" #").next().unwrap_or(line).trim().to_owned();
    block.lines().map(line).filter(|line| !line.is_empty()).collect()
}

/// A computer with goloo on its PATH, a guest that answers, and the published image of the stacks that `init` writes.
fn computer() -> (World, ImageServer) {
    let world = World::new();
    world.ssh_finds(r#"{"status":"done","errors":[],"recoverable_errors":{}}"#);
    std::os::unix::fs::symlink(common::goloo(), world.path().join("bin/goloo")).unwrap();
    let server = ImageServer::start();
    let place = alias::published("ubuntu-24.04", Arch::host(), Some("")).unwrap();
    let mut image = vec![0; 1 << 20];
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    let copy = world.path().join("image");
    fs::write(&copy, &image).unwrap();
    let digest = Command::new("sha256sum").arg(&copy).output().unwrap().stdout;
    let digest = String::from_utf8(digest).unwrap();
    let digest = digest.split(' ').next().unwrap();
    server.put(&place.url, &image);
    server.put(&place.list_url, format!("{digest} *{}\n", place.file).as_bytes());
    (world, server)
}

/// Types a line on a terminal and answers a question with yes.
fn type_in(world: &World, server: &ImageServer, line: &str) -> Ran {
    let mut command = Command::new("script");
    world.settle(&mut command);
    command.env("GOLOO_IMAGE_MIRROR", server.url("")).args(["-qec", line, "/dev/null"]);
    let mut script = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    script.stdin.take().unwrap().write_all(b"y\n").unwrap();
    Ran(script.wait_with_output().unwrap())
}

#[test]
fn the_first_commands_of_the_readme_work_as_they_stand() {
    let (world, server) = computer();
    let commands = commands_after("# goloo\n");
    assert!(commands.len() >= 5 && commands[0] == "goloo init devbox", "{commands:?}");
    for line in &commands {
        type_in(&world, &server, line).expect(0);
    }
    assert_eq!(world.names(), Vec::<String>::new());
    assert!(world.run(&["archive", "list"]).expect(0).stdout().contains("devbox"));
}

#[test]
fn the_commands_of_the_first_stack_work_as_they_stand() {
    let (world, server) = computer();
    for line in commands_after("## Your first stack\n") {
        type_in(&world, &server, &line).expect(0);
    }
    assert_eq!(world.names(), ["dev"]);
    type_in(&world, &server, "goloo status").expect(0);
    world.run(&["delete", "dev", "--yes"]).expect(0);
}

#[test]
fn the_first_commands_of_the_start_screen_and_of_help_work_as_they_stand() {
    for source in [vec![], vec!["--help"]] {
        let (world, server) = computer();
        let text = world.run(&source).expect(0).stdout();
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix("goloo "));
        let first = lines.map(|line| line.split("  ").next().unwrap_or(line).trim().to_owned());
        let first: Vec<String> =
            first.filter(|line| line.contains("web") || line.starts_with("help")).collect();
        assert!(first.len() >= 3, "{text}");
        for line in &first {
            type_in(&world, &server, &format!("goloo {line}")).expect(0);
        }
    }
}
