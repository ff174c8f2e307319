//! Image files outside the cache: their format, and copying them.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use goloo_command::{Limits, RunError};
use goloo_model::events::Event;
use goloo_model::guest::excerpt;
use goloo_sys::files;
use serde_json::Value;

use crate::digest::{FileDigest, Hasher, each_piece};
use crate::entry::Format;
use crate::error::{IMAGE_MAX, ImageError, fails_at, too_large};
use crate::header::{self, Header, HeaderError, ImageRefusal};
use crate::qemu_img;
use crate::watch::Watch;

/// Opens a user's file for reading: only a regular file, so that opening never blocks on a FIFO.
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

/// The format and disk size, from goloo's own check of the header.
pub(super) fn header(file: &File, name: &str) -> Result<Header, ImageError> {
    if file.metadata().map_err(|source| ImageError::Source { path: name.into(), source })?.len() > IMAGE_MAX {
        return Err(too_large(name));
    }
    header::read(file).map_err(|error| match error {
        HeaderError::Refused(refusal) => ImageError::Refused { what: name.to_owned(), refusal },
        HeaderError::Io(source) => ImageError::Source { path: name.into(), source },
    })
}

/// Like [`header()`], but also checks that `qemu-img` agrees. `qemu-img` is told the format and never guesses it.
pub(super) fn inspect(program: &Path, file: &Path, name: &str) -> Result<(Format, u64), ImageError> {
    let unusable = |reason: &str| ImageError::Unusable { what: name.to_owned(), reason: reason.to_owned() };
    let Header { format, virtual_size } = header(&open_regular(file).map_err(fails_at(file))?, name)?;
    let mut command = qemu_img::command(program);
    command.args(["info", "--output=json", "-f", format.as_str()]).arg(file);
    let output = goloo_command::run_blocking(command, INFO_LIMITS).map_err(|error| match error {
        RunError::Start(source) => ImageError::CannotRun { program: "qemu-img".to_owned(), source },
        error => unusable(&error.to_string()),
    })?;
    match output.status.code() {
        Some(0) => {}
        Some(qemu_img::NOT_FOUND) => return Err(qemu_img::missing()),
        // Death by a signal, including `qemu-img`'s own `abort`, says more about this computer than about the image.
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
        return Err(ImageError::Refused { what: name.to_owned(), refusal: ImageRefusal::OtherFile });
    }
    match info["virtual-size"].as_u64() {
        // qemu-img rounds up to whole sectors.
        Some(size) if size == virtual_size.next_multiple_of(512) => Ok((format, size)),
        _ => Err(unusable("qemu-img and goloo read different sizes in its header")),
    }
}

/// Limits on the output and run time of `qemu-img info`.
const INFO_LIMITS: Limits = Limits { time: Duration::from_secs(60), stdout: 1 << 20, stderr: 64 << 10 };

/// Copies a file and computes its digest at the same time; uses a reflink if the file system supports it, and preserves
/// holes.
pub(super) fn copy(
    source: &mut File,
    total: u64,
    target: &Path,
    watch: &dyn Watch,
    unreadable: impl Fn(io::Error) -> ImageError,
) -> Result<FileDigest, ImageError> {
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
