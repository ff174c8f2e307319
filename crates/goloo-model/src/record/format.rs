//! The number of the record format, and its limit.

/// The format version that this goloo writes.
pub const SCHEMA: u32 = 2;

/// The maximum length of a record, in bytes of JSON: a thousand times what goloo writes, so that no record exhausts
/// the memory of a process that lists them.
pub const MAX_RECORD_BYTES: usize = 1 << 20;
