//! System resources that a process needs before it starts: with less, libraries panic where goloo can report the cause.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// The number of files that must still be possible to open: the event queue and its signals take six, each
/// child program up to eight, records and locks the rest.
const FILES: usize = 24;

/// The number of concurrent threads that must be possible: for signals, the runtime, and blocking calls.
const THREADS: usize = 4;

/// An exhausted resource.
#[derive(Debug, thiserror::Error)]
pub enum Shortage {
    /// Open files.
    #[error("this process may open only {free} more files, but goloo needs {FILES}")]
    Files {
        /// How many can still be opened.
        free: usize,
        /// The system's error for the next one.
        #[source]
        source: io::Error,
    },
    /// Threads.
    #[error("this process can't start {THREADS} threads")]
    Threads(#[source] io::Error),
}

impl Shortage {
    /// The system's error.
    pub fn cause(&self) -> &io::Error {
        match self {
            Self::Files { source, .. } | Self::Threads(source) => source,
        }
    }

    /// What to do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Files { .. } => "raise the limit on open files: ulimit -n",
            Self::Threads(_) => {
                "stop programs that you don't need, or raise the limit on processes: ulimit -u"
            }
        }
    }
}

/// Checks by trying. The limits themselves aren't sufficient: a process may have inherited many open files, and its
/// user may have many processes.
///
/// # Errors
/// [`Shortage`].
pub fn check() -> Result<(), Shortage> {
    let mut open = Vec::with_capacity(FILES);
    while open.len() < FILES {
        match File::open("/dev/null") {
            Ok(file) => open.push(file),
            Err(source) => return Err(Shortage::Files { free: open.len(), source }),
        }
    }
    drop(open);
    check_threads()
}

/// All at once: the runtime starts several concurrently, and panics if one can't be started.
fn check_threads() -> Result<(), Shortage> {
    let is_over = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::with_capacity(THREADS);
    let mut refused = None;
    while threads.len() < THREADS && refused.is_none() {
        let is_over = Arc::clone(&is_over);
        let wait = move || {
            while !is_over.load(Ordering::Acquire) {
                thread::park();
            }
        };
        match thread::Builder::new().spawn(wait) {
            Ok(thread) => threads.push(thread),
            Err(error) => refused = Some(error),
        }
    }
    is_over.store(true, Ordering::Release);
    for thread in threads {
        thread.thread().unpark();
        // The thread does nothing that could panic.
        let _ = thread.join();
    }
    refused.map_or(Ok(()), |error| Err(Shortage::Threads(error)))
}
