//! Signals that ask top to end: the event loop ends at the first one, and the process at the second.

use std::io;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::screen;
use crate::exit;
use crate::signals::{self, EndSignal};

/// How long the event loop may take to notice a signal. It can't while it waits for a terminal that doesn't respond.
const NOTICE_LIMIT: Duration = Duration::from_secs(3);

/// Whether a signal has asked top to end. Clones share it.
#[derive(Clone, Default)]
pub struct EndRequest(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    is_made: bool,
    is_noticed: bool,
    /// The program that has the terminal now.
    program: Option<Pid>,
}

impl EndRequest {
    /// Watches for signals from now on.
    pub fn watch() -> io::Result<Self> {
        let request = Self::default();
        let watched = request.clone();
        signals::watch(move |signal| watched.receive(signal))?;
        Ok(request)
    }

    /// Whether top has to end. The caller ends it then.
    pub fn is_made(&self) -> bool {
        let mut state = self.lock();
        state.is_noticed = state.is_made;
        self.0.1.notify_all();
        state.is_made
    }

    /// Waits for a program in the foreground. Ctrl-C is meant for it; other signals end it, too.
    pub fn wait_for(&self, mut program: Child) -> io::Result<ExitStatus> {
        let pid = i32::try_from(program.id()).ok().and_then(Pid::from_raw);
        self.lock().program = pid;
        let status = program.wait();
        self.lock().program = None;
        status
    }

    fn receive(&self, signal: EndSignal) {
        let mut state = self.lock();
        if let Some(program) = state.program {
            if signal == EndSignal::CtrlC {
                return;
            }
            let _ = kill_process(program, Signal::TERM);
        }
        if !std::mem::replace(&mut state.is_made, true) {
            let waited = self.0.1.wait_timeout_while(state, NOTICE_LIMIT, |state| !state.is_noticed);
            if waited.is_ok_and(|(state, _)| state.is_noticed) {
                return;
            }
        }
        signals::tell(screen::restore);
        signals::leave(exit::INTERRUPTED);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
