//! The user-data for a launch: a file used as the launch client's standard input. (The client of a copy gets an empty
//! one, for the lock.)
//!
//! The file is complete before the client starts, so that goloo dying can't leave a machine with a truncated document.
//! It is locked, and the client inherits the lock, so that the next process can tell whether a client is still alive
//! that may yet request the instance.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use goloo_model::name::VmId;
use goloo_model::provider::ProviderError;
use rustix::fs::{FlockOperation, flock};

/// A VM's file.
pub(crate) struct UserDataFile(PathBuf);

impl UserDataFile {
    pub(crate) fn of(folder: &Path, id: &VmId) -> Self {
        Self(folder.join(id.as_str()).with_extension("user-data"))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes the document and returns the file to use as a client's standard input. It stays locked as long as either
    /// process has it open.
    pub(crate) fn begin(&self, user_data: &[u8]) -> Result<File, ProviderError> {
        self.write(user_data).map_err(|source| {
            let hint = "check the free disk space and the permissions there, then run the same command again";
            ProviderError::caused(format!("{} can't be written", self.0.display()), hint, source)
        })
    }

    fn write(&self, user_data: &[u8]) -> io::Result<File> {
        if let Some(folder) = self.0.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.0)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        file.set_len(0)?;
        file.write_all(user_data)?;
        file.rewind()?;
        Ok(file)
    }

    /// Whether a client that was given the file is still alive.
    pub(crate) fn is_under_way(&self) -> io::Result<bool> {
        let file = match File::open(&self.0) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Discards the document after its client has sent it. While that client is alive, the empty file stays: its lock
    /// shows that the launch isn't over.
    pub(crate) fn end(&self) {
        // Leftovers are as private as the rest of the state folder, and are overwritten when needed.
        let _ = match self.is_under_way() {
            Ok(true) => OpenOptions::new().write(true).open(&self.0).and_then(|file| file.set_len(0)),
            _ => fs::remove_file(&self.0),
        };
    }

    /// Discards the document and the client's state: the instance no longer exists.
    pub(crate) fn remove(&self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_client_that_outlives_its_parent_is_detected() {
        let folder = tempfile::tempdir().unwrap();
        let user_data_file = UserDataFile::of(folder.path(), &VmId::generate());
        assert!(!user_data_file.is_under_way().unwrap());
        let file = user_data_file.begin(b"#cloud-config\n").unwrap();
        // Reads a line and then waits on another descriptor for a word before it exits.
        let mut client = Command::new("sh")
            .args(["-c", "read line; echo $line; read word <&3"])
            .arg("sh")
            .stdin(Stdio::from(file))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = client.stdout.take().unwrap();
        let mut line = String::new();
        io::BufRead::read_line(&mut io::BufReader::new(output), &mut line).unwrap();
        assert_eq!(line, "#cloud-config\n", "the whole document is there at once");
        client.wait().unwrap();
        assert!(!user_data_file.is_under_way().unwrap(), "its end frees the lock");
        let file = user_data_file.begin(b"again").unwrap();
        let mut client = Command::new("cat").stdin(Stdio::piped()).stdout(file).spawn().unwrap();
        assert!(user_data_file.is_under_way().unwrap(), "the client lives, and its starter has let go");
        user_data_file.end();
        assert_eq!(user_data_file.path().metadata().unwrap().len(), 0, "the document is gone");
        assert!(user_data_file.is_under_way().unwrap(), "the client is still seen");
        drop(client.stdin.take());
        client.wait().unwrap();
        assert!(!user_data_file.is_under_way().unwrap());
        user_data_file.end();
        assert!(!user_data_file.path().exists());
    }
}
