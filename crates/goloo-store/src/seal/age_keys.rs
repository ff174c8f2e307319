//! The keys, and what they do to a document.

use std::fmt::Display;
use std::io::{Read, Write};
use std::sync::Arc;

use age::x25519::{Identity, Recipient};

use super::error::SealError;

#[derive(Clone, Default)]
pub(super) struct Keys {
    recipients: Arc<[Recipient]>,
    identities: Arc<[Identity]>,
}

impl Keys {
    pub fn new(recipients: Vec<Recipient>, identities: Vec<Identity>) -> Self {
        Self { recipients: recipients.into(), identities: identities.into() }
    }

    pub fn recipients(&self) -> usize {
        self.recipients.len()
    }

    pub fn identities(&self) -> usize {
        self.identities.len()
    }

    pub fn seal(&self, document: &[u8]) -> Result<Vec<u8>, SealError> {
        let failed = |error: &dyn Display| SealError::Unsealable(error.to_string());
        let recipients = self.recipients.iter().map(|recipient| recipient as &dyn age::Recipient);
        let encryptor = age::Encryptor::with_recipients(recipients).map_err(|error| failed(&error))?;
        let mut sealed = Vec::with_capacity(document.len() + 512);
        encryptor
            .wrap_output(&mut sealed)
            .and_then(|mut writer| writer.write_all(document).and_then(|()| writer.finish().map(drop)))
            .map_err(|error| failed(&error))?;
        Ok(sealed)
    }

    pub fn open(&self, kept: &[u8]) -> Result<Vec<u8>, SealError> {
        if self.identities.is_empty() {
            return Err(SealError::NoIdentity);
        }
        let damaged = |error: &dyn Display| SealError::Damaged(error.to_string());
        let decryptor = age::Decryptor::new_buffered(kept).map_err(|error| damaged(&error))?;
        let identities = self.identities.iter().map(|identity| identity as &dyn age::Identity);
        let mut reader = decryptor.decrypt(identities).map_err(|error| match error {
            age::DecryptError::NoMatchingKeys => SealError::NotForUs,
            error => damaged(&error),
        })?;
        let mut document = Vec::with_capacity(kept.len());
        reader.read_to_end(&mut document).map_err(|error| damaged(&error))?;
        Ok(document)
    }
}
