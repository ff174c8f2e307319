//! The test images' trees, keys, and what engines in tests have in common.
#![allow(dead_code, clippy::unwrap_used, reason = "each test binary uses its part")]

use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use goloo_engine::EmergencyDump;
use goloo_images::{Cache, Watch, build};
use goloo_model::events::Event;
use goloo_model::name::VmName;
use goloo_testkit::guest_root::{GuestImage, GuestRoot, Login};
use goloo_testkit::test_cache::{self, IMAGE_LOCK};

/// cloud-init 22.4 and 25.1.
pub const IMAGES: [&str; 2] = ["debian-12", "debian-13"];

/// The limit for one document.
pub const LIMIT: Duration = Duration::from_secs(240);

/// No emergency copy can be kept.
pub struct NoEmergencyDump;

impl EmergencyDump for NoEmergencyDump {
    fn keep(&self, _: &VmName, _: &[u8]) -> io::Result<PathBuf> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

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

/// The tree of a test image, built if it isn't in the test cache.
pub fn image(name: &str) -> GuestImage {
    let cache = Cache::new(test_cache::folder().join("images"));
    let _lock = test_cache::lock(IMAGE_LOCK);
    let digest = match cache.built(name) {
        Some(entry) => entry.sha256,
        None => build::build(&cache, name, &Stderr).unwrap().sha256,
    };
    let disk = cache.folder().join("store").join(format!("{digest}.img"));
    GuestImage::extract(&test_cache::folder(), name, &disk, &digest).unwrap()
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
