//! Standard output. It carries the result, so a failed write is reported as an error.
//!
//! It bypasses std's buffer, which ignores errors at process exit and when the descriptor isn't open for writing.

use std::io::{self, ErrorKind};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};

/// The stream and its error.
#[derive(Debug, Default)]
pub struct Stdout(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    #[default]
    Open,
    /// The reader has closed the pipe.
    Closed,
    Failed(io::Error),
}

impl Stdout {
    /// Writes all bytes. After an error nothing more is written, so that the result has no gap.
    pub fn write(&self, bytes: &[u8]) {
        let mut state = self.lock();
        if !matches!(*state, State::Open) {
            return;
        }
        match write_all(bytes) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                *state = State::Closed;
            }
            Err(error) => *state = State::Failed(error),
        }
    }

    /// Whether the stream still accepts output.
    pub fn is_open(&self) -> bool {
        matches!(*self.lock(), State::Open)
    }

    /// The error of a failed write; returned once.
    pub fn take_error(&self) -> Option<io::Error> {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Closed) {
            State::Failed(error) => Some(error),
            other => {
                *state = other;
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The width of the terminal that standard output is, in columns; `None` if it is something else, or has no width.
pub fn width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

fn write_all(mut bytes: &[u8]) -> io::Result<()> {
    let stdout = io::stdout();
    while !bytes.is_empty() {
        match rustix::io::write(&stdout, bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(rustix::io::Errno::INTR) => {}
            // The stream was inherited as non-blocking: wait until it is writable.
            Err(rustix::io::Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::new(&stdout, PollFlags::OUT)], None);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
