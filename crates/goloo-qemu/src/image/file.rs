//! Image files before they are in the cache: what they are, and copies of them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use goloo_core::events::Event;
use serde_json::Value;

use super::cache::{fails_at, qemu_img_is_missing};
use super::digest::{Digest, Hasher, each_piece};
use super::entry::Format;
use super::{ImageError, Watch};
use crate::files;
use crate::launch;

/// Format and size of the disk. An image that names other files is refused: a guest could read
/// any file of this machine through it.
pub(super) fn inspect(qemu_img: &Path, file: &Path, name: &str) -> Result<(Format, u64), ImageError> {
    let unusable = |reason: &str| ImageError::Unusable { what: name.to_owned(), reason: reason.to_owned() };
    let head = head(file).map_err(fails_at(file))?;
    if let Some(packer) = packer(&head) {
        return Err(unusable(&format!("it is packed with {packer}; unpack it first")));
    }
    let output = launch::tool(qemu_img)
        .args(["info", "--output=json"])
        .arg(file)
        .output()
        .map_err(|_| qemu_img_is_missing())?;
    if !output.status.success() {
        return Err(unusable(String::from_utf8_lossy(&output.stderr).trim()));
    }
    let info: Value = serde_json::from_slice(&output.stdout).map_err(|error| unusable(&error.to_string()))?;
    let other_files =
        info.get("backing-filename").is_some() || info["format-specific"]["data"].get("data-file").is_some();
    if other_files {
        return Err(unusable("it builds on another file"));
    }
    let format = match info["format"].as_str() {
        Some("qcow2") => Format::Qcow2,
        Some("raw") if head.get(510..512) == Some(&[0x55, 0xaa]) => Format::Raw,
        Some("raw") => return Err(unusable("it has neither a qcow2 header nor a partition table")),
        Some(other) => return Err(unusable(&format!("its format is {other}"))),
        None => return Err(unusable("its format can't be told")),
    };
    let size = info["virtual-size"].as_u64().ok_or_else(|| unusable("its size can't be told"))?;
    Ok((format, size))
}

fn head(file: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(file)?.take(512).read_to_end(&mut head)?;
    Ok(head)
}

fn packer(head: &[u8]) -> Option<&'static str> {
    let magics: [(&[u8], &str); 4] =
        [(b"\x1f\x8b", "gzip"), (b"\xfd7zXZ", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bzip2")];
    magics.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, name)| *name)
}

/// Copies a file and computes its digest on the way; by reflink where the file system can, and with
/// its holes.
pub(super) fn copy(
    source: &mut File,
    total: u64,
    target: &Path,
    watch: &dyn Watch,
    unreadable: impl Fn(io::Error) -> ImageError,
) -> Result<Digest, ImageError> {
    let mut copy = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(target)
        .map_err(fails_at(target))?;
    let cloned = files::reflink(&copy, source);
    let mut hasher = Hasher::new(None);
    let mut done = 0;
    let piece = |piece: &[u8]| {
        if watch.stopped() {
            return Err(ImageError::Stopped);
        }
        hasher.update(piece);
        if !cloned {
            files::write_or_skip(&mut copy, piece).map_err(fails_at(target))?;
        }
        done += piece.len() as u64;
        watch.event(Event::Progress { done, total: Some(total) });
        Ok(())
    };
    each_piece(source, piece, unreadable)?;
    copy.set_len(done).map_err(fails_at(target))?;
    Ok(hasher.finish().0)
}
