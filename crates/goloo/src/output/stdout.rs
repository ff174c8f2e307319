//! Standard output: what is asked for goes there, so what it doesn't take is an error, and not forgotten.
//!
//! It is written without std's buffer, which keeps errors to itself: at the end of the process, and where the
//! descriptor isn't open for writing.

use std::io::{self, ErrorKind};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};

/// The stream, and what became of it.
#[derive(Debug, Default)]
pub struct Stdout(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    #[default]
    Open,
    /// Its reader has gone away, and wants no more.
    Closed,
    Failed(io::Error),
}

impl Stdout {
    /// Writes all of it. After an error nothing more is written: half a result isn't continued behind a gap.
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

    /// Whether anybody still takes what is written.
    pub fn is_open(&self) -> bool {
        matches!(*self.lock(), State::Open)
    }

    /// The error that kept something from being written, once.
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

fn write_all(mut bytes: &[u8]) -> io::Result<()> {
    let stdout = io::stdout();
    while !bytes.is_empty() {
        match rustix::io::write(&stdout, bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(rustix::io::Errno::INTR) => {}
            // Whoever gave us the stream made it so; it is waited for.
            Err(rustix::io::Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::new(&stdout, PollFlags::OUT)], None);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
