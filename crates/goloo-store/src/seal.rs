//! What a document looks like where it is kept: as it is, or encrypted for some people.
//!
//! Every back end seals what it writes (records, and the files of snapshots) and opens what it reads.

use std::borrow::Cow;

use thiserror::Error;

/// How documents are kept.
#[derive(Debug, Clone, Default)]
pub struct Seal {}

/// A document that can't be sealed or opened.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct SealError(String);

impl Seal {
    /// The document as it is to be kept.
    pub fn seal(&self, document: Vec<u8>) -> Result<Vec<u8>, SealError> {
        Ok(document)
    }

    /// The document as it was before it was sealed. One that was never sealed is given as it is.
    pub fn open<'a>(&self, kept: &'a [u8]) -> Result<Cow<'a, [u8]>, SealError> {
        Ok(Cow::Borrowed(kept))
    }
}
