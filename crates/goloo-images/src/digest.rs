//! Digests: computed while data is streamed, and parsed from publishers' lists.

use std::fmt;
use std::io::{self, Read};

use sha2::{Digest as _, Sha256, Sha512};

/// A digest algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// 64 hexadecimal digits.
    Sha256,
    /// 128 hexadecimal digits.
    Sha512,
}

/// A digest in lower-case hexadecimal digits; its length determines the algorithm.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileDigest(String);

impl FileDigest {
    /// Accepts 64 or 128 hexadecimal digits in either case.
    pub fn parse(text: &str) -> Option<Self> {
        let sound = matches!(text.len(), 64 | 128) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        sound.then(|| Self(text.to_ascii_lowercase()))
    }

    /// The hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its algorithm.
    pub fn algorithm(&self) -> Algorithm {
        if self.0.len() == 64 { Algorithm::Sha256 } else { Algorithm::Sha512 }
    }
}

impl fmt::Display for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Computes the SHA-256 that names an image in the cache and, if the publisher's list uses it, the SHA-512.
#[derive(Clone)]
pub struct Hasher {
    sha256: Sha256,
    sha512: Option<Sha512>,
}

impl Hasher {
    /// A hasher for an image that must have this digest.
    pub fn new(expected: Option<&FileDigest>) -> Self {
        let wants_512 = expected.is_some_and(|digest| digest.algorithm() == Algorithm::Sha512);
        Self { sha256: Sha256::new(), sha512: wants_512.then(Sha512::new) }
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(sha512) = &mut self.sha512 {
            sha512.update(bytes);
        }
    }

    /// The SHA-256, and the digest to compare with the expected one.
    pub fn finish(self) -> (FileDigest, FileDigest) {
        let sha256 = FileDigest(hex(&self.sha256.finalize()));
        let comparable = self.sha512.map_or_else(|| sha256.clone(), |sha| FileDigest(hex(&sha.finalize())));
        (sha256, comparable)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads to the end and passes each piece on.
pub(crate) fn each_piece<E>(
    mut reader: impl Read,
    mut piece: impl FnMut(&[u8]) -> Result<(), E>,
    failed: impl Fn(io::Error) -> E,
) -> Result<(), E> {
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

/// The digest of `file` in a list in the format of `sha256sum` and `sha512sum`, or in that of BSD
/// (`SHA256 (FILE) = …`). Other lines, such as those of a signature, are ignored.
pub fn find_in_list(list: &str, file: &str, algorithm: Algorithm) -> Option<FileDigest> {
    let entries = list.lines().filter_map(|line| gnu_entry(line).or_else(|| bsd_entry(line)));
    let digests =
        entries.filter(|(name, _)| *name == file).filter_map(|(_, digest)| FileDigest::parse(digest));
    digests.into_iter().find(|digest| digest.algorithm() == algorithm)
}

/// The file's name and the digest in a line such as `e3b0… *a.img`.
fn gnu_entry(line: &str) -> Option<(&str, &str)> {
    let (digest, name) = line.trim_end().split_once(' ')?;
    FileDigest::parse(digest)?;
    // The space is followed by another one, or by `*` for a binary file; openSUSE's lists have only one.
    Some((name.strip_prefix([' ', '*']).unwrap_or(name), digest))
}

/// The file's name and the digest in a line such as `SHA256 (a.img) = e3b0…`.
fn bsd_entry(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.trim_end().split_once(" (")?;
    rest.split_once(") = ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const EMPTY_256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn digests_match_known_values() {
        let (sha256, comparable) = Hasher::new(None).finish();
        assert_eq!(sha256.as_str(), EMPTY_256);
        assert_eq!(comparable, sha256);
        let expected = FileDigest::parse(&"0".repeat(128)).unwrap();
        let mut hasher = Hasher::new(Some(&expected));
        hasher.update(b"abc");
        let (_, sha512) = hasher.finish();
        assert!(sha512.as_str().starts_with("ddaf35a193617abacc417349ae204131"));
    }

    #[test]
    fn all_formats_of_checksum_lists_are_read() {
        let other = "1".repeat(64);
        let list = format!("{other}  a.img.manifest\n{EMPTY_256} *a.img\n{other}  b.img\nrubbish\n\n");
        assert_eq!(find_in_list(&list, "a.img", Algorithm::Sha256).unwrap().as_str(), EMPTY_256);
        assert_eq!(find_in_list(&list, "b.img", Algorithm::Sha256).unwrap().as_str(), other);
        assert_eq!(find_in_list(&list, "img", Algorithm::Sha256), None);
        assert_eq!(find_in_list(&list, "a.img", Algorithm::Sha512), None);
        // As Fedora and Rocky publish them, in a signed message.
        let signed = format!(
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n# a.img: 4 bytes\nSHA256 (a.img) = {EMPTY_256}\n\
             SHA512 (a.img) = {other}{other}\nSHA256 (b.img) = {other}\n-----BEGIN PGP SIGNATURE-----\n"
        );
        assert_eq!(find_in_list(&signed, "a.img", Algorithm::Sha256).unwrap().as_str(), EMPTY_256);
        assert_eq!(
            find_in_list(&signed, "a.img", Algorithm::Sha512).unwrap().as_str(),
            format!("{other}{other}")
        );
        assert_eq!(find_in_list(&signed, "a.img) = ", Algorithm::Sha256), None);
    }
}
