//! The test images' trees, and keys.
#![allow(dead_code, clippy::unwrap_used, reason = "each test binary uses its part")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use goloo_core::events::Event;
use goloo_qemu::image::{Cache, Watch, build};
use goloo_testkit::guest_root::{GuestImage, GuestRoot, Login};
use rustix::fs::{FlockOperation, flock};

/// cloud-init 22.4 and 25.1.
pub const IMAGES: [&str; 2] = ["debian-12", "debian-13"];

/// How long one document may take.
pub const LIMIT: Duration = Duration::from_secs(240);

struct Stderr;

impl Watch for Stderr {
    fn event(&self, event: Event) {
        if let Event::Step { what } = event {
            eprintln!("{what}");
        }
    }

    fn stopped(&self) -> bool {
        false
    }
}

/// Where tests keep what takes long to make: `GOLOO_TEST_CACHE`, else in the build folder.
fn test_cache() -> PathBuf {
    std::env::var_os("GOLOO_TEST_CACHE")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-cache"), PathBuf::from)
}

/// The tree of a test image, which is built when it isn't in the test cache.
pub fn image(name: &str) -> GuestImage {
    std::fs::create_dir_all(test_cache()).unwrap();
    let test_cache = test_cache().canonicalize().unwrap();
    let cache = Cache::new(test_cache.join("images"));
    let lock = test_cache.join("image.lock");
    let lock = File::options().create(true).truncate(false).write(true).open(lock).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let digest = match cache.built(name) {
        Some(entry) => entry.sha256,
        None => build::build(&cache, name, &Stderr).unwrap().entry.sha256,
    };
    let disk = cache.folder().join("store").join(format!("{digest}.img"));
    GuestImage::extract(&test_cache, name, &disk, &digest).unwrap()
}

pub fn start(image: &GuestImage) -> GuestRoot {
    GuestRoot::start(image, LIMIT).unwrap()
}

/// A client key and a host key.
pub struct Keys {
    folder: tempfile::TempDir,
    pub client: String,
    pub host: String,
    pub host_private: String,
}

impl Keys {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = folder.path().join(name);
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
                .arg(&path)
                .status();
            assert!(made.unwrap().success());
            let public = std::fs::read_to_string(path.with_extension("pub")).unwrap();
            (std::fs::read_to_string(path).unwrap(), public.trim().to_owned())
        };
        let ((_, client), (host_private, host)) = (make("client"), make("host"));
        Self { folder, client, host, host_private }
    }

    pub fn login(&self) -> (PathBuf, &str) {
        (self.folder.path().join("client"), &self.host)
    }
}

/// Logs in as `user`.
pub fn login(root: &GuestRoot, keys: &Keys, user: &str, command: &str) -> (Option<i32>, String) {
    let (identity, host_key) = keys.login();
    let done = root.login(user, Login { identity: &identity, host_key }, command).unwrap();
    (done.status, done.stdout + &done.stderr)
}
