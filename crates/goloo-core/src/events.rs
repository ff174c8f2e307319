//! What a front end sees of work under way: plain values, in order, nothing printed here.

/// One thing that happened while an operation runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A step began; it lasts until the next one.
    Step {
        /// What is being done, in the present participle: "starting QEMU".
        what: String,
    },
    /// How far a transfer is, in bytes.
    Progress {
        /// Bytes done.
        done: u64,
        /// Bytes in all, when the other side says so.
        total: Option<u64>,
    },
    /// A line of the machine's own log, shown with `-v`.
    Log {
        /// The line, without its end.
        line: String,
    },
    /// Something that a person should know and that stops nothing.
    Note(String),
    /// Something that may be wrong and that stops nothing.
    Warning(String),
}

/// Where events go. Called from the thread that works; must not block.
pub trait Events: Send + Sync {
    /// Takes one event.
    fn event(&self, event: Event);
}

/// For tests and for commands that show no progress.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Events for Silent {
    fn event(&self, _: Event) {}
}
