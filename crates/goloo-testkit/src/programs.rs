//! Test programs of this crate, built on demand.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// The stand-in for `qemu-system-…`; its source documents its faults. Tests of any crate can use it: it is built next
/// to the test if it doesn't exist yet or is older than its source.
pub fn qemu_stand_in() -> PathBuf {
    built("goloo-qemu-stand-in", &["goloo-qemu-stand-in.rs"])
}

/// The stand-in for `virtiofsd`; its source documents its faults.
pub fn virtiofsd_stand_in() -> PathBuf {
    built("goloo-virtiofsd-stand-in", &["goloo-virtiofsd-stand-in.rs"])
}

/// The stand-in for `multipass`; docs/testing.md documents its behavior and its faults.
pub fn multipass_stand_in() -> PathBuf {
    const NAME: &str = "goloo-multipass-stand-in";
    const FILES: [&str; 8] = ["main", "answers", "daemon", "disks", "guest", "launch", "line", "power"];
    built(NAME, &FILES.map(|file| format!("{NAME}/{file}.rs")))
}

fn built(name: &str, sources: &[impl AsRef<Path>]) -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    // Tests are in `<target>/<profile>/deps/`.
    let profile = test.ancestors().nth(2).expect("a test lies in a build folder");
    let program = profile.join(name);
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let newest = sources.iter().map(|source| modified(&crate_folder.join("src/bin").join(source))).max();
    if modified(&program) <= newest.flatten() {
        let target = profile.parent().expect("a profile lies in a build folder");
        let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["build", "--quiet", "--bin", name, "--target-dir"])
            .arg(target)
            .arg("--manifest-path")
            .arg(crate_folder.join("Cargo.toml"))
            .status()
            .expect("cargo runs");
        assert!(status.success(), "{name} doesn't build");
    }
    program
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|data| data.modified()).ok()
}
