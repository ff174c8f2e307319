//! A machine's SSH host key, generated before the machine is created.

use ssh_key::rand_core::OsRng;
use ssh_key::{Algorithm, LineEnding};

use crate::access::PublicHostKey;
use crate::secret::PrivateKey;
use crate::text::ValueError;

/// An Ed25519 key pair in OpenSSH's forms, without a comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKey {
    /// The private half.
    pub private_openssh: PrivateKey,
    /// The public half, on one line.
    pub public_openssh: PublicHostKey,
}

/// Why a text isn't a private host key.
#[derive(Debug, thiserror::Error)]
pub enum HostKeyError {
    /// It can't be parsed as a private key.
    #[error(transparent)]
    Key(#[from] ssh_key::Error),
    /// Its type isn't valid for a host key.
    #[error(transparent)]
    Kind(#[from] ValueError),
}

impl HostKey {
    /// Generates a pair from the operating system's random numbers.
    pub fn generate() -> Self {
        let key = ssh_key::PrivateKey::random(&mut OsRng, Algorithm::Ed25519)
            .expect("the crate has Ed25519 built in");
        Self::of(&key).expect("an Ed25519 key has both forms")
    }

    /// Restores the pair from a stored private half.
    pub fn from_private(private_openssh: &PrivateKey) -> Result<Self, HostKeyError> {
        Self::of(&ssh_key::PrivateKey::from_openssh(private_openssh.expose())?)
    }

    fn of(key: &ssh_key::PrivateKey) -> Result<Self, HostKeyError> {
        Ok(Self {
            private_openssh: PrivateKey::new(key.to_openssh(LineEnding::LF)?.to_string()),
            public_openssh: public(&key.public_key().to_openssh()?)?,
        })
    }
}

/// The public half without its comment.
fn public(openssh: &str) -> Result<PublicHostKey, ValueError> {
    let words: Vec<&str> = openssh.split_whitespace().take(2).collect();
    PublicHostKey::parse(&words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_key_survives_a_round_trip() {
        let key = HostKey::generate();
        assert!(key.public_openssh.starts_with("ssh-ed25519 "));
        assert_eq!(key.public_openssh.split(' ').count(), 2, "no comment");
        assert_eq!(HostKey::from_private(&key.private_openssh).expect("a key"), key);
        assert!(!format!("{key:?}").contains("PRIVATE"));
        assert!(HostKey::from_private(&PrivateKey::new("nonsense".to_owned())).is_err());
    }
}
