//! The messages of `ssh` itself, separated from the standard error of the command in the guest.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use goloo_model::guest::printable;
use rustix::fs::{CWD, Mode, OFlags, fcntl_setfl, mkfifoat};

/// How many bytes are kept from the end of the log, which has the reason for a failure.
const KEPT: usize = 64 << 10;

/// The log of one `ssh`. `ssh -E` takes only a path, and a server can make `ssh` print any number of messages: the
/// path is a named pipe, so that no file grows.
pub struct OwnLog {
    folder: tempfile::TempDir,
    pipe: File,
    is_over: Arc<AtomicBool>,
    reader: Option<JoinHandle<Vec<u8>>>,
}

impl OwnLog {
    /// Creates a pipe in a separate folder below `TMPDIR`.
    ///
    /// # Errors
    /// I/O errors.
    pub fn new() -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("goloo-ssh-").tempdir()?;
        let path = folder.path().join("log");
        mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR)?;
        // Opened for reading and writing: neither end blocks on opening, and the reader sees no EOF before `ssh`
        // starts.
        let pipe = OpenOptions::new().read(true).write(true).open(path)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let (ended, mut end) = (is_over.clone(), pipe.try_clone()?);
        let reader = std::thread::Builder::new().spawn(move || read_until(&mut end, &ended))?;
        Ok(Self { folder, pipe, is_over, reader: Some(reader) })
    }

    /// The arguments that make `ssh` write here.
    pub fn arguments(&self) -> [OsString; 2] {
        ["-E".into(), self.path().into()]
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// The log, after `ssh` has ended. It may quote the server, so only printable characters are kept.
    pub fn end(mut self) -> String {
        let said = self.stop();
        let lines: Vec<String> = said.split(|byte| *byte == b'\n').map(printable).collect();
        lines.join("\n").trim().to_owned()
    }

    fn stop(&mut self) -> Vec<u8> {
        self.is_over.store(true, Ordering::SeqCst);
        // Wakes the reader. Doesn't block, since the reader drains the pipe.
        let _ = self.pipe.write_all(b"\n");
        self.reader.take().and_then(|reader| reader.join().ok()).unwrap_or_default()
    }
}

impl Drop for OwnLog {
    fn drop(&mut self) {
        if self.reader.is_some() {
            self.stop();
        }
    }
}

fn read_until(pipe: &mut File, is_over: &AtomicBool) -> Vec<u8> {
    let (mut kept, mut piece) = (Vec::new(), [0; 8 << 10]);
    let mut is_last = false;
    loop {
        match pipe.read(&mut piece) {
            Ok(count) => {
                kept.extend_from_slice(&piece[..count]);
                let surplus = kept.len().saturating_sub(KEPT);
                kept.drain(..surplus);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return kept,
        }
        if is_over.load(Ordering::SeqCst) && !is_last {
            // Reads the rest of the pipe without blocking.
            is_last = fcntl_setfl(&*pipe, OFlags::NONBLOCK).is_ok();
            if !is_last {
                return kept;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_the_end_of_the_log_is_kept() {
        let log = OwnLog::new().unwrap();
        let path = log.path();
        let mut writer = OpenOptions::new().write(true).open(&path).unwrap();
        for _ in 0..1000 {
            writer.write_all(&[b'x'; 1000]).unwrap();
        }
        writer.write_all(b"\nthe \x1b[31mreason\n").unwrap();
        drop(writer);
        let said = log.end();
        assert!(said.ends_with("\nthe reason") && said.len() <= KEPT, "{}", said.len());
        assert!(!path.exists());
    }

    #[test]
    fn an_unused_log_is_closed_immediately() {
        assert_eq!(OwnLog::new().unwrap().end(), "");
        drop(OwnLog::new().unwrap());
    }
}
