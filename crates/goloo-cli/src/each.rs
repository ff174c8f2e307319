//! Does the same with several VMs at once.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use goloo::environment::graph::{self, TaskEnd, TaskResult};
use goloo::operation::RunOptions;
use goloo_model::name::VmName;
use goloo_model::record::Record;

use crate::app::App;
use crate::error::CliError;
use crate::exit;
use crate::json::{ChangedVm, ChangedVms, VmFailure};

/// How many VMs are worked on at the same time.
const AT_ONCE: usize = 8;

/// The results for VMs, in the order in which they were named.
pub struct Results<T>(Vec<(VmName, Result<T, CliError>)>);

impl<T> Results<T> {
    /// Those that succeeded.
    pub fn done(&self) -> impl Iterator<Item = (&VmName, &T)> {
        self.0.iter().filter_map(|(name, result)| Some((name, result.as_ref().ok()?)))
    }

    /// Those that failed, for JSON output.
    pub fn failures(&self) -> Vec<VmFailure<'_>> {
        self.0
            .iter()
            .filter_map(|(name, result)| Some(VmFailure::new(name, result.as_ref().err()?)))
            .collect()
    }

    /// The records of those that succeeded, and the errors of the others.
    pub fn to_json<'r>(&'r self, record: impl Fn(&'r T) -> &'r Record) -> ChangedVms<'r> {
        let vms = self.done().map(|(_, done)| ChangedVm { vm: record(done) });
        ChangedVms { vms: vms.collect(), errors: self.failures() }
    }

    /// The exit code of the worst; `of_done` says the one of a success.
    pub fn code(&self, of_done: impl Fn(&T) -> u8) -> u8 {
        exit::worst(
            self.0.iter().map(|(_, result)| result.as_ref().map_or_else(|error| error.code, &of_done)),
        )
    }
}

/// How the work on one VM of several that wait for each other ended.
pub type GraphEnd<T> = TaskEnd<Result<T, CliError>>;

impl App {
    /// Runs an action on each VM after those that it waits for, by their places, while signals are watched: `jobs` at a
    /// time. What waits for a VM is skipped if the action failed there, or its result isn't good. Reports as
    /// [`Self::act_each`].
    ///
    /// # Errors
    /// When signals can't be watched; what goes wrong with a VM is in the results.
    pub fn act_graph<I: Send, T: Send>(
        &self,
        items: Vec<(VmName, I)>,
        (after, jobs, limit): (&[Vec<usize>], usize, Duration),
        what_may_be_left: &str,
        action: impl Fn(I, &RunOptions<'_>) -> Result<T, goloo::Error> + Sync,
        is_good: impl Fn(&T) -> bool + Sync,
        report: impl Fn(&VmName, &T) + Sync,
    ) -> Result<Vec<GraphEnd<T>>, CliError> {
        let interrupt = self.watch_signals(what_may_be_left)?;
        let run = RunOptions { limit, interrupt, follow_log: self.ui.verbose() > 0 };
        let items: Vec<_> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
        let reporting = Mutex::new(());
        let ends = graph::run(after, jobs, interrupt, |place| {
            let item = items[place].lock().unwrap_or_else(PoisonError::into_inner).take();
            let (name, item) = item.expect("each task runs once");
            let done = action(item, &run).map_err(|error| self.suggest(error.into()));
            self.report_one(&reporting, &name, &done, &report);
            TaskResult { is_good: done.as_ref().is_ok_and(&is_good), value: done }
        });
        self.ui.finish();
        Ok(ends)
    }

    /// The lines about one VM stay together.
    fn report_one<T>(
        &self,
        reporting: &Mutex<()>,
        name: &VmName,
        done: &Result<T, CliError>,
        report: &impl Fn(&VmName, &T),
    ) {
        let _one_at_a_time = reporting.lock().unwrap_or_else(PoisonError::into_inner);
        match done {
            Ok(done) => report(name, done),
            Err(error) if !self.ui.json() => self.ui.error(error),
            Err(_) => {}
        }
    }

    /// Runs an action on each VM, several at a time, while signals are watched. `report` is called as each succeeds;
    /// errors are printed as they happen, except for JSON output. `what_may_be_left` is printed when the user exits
    /// immediately.
    ///
    /// # Errors
    /// When signals can't be watched; what goes wrong with a VM is in the results.
    pub fn act_each<I: Send, T: Send>(
        &self,
        items: Vec<(VmName, I)>,
        limit: Duration,
        what_may_be_left: &str,
        action: impl Fn(&VmName, I, &RunOptions<'_>) -> Result<T, goloo::Error> + Sync,
        report: impl Fn(&VmName, &T) + Sync,
    ) -> Result<Results<T>, CliError> {
        let interrupt = self.watch_signals(what_may_be_left)?;
        let run = RunOptions { limit, interrupt, follow_log: self.ui.verbose() > 0 };
        let workers = items.len().min(AT_ONCE);
        let mut results: Vec<_> = items.iter().map(|(name, _)| (name.clone(), None)).collect();
        let queue = Mutex::new(items.into_iter().zip(results.iter_mut()));
        let reporting = Mutex::new(());
        let work = || {
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(((name, item), (_, result))) = next else { return };
                let done = action(&name, item, &run).map_err(|error| self.suggest(error.into()));
                self.report_one(&reporting, &name, &done, &report);
                *result = Some(done);
            }
        };
        thread::scope(|scope| {
            for _ in 1..workers {
                scope.spawn(work);
            }
            work();
        });
        self.ui.finish();
        drop(queue);
        let results = results.into_iter();
        let ended = results.map(|(name, result)| (name, result.expect("each was taken from the queue")));
        Ok(Results(ended.collect()))
    }
}
