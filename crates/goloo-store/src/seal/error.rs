//! Why a document can't be sealed or opened.

use thiserror::Error;

/// A document that can't be sealed or opened.
#[derive(Debug, Error)]
pub enum SealError {
    /// It is encrypted, and no key is configured.
    #[error(
        "it is encrypted for others; set encryption.identityFile in the settings to the file with your key"
    )]
    NoIdentity,
    /// It is encrypted, but not for the configured key.
    #[error(
        "it is encrypted for others, not for a key in encryption.identityFile; ask one of them to add your public key to encryption.recipients and to save the VM again"
    )]
    NotForUs,
    /// It is encrypted, and this build can't open it.
    #[error(
        "it is encrypted, and this build of goloo does not include encryption; install one with the feature encryption"
    )]
    NotInBuild,
    /// It is encrypted, and damaged or of an unknown kind.
    #[error("it is encrypted and can't be opened: {0}")]
    Damaged(String),
    /// It couldn't be encrypted.
    #[error("can't encrypt it: {0}")]
    Unsealable(String),
}
