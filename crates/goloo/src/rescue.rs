//! Where a record goes when the store won't take it.

use std::io::{self, Write};
use std::path::PathBuf;

use goloo_core::engine::Rescue;
use goloo_core::name::VmName;
use goloo_core::time::Timestamp;

/// Tries the home folder, then the folder for temporary files.
pub struct Folders {
    /// The user's home.
    pub home: PathBuf,
}

impl Rescue for Folders {
    fn keep(&self, name: &VmName, json: &[u8]) -> io::Result<PathBuf> {
        let file = format!("goloo-rescue-{name}-{}.json", Timestamp::now().compact());
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for folder in [self.home.clone(), std::env::temp_dir()] {
            match write(folder.join(&file), json) {
                Ok(path) => return Ok(path),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// Never over another file: each emergency is kept.
fn write(path: PathBuf, json: &[u8]) -> io::Result<PathBuf> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(json)?;
    file.sync_all()?;
    Ok(path)
}
