//! The user-data on its way to a launch: a file that the launch's client has as standard input. (A copy's
//! client gets an empty one, for the lock's sake.)
//!
//! It is whole before the client starts, so that a goloo that dies meanwhile can't leave a machine that
//! got half a document. And it is locked: the client inherits the lock, so that whoever comes after can
//! tell whether a client still lives that may yet ask for the instance.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use goloo_core::name::VmId;
use goloo_core::provider::ProviderError;
use rustix::fs::{FlockOperation, flock};

/// One VM's file.
pub(crate) struct Handover(PathBuf);

impl Handover {
    pub(crate) fn of(folder: &Path, id: &VmId) -> Self {
        Self(folder.join(id.as_str()).with_extension("user-data"))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes the document and gives the file to be a client's standard input, locked as long as it is
    /// open there or here.
    pub(crate) fn begin(&self, user_data: &[u8]) -> Result<File, ProviderError> {
        self.write(user_data).map_err(|source| {
            let hint = "look at the room and the permissions there, then run the same command again";
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

    /// Whether a client lives that was given the file.
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

    /// Forgets the document, which its client has sent. As long as that one lives the file stays, empty: its lock
    /// tells that the launch isn't over.
    pub(crate) fn end(&self) {
        // What stays is as private as the rest of the state folder, and is written anew when needed.
        let _ = match self.is_under_way() {
            Ok(true) => OpenOptions::new().write(true).open(&self.0).and_then(|file| file.set_len(0)),
            _ => fs::remove_file(&self.0),
        };
    }

    /// Forgets the document and whether a client lives: there is no instance any more.
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
    fn a_client_that_outlives_its_starter_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let handover = Handover::of(folder.path(), &VmId::generate());
        assert!(!handover.is_under_way().unwrap());
        let file = handover.begin(b"#cloud-config\n").unwrap();
        // `read` takes a line and then waits on its other input for a word that it may end.
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
        assert!(!handover.is_under_way().unwrap(), "its end frees the lock");
        let file = handover.begin(b"again").unwrap();
        let mut client = Command::new("cat").stdin(Stdio::piped()).stdout(file).spawn().unwrap();
        assert!(handover.is_under_way().unwrap(), "the client lives, and its starter has let go");
        handover.end();
        assert_eq!(handover.path().metadata().unwrap().len(), 0, "the document is gone");
        assert!(handover.is_under_way().unwrap(), "the client is still seen");
        drop(client.stdin.take());
        client.wait().unwrap();
        assert!(!handover.is_under_way().unwrap());
        handover.end();
        assert!(!handover.path().exists());
    }
}
