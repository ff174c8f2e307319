//! Test programs of this crate, built when they are needed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// The stand-in for `qemu-system-…`; see its source for the faults that it knows. A test of any crate
/// can use it: it is built beside that test when it isn't there yet, or is older than its source.
pub fn qemu_stand_in() -> PathBuf {
    const NAME: &str = "goloo-qemu-stand-in";
    let test = std::env::current_exe().expect("a running program has a path");
    // Tests lie in `<target>/<profile>/deps/`.
    let profile = test.ancestors().nth(2).expect("a test lies in a build folder");
    let program = profile.join(NAME);
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = crate_folder.join("src/bin").join(format!("{NAME}.rs"));
    if modified(&program) <= modified(&source) {
        let target = profile.parent().expect("a profile lies in a build folder");
        let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["build", "--quiet", "--bin", NAME, "--target-dir"])
            .arg(target)
            .arg("--manifest-path")
            .arg(crate_folder.join("Cargo.toml"))
            .status()
            .expect("cargo runs");
        assert!(status.success(), "{NAME} doesn't build");
    }
    program
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|data| data.modified()).ok()
}
