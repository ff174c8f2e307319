//! Progress events for a front end: plain values, in order; nothing is printed here.

use std::path::PathBuf;
use std::sync::Arc;

use crate::hint::Hint;
use crate::name::VmName;
use crate::record::OperationKind;

/// An event during an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A step began; it lasts until the next one begins.
    Step {
        /// What is being done, in the present participle: "starting QEMU".
        what: String,
    },
    /// The progress of a transfer, in bytes.
    Progress {
        /// Bytes done.
        done: u64,
        /// Total bytes, if the other side reports them.
        total: Option<u64>,
    },
    /// A line of the machine's log, shown with `-v`.
    Log {
        /// The line, without its terminator.
        line: String,
    },
    /// Waiting for a lock that another process holds.
    WaitingForLock {
        /// The lock's file.
        path: PathBuf,
    },
    /// Information for the user that doesn't stop the operation.
    Note(String),
    /// A possible problem that doesn't stop the operation.
    Warning(String),
    /// What to do about the note or the warning just before.
    Hint(Hint),
    /// The work on the VM is over, and so is its last step.
    Ended {
        /// Whether it succeeded.
        ok: bool,
    },
}

/// What an event is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventContext {
    /// The VM; `None` where the work concerns no VM, or many.
    pub vm: Option<VmName>,
    /// The operation; `None` where none is recorded for the work, as for a snapshot or a wait.
    pub operation: Option<OperationKind>,
}

impl EventContext {
    /// Work on this VM.
    pub fn of(vm: &VmName, operation: Option<OperationKind>) -> Self {
        Self { vm: Some(vm.clone()), operation }
    }
}

/// A sink for events. Called from the working thread; must not block.
pub trait Events: Send + Sync {
    /// Takes one event of the work in this context.
    fn receive(&self, context: &EventContext, event: Event);

    /// Reports an event. Code that works on one VM needn't know the context: its caller has set it with [`InContext`].
    fn event(&self, event: Event) {
        self.receive(&EventContext::default(), event);
    }
}

/// Adds the context of an operation to all events that are reported during it.
pub struct InContext {
    events: Arc<dyn Events>,
    context: EventContext,
}

impl InContext {
    /// Passes events on to `events`, with this context.
    pub fn new(events: Arc<dyn Events>, context: EventContext) -> Self {
        Self { events, context }
    }
}

impl Events for InContext {
    /// An event that has a context of its own keeps it.
    fn receive(&self, context: &EventContext, event: Event) {
        let context = if *context == EventContext::default() { &self.context } else { context };
        self.events.receive(context, event);
    }
}

/// Discards all events: for tests and for commands that show no progress.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoEvents;

impl Events for NoEvents {
    fn receive(&self, _: &EventContext, _: Event) {}
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Received(Mutex<Vec<(EventContext, Event)>>);

    impl Events for Received {
        fn receive(&self, context: &EventContext, event: Event) {
            self.0.lock().unwrap().push((context.clone(), event));
        }
    }

    #[test]
    fn events_of_interleaved_operations_keep_their_vm_and_operation() {
        let received = Arc::new(Received::default());
        let context = |name, kind| EventContext::of(&VmName::parse(name).unwrap(), Some(kind));
        let (web, db) = (context("web", OperationKind::Create), context("db", OperationKind::Stop));
        let web_events = InContext::new(received.clone(), web.clone());
        let db_events = InContext::new(received.clone(), db.clone());
        let step = |what: &str| Event::Step { what: what.to_owned() };
        web_events.event(step("starting"));
        db_events.event(step("stopping"));
        web_events.event(Event::Ended { ok: true });
        received.event(Event::Note("of no VM".to_owned()));
        db_events.receive(&web, Event::Note("of another VM".to_owned()));
        let expected = [
            (web.clone(), step("starting")),
            (db, step("stopping")),
            (web.clone(), Event::Ended { ok: true }),
            (EventContext::default(), Event::Note("of no VM".to_owned())),
            (web, Event::Note("of another VM".to_owned())),
        ];
        assert_eq!(*received.0.lock().unwrap(), expected);
    }
}
