//! What a process needs of the system before it begins: below that, libraries panic where goloo could say why.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// So many files must be possible to open beside those that are: the event queue and its signals take six, each
/// program that is run up to eight, records and locks the rest.
const FILES: usize = 24;

/// So many threads must be possible at the same time: for signals, the runtime, and what blocks.
const THREADS: usize = 4;

/// What there is too little of.
#[derive(Debug, thiserror::Error)]
pub enum Shortage {
    /// Open files.
    #[error("this process may open only {free} more files, and goloo needs {FILES}")]
    Files {
        /// How many can be opened.
        free: usize,
        /// What the system said to the next.
        #[source]
        source: io::Error,
    },
    /// Threads.
    #[error("this process can't start {THREADS} threads")]
    Threads(#[source] io::Error),
}

impl Shortage {
    /// What the system said.
    pub fn cause(&self) -> &io::Error {
        match self {
            Self::Files { source, .. } | Self::Threads(source) => source,
        }
    }

    /// What to do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Files { .. } => "raise the limit: ulimit -n 256",
            Self::Threads(_) => {
                "end programs that you don't need, or raise the limit on processes: ulimit -u"
            }
        }
    }
}

/// Tries it out. The limits themselves don't tell: a process may have been given many open files, and its user may
/// have many processes.
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

/// All at the same time: the runtime starts some beside each other, and panics where one can't be started.
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
        // It does nothing that could panic.
        let _ = thread.join();
    }
    refused.map_or(Ok(()), |error| Err(Shortage::Threads(error)))
}
