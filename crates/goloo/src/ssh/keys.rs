//! goloo's own SSH client key, made on first use.

use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use goloo_core::cloud_init::HostKey;
use goloo_core::secret::PrivateKey;
use goloo_os::{private, read};

use super::KeyFolder;
use crate::error::CliError;

/// The public half of goloo's client key, in OpenSSH's form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientKey(pub String);

impl KeyFolder {
    /// The client key, where there is one that can be read; none is made.
    pub fn known_client_key(&self) -> Option<ClientKey> {
        self.identity().is_file().then(|| self.client_key().ok()).flatten()
    }

    /// The client key; made when there is none. Of two processes that make one at once, one wins and
    /// both use its key.
    pub fn client_key(&self) -> Result<ClientKey, CliError> {
        let path = self.identity();
        let failed = |error: &io::Error| CliError::cannot("write", &path, error);
        let private = match read::text(&path, read::FILE_MAX) {
            Ok(private) => PrivateKey::new(private),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let new = HostKey::generate();
                match write_new(&path, new.private_openssh.expose().as_bytes()) {
                    Ok(()) => new.private_openssh,
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                        PrivateKey::new(read::text(&path, read::FILE_MAX).map_err(|error| failed(&error))?)
                    }
                    Err(error) => return Err(failed(&error)),
                }
            }
            Err(error) => return Err(failed(&error)),
        };
        let key =
            ssh_key::PrivateKey::from_openssh(private.expose()).and_then(|key| key.public_key().to_openssh());
        key.map(ClientKey).map_err(|error| {
            let hint = format!("restore it from a backup; without it goloo can't log in to VMs made with it; to begin anew move {} away", path.display());
            CliError::failed(format!("{} is no SSH key", path.display()), hint).because(&error)
        })
    }
}

/// Writes the file as a whole, never over another one.
fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    staged(path, content)?.persist_noclobber(path)?;
    Ok(())
}

/// Writes the file as a whole, in place of an older one.
pub(super) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    staged(path, content)?.persist(path)?;
    Ok(())
}

/// Writes a program as a whole, in place of an older one.
pub(super) fn write_program(path: &Path, content: &[u8]) -> io::Result<()> {
    let file = staged(path, content)?;
    file.as_file().set_permissions(PermissionsExt::from_mode(0o700))?;
    file.persist(path)?;
    Ok(())
}

fn staged(path: &Path, content: &[u8]) -> io::Result<tempfile::NamedTempFile> {
    let folder = path.parent().ok_or(ErrorKind::InvalidInput)?;
    private::create_folders(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    Ok(file)
}
