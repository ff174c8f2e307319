//! The file of an exported VM: its format, and the code that writes and reads it.
//!
//! It is a tar file, so that other programs can unpack it; the disk in it is a qcow2. SHA256SUMS is the last member, since
//! the disk's checksum is known only when it is written. A file to be read may come from anyone.

mod format;
mod reader;
mod sum;
mod writer;

pub use format::{ExportedBy, Manifest};
pub use reader::ExportFile;
pub use sum::DiskSum;
pub use writer::{VmFileContent, VmFileWriter};

pub use crate::error::VmFileError;
