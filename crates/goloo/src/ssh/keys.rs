//! goloo's own SSH client key, created on first use.

use std::io::{self, ErrorKind};
use std::path::Path;

use goloo_model::host_key::HostKey;
use goloo_model::secret::PrivateKey;
use goloo_sys::{private, read};

use super::key_folder::KeyFolder;
use super::own_files::write_new;
use crate::error::{Error, SshError};

/// The public half of goloo's client key, in OpenSSH's form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientKey(pub String);

impl KeyFolder {
    /// The client key, if there is one that can be read; none is created.
    pub fn known_client_key(&self) -> Option<ClientKey> {
        self.identity().is_file().then(|| self.client_key().ok()).flatten()
    }

    /// The client key; created when there is none. If two processes create one at the same time, one wins and
    /// both use its key.
    ///
    /// # Errors
    /// When it can't be read or written, when other users can change it, and [`SshError::InvalidClientKey`].
    pub fn client_key(&self) -> Result<ClientKey, Error> {
        let path = self.identity();
        let failed = |error: io::Error| Error::cannot("write", &path, error);
        // Another user may have created the folder since goloo started.
        private::create_folders(path.parent().unwrap_or(Path::new("/"))).map_err(failed)?;
        private::check(&path)?;
        let private = match read::own_text(&path, read::FILE_MAX) {
            Ok(private) => PrivateKey::new(private),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let new = HostKey::generate();
                match write_new(&path, new.private_openssh.expose().as_bytes()) {
                    Ok(()) => new.private_openssh,
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                        PrivateKey::new(read::own_text(&path, read::FILE_MAX).map_err(failed)?)
                    }
                    Err(error) => return Err(failed(error)),
                }
            }
            Err(error) => return Err(failed(error)),
        };
        let key =
            ssh_key::PrivateKey::from_openssh(private.expose()).and_then(|key| key.public_key().to_openssh());
        Ok(key.map(ClientKey).map_err(|source| SshError::InvalidClientKey { path: path.clone(), source })?)
    }
}
