//! What runs beside the event loop, each on a thread with a session of its own: the watch, operations, questions to guests.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use goloo::Session;
use goloo::actions::{GuestFigures, RefreshRequest, WatchOptions};
use goloo::operation::RunOptions;
use goloo_engine::Interrupt;
use goloo_model::events::{Event, EventContext, Events};
use goloo_model::name::{VmId, VmName};
use goloo_model::provider::StopMode;

use super::super::delete;
use super::super::power::PROVIDERS_OWN;
use super::model::{Message, Operation};
use crate::error::CliError;
use crate::providers;

/// The same as the default of `goloo start`.
const START_LIMIT: Duration = Duration::from_secs(600);
/// How long a guest may take to answer.
const GUEST_LIMIT: Duration = Duration::from_secs(10);

/// Starts work, whose news it sends to the event loop.
pub struct Tasks {
    messages: Sender<Message>,
    refresh: RefreshRequest,
    interrupt: Interrupt,
    operations: Vec<JoinHandle<()>>,
}

/// Sends events to the event loop. After its end nobody receives them.
struct Forward(Sender<Message>);

impl Events for Forward {
    fn receive(&self, context: &EventContext, event: Event) {
        let _ = self.0.send(Message::Event(context.vm.clone(), event));
    }
}

impl Tasks {
    /// Starts the watch.
    pub fn start(messages: Sender<Message>) -> io::Result<Self> {
        let refresh = RefreshRequest::default();
        let (sender, handle) = (messages.clone(), refresh.clone());
        Builder::new().name("watch".to_owned()).spawn(move || {
            let watched = open(&sender).and_then(|session| {
                let report = |update| match sender.send(Message::Watch(update)) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                };
                Ok(session.watch(WatchOptions::default(), &handle, report)?)
            });
            if let Err(error) = watched {
                let _ = sender.send(Message::WatchFailed(error));
            }
        })?;
        Ok(Self { messages, refresh, interrupt: Interrupt::default(), operations: Vec::new() })
    }

    /// Has the store and the providers asked now.
    pub fn refresh(&self) {
        self.refresh.send();
    }

    /// Starts an operation.
    pub fn operate(&mut self, operation: Operation) {
        let name = operation.vm().clone();
        let (sender, interrupt) = (self.messages.clone(), self.interrupt.clone());
        let task = Builder::new().name("operation".to_owned()).spawn(move || {
            let result = open(&sender).and_then(|session| {
                let result = carry_out(&session, &operation, &interrupt);
                session.update_ssh_config();
                result
            });
            let _ = sender.send(Message::Ended(operation.vm().clone(), result));
        });
        match task {
            Ok(task) => {
                self.operations.retain(|task| !task.is_finished());
                self.operations.push(task);
            }
            Err(error) => {
                let _ = self.messages.send(Message::Ended(name, Err(no_thread(&error))));
            }
        }
    }

    /// Asks a guest for its figures.
    pub fn ask_guest(&self, id: VmId, name: VmName) {
        let sender = self.messages.clone();
        let unasked = id.clone();
        let task = Builder::new().name("guest".to_owned()).spawn(move || {
            let asked = open(&sender)
                .and_then(|session| Ok(session.guest_usage(&name, GUEST_LIMIT)?))
                .unwrap_or_else(|error| GuestFigures::Unknown(error.in_one_line()));
            let _ = sender.send(Message::Guest(id, asked));
        });
        if let Err(error) = task {
            let figures = GuestFigures::Unknown(no_thread(&error).in_one_line());
            let _ = self.messages.send(Message::Guest(unasked, figures));
        }
    }

    /// Whether an operation is in progress.
    pub fn is_busy(&self) -> bool {
        self.operations.iter().any(|task| !task.is_finished())
    }

    /// Interrupts all operations and waits until they have stopped.
    pub fn stop(self) {
        self.interrupt.raise();
        for task in self.operations {
            // Its panic was printed.
            let _ = task.join();
        }
    }
}

fn open(messages: &Sender<Message>) -> Result<Session, CliError> {
    Ok(Session::open(Arc::new(Forward(messages.clone())), providers::all().clone())?)
}

/// Returns what was done.
fn carry_out(session: &Session, operation: &Operation, interrupt: &Interrupt) -> Result<String, CliError> {
    Ok(match operation {
        Operation::Start(name) => {
            session.start(name, &RunOptions::new(START_LIMIT, interrupt))?;
            format!("{name} is running")
        }
        Operation::Stop(name) => {
            session.stop(name, StopMode::Graceful, &RunOptions::new(PROVIDERS_OWN, interrupt))?;
            format!("{name} is stopped")
        }
        Operation::Delete(record) => {
            let id = session.delete(record, &RunOptions::new(delete::NO_WAIT, interrupt))?;
            delete::done(&record.name, &id)
        }
    })
}

fn no_thread(error: &io::Error) -> CliError {
    let hint = goloo_command::shortage_hint(error).unwrap_or("try again");
    CliError::failed("can't start a thread", hint).because(error)
}
