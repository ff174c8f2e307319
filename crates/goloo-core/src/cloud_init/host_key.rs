//! A machine's SSH host key, made before the machine.

use ssh_key::rand_core::OsRng;
use ssh_key::{Algorithm, LineEnding, PrivateKey};

/// An Ed25519 key pair in OpenSSH's forms, without a comment.
#[derive(Clone, PartialEq, Eq)]
pub struct HostKey {
    /// The private half, as a PEM text.
    pub private_openssh: String,
    /// The public half, in one line.
    pub public_openssh: String,
}

/// A text that is no private key.
#[derive(Debug, thiserror::Error)]
#[error("the machine's host key can't be read: {0}")]
pub struct HostKeyError(#[from] ssh_key::Error);

impl HostKey {
    /// A new pair, from the operating system's randomness.
    pub fn generate() -> Self {
        let key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519).expect("the crate has Ed25519 built in");
        Self::of(&key).expect("an Ed25519 key has both forms")
    }

    /// The pair of a private half that was kept.
    pub fn from_private(private_openssh: &str) -> Result<Self, HostKeyError> {
        Ok(Self::of(&PrivateKey::from_openssh(private_openssh)?)?)
    }

    fn of(key: &PrivateKey) -> Result<Self, ssh_key::Error> {
        Ok(Self {
            private_openssh: key.to_openssh(LineEnding::LF)?.to_string(),
            public_openssh: key.public_key().to_openssh()?.trim().to_owned(),
        })
    }
}

/// The private half stays out of logs.
impl std::fmt::Debug for HostKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostKey").field("public_openssh", &self.public_openssh).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_kept_is_the_same_key() {
        let key = HostKey::generate();
        assert!(key.public_openssh.starts_with("ssh-ed25519 "));
        assert_eq!(key.public_openssh.split(' ').count(), 2, "no comment");
        assert_eq!(HostKey::from_private(&key.private_openssh).expect("a key"), key);
        assert!(!format!("{key:?}").contains("PRIVATE"));
        assert!(HostKey::from_private("nonsense").is_err());
    }
}
