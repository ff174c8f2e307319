//! Image files before they are in the cache: what they are, and copies of them.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use goloo_command::{Limits, RunError};
use goloo_core::events::Event;
use goloo_core::guest::excerpt;
use serde_json::Value;

use super::cache::{fails_at, qemu_img_is_missing};
use super::digest::{Digest, Hasher, each_piece};
use super::entry::Format;
use super::header::{self, Header, HeaderError, Refusal};
use super::{ImageError, Watch};
use crate::files;
use crate::launch;

/// Opens a user's file to be read: a regular one, and never one that waits for a writer.
pub(super) fn open_regular(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok(file)
}

/// Format and size of the disk, from goloo's own look at its header.
pub(super) fn header(file: &File, name: &str) -> Result<Header, ImageError> {
    header::read(file).map_err(|error| match error {
        HeaderError::Refused(refusal) => ImageError::Refused { what: name.to_owned(), refusal },
        HeaderError::Io(source) => ImageError::Source { path: name.into(), source },
    })
}

/// The same, and whether `qemu-img` agrees. It is told the format, never asked to guess it.
pub(super) fn inspect(qemu_img: &Path, file: &Path, name: &str) -> Result<(Format, u64), ImageError> {
    let unusable = |reason: &str| ImageError::Unusable { what: name.to_owned(), reason: reason.to_owned() };
    let Header { format, virtual_size } = header(&open_regular(file).map_err(fails_at(file))?, name)?;
    let mut command = launch::qemu_img_command(qemu_img);
    command.args(["info", "--output=json", "-f", format.as_str()]).arg(file);
    let output = goloo_command::run_blocking(command, INFO_LIMITS).map_err(|error| match error {
        RunError::Start(source) => ImageError::CannotRun { program: "qemu-img".to_owned(), source },
        error => unusable(&error.to_string()),
    })?;
    match output.status.code() {
        Some(0) => {}
        // sh's own, as the program isn't there.
        Some(127) => return Err(qemu_img_is_missing()),
        // A signal's end, its own `abort` too, tells more of this computer than of the image.
        None => {
            let message = excerpt(String::from_utf8_lossy(&output.stderr).trim());
            let (program, status) = ("qemu-img".to_owned(), output.status.to_string());
            return Err(ImageError::Program { program, status, message });
        }
        _ => return Err(unusable(&excerpt(String::from_utf8_lossy(&output.stderr).trim()))),
    }
    let info: Value = serde_json::from_slice(&output.stdout).map_err(|error| unusable(&error.to_string()))?;
    let other_files =
        info.get("backing-filename").is_some() || info["format-specific"]["data"].get("data-file").is_some();
    if other_files {
        return Err(ImageError::Refused { what: name.to_owned(), refusal: Refusal::OtherFile });
    }
    match info["virtual-size"].as_u64() {
        // It rounds up to whole sectors.
        Some(size) if size == virtual_size.next_multiple_of(512) => Ok((format, size)),
        _ => Err(unusable("qemu-img and goloo read different sizes in its header")),
    }
}

/// What `qemu-img info` may say, and how long it may take.
const INFO_LIMITS: Limits = Limits { time: Duration::from_secs(60), stdout: 1 << 20, stderr: 64 << 10 };

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
