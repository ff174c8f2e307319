//! The programs under test, and how others are run.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The goloo of this build, without symbols: they are half of the file, and packages have none.
pub fn goloo(folder: &Path) -> PathBuf {
    let goloo = folder.join("goloo");
    run(Command::new("strip").arg("-o").args([&goloo, &built_goloo()]));
    goloo
}

/// A small program that runs the goloo of this build. Packing that one itself takes seconds, and most rules don't depend
/// on it. Like a release, it has no path of the workspace in it: a link in `folder` has.
pub fn small_goloo(folder: &Path) -> PathBuf {
    let (goloo, source, link) =
        (folder.join("goloo"), folder.join("goloo.c"), folder.join("goloo-of-this-build"));
    std::os::unix::fs::symlink(built_goloo(), &link).unwrap();
    let code =
        format!("#include <unistd.h>\nint main(int n, char **words) {{ return execv({link:?}, words); }}\n");
    std::fs::write(&source, code).unwrap();
    run(Command::new("cc").arg("-o").args([&goloo, &source]));
    goloo
}

/// Packs a binary below `folder`, with these variables; UMASK is the mask of the process. Returns the folder of the
/// packages.
pub fn dist(binary: &Path, folder: &Path, variables: &[(&str, &str)]) -> PathBuf {
    let mut dist = xtask_dist(folder);
    dist.arg("--binary").arg(binary).envs(variables.iter().copied());
    run(&mut dist);
    folder.join("dist")
}

/// `xtask dist`, which builds a release and packs it below `folder`.
pub fn xtask_dist(folder: &Path) -> Command {
    let mut dist = Command::new("sh");
    dist.args(["-c", "umask $UMASK && exec \"$@\"", "sh", env!("CARGO_BIN_EXE_xtask"), "dist"]);
    dist.env("UMASK", "022").env("CARGO_TARGET_DIR", folder).env("SOURCE_DATE_EPOCH", "1700000000");
    // A release's compression takes a minute.
    dist.env("DPKG_DEB_COMPRESSOR_TYPE", "gzip").env("DPKG_DEB_COMPRESSOR_LEVEL", "1");
    dist
}

fn built_goloo() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // Tests are in `<target>/<profile>/deps/`.
    let path = test.ancestors().nth(2).unwrap().join("goloo");
    assert!(path.exists(), "{} is missing: build the whole workspace", path.display());
    path
}

/// The file in a folder whose name ends so.
pub fn file_ending(folder: &Path, end: &str) -> PathBuf {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found = paths.filter(|path| path.to_string_lossy().ends_with(end));
    found.next().unwrap_or_else(|| panic!("no *{end} in {}", folder.display()))
}

/// Runs a program that must succeed; returns its standard output.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = output(command);
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
pub fn output(command: &mut Command) -> Output {
    let program = command.get_program().to_owned();
    command
        .output()
        .unwrap_or_else(|error| panic!("{program:?}: {error}; `scripts/set-up.sh test` installs it"))
}
