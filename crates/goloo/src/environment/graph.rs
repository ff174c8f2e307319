//! Runs tasks that wait for each other, several at a time.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use goloo_engine::Interrupt;

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskEnd<T> {
    /// It ran.
    Ran(T),
    /// It didn't run, since the task at this place failed, or didn't run either.
    Skipped(usize),
    /// It didn't run, since the user asked to stop.
    NotStarted,
}

/// What a task returns, and whether those that wait for it may run.
pub struct TaskResult<T> {
    /// The value.
    pub value: T,
    /// Whether it succeeded.
    pub is_good: bool,
}

/// Runs `work` for each place of `after`, which has the places that must have succeeded before; all of them are earlier.
/// At most `at_once` run at the same time, and of those that can run the earliest starts first. After an interrupt nothing
/// more is started. Returns when nothing runs any more.
pub fn run<T: Send>(
    after: &[Vec<usize>],
    at_once: usize,
    interrupt: &Interrupt,
    work: impl Fn(usize) -> TaskResult<T> + Sync,
) -> Vec<TaskEnd<T>> {
    let tasks = after.iter().map(|_| Task::Waiting).collect();
    let board = Board { state: Mutex::new(tasks), changed: Condvar::new(), after, interrupt };
    let worker = || {
        while let Some(place) = board.take() {
            let result = work(place);
            board.set(place, result);
        }
    };
    thread::scope(|scope| {
        for _ in 1..at_once.clamp(1, after.len().max(1)) {
            scope.spawn(worker);
        }
        worker();
    });
    let tasks = board.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    tasks.into_iter().map(Task::into_end).collect()
}

enum Task<T> {
    Waiting,
    Running,
    Ran(TaskResult<T>),
    Skipped(usize),
}

impl<T> Task<T> {
    /// Whether what waits for it can't run.
    fn is_bad(&self) -> bool {
        matches!(self, Self::Skipped(_)) || matches!(self, Self::Ran(result) if !result.is_good)
    }

    fn is_good(&self) -> bool {
        matches!(self, Self::Ran(result) if result.is_good)
    }

    fn into_end(self) -> TaskEnd<T> {
        match self {
            Self::Ran(result) => TaskEnd::Ran(result.value),
            Self::Skipped(place) => TaskEnd::Skipped(place),
            Self::Waiting | Self::Running => TaskEnd::NotStarted,
        }
    }
}

struct Board<'b, T> {
    state: Mutex<Vec<Task<T>>>,
    changed: Condvar,
    after: &'b [Vec<usize>],
    interrupt: &'b Interrupt,
}

impl<T> Board<'_, T> {
    fn lock(&self) -> MutexGuard<'_, Vec<Task<T>>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next task, which is then running; waits while one may still become ready. `None` when there is nothing to do.
    fn take(&self) -> Option<usize> {
        let mut tasks = self.lock();
        loop {
            self.skip(&mut tasks);
            if self.interrupt.is_raised() {
                return None;
            }
            let waiting = |place: &usize| matches!(tasks[*place], Task::Waiting);
            let is_ready = |place: &usize| self.after[*place].iter().all(|before| tasks[*before].is_good());
            if let Some(place) = (0..tasks.len()).filter(waiting).find(is_ready) {
                tasks[place] = Task::Running;
                return Some(place);
            }
            if !tasks.iter().any(|task| matches!(task, Task::Waiting)) {
                return None;
            }
            tasks = self.changed.wait(tasks).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Skips what waits for something that failed. Those before come first, so one pass is enough.
    fn skip(&self, tasks: &mut [Task<T>]) {
        for place in 0..tasks.len() {
            let failed = self.after[place].iter().copied().find(|before| tasks[*before].is_bad());
            if let (Task::Waiting, Some(failed)) = (&tasks[place], failed) {
                tasks[place] = Task::Skipped(failed);
            }
        }
    }

    fn set(&self, place: usize, result: TaskResult<T>) {
        self.lock()[place] = Task::Ran(result);
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn good(place: usize) -> TaskResult<usize> {
        TaskResult { value: place, is_good: true }
    }

    #[test]
    fn a_task_runs_after_those_that_it_waits_for() {
        let after = [vec![], vec![0], vec![0], vec![1, 2]];
        for at_once in [1, 2, 8] {
            let ran = Mutex::new(Vec::new());
            let note = |place: usize| {
                let mut ran = ran.lock().expect("no task panics");
                assert!(
                    after[place].iter().all(|before| ran.contains(before)),
                    "{place} ran too early: {ran:?}"
                );
                ran.push(place);
            };
            let ends = run(&after, at_once, &Interrupt::default(), |place| {
                note(place);
                good(place)
            });
            assert_eq!(ends, [0, 1, 2, 3].map(TaskEnd::Ran));
        }
    }

    #[test]
    fn a_failure_skips_what_depends_on_it_and_lets_the_rest_finish() {
        let after = [vec![], vec![0], vec![1], vec![], vec![3]];
        let ends =
            run(&after, 2, &Interrupt::default(), |place| TaskResult { value: place, is_good: place != 0 });
        let expected =
            [TaskEnd::Ran(0), TaskEnd::Skipped(0), TaskEnd::Skipped(1), TaskEnd::Ran(3), TaskEnd::Ran(4)];
        assert_eq!(ends, expected);
    }

    #[test]
    fn no_more_tasks_run_at_the_same_time_than_allowed() {
        let after = vec![Vec::new(); 40];
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        run(&after, 3, &Interrupt::default(), |place| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::yield_now();
            now.fetch_sub(1, Ordering::SeqCst);
            good(place)
        });
        assert!(most.into_inner() <= 3);
    }

    #[test]
    fn after_an_interrupt_nothing_more_starts() {
        let after = [vec![], vec![0], vec![]];
        let interrupt = Interrupt::default();
        let ends = run(&after, 1, &interrupt, |place| {
            interrupt.raise();
            good(place)
        });
        assert_eq!(ends, [TaskEnd::Ran(0), TaskEnd::NotStarted, TaskEnd::NotStarted]);
    }
}
