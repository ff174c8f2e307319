//! How a document is stored: in plain text, or encrypted for some recipients.
//!
//! Every back end seals what it writes (records, and the files of snapshots) and opens what it reads.
//! A sealed document is an [age](https://age-encryption.org/v1) file. It can be recognized as one, so
//! a store may contain both kinds, and each record is converted when it is saved.

#[cfg(feature = "encryption")]
mod age_keys;
mod error;
#[cfg(not(feature = "encryption"))]
mod no_keys;

use std::borrow::Cow;
use std::fmt;

#[cfg(feature = "encryption")]
pub use age::x25519::{Identity, Recipient};

pub use error::SealError;

#[cfg(feature = "encryption")]
use age_keys::Keys;
#[cfg(not(feature = "encryption"))]
use no_keys::Keys;

/// The start of every age file.
const HEADER: &[u8] = b"age-encryption.org/v1";

/// How documents are stored. Clones share the keys.
#[derive(Clone, Default)]
pub struct Seal {
    keys: Keys,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seal({} recipients, {} identities)", self.keys.recipients(), self.keys.identities())
    }
}

impl Seal {
    /// Documents are stored in plain text; sealed ones can't be read.
    pub fn none() -> Self {
        Self::default()
    }

    /// Documents are encrypted for the recipients, and opened with the identities. Without recipients
    /// new ones are stored in plain text.
    #[cfg(feature = "encryption")]
    pub fn age(recipients: Vec<Recipient>, identities: Vec<Identity>) -> Self {
        Self { keys: Keys::new(recipients, identities) }
    }

    /// Whether new documents are encrypted.
    pub fn seals(&self) -> bool {
        self.keys.recipients() > 0
    }

    /// The document as stored.
    pub fn seal(&self, document: Vec<u8>) -> Result<Vec<u8>, SealError> {
        if self.seals() { self.keys.seal(&document) } else { Ok(document) }
    }

    /// The document as it was before sealing. One that was never sealed is returned unchanged.
    pub fn open<'a>(&self, kept: &'a [u8]) -> Result<Cow<'a, [u8]>, SealError> {
        if is_sealed(kept) { self.keys.open(kept).map(Cow::Owned) } else { Ok(Cow::Borrowed(kept)) }
    }
}

/// Whether a document is encrypted, according to its header.
pub fn is_sealed(kept: &[u8]) -> bool {
    kept.starts_with(HEADER)
}

#[cfg(all(test, feature = "encryption"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn seal_for(readers: &[&Identity], own: &Identity) -> Seal {
        Seal::age(readers.iter().map(|reader| reader.to_public()).collect(), vec![own.clone()])
    }

    #[test]
    fn only_recipients_can_decrypt_a_document() {
        let (ann, bob, eve) = (Identity::generate(), Identity::generate(), Identity::generate());
        let document = b"{\"secret\": 1}\n".to_vec();
        let sealed = seal_for(&[&ann, &bob], &ann).seal(document.clone()).unwrap();
        assert!(is_sealed(&sealed) && !sealed.windows(6).any(|part| part == b"secret"));
        for reader in [&ann, &bob] {
            assert_eq!(*seal_for(&[], reader).open(&sealed).unwrap(), document);
        }
        assert!(matches!(seal_for(&[&eve], &eve).open(&sealed), Err(SealError::NotForUs)));
        assert!(matches!(Seal::none().open(&sealed), Err(SealError::NoIdentity)));
    }

    #[test]
    fn an_unencrypted_document_is_read_unchanged() {
        let ann = Identity::generate();
        assert_eq!(*seal_for(&[&ann], &ann).open(b"{}").unwrap(), *b"{}");
        assert_eq!(Seal::none().seal(b"{}".to_vec()).unwrap(), b"{}");
        assert_eq!(seal_for(&[], &ann).seal(b"{}".to_vec()).unwrap(), b"{}");
    }

    #[test]
    fn a_changed_or_truncated_encrypted_document_is_refused() {
        let ann = Identity::generate();
        let seal = seal_for(&[&ann], &ann);
        let sealed = seal.seal(vec![b'x'; 100_000]).unwrap();
        let mut changed = sealed.clone();
        *changed.last_mut().unwrap() ^= 1;
        for damaged in [&changed, &sealed[..sealed.len() - 1], &sealed[..40], &sealed[..70_000]] {
            let opened = seal.open(damaged);
            assert!(matches!(opened, Err(SealError::Damaged(_))), "{opened:?}");
        }
    }
}
