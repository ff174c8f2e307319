//! The context of every command: the library session, the terminal, and signal handling.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use goloo::Session;
use goloo::operation::RunOptions;
use goloo::registry;
use goloo_engine::Interrupt;
use goloo_model::name::VmName;
use goloo_model::store::StoreError;

use crate::error::CliError;
use crate::output::Ui;
use crate::{exit, providers, signals};

/// The program's environment, read once.
pub struct App {
    pub ui: Ui,
    pub session: Session,
    watch: EndWatch,
}

impl App {
    pub fn new(ui: Ui) -> Result<Self, CliError> {
        let session = Session::open(ui.events(), providers::all().clone())?;
        Ok(Self { watch: EndWatch::new(ui.clone()), session, ui })
    }

    /// Like [`Self::new`], but for a command that runs as root in a user's home and gives every file it creates to that
    /// user.
    pub fn for_root(ui: Ui) -> Result<Self, CliError> {
        let session = Session::open_for_root(ui.events(), providers::all().clone())?;
        Ok(Self { watch: EndWatch::new(ui.clone()), session, ui })
    }

    /// The same error; where a VM or a stack doesn't exist, with the name that may be meant.
    pub fn suggest(&self, error: CliError) -> CliError {
        let vms = || self.session.local(self.session.store.names()).unwrap_or_default();
        let stacks = || {
            let names = registry::stack_names(&self.session.paths).into_iter();
            names.filter_map(|name| VmName::parse(&name).ok()).collect()
        };
        error.suggesting(vms, stacks)
    }

    /// Runs a future that waits for processes and the network. Exits the process if there is no event queue: nothing
    /// else could wait either.
    pub fn wait_for<T>(&self, future: impl Future<Output = T>) -> T {
        self.session.wait_for(future).unwrap_or_else(|error| {
            self.ui.finish();
            self.ui.error(&error.into());
            std::process::exit(i32::from(exit::FAILED))
        })
    }

    /// Warns if the store in use is marked as moved: its records may be out of date.
    ///
    /// # Errors
    /// When the store is unavailable: a second request would take as long again.
    pub fn warn_of_move(&self) -> Result<(), CliError> {
        if let Some(to) = self.session.moved_to()? {
            let error = CliError::from(StoreError::Moved { place: self.session.store.location(), to });
            self.ui.warning(&format!("{}, so its records may be out of date; {}", error.message, error.hint));
        }
        Ok(())
    }

    /// Runs an action while signals are watched. `what_may_be_left` is printed when the user exits immediately.
    pub fn act<T>(
        &self,
        limit: Duration,
        what_may_be_left: &str,
        action: impl FnOnce(&RunOptions<'_>) -> Result<T, goloo::Error>,
    ) -> Result<T, CliError> {
        let interrupt = self.watch_signals(what_may_be_left)?;
        let run = RunOptions { limit, interrupt, follow_log: self.ui.verbose() > 0 };
        let result = action(&run);
        self.ui.finish();
        Ok(result?)
    }
}

/// Signal handling. First signal: stop after the current call. Second: exit immediately.
struct EndWatch {
    ui: Ui,
    interrupt: Interrupt,
    what_may_be_left: Arc<Mutex<String>>,
}

impl EndWatch {
    fn new(ui: Ui) -> Self {
        Self { ui, interrupt: Interrupt::default(), what_may_be_left: Arc::default() }
    }
}

impl App {
    /// Watches for Ctrl-C, SIGTERM and SIGHUP from now on. `what_may_be_left` is printed at an immediate exit.
    pub fn watch_signals(&self, what_may_be_left: &str) -> Result<&Interrupt, CliError> {
        let watch = &self.watch;
        *lock(&watch.what_may_be_left) = what_may_be_left.to_owned();
        let (ui, interrupt, left) =
            (watch.ui.clone(), watch.interrupt.clone(), Arc::clone(&watch.what_may_be_left));
        signals::watch(move |signal| {
            let (ui, is_first) = (ui.clone(), interrupt.raise());
            if is_first {
                let signal = signal.name();
                let text = format!(
                    "{signal}: stopping after the current call; press Ctrl-C again to exit immediately"
                );
                signals::tell(move || ui.note(&text));
                return;
            }
            let left = lock(&left).clone();
            signals::tell(move || {
                ui.finish();
                ui.warning(&left);
            });
            signals::leave(exit::INTERRUPTED);
        })
        .map_err(|error| {
            CliError::failed("can't watch for signals", "run the command again").because(&error)
        })?;
        Ok(&watch.interrupt)
    }
}

fn lock(text: &Mutex<String>) -> std::sync::MutexGuard<'_, String> {
    text.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
