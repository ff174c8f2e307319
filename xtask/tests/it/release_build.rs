//! `xtask dist` without `--binary`, with a stand-in for cargo: the real build takes many minutes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::programs::{file_ending, output, run, small_goloo, xtask_dist};

/// A cargo that notes how it was called, and "builds" the program `binary` into its target folder.
const CARGO: &str = r#"#!/bin/sh
printf '%s\n' "$@" > "$HERE/words"
printf '%s' "$CARGO_ENCODED_RUSTFLAGS" | tr '\037' '\n' > "$HERE/flags"
[ ! -e "$HERE/broken" ] || exit 101
mkdir -p "$HERE/release" && cp "$HERE/goloo" "$HERE/release/goloo"
"#;

/// The command, with a goloo that the stand-in builds.
fn release(folder: &Path) -> Command {
    small_goloo(folder);
    let cargo = folder.join("cargo");
    fs::write(&cargo, CARGO).unwrap();
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
    let mut dist = xtask_dist(folder);
    dist.env("CARGO", cargo)
        .env("HERE", folder)
        .env("CARGO_HOME", "/home/ann/.cargo")
        .env("RUSTFLAGS", "-C opt-level=1");
    dist
}

fn workspace() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().display().to_string()
}

#[test]
fn dist_builds_the_locked_release_without_paths_of_this_machine_and_packs_it() {
    let folder = tempfile::tempdir().unwrap();
    let printed = run(&mut release(folder.path()));
    let dist = folder.path().join("dist");
    for file in [".tar.gz", ".deb", "install.sh", "goloo.rb", "SHA256SUMS"] {
        let path = file_ending(&dist, file);
        assert!(printed.lines().any(|line| line == path.to_str().unwrap()), "{}: {printed}", path.display());
    }
    let words = fs::read_to_string(folder.path().join("words")).unwrap();
    let target = folder.path().display();
    assert_eq!(words, format!("build\n--release\n--locked\n--bin\ngoloo\n--target-dir\n{target}\n"));
    let flags = fs::read_to_string(folder.path().join("flags")).unwrap();
    let renamed =
        format!("--remap-path-prefix=/home/ann/.cargo=cargo\n--remap-path-prefix={}=goloo", workspace());
    assert_eq!(flags, format!("-C\nopt-level=1\n{renamed}"));
}

#[test]
fn a_release_with_a_path_of_this_machine_is_not_packed() {
    for path in [workspace(), "/home/ann/.cargo".to_owned()] {
        let folder = tempfile::tempdir().unwrap();
        let mut dist = release(folder.path());
        let goloo = folder.path().join("goloo");
        let program = fs::read(&goloo).unwrap();
        fs::write(&goloo, [program.as_slice(), path.as_bytes()].concat()).unwrap();
        let ran = output(&mut dist);
        let told = String::from_utf8_lossy(&ran.stderr);
        assert!(!ran.status.success() && told.contains(&format!("contains the path {path}")), "{ran:?}");
        assert!(!folder.path().join("dist").exists());
    }
}

#[test]
fn a_failed_build_is_not_packed() {
    let folder = tempfile::tempdir().unwrap();
    let mut dist = release(folder.path());
    fs::write(folder.path().join("broken"), "").unwrap();
    let ran = output(&mut dist);
    let told = String::from_utf8_lossy(&ran.stderr);
    assert!(!ran.status.success() && told.contains("error: the release build failed"), "{ran:?}");
    assert!(!folder.path().join("dist").exists());
}
