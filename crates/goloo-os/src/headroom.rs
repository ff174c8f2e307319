//! What a process needs of the system before it begins: below that, libraries panic where goloo could say why.

use std::fs::File;
use std::io;

/// So many files must be possible to open beside those that are: the event queue and its signals take six, each
/// program that is run up to eight, records and locks the rest.
const FILES: usize = 24;

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
    #[error("no thread can be started")]
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
    let thread = std::thread::Builder::new().spawn(|| ()).map_err(Shortage::Threads)?;
    // It does nothing that could panic.
    let _ = thread.join();
    Ok(())
}
