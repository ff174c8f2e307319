//! What a document looks like where it is kept: as it is, or encrypted for some people.
//!
//! Every back end seals what it writes (records, and the files of snapshots) and opens what it reads.
//! A sealed document is an [age](https://age-encryption.org/v1) file. It says itself that it is one, so
//! a store may hold both kinds, and is switched over record by record as each is saved.

use std::borrow::Cow;
use std::fmt;
use std::io::{Read, Write};
use std::sync::Arc;

use thiserror::Error;

pub use age::x25519::{Identity, Recipient};

/// How every age file begins.
const HEADER: &[u8] = b"age-encryption.org/v1";

/// How documents are kept. Clones share the keys.
#[derive(Clone, Default)]
pub struct Seal {
    recipients: Arc<[Recipient]>,
    identities: Arc<[Identity]>,
}

/// A document that can't be sealed or opened.
#[derive(Debug, Error)]
pub enum SealError {
    /// It is encrypted, and there is no key here.
    #[error(
        "it is encrypted for others; set encryption.identityFile in the settings to the file with your key"
    )]
    NoIdentity,
    /// It is encrypted, and not for the key that is here.
    #[error(
        "it is encrypted for others, not for a key in encryption.identityFile; ask one of them to add your public key to encryption.recipients and to save the VM again"
    )]
    NotForUs,
    /// It is encrypted, and damaged or of a kind that isn't known.
    #[error("it is encrypted and can't be opened: {0}")]
    Damaged(String),
    /// It couldn't be encrypted.
    #[error("can't encrypt it: {0}")]
    Unsealable(String),
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seal({} recipients, {} identities)", self.recipients.len(), self.identities.len())
    }
}

impl Seal {
    /// Documents are kept as they are; sealed ones can't be read.
    pub fn none() -> Self {
        Self::default()
    }

    /// Documents are encrypted for the recipients, and opened with the identities. Without recipients
    /// new ones are kept as they are.
    pub fn age(recipients: Vec<Recipient>, identities: Vec<Identity>) -> Self {
        Self { recipients: recipients.into(), identities: identities.into() }
    }

    /// Whether what is written is encrypted.
    pub fn seals(&self) -> bool {
        !self.recipients.is_empty()
    }

    /// The document as it is to be kept.
    pub fn seal(&self, document: Vec<u8>) -> Result<Vec<u8>, SealError> {
        if !self.seals() {
            return Ok(document);
        }
        let failed = |error: &dyn fmt::Display| SealError::Unsealable(error.to_string());
        let recipients = self.recipients.iter().map(|recipient| recipient as &dyn age::Recipient);
        let encryptor = age::Encryptor::with_recipients(recipients).map_err(|error| failed(&error))?;
        let mut sealed = Vec::with_capacity(document.len() + 512);
        encryptor
            .wrap_output(&mut sealed)
            .and_then(|mut writer| writer.write_all(&document).and_then(|()| writer.finish().map(drop)))
            .map_err(|error| failed(&error))?;
        Ok(sealed)
    }

    /// The document as it was before it was sealed. One that was never sealed is given as it is.
    pub fn open<'a>(&self, kept: &'a [u8]) -> Result<Cow<'a, [u8]>, SealError> {
        if !is_sealed(kept) {
            return Ok(Cow::Borrowed(kept));
        }
        if self.identities.is_empty() {
            return Err(SealError::NoIdentity);
        }
        let damaged = |error: &dyn fmt::Display| SealError::Damaged(error.to_string());
        let decryptor = age::Decryptor::new_buffered(kept).map_err(|error| damaged(&error))?;
        let identities = self.identities.iter().map(|identity| identity as &dyn age::Identity);
        let mut reader = decryptor.decrypt(identities).map_err(|error| match error {
            age::DecryptError::NoMatchingKeys => SealError::NotForUs,
            error => damaged(&error),
        })?;
        let mut document = Vec::with_capacity(kept.len());
        reader.read_to_end(&mut document).map_err(|error| damaged(&error))?;
        Ok(Cow::Owned(document))
    }
}

/// Whether a document says of itself that it is encrypted.
pub fn is_sealed(kept: &[u8]) -> bool {
    kept.starts_with(HEADER)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn seal_for(readers: &[&Identity], own: &Identity) -> Seal {
        Seal::age(readers.iter().map(|reader| reader.to_public()).collect(), vec![own.clone()])
    }

    #[test]
    fn each_recipient_reads_what_was_sealed_and_nobody_else() {
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
    fn what_was_never_sealed_is_read_as_it_is() {
        let ann = Identity::generate();
        assert_eq!(*seal_for(&[&ann], &ann).open(b"{}").unwrap(), *b"{}");
        assert_eq!(Seal::none().seal(b"{}".to_vec()).unwrap(), b"{}");
        assert_eq!(seal_for(&[], &ann).seal(b"{}".to_vec()).unwrap(), b"{}");
    }

    #[test]
    fn a_sealed_document_that_was_changed_or_cut_off_is_refused() {
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
