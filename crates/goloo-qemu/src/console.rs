//! Size-limited logs, and reading the console from them.
//!
//! ```text
//! console.log           the newest part, which is being written
//! console.<start>.log   the previous part, which begins `start` bytes into the console's output
//! ```
//! Older parts are removed. The name tells how many bytes came before, so a reader can resume from an offset even if
//! parts were removed in the meantime.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use goloo_model::provider::ConsolePiece;

/// The maximum size of one part of a console log, in bytes. There are at most two parts.
pub(crate) const CONSOLE_MAX: u64 = 2 << 20;
/// The same for QEMU's own messages.
pub(crate) const MESSAGES_MAX: u64 = 256 << 10;

/// How much is read at once, in bytes.
const PIECE: u64 = 256 << 10;
/// How often a reader retries if the log is rotated during the read.
const LOOKS_MAX: u32 = 5;

/// A log of at most two parts, with a single writer.
pub(crate) struct RotatingLog {
    stem: PathBuf,
    max: u64,
    file: File,
    size: u64,
}

impl RotatingLog {
    /// Opens `STEM.log` for appending. Each part of the log has at most `max` bytes.
    pub(crate) fn open(stem: &Path, max: u64) -> io::Result<Self> {
        let file = open(&current(stem))?;
        let mut size = file.metadata()?.len();
        if size > 2 * max {
            // An earlier version of goloo didn't limit the log.
            file.set_len(0)?;
            size = 0;
        }
        Ok(Self { stem: stem.to_owned(), max, file, size })
    }

    /// Appends to the log. Output that can't be written, because the disk is full for example, is lost; later output is
    /// still logged.
    pub(crate) fn write(&mut self, piece: &[u8]) {
        if self.size + piece.len() as u64 > self.max && self.size > 0 && self.rotate().is_err() {
            return;
        }
        match self.file.write_all(piece) {
            Ok(()) => self.size += piece.len() as u64,
            Err(_) => self.size = self.file.metadata().map_or(self.max, |data| data.len()),
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let parts = parts(&self.stem)?;
        let start = parts.last().map_or(Ok(0), Part::end)?;
        fs::rename(current(&self.stem), rotated(&self.stem, start))?;
        self.file = open(&current(&self.stem))?;
        self.size = 0;
        parts.into_iter().try_for_each(|part| fs::remove_file(part.path))
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

fn current(stem: &Path) -> PathBuf {
    stem.with_extension("log")
}

fn rotated(stem: &Path, start: u64) -> PathBuf {
    stem.with_extension(format!("{start}.log"))
}

/// A part that is no longer written.
struct Part {
    start: u64,
    path: PathBuf,
}

impl Part {
    fn end(&self) -> io::Result<u64> {
        Ok(self.start.saturating_add(fs::metadata(&self.path)?.len()))
    }
}

/// The parts that are no longer written, oldest first.
fn parts(stem: &Path) -> io::Result<Vec<Part>> {
    let name = stem.file_name().unwrap_or_default().as_encoded_bytes();
    let folder = stem.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut parts = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let start = entry.file_name().as_encoded_bytes().strip_prefix(name).and_then(start_of);
        parts.extend(start.map(|start| Part { start, path: entry.path() }));
    }
    parts.sort_by_key(|part| part.start);
    Ok(parts)
}

fn start_of(rest: &[u8]) -> Option<u64> {
    std::str::from_utf8(rest).ok()?.strip_prefix('.')?.strip_suffix(".log")?.parse().ok()
}

/// Reads a piece of the log. `offset` is in bytes from the beginning of the console; a range that has been removed is
/// skipped. The error is of the kind `NotFound` if there is no log.
pub(crate) fn read(stem: &Path, offset: u64) -> io::Result<ConsolePiece> {
    let mut looks = 0;
    loop {
        looks += 1;
        match read_once(stem, offset)? {
            Some(piece) => return Ok(piece),
            None if looks < LOOKS_MAX => {}
            None => return Ok(ConsolePiece { bytes: Vec::new(), next: offset }),
        }
    }
}

/// Returns `None` if the log was rotated during the read.
fn read_once(stem: &Path, offset: u64) -> io::Result<Option<ConsolePiece>> {
    let last = parts(stem)?.pop();
    let mut older = match &last {
        Some(part) => match File::open(&part.path) {
            Ok(file) => Some((part.start, file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        },
        None => None,
    };
    let newest = match File::open(current(stem)) {
        Ok(file) => Some(file),
        // The rotation is between its two steps.
        Err(error) if error.kind() == io::ErrorKind::NotFound && older.is_some() => None,
        Err(error) => return Err(error),
    };
    if parts(stem)?.pop().map(|part| part.start) != last.map(|part| part.start) {
        return Ok(None);
    }
    let mut begin = 0;
    if let Some((start, file)) = &mut older {
        begin = start.saturating_add(file.metadata()?.len());
        if offset < begin {
            return read_from(file, offset.max(*start), *start).map(Some);
        }
    }
    match newest {
        Some(mut file) => read_from(&mut file, offset, begin).map(Some),
        None => Ok(Some(ConsolePiece { bytes: Vec::new(), next: offset })),
    }
}

fn read_from(file: &mut File, offset: u64, start: u64) -> io::Result<ConsolePiece> {
    file.seek(SeekFrom::Start(offset - start))?;
    let mut bytes = Vec::new();
    file.take(PIECE).read_to_end(&mut bytes)?;
    Ok(ConsolePiece { next: offset + bytes.len() as u64, bytes })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MAX: u64 = 100;

    fn size(folder: &Path) -> u64 {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    }

    fn all(stem: &Path, mut offset: u64) -> (u64, Vec<u8>) {
        let mut bytes = Vec::new();
        loop {
            let piece = read(stem, offset).unwrap();
            if piece.bytes.is_empty() {
                return (offset, bytes);
            }
            offset = piece.next;
            bytes.extend(piece.bytes);
        }
    }

    #[test]
    fn an_endlessly_written_log_is_bounded_and_keeps_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let stem = folder.path().join("console");
        let mut log = RotatingLog::open(&stem, MAX).unwrap();
        let text: Vec<u8> = (0..1000).flat_map(|n| format!("{n:06}\n").into_bytes()).collect();
        for piece in text.chunks(33) {
            log.write(piece);
            assert!(size(folder.path()) <= 2 * MAX);
        }
        let (end, kept) = all(&stem, 0);
        assert_eq!(end, text.len() as u64, "offsets count from the console's beginning");
        assert!(kept.len() as u64 >= MAX && text.ends_with(&kept), "{} bytes", kept.len());
        // After a restart of the machine, output is appended.
        drop(log);
        RotatingLog::open(&stem, MAX).unwrap().write(b"again\n");
        assert_eq!(all(&stem, end).1, b"again\n");
    }

    #[test]
    fn a_continuous_reader_misses_no_retained_output() {
        let folder = tempfile::tempdir().unwrap();
        let stem = folder.path().join("console");
        let mut log = RotatingLog::open(&stem, MAX).unwrap();
        let (mut offset, mut seen, mut written) = (0, Vec::new(), Vec::new());
        for n in 0..200 {
            let line = format!("line {n}\n").into_bytes();
            log.write(&line);
            written.extend(line);
            if n % 7 == 0 {
                let (next, bytes) = all(&stem, offset);
                offset = next;
                seen.extend(bytes);
            }
        }
        assert_eq!(seen, written[..seen.len()]);
        assert!(seen.len() > 1000);
    }

    #[test]
    fn a_late_reader_continues_at_the_oldest_retained_output() {
        let folder = tempfile::tempdir().unwrap();
        let stem = folder.path().join("console");
        let mut log = RotatingLog::open(&stem, MAX).unwrap();
        (0..10).for_each(|n| log.write(&[b'a' + n; 60]));
        let piece = read(&stem, 5).unwrap();
        assert_eq!((piece.bytes, piece.next), (vec![b'i'; 60], 540));
        assert_eq!(read(&stem, 10_000).unwrap(), ConsolePiece { bytes: Vec::new(), next: 10_000 });
    }

    #[test]
    fn an_oversized_log_of_an_older_version_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let stem = folder.path().join("console");
        fs::write(current(&stem), vec![b'x'; 10_000]).unwrap();
        RotatingLog::open(&stem, MAX).unwrap().write(b"new\n");
        assert_eq!(all(&stem, 0).1, b"new\n");
    }

    #[test]
    fn a_full_disk_loses_only_the_output_written_meanwhile() {
        let Ok(full) = OpenOptions::new().append(true).open("/dev/full") else { return };
        let folder = tempfile::tempdir().unwrap();
        let stem = folder.path().join("console");
        let mut log = RotatingLog::open(&stem, MAX).unwrap();
        let file = std::mem::replace(&mut log.file, full);
        log.write(b"lost\n");
        log.file = file;
        log.write(b"kept\n");
        assert_eq!(all(&stem, 0).1, b"kept\n");
    }
}
