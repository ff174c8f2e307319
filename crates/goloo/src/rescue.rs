//! Saves a record in an emergency file when the store can't be written.

use std::io;
use std::path::PathBuf;

use goloo_engine::EmergencyDump;
use goloo_model::name::VmName;
use goloo_model::time::Timestamp;
use goloo_sys::durable;

/// Tries the home folder, then the folder for temporary files.
pub struct Folders {
    /// The user's home.
    pub home: PathBuf,
}

impl EmergencyDump for Folders {
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

/// Never overwrites another file: each emergency copy is kept.
fn write(path: PathBuf, json: &[u8]) -> io::Result<PathBuf> {
    durable::write_new(&path, json)?;
    Ok(path)
}
