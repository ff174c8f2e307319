//! Objects that are written and removed to find out how a service behaves.

use ulid::Ulid;

/// The folder of the objects themselves.
const FOLDER: &str = "write-check";

/// A folder below the store that nothing else uses.
pub(super) fn new_folder() -> String {
    format!("{FOLDER}/{}", Ulid::new())
}

/// Bytes that were never written before.
pub(super) fn content(padding: usize) -> Vec<u8> {
    let mut bytes = format!("{{\"write\": \"{}\"}}\n", Ulid::new()).into_bytes();
    bytes.resize(bytes.len() + padding, b' ');
    bytes
}
