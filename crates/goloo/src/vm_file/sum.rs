//! The checksum of a disk inside a file, in steps: it takes minutes, in which there is progress to show.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;

use goloo_model::record::Digest;
use sha2::{Digest as _, Sha256};

/// The bytes of one step.
const PIECE: usize = 1 << 20;

/// A checksum in progress.
pub struct DiskSum<'f> {
    file: &'f File,
    offset: u64,
    length: u64,
    done: u64,
    hash: Sha256,
    piece: Vec<u8>,
}

impl<'f> DiskSum<'f> {
    /// Of a part of a file.
    pub fn new(file: &'f File, offset: u64, length: u64) -> Self {
        Self { file, offset, length, done: 0, hash: Sha256::new(), piece: vec![0; PIECE] }
    }

    /// Reads on; the number of bytes that have been read, or `None` at the end.
    ///
    /// # Errors
    /// Those of the system, and [`ErrorKind::UnexpectedEof`].
    pub fn step(&mut self) -> io::Result<Option<u64>> {
        if self.done == self.length {
            return Ok(None);
        }
        let wanted = usize::try_from(self.length - self.done).unwrap_or(usize::MAX).min(PIECE);
        let count = self.file.read_at(&mut self.piece[..wanted], self.offset + self.done)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.hash.update(&self.piece[..count]);
        self.done += count as u64;
        Ok(Some(self.done))
    }

    /// The checksum of what has been read.
    pub fn digest(self) -> Digest {
        Digest::of_sha256(self.hash.finalize().into())
    }
}

/// The checksum of these bytes.
pub(super) fn of(bytes: &[u8]) -> Digest {
    Digest::of_sha256(Sha256::digest(bytes).into())
}
