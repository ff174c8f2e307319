//! `goloo state move`
//!
//! The order: copy and compare, while the old store is in use; mark the old one, which from then on refuses
//! every write; copy what came meanwhile, and compare all; say in the mark that it is done; switch the
//! setting. At no time can anyone write to both: what is begun in the old store before the mark makes the
//! mark wait or fail, and the new one is known to nobody before the end. A store that was moved away from
//! earlier may be in somebody's settings still, so it is opened for writing only after the old one is marked.
//! Of moves to two places one puts its mark; the other's copy is known to nobody, and stays so.
//!
//! Who is stopped anywhere begins anew, and the marks say where: without one all is copied again, which
//! changes nothing that is there already; an unfinished one goes on after it; a finished one only switches.

use std::fs::File;
use std::path::Path;

use goloo_core::engine::Interrupt;
use goloo_core::events::{Event, Events};
use goloo_core::record::Owner;
use goloo_core::store::{Broken, Store, StoreError};

use crate::app::App;
use crate::backend::Backend;
use crate::commands::ask::Question;
use crate::error::CliError;
use crate::files;
use crate::output::first;
use crate::transfer::{self, Conflict, UNFINISHED, Whole};
use crate::{exit, identity, settings};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The new place: dir:PATH
    to: String,
    /// Don't ask
    #[arg(short = 'y', long)]
    yes: bool,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let backend = Backend::parse(&args.to)?;
    let target = backend.open(&app.paths, app.settings.seal(&app.paths.home)?, app.ui.wait_notice())?;
    let current = app.settings.backend(&app.paths.home)?;
    if backend.clone().with_paths(&app.paths) == current.clone().with_paths(&app.paths) {
        return stay(app, args);
    }
    if let Some(endpoint) = backend.endpoint().filter(|endpoint| current.endpoint() != Some(*endpoint))
        && !args.yes
    {
        ask_for_endpoint(app, endpoint, &args.to)?;
    }
    let interrupt = app.watch_signals("the move was interrupted: run the same command to continue")?;
    let variable = settings::place_variable();
    // What the environment names is none of the settings'.
    let _one_at_a_time = lock(if variable.is_some() { &app.paths.state } else { &app.paths.config })?;
    let moving = Move {
        events: &app.ui,
        source: &*app.store,
        target: &*target,
        interrupt,
        note: &|left| match app.is_shared() {
            // Others wrote there, too: in a store of one's own that could no longer be told.
            true => crate::imported::note(app, left.records()),
            false => Ok(()),
        },
        address: backend.to_string(),
        owner: identity::owner(),
    };
    let count = app.wait_for(moving.run())?;
    if variable.is_none() {
        settings::set_state_backend(&app.ui, &app.paths.config, &backend)?;
    }
    app.ui.finish();
    app.ui.line(&format!("{count} are in {} now", target.location()));
    app.ui.note(&format!(
        "{} stays as it was and is only read; disks of local VMs and goloo's keys stay in {}",
        app.store.location(),
        app.paths.state.display()
    ));
    if let Some(variable) = variable {
        let address = backend.to_string();
        let shown = shlex::try_quote(&address).unwrap_or_default();
        app.ui.note(&format!(
            "{variable} is set, so settings.json stays as it is: export GOLOO_STATE_BACKEND={shown} to use the new place"
        ));
    }
    Ok(exit::DONE)
}

/// Takes away the mark of a place that is in use, as a move leaves it that isn't to be finished.
fn stay(app: &App, args: &Args) -> Result<u8, CliError> {
    let place = app.store.location();
    let Some(mark) = app.wait_for(app.store.moved_to())? else {
        app.ui.line(&format!("the records are in {place} already"));
        return Ok(exit::DONE);
    };
    if !args.yes {
        let question = Question {
            asks: "state move asks before it takes a mark away",
            lost: vec![
                format!("  {place} is marked as moved to {mark}"),
                "  what was done there isn't here; who uses both places makes VMs that the other doesn't know"
                    .to_owned(),
            ],
            question: "Use this place again?",
            words: None,
            declined: "the mark is as it was",
            again: again(&args.to),
        };
        question.ask(app)?;
    }
    app.wait_for(app.store.set_moved(Some(&mark), None))?;
    app.ui.line(&format!("the records in {place} are in use again"));
    Ok(exit::DONE)
}

/// The address may come from a mark, and anyone who can write to the store can write marks.
fn ask_for_endpoint(app: &App, endpoint: &str, to: &str) -> Result<(), CliError> {
    let question = Question {
        asks: &format!("state move asks before it sends credentials to {endpoint}"),
        lost: vec![format!("  your credentials for the bucket, and all records, are sent to {endpoint}")],
        question: "Is this your service?",
        words: None,
        declined: "nothing was moved, and nothing sent",
        again: again(to),
    };
    question.ask(app)
}

fn again(to: &str) -> String {
    format!("goloo state move --yes {}", shlex::try_quote(to).unwrap_or_default())
}

/// Two moves on this computer would each take the other's copy for someone else's.
fn lock(folder: &Path) -> Result<File, CliError> {
    let path = folder.join(".state-move.lock");
    let failed = |error: std::io::Error| CliError::cannot("lock", &path, &error);
    files::ensure_folder(folder).map_err(failed)?;
    let file = goloo_os::lock::open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(CliError::new(exit::LOCKED, "locked", "another move is under way", "wait until it is done"))
        }
        Err(std::fs::TryLockError::Error(error)) => Err(failed(error)),
    }
}

struct Move<'m> {
    events: &'m dyn Events,
    source: &'m dyn Store,
    target: &'m dyn Store,
    interrupt: &'m Interrupt,
    /// Called with what is about to be written to the target.
    note: &'m dyn Fn(&Whole) -> Result<(), CliError>,
    /// The new store's.
    address: String,
    owner: Owner,
}

impl Move<'_> {
    async fn run(&self) -> Result<String, CliError> {
        let unfinished = format!("{}{UNFINISHED}", self.address);
        let copied = match self.source.moved_to().await? {
            Some(mark) if mark == self.address => {
                return Ok(transfer::read(self.target).await?.0.count());
            }
            Some(mark) if mark == unfinished => Whole::default(),
            Some(to) => {
                return Err(StoreError::Moved { place: self.source.location(), to }.into());
            }
            None => self.prepare().await?,
        };
        self.mark(&unfinished).await?;
        let former = self.target.moved_to().await?;
        if former.as_ref() == Some(&unfinished) {
            self.source.set_moved(Some(&unfinished), None).await?;
            let message = format!("{} and {} are one place", self.source.location(), self.target.location());
            let hint = format!(
                "run goloo settings set stateBackend '{}' to use the other address; the records are where they were",
                self.address
            );
            return Err(CliError::usage(message, hint));
        }
        match self.finish(&unfinished, &copied, former.as_deref()).await {
            Ok(count) => Ok(count),
            Err(error) => {
                self.take_back(&unfinished, former.as_deref()).await?;
                Err(error)
            }
        }
    }

    /// From here on nobody can write to the old store. Also where the mark is there already: who put it may
    /// have died before all locks had ended.
    async fn mark(&self, unfinished: &str) -> Result<(), CliError> {
        self.step(format!("marking {} as moved", self.source.location()))?;
        let marked = self.source.set_moved(None, Some(unfinished)).await;
        if matches!(marked, Err(StoreError::Moved { .. })) {
            let text = format!("the copy in {} isn't used by anyone", self.target.location());
            self.events.event(Event::Warning(text));
        }
        Ok(marked?)
    }

    /// The records are as usable as before. What fails here too is gone on with by the next move.
    async fn take_back(&self, unfinished: &str, former: Option<&str>) -> Result<(), StoreError> {
        // First, or both could be written to.
        if former.is_some() {
            self.target.set_moved(None, former).await?;
        }
        match self.source.set_moved(Some(unfinished), None).await {
            // The same move, made from another computer, has come to its end.
            Err(StoreError::Moved { .. }) if former.is_some() => self.target.set_moved(former, None).await,
            Err(StoreError::Moved { .. }) => Ok(()),
            other => other,
        }
    }

    /// All that can be done while the old store is in use; says what was copied.
    async fn prepare(&self) -> Result<Whole, CliError> {
        self.refuse_while_in_use().await?;
        self.target.require_safe_writes().await?;
        match self.target.moved_to().await? {
            None => self.copy(&Whole::default()).await,
            Some(_) => self.compare().await.map(|_| Whole::default()),
        }
    }

    /// Nobody can write to the old store any more.
    async fn finish(
        &self,
        unfinished: &str,
        copied: &Whole,
        former: Option<&str>,
    ) -> Result<String, CliError> {
        if former.is_some() {
            self.target.set_moved(former, None).await?;
        }
        let whole = self.copy(copied).await?;
        self.source.set_moved(Some(unfinished), Some(&self.address)).await?;
        Ok(whole.count())
    }

    /// Begins the next step, unless the user wants to stop: then what is marked already is taken back.
    fn step(&self, what: impl Into<String>) -> Result<(), CliError> {
        if self.interrupt.is_raised() {
            let message = format!("the move was interrupted; {} is in use as before", self.source.location());
            let hint = format!("goloo state move {} goes on with it", self.address);
            return Err(CliError::new(exit::MIDWAY, "interrupted", message, hint));
        }
        self.events.event(Event::Step { what: what.into() });
        Ok(())
    }

    /// What is under way would end in a store that takes no result any more.
    async fn refuse_while_in_use(&self) -> Result<(), CliError> {
        let mut busy = Vec::new();
        for held in self.source.locks().await? {
            let holder = held.owner.map_or_else(|| "another process".to_owned(), |owner| owner.to_string());
            busy.push(format!("{} is locked by {holder}", held.name));
        }
        for loaded in self.source.records().await?.entries {
            if let Some(operation) = loaded.record.operation {
                busy.push(format!("a {} of {} isn't finished", operation.kind, loaded.record.name));
            }
        }
        if busy.is_empty() {
            return Ok(());
        }
        let message = "nothing was moved: some VMs are being worked on";
        let hint = "wait until it is done, or finish it: goloo resume NAME; goloo state locks shows who works on what";
        Err(CliError { causes: busy, ..CliError::new(exit::LOCKED, "locked", message, hint) })
    }

    /// Copies all but what this move has copied already, so that the time in which nobody can write is
    /// short, and compares both stores.
    async fn copy(&self, copied: &Whole) -> Result<Whole, CliError> {
        let (whole, there) = self.compare().await?;
        let left = whole.without(copied);
        self.step(format!("copying {}", left.count()))?;
        self.free_what_the_dead_hold().await?;
        (self.note)(&left)?;
        transfer::write(&left, &there, self.target, &self.owner).await?;
        self.step("comparing")?;
        let (copy, broken) = transfer::read(self.target).await?;
        let mut different = transfer::missing(&whole, &copy);
        different.extend(transfer::foreign(&whole, &copy));
        different.extend(broken.into_iter().map(|broken| broken.path));
        if different.is_empty() {
            return Ok(whole);
        }
        let message = format!("{} doesn't hold what was copied into it", self.target.location());
        let hint = format!("goloo state move {} tries again; the setting is as it was", self.address);
        Err(CliError { causes: different, ..CliError::failed(message, hint) })
    }

    /// A move that was killed leaves its lease on what it was writing, in the way of the next one until that
    /// ends. Nobody but moves writes to the new store.
    async fn free_what_the_dead_hold(&self) -> Result<(), CliError> {
        for held in self.target.locks().await? {
            // A lock without a lease ended with its process.
            if held.lease_end.is_some() && held.owner.as_ref().is_some_and(identity::is_gone) {
                self.target.break_lock(&held.name).await?;
            }
        }
        Ok(())
    }

    /// Both stores' content, when nothing stands against the move.
    async fn compare(&self) -> Result<(Whole, Whole), CliError> {
        let (whole, broken) = transfer::read(self.source).await?;
        refuse_broken(&self.source.location(), &broken)?;
        let (there, broken) = transfer::read(self.target).await?;
        refuse_broken(&self.target.location(), &broken)?;
        let foreign = transfer::foreign(&whole, &there);
        let foreign =
            foreign.into_iter().map(|name| Conflict::Other(format!("{name} is there and not here")));
        let conflicts: Vec<_> = transfer::conflicts(&whole, &there).into_iter().chain(foreign).collect();
        if conflicts.is_empty() {
            return Ok((whole, there));
        }
        let message = format!("{} isn't empty, and holds something else", self.target.location());
        Err(super::refused(message, &conflicts, "move to an empty place"))
    }
}

fn refuse_broken(place: &str, broken: &[Broken]) -> Result<(), CliError> {
    if broken.is_empty() {
        return Ok(());
    }
    let causes = first(broken.iter(), |broken| format!("{}: {}", broken.path, broken.error));
    let message = format!("records in {place} are broken");
    Err(CliError {
        causes,
        ..CliError::new(exit::FAILED, "broken", message, "goloo doctor says how to mend them")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use goloo_core::name::ArchiveId;
    use goloo_core::record::Phase;
    use goloo_testkit::memory_store::MemoryStore;
    use goloo_testkit::samples::{name, owner, ready, snapshot, time};
    use goloo_testkit::store_suite::run;

    use super::*;

    fn create(store: &MemoryStore, vm: &str) {
        let mut lock = run(store.lock(&name(vm), &owner(1))).unwrap();
        run(lock.create(&mut ready(&name(vm)), &snapshot())).unwrap();
    }

    fn archive(store: &MemoryStore, vm: &str) -> ArchiveId {
        let mut lock = run(store.lock(&name(vm), &owner(1))).unwrap();
        let mut record = run(lock.load()).unwrap().unwrap().record;
        record.phase = Phase::Destroyed;
        run(lock.archive(&mut record, time("2025-02-01T00:00:00Z"))).unwrap()
    }

    /// Does something when this step has been begun so many times.
    struct At<F> {
        step: &'static str,
        times: AtomicUsize,
        act: F,
    }

    impl<F: Fn() + Send + Sync> Events for At<F> {
        fn event(&self, event: Event) {
            let Event::Step { what } = event else { return };
            if what.starts_with(self.step) && self.times.fetch_sub(1, Ordering::Relaxed) == 1 {
                (self.act)();
            }
        }
    }

    /// After all was copied, and right before the old store is marked.
    const BEFORE_THE_MARK: (&str, usize) = ("marking ", 1);
    /// When all is compared, with the old store marked; of a target that was moved away from nothing is
    /// copied before.
    const AFTER_THE_MARK: (&str, usize) = ("comparing", 1);

    fn move_while(
        source: &MemoryStore,
        target: &MemoryStore,
        (step, times): (&'static str, usize),
        act: impl Fn() + Send + Sync,
    ) -> Result<String, CliError> {
        move_with(source, target, &Interrupt::default(), (step, times), act)
    }

    fn move_with(
        source: &MemoryStore,
        target: &MemoryStore,
        interrupt: &Interrupt,
        (step, times): (&'static str, usize),
        act: impl Fn() + Send + Sync,
    ) -> Result<String, CliError> {
        let events = At { step, times: AtomicUsize::new(times), act };
        let (owner, address) = (owner(1), "memory:two".to_owned());
        let run = || {
            let moving =
                Move { events: &events, source, target, interrupt, note: &|_| Ok(()), address, owner };
            // A runtime of its own: what is done meanwhile has one too.
            pollster::block_on(moving.run())
        };
        std::thread::scope(|scope| scope.spawn(run).join().unwrap())
    }

    #[test]
    fn what_is_done_between_the_copy_and_the_mark_goes_along() {
        let (source, target) = (MemoryStore::default(), MemoryStore::default());
        for vm in ["api", "db", "web"] {
            create(&source, vm);
        }
        let meanwhile = || {
            create(&source, "late");
            archive(&source, "db");
            create(&source, "db");
        };
        assert_eq!(
            move_while(&source, &target, BEFORE_THE_MARK, meanwhile).unwrap(),
            "4 VMs and 1 archived record"
        );
        let read = |store| run(transfer::read(store)).unwrap();
        assert_eq!(read(&target), read(&source));
        assert_eq!(run(source.moved_to()).unwrap().as_deref(), Some("memory:two"));
        assert_eq!(run(target.moved_to()).unwrap(), None);
    }

    #[test]
    fn what_stands_against_the_move_after_the_mark_takes_it_back() {
        let (source, target) = (MemoryStore::default(), MemoryStore::default());
        create(&source, "db");
        let meanwhile = || {
            let id = archive(&source, "db");
            run(source.archive_delete(&id, &owner(1))).unwrap();
        };
        let refused = move_while(&source, &target, BEFORE_THE_MARK, meanwhile).unwrap_err();
        assert_eq!(refused.causes, ["db is there and not here"]);
        assert_eq!(run(source.moved_to()).unwrap(), None);
        create(&source, "db");
    }

    #[test]
    fn of_two_moves_from_two_computers_the_one_whose_mark_comes_later_ends() {
        let (source, target) = (MemoryStore::default(), MemoryStore::default());
        create(&source, "db");
        let other = format!("memory:three{UNFINISHED}");
        let meanwhile = || run(source.set_moved(None, Some(&other))).unwrap();
        let refused = move_while(&source, &target, BEFORE_THE_MARK, meanwhile).unwrap_err();
        assert_eq!(refused.kind, "moved");
        assert!(refused.message.contains("moved to memory:three"), "{refused:?}");
        assert_eq!(run(source.moved_to()).unwrap(), Some(other));
    }

    /// What the same move from another computer does to the mark when it fails, or comes to its end first.
    fn taken_back_or_finished(
        to: Option<&str>,
    ) -> (Result<String, CliError>, Option<String>, Option<String>) {
        let (source, target) = (MemoryStore::default(), MemoryStore::default());
        create(&source, "db");
        run(target.set_moved(None, Some("memory:one"))).unwrap();
        let unfinished = format!("memory:two{UNFINISHED}");
        let meanwhile = || run(source.set_moved(Some(&unfinished), to)).unwrap();
        let moved = move_while(&source, &target, AFTER_THE_MARK, meanwhile);
        (moved, run(source.moved_to()).unwrap(), run(target.moved_to()).unwrap())
    }

    #[test]
    fn a_mark_that_was_taken_back_by_the_same_move_elsewhere_is_not_put_again() {
        let (moved, source, target) = taken_back_or_finished(None);
        assert_eq!(moved.unwrap_err().kind, "not-moved");
        assert_eq!((source, target.as_deref()), (None, Some("memory:one")));
    }

    #[test]
    fn a_move_that_was_finished_by_the_same_one_elsewhere_is_done() {
        let (moved, source, target) = taken_back_or_finished(Some("memory:two"));
        assert_eq!(moved.unwrap(), "1 VM and 0 archived records");
        assert_eq!((source.as_deref(), target), (Some("memory:two"), None));
    }

    #[test]
    fn a_move_that_fails_after_the_same_one_elsewhere_was_done_leaves_that_as_it_is() {
        let (source, target) = (MemoryStore::default(), MemoryStore::default());
        create(&source, "db");
        run(target.set_moved(None, Some("memory:one"))).unwrap();
        let unfinished = format!("memory:two{UNFINISHED}");
        let meanwhile = || {
            run(source.set_moved(Some(&unfinished), Some("memory:two"))).unwrap();
            // The first who works in the new place.
            create(&target, "new");
        };
        move_while(&source, &target, AFTER_THE_MARK, meanwhile).unwrap_err();
        assert_eq!(run(source.moved_to()).unwrap().as_deref(), Some("memory:two"));
        assert_eq!(run(target.moved_to()).unwrap(), None);
    }

    #[test]
    fn a_move_that_is_asked_to_stop_leaves_the_old_place_in_use() {
        for begun in [("copying ", 1), BEFORE_THE_MARK, ("copying ", 2)] {
            let (source, target, interrupt) =
                (MemoryStore::default(), MemoryStore::default(), Interrupt::default());
            create(&source, "db");
            let stop = || assert!(interrupt.raise());
            let stopped = move_with(&source, &target, &interrupt, begun, stop).unwrap_err();
            assert_eq!((stopped.code, stopped.kind), (exit::MIDWAY, "interrupted"), "{begun:?}");
            assert_eq!(run(source.moved_to()).unwrap(), None, "{begun:?}");
            create(&source, "web");
            move_while(&source, &target, AFTER_THE_MARK, || {}).unwrap();
        }
    }

    #[test]
    fn one_place_under_two_names_is_not_moved_to_itself() {
        let store = MemoryStore::default();
        create(&store, "db");
        for _ in 0..2 {
            let refused = move_while(&store, &store, BEFORE_THE_MARK, || {}).unwrap_err();
            assert!(refused.message.ends_with("are one place"), "{refused:?}");
            assert_eq!(run(store.moved_to()).unwrap(), None);
            // As a process leaves it that dies before it takes the mark back.
            run(store.set_moved(None, Some(&format!("memory:two{UNFINISHED}")))).unwrap();
        }
    }
}
