//! `packaging/install.sh`, with a server on loopback.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use goloo_testkit::image_server::ImageServer;
use tempfile::TempDir;

use crate::programs::{dist, goloo, output, run};

struct World {
    folder: TempDir,
    server: ImageServer,
}

impl World {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), server: ImageServer::start() }
    }

    /// A server with a release for this platform, whose command is this shell script.
    fn with_command(script: &str) -> Self {
        let world = Self::new();
        let name = format!("goloo-1.2.3-{}", target());
        let package = world.path(&name);
        write_program(&package.join("bin/goloo"), script);
        fs::create_dir_all(package.join("share/man/man1")).unwrap();
        fs::write(package.join("share/man/man1/goloo.1"), "").unwrap();
        let tarball = world.path(&format!("{name}.tar.gz"));
        run(Command::new("tar").arg("-czf").arg(&tarball).arg(&name).current_dir(&world.folder));
        let sums = run(Command::new("sha256sum").arg(format!("{name}.tar.gz")).current_dir(&world.folder));
        world.serve("SHA256SUMS", sums.as_bytes());
        world.serve(&format!("{name}.tar.gz"), &fs::read(tarball).unwrap());
        world
    }

    fn serve(&self, name: &str, content: &[u8]) {
        self.server.put(&format!("/release/{name}"), content);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn script(&self, script: &Path) -> Command {
        let mut command = Command::new("sh");
        command.arg(script).env("GOLOO_BASE_URL", self.server.url("/release"));
        command.env("HOME", self.path("home")).env_remove("PREFIX");
        command
    }

    fn install(&self) -> Command {
        self.script(&install_script())
    }

    /// The files and links below the home folder.
    fn installed(&self) -> Vec<String> {
        fs::create_dir_all(self.path("home")).unwrap();
        let found =
            run(Command::new("find").arg(".").args(["!", "-type", "d"]).current_dir(self.path("home")));
        found.lines().map(str::to_owned).collect()
    }

    /// Asserts that the script fails with these two lines, and that nothing is installed.
    #[track_caller]
    fn refuses(&self, command: &mut Command, error: &str, hint: &str) {
        let ran = output(command);
        let told = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(1), "{ran:?}");
        assert!(told.contains(&format!("error: {error}")), "{told}");
        assert!(told.contains(&format!("hint: {hint}")), "{told}");
        assert_eq!(self.installed(), Vec::<String>::new());
    }
}

const WORKING: &str = "echo goloo 1.2.3";

fn install_script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/install.sh")
}

fn target() -> String {
    run(Command::new("rustc").args(["--print", "host-tuple"])).trim().to_owned()
}

fn write_program(path: &Path, script: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A folder for PATH with all that the script needs, and these programs.
fn programs(world: &World, others: &[&str]) -> PathBuf {
    let needed = [
        "cat",
        "dirname",
        "find",
        "grep",
        "gzip",
        "mkdir",
        "mktemp",
        "mv",
        "rm",
        "sh",
        "sha256sum",
        "sort",
        "tar",
        "uname",
    ];
    let folder = world.path("programs");
    fs::create_dir_all(&folder).unwrap();
    for name in needed.iter().chain(others) {
        let path = run(Command::new("sh").args(["-c", &format!("command -v {name}")]));
        symlink(path.trim(), folder.join(name)).unwrap();
    }
    folder
}

fn told(ran: &Output) -> String {
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

#[test]
fn the_script_is_portable_and_names_the_repository() {
    run(Command::new("sh").arg("-n").arg(install_script()));
    run(Command::new("shellcheck").arg(install_script()));
    let text = fs::read_to_string(install_script()).unwrap();
    assert!(
        text.contains(concat!(":-", env!("CARGO_PKG_REPOSITORY"), "/releases/latest/download}")),
        "{text}"
    );
}

#[test]
fn a_release_is_installed_and_runs() {
    let world = World::new();
    let dist = dist(&goloo(world.folder.path()), world.folder.path(), &[]);
    for file in fs::read_dir(dist).unwrap() {
        let path = file.unwrap().path();
        world.serve(path.file_name().unwrap().to_str().unwrap(), &fs::read(&path).unwrap());
    }
    let ran = output(&mut world.install());
    assert!(ran.status.success(), "{ran:?}");
    let version = run(Command::new(world.path("home/.local/bin/goloo")).arg("--version"));
    assert!(told(&ran).contains(&format!("installed {} in ", version.trim())), "{ran:?}");
    assert!(told(&ran).contains("goloo doctor"), "{ran:?}");
    assert!(told(&ran).contains("add it to your PATH"), "{ran:?}");
    let installed = world.installed();
    for file in ["bin/goloo", "share/man/man1/goloo-state-push.1", "share/zsh/site-functions/_goloo"] {
        assert!(installed.contains(&format!("./.local/{file}")), "{file}: {installed:?}");
    }
    assert!(!installed.iter().any(|file| file.contains("goloo-install")), "{installed:?}");
}

#[test]
fn an_update_replaces_the_files_in_the_given_prefix() {
    let world = World::with_command(WORKING);
    let prefix = world.path("home/a prefix");
    write_program(&prefix.join("bin/goloo"), "echo goloo 1.2.2");
    let path = format!("{}:{}", prefix.join("bin").display(), std::env::var("PATH").unwrap());
    let ran = output(world.install().env("PREFIX", &prefix).env("PATH", path));
    assert!(ran.status.success() && !told(&ran).contains("add it to your PATH"), "{ran:?}");
    assert_eq!(run(&mut Command::new(prefix.join("bin/goloo"))), "goloo 1.2.3\n");
    assert_eq!(world.installed().len(), 2, "{:?}", world.installed());
}

#[test]
fn curl_or_wget_is_enough() {
    for program in ["curl", "wget"] {
        let world = World::with_command(WORKING);
        let ran = output(world.install().env("PATH", programs(&world, &[program])));
        assert!(ran.status.success(), "{program}: {ran:?}");
        assert_eq!(world.installed().len(), 2, "{program}: {:?}", world.installed());
    }
    let world = World::with_command(WORKING);
    let path = programs(&world, &[]);
    world.refuses(
        world.install().env("PATH", path),
        "neither curl nor wget is installed",
        "install one of them",
    );
}

#[test]
fn a_tampered_tarball_is_refused() {
    let world = World::with_command(WORKING);
    let name = format!("goloo-1.2.3-{}.tar.gz", target());
    let mut tarball = fs::read(world.path(&name)).unwrap();
    *tarball.last_mut().unwrap() ^= 1;
    world.serve(&name, &tarball);
    world.refuses(
        &mut world.install(),
        &format!("the checksum of {name} is wrong: nothing was"),
        "run this again",
    );
}

#[test]
fn a_release_that_is_missing_or_incomplete_is_refused() {
    let world = World::new();
    world.refuses(
        &mut world.install(),
        "can't download http://127.0.0.1:",
        "check the network and the address",
    );
    let world = World::with_command(WORKING);
    let other = format!("{}  goloo-1.2.3-{}.tar.gz.asc\n", "0".repeat(64), target());
    world.serve("SHA256SUMS", other.as_bytes());
    world.refuses(&mut world.install(), "this release has no package for ", "build goloo from its source");
}

#[test]
fn an_unsupported_platform_is_refused() {
    for (system, machine, error) in [
        ("Linux", "riscv64", "this release has no package for riscv64-unknown-linux-gnu"),
        ("Darwin", "arm64", "this release has no package for aarch64-apple-darwin"),
        ("FreeBSD", "amd64", "goloo doesn't support FreeBSD"),
    ] {
        let world = World::with_command(WORKING);
        let uname = format!("if [ $1 = -s ]; then echo {system}; else echo {machine}; fi");
        write_program(&world.path("bin/uname"), &uname);
        let path = format!("{}:{}", world.path("bin").display(), std::env::var("PATH").unwrap());
        world.refuses(world.install().env("PATH", path), error, "");
    }
}

#[test]
fn a_command_that_does_not_run_here_is_not_installed() {
    let world = World::with_command("echo 'GLIBC_9.9 not found' >&2; exit 1");
    world.refuses(
        &mut world.install(),
        "the downloaded goloo doesn't run on this machine",
        "build goloo from",
    );
}

#[test]
fn without_write_permission_nothing_is_installed() {
    let world = World::with_command(WORKING);
    // Below a file, since root can write to every folder.
    let prefix = world.path("file/prefix");
    fs::write(world.path("file"), "").unwrap();
    let error = format!("no permission to write to {}", prefix.display());
    world.refuses(world.install().env("PREFIX", &prefix), &error, "run this as root, or set PREFIX");
}

#[test]
fn a_file_that_cannot_be_replaced_leaves_all_as_it_was() {
    let world = World::with_command(WORKING);
    fs::create_dir_all(world.path("home/.local/bin/goloo")).unwrap();
    world.refuses(
        &mut world.install(),
        &world.path("home/.local/bin/goloo is a folder").to_string_lossy(),
        "remove it",
    );
}

#[test]
fn a_script_that_was_cut_off_does_nothing() {
    let script = fs::read_to_string(install_script()).unwrap();
    let lines: Vec<&str> = script.lines().collect();
    for length in (1..lines.len()).step_by(5) {
        let world = World::with_command(WORKING);
        let part = world.path("part.sh");
        fs::write(&part, lines[..length].join("\n")).unwrap();
        output(&mut world.script(&part));
        assert_eq!(world.installed(), Vec::<String>::new(), "the first {length} lines");
    }
}
