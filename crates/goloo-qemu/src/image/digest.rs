//! Digests: computed while bytes pass by, and read from publishers' lists.

use std::fmt;
use std::io::{self, Read};

use sha2::{Digest as _, Sha256, Sha512};

/// A kind of digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// 64 hexadecimal digits.
    Sha256,
    /// 128 hexadecimal digits.
    Sha512,
}

/// A digest in lower-case hexadecimal digits; its length tells its kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest(String);

impl Digest {
    /// Takes 64 or 128 hexadecimal digits, in either case.
    pub fn parse(text: &str) -> Option<Self> {
        let sound = matches!(text.len(), 64 | 128) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        sound.then(|| Self(text.to_ascii_lowercase()))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its kind.
    pub fn algorithm(&self) -> Algorithm {
        if self.0.len() == 64 { Algorithm::Sha256 } else { Algorithm::Sha512 }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Computes the SHA-256 by which the cache names an image, and beside it the SHA-512 where the
/// publisher's list is of those.
#[derive(Clone)]
pub struct Hasher {
    sha256: Sha256,
    sha512: Option<Sha512>,
}

impl Hasher {
    /// For an image that must have this digest.
    pub fn new(expected: Option<&Digest>) -> Self {
        let wants_512 = expected.is_some_and(|digest| digest.algorithm() == Algorithm::Sha512);
        Self { sha256: Sha256::new(), sha512: wants_512.then(Sha512::new) }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(sha512) = &mut self.sha512 {
            sha512.update(bytes);
        }
    }

    /// The SHA-256, and the digest that is comparable with the expected one.
    pub fn finish(self) -> (Digest, Digest) {
        let sha256 = Digest(hex(&self.sha256.finalize()));
        let comparable = self.sha512.map_or_else(|| sha256.clone(), |sha| Digest(hex(&sha.finalize())));
        (sha256, comparable)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads to the end, a piece at a time, and hands each piece on.
pub fn each_piece(
    mut reader: impl Read,
    mut piece: impl FnMut(&[u8]) -> Result<(), super::ImageError>,
    failed: impl Fn(io::Error) -> super::ImageError,
) -> Result<(), super::ImageError> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => piece(&buffer[..read])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

/// The digest of `file` in a list as `sha256sum` and `sha512sum` write them.
pub fn find_in_list(list: &str, file: &str, algorithm: Algorithm) -> Option<Digest> {
    list.lines()
        .filter_map(|line| {
            let (digest, name) = line.trim_end().split_once(' ')?;
            // After the space comes another, or `*` for a binary file.
            let name = name.strip_prefix([' ', '*']).unwrap_or(name);
            (name == file).then(|| Digest::parse(digest)).flatten()
        })
        .find(|digest| digest.algorithm() == algorithm)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const EMPTY_256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn known_digests_come_out() {
        let (sha256, comparable) = Hasher::new(None).finish();
        assert_eq!(sha256.as_str(), EMPTY_256);
        assert_eq!(comparable, sha256);
        let expected = Digest::parse(&"0".repeat(128)).unwrap();
        let mut hasher = Hasher::new(Some(&expected));
        hasher.update(b"abc");
        let (_, sha512) = hasher.finish();
        assert!(sha512.as_str().starts_with("ddaf35a193617abacc417349ae204131"));
    }

    #[test]
    fn both_forms_of_lists_are_read() {
        let other = "1".repeat(64);
        let list = format!("{other}  a.img.manifest\n{EMPTY_256} *a.img\n{other}  b.img\nrubbish\n\n");
        assert_eq!(find_in_list(&list, "a.img", Algorithm::Sha256).unwrap().as_str(), EMPTY_256);
        assert_eq!(find_in_list(&list, "b.img", Algorithm::Sha256).unwrap().as_str(), other);
        assert_eq!(find_in_list(&list, "img", Algorithm::Sha256), None);
        assert_eq!(find_in_list(&list, "a.img", Algorithm::Sha512), None);
    }
}
