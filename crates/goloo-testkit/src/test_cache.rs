//! Expensive artifacts shared by all test processes: images and their trees.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Held while an image is looked up and built, so that two test processes don't build it concurrently.
pub const IMAGE_LOCK: &str = "image.lock";

/// The folder: `GOLOO_TEST_CACHE`, otherwise one in the build folder. It is created if needed.
pub fn folder() -> PathBuf {
    let folder = std::env::var_os("GOLOO_TEST_CACHE")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-cache"), PathBuf::from);
    std::fs::create_dir_all(&folder).expect("the test cache can be made");
    folder.canonicalize().expect("the test cache is there")
}

/// The file of a lock shared by all test processes.
pub fn lock_file(name: &str) -> File {
    let path = folder().join(name);
    let file = File::options().create(true).truncate(false).write(true).open(path);
    file.expect("a lock file can be opened")
}

/// Waits for a lock, which is released when the file is closed or the process exits.
pub fn lock(name: &str) -> File {
    let file = lock_file(name);
    flock(&file, FlockOperation::LockExclusive).expect("a lock can be taken");
    file
}
