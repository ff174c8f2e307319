//! Paths in URLs.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// All characters that can't appear unescaped in a URL's path.
const UNSAFE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// A path as it stands in a URL: letters, digits, slashes and some marks as they are, everything else percent-encoded.
pub fn url_path(path: &[u8]) -> impl fmt::Display {
    percent_encode(path, UNSAFE)
}
