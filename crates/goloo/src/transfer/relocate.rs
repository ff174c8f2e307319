//! Moves all records to another store.
//!
//! The steps: copy and compare while the old store is in use; mark the old store, which then refuses all writes; copy
//! what was added meanwhile and compare everything; mark the move as finished; switch the setting. At no time can both
//! stores be written to: an operation that starts in the old store before the mark makes the marking wait or fail, and
//! nobody uses the new store before the end. A store that was moved away from earlier may still be in somebody's
//! settings, so it is opened for writing only after the old one is marked. Of two concurrent moves to different stores
//! only one sets its mark; the other's copy stays unused.
//!
//! The marks determine where an interrupted move continues: without a mark everything is copied again, which changes
//! nothing that was copied before; with an unfinished mark it continues after the marking; with a finished one it only
//! switches the setting.

use goloo_engine::Interrupt;
use goloo_model::events::{Event, Events};
use goloo_model::record::Owner;
use goloo_model::store::{Broken, Store, StoreError};

use super::compare::{Conflict, conflicts, foreign, missing};
use super::contents::{StoreContents, UNFINISHED, read};
use super::write::write;
use crate::error::{Error, TransferError};
use crate::identity;

/// A move of all records.
pub struct Move<'m> {
    /// The receiver of steps and warnings.
    pub events: &'m dyn Events,
    /// The store in use.
    pub source: &'m dyn Store,
    /// The new store.
    pub target: &'m dyn Store,
    /// Stops the move.
    pub interrupt: &'m Interrupt,
    /// Called with what is about to be written to the target.
    pub note: &'m dyn Fn(&StoreContents) -> Result<(), Error>,
    /// The address of the new store.
    pub address: String,
    /// This process.
    pub owner: Owner,
}

impl Move<'_> {
    /// Moves the records; returns how many.
    ///
    /// # Errors
    /// [`TransferError`]; errors of the stores.
    pub async fn run(&self) -> Result<String, Error> {
        let unfinished = format!("{}{UNFINISHED}", self.address);
        let copied = match self.source.moved_to().await? {
            Some(mark) if mark == self.address => {
                return Ok(read(self.target).await?.0.count());
            }
            Some(mark) if mark == unfinished => StoreContents::default(),
            Some(to) => {
                return Err(StoreError::Moved { place: self.source.location(), to }.into());
            }
            None => self.prepare().await?,
        };
        self.mark(&unfinished).await?;
        let former = self.target.moved_to().await?;
        if former.as_ref() == Some(&unfinished) {
            self.source.set_moved(Some(&unfinished), None).await?;
            return Err(TransferError::SameStore {
                from: self.source.location(),
                to: self.target.location(),
                address: self.address.clone(),
            }
            .into());
        }
        match self.finish(&unfinished, &copied, former.as_deref()).await {
            Ok(count) => Ok(count),
            Err(error) => {
                self.take_back(&unfinished, former.as_deref()).await?;
                Err(error)
            }
        }
    }

    /// Marks the old store: from here on nobody can write to it. Also called if the mark is already set: the process
    /// that set it may have died before all locks were released.
    async fn mark(&self, unfinished: &str) -> Result<(), Error> {
        self.step(format!("marking {} as moved", self.source.location()))?;
        let marked = self.source.set_moved(None, Some(unfinished)).await;
        if matches!(marked, Err(StoreError::Moved { .. })) {
            let text = format!("the copy in {} is not used", self.target.location());
            self.events.event(Event::Warning(text));
        }
        Ok(marked?)
    }

    /// Makes the old store usable again. If this fails too, the next move continues from there.
    async fn take_back(&self, unfinished: &str, former: Option<&str>) -> Result<(), StoreError> {
        // Must come first, or both stores could be written to.
        if former.is_some() {
            self.target.set_moved(None, former).await?;
        }
        match self.source.set_moved(Some(unfinished), None).await {
            // The same move was finished by another computer.
            Err(StoreError::Moved { .. }) if former.is_some() => self.target.set_moved(former, None).await,
            Err(StoreError::Moved { .. }) => Ok(()),
            other => other,
        }
    }

    /// Does everything that is possible while the old store is in use; returns what was copied.
    async fn prepare(&self) -> Result<StoreContents, Error> {
        self.refuse_while_in_use().await?;
        self.target.require_safe_writes().await?;
        match self.target.moved_to().await? {
            None => self.copy(&StoreContents::default()).await,
            Some(_) => self.compare().await.map(|_| StoreContents::default()),
        }
    }

    /// Completes the move, once nobody can write to the old store any more.
    async fn finish(
        &self,
        unfinished: &str,
        copied: &StoreContents,
        former: Option<&str>,
    ) -> Result<String, Error> {
        if former.is_some() {
            self.target.set_moved(former, None).await?;
        }
        let whole = self.copy(copied).await?;
        self.source.set_moved(Some(unfinished), Some(&self.address)).await?;
        Ok(whole.count())
    }

    /// Starts the next step, unless the user interrupted the move: then the marks are removed.
    fn step(&self, what: impl Into<String>) -> Result<(), Error> {
        if self.interrupt.is_raised() {
            return Err(TransferError::Interrupted {
                location: self.source.location(),
                address: self.address.clone(),
            }
            .into());
        }
        self.events.event(Event::Step { what: what.into() });
        Ok(())
    }

    /// Refuses to move while operations are in progress: they would finish in a store that no longer accepts results.
    async fn refuse_while_in_use(&self) -> Result<(), Error> {
        let mut operations = Vec::new();
        for held in self.source.locks().await? {
            let holder = held.owner.map_or_else(|| "another process".to_owned(), |owner| owner.to_string());
            operations.push(format!("{} is locked by {holder}", held.name));
        }
        for loaded in self.source.records().await?.entries {
            if let Some(operation) = loaded.record.operation {
                operations.push(format!("a {} of {} is unfinished", operation.kind, loaded.record.name));
            }
        }
        if operations.is_empty() {
            return Ok(());
        }
        Err(TransferError::InUse { operations }.into())
    }

    /// Copies everything that this move hasn't copied yet, to keep the time short in which nobody can write, and
    /// compares both stores.
    async fn copy(&self, copied: &StoreContents) -> Result<StoreContents, Error> {
        let (whole, there) = self.compare().await?;
        let left = whole.without(copied);
        self.step(format!("copying {}", left.count()))?;
        self.free_what_the_dead_hold().await?;
        (self.note)(&left)?;
        write(&left, &there, self.target, &self.owner).await?;
        self.step("comparing")?;
        let (copy, broken) = read(self.target).await?;
        let mut different = missing(&whole, &copy);
        different.extend(foreign(&whole, &copy));
        different.extend(broken.into_iter().map(|broken| broken.path));
        if different.is_empty() {
            return Ok(whole);
        }
        Err(TransferError::NotCopied {
            location: self.target.location(),
            address: self.address.clone(),
            different,
        }
        .into())
    }

    /// Removes the leases of killed moves. A killed move leaves its lease on the record that it was writing, which
    /// blocks the next move until the lease ends. Only moves write to the new store.
    async fn free_what_the_dead_hold(&self) -> Result<(), Error> {
        for held in self.target.locks().await? {
            // A lock without a lease ended with its process.
            if held.lease_end.is_some() && held.owner.as_ref().is_some_and(identity::is_gone) {
                self.target.break_lock(&held.name).await?;
            }
        }
        Ok(())
    }

    /// The contents of both stores, if there are no conflicts.
    async fn compare(&self) -> Result<(StoreContents, StoreContents), Error> {
        let (whole, broken) = read(self.source).await?;
        refuse_broken(self.source.location(), broken)?;
        let (there, broken) = read(self.target).await?;
        refuse_broken(self.target.location(), broken)?;
        let foreign = foreign(&whole, &there);
        let foreign = foreign
            .into_iter()
            .map(|name| Conflict::Other(format!("{name} is in the target store but not in the source")));
        let conflicts: Vec<_> = conflicts(&whole, &there).into_iter().chain(foreign).collect();
        if conflicts.is_empty() {
            return Ok((whole, there));
        }
        Err(TransferError::TargetConflicts { location: self.target.location(), conflicts }.into())
    }
}

fn refuse_broken(location: String, broken: Vec<Broken>) -> Result<(), TransferError> {
    if broken.is_empty() { Ok(()) } else { Err(TransferError::BrokenRecords { location, broken }) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use goloo_model::events::EventContext;
    use goloo_model::name::ArchiveId;
    use goloo_model::record::Phase;
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

    /// Runs an action when this step has begun the given number of times.
    struct At<F> {
        step: &'static str,
        times: AtomicUsize,
        act: F,
    }

    impl<F: Fn() + Send + Sync> Events for At<F> {
        fn receive(&self, _: &EventContext, event: Event) {
            let Event::Step { what } = event else { return };
            if what.starts_with(self.step) && self.times.fetch_sub(1, Ordering::Relaxed) == 1 {
                (self.act)();
            }
        }
    }

    /// After everything was copied, right before the old store is marked.
    const BEFORE_THE_MARK: (&str, usize) = ("marking ", 1);
    /// When everything is compared, with the old store marked. To a target that was moved away from, nothing is copied
    /// earlier.
    const AFTER_THE_MARK: (&str, usize) = ("comparing", 1);

    fn move_while(
        source: &MemoryStore,
        target: &MemoryStore,
        (step, times): (&'static str, usize),
        act: impl Fn() + Send + Sync,
    ) -> Result<String, Error> {
        move_with(source, target, &Interrupt::default(), (step, times), act)
    }

    fn move_with(
        source: &MemoryStore,
        target: &MemoryStore,
        interrupt: &Interrupt,
        (step, times): (&'static str, usize),
        act: impl Fn() + Send + Sync,
    ) -> Result<String, Error> {
        let events = At { step, times: AtomicUsize::new(times), act };
        let (owner, address) = (owner(1), "memory:two".to_owned());
        let run = || {
            let moving =
                Move { events: &events, source, target, interrupt, note: &|_| Ok(()), address, owner };
            // A separate runtime, since the concurrent action has one too.
            pollster::block_on(moving.run())
        };
        std::thread::scope(|scope| scope.spawn(run).join().unwrap())
    }

    #[test]
    fn changes_between_the_copy_and_the_mark_are_moved_too() {
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
        let read = |store| run(super::read(store)).unwrap();
        assert_eq!(read(&target), read(&source));
        assert_eq!(run(source.moved_to()).unwrap().as_deref(), Some("memory:two"));
        assert_eq!(run(target.moved_to()).unwrap(), None);
    }

    #[test]
    fn a_conflict_found_after_the_mark_is_set_removes_the_mark() {
        let (source, target) = (MemoryStore::default(), MemoryStore::default());
        create(&source, "db");
        let meanwhile = || {
            let id = archive(&source, "db");
            run(source.archive_delete(&id, &owner(1))).unwrap();
        };
        let refused = move_while(&source, &target, BEFORE_THE_MARK, meanwhile).unwrap_err();
        let Error::Transfer(TransferError::TargetConflicts { conflicts, .. }) = refused else {
            panic!("{refused}")
        };
        assert_eq!(
            conflicts,
            [Conflict::Other("db is in the target store but not in the source".to_owned())]
        );
        assert_eq!(run(source.moved_to()).unwrap(), None);
        create(&source, "db");
    }

    #[test]
    fn the_later_of_two_concurrent_moves_is_refused() {
        let (source, target) = (MemoryStore::default(), MemoryStore::default());
        create(&source, "db");
        let other = format!("memory:three{UNFINISHED}");
        let meanwhile = || run(source.set_moved(None, Some(&other))).unwrap();
        let refused = move_while(&source, &target, BEFORE_THE_MARK, meanwhile).unwrap_err();
        assert_eq!(refused.code(), "moved");
        assert!(refused.to_string().contains("moved to memory:three"), "{refused:?}");
        assert_eq!(run(source.moved_to()).unwrap(), Some(other));
    }

    /// What the same move from another computer does to the mark when it fails or finishes first.
    fn taken_back_or_finished(to: Option<&str>) -> (Result<String, Error>, Option<String>, Option<String>) {
        let (source, target) = (MemoryStore::default(), MemoryStore::default());
        create(&source, "db");
        run(target.set_moved(None, Some("memory:one"))).unwrap();
        let unfinished = format!("memory:two{UNFINISHED}");
        let meanwhile = || run(source.set_moved(Some(&unfinished), to)).unwrap();
        let moved = move_while(&source, &target, AFTER_THE_MARK, meanwhile);
        (moved, run(source.moved_to()).unwrap(), run(target.moved_to()).unwrap())
    }

    #[test]
    fn a_mark_removed_by_the_same_move_on_another_host_is_not_set_again() {
        let (moved, source, target) = taken_back_or_finished(None);
        assert_eq!(moved.unwrap_err().code(), "not-moved");
        assert_eq!((source, target.as_deref()), (None, Some("memory:one")));
    }

    #[test]
    fn a_move_finished_by_the_same_move_on_another_host_succeeds() {
        let (moved, source, target) = taken_back_or_finished(Some("memory:two"));
        assert_eq!(moved.unwrap(), "1 VM and 0 archived records");
        assert_eq!((source.as_deref(), target), (Some("memory:two"), None));
    }

    #[test]
    fn a_failing_move_does_not_undo_the_same_move_finished_on_another_host() {
        let (source, target) = (MemoryStore::default(), MemoryStore::default());
        create(&source, "db");
        run(target.set_moved(None, Some("memory:one"))).unwrap();
        let unfinished = format!("memory:two{UNFINISHED}");
        let meanwhile = || {
            run(source.set_moved(Some(&unfinished), Some("memory:two"))).unwrap();
            // The first operation in the new store.
            create(&target, "new");
        };
        move_while(&source, &target, AFTER_THE_MARK, meanwhile).unwrap_err();
        assert_eq!(run(source.moved_to()).unwrap().as_deref(), Some("memory:two"));
        assert_eq!(run(target.moved_to()).unwrap(), None);
    }

    #[test]
    fn an_interrupted_move_leaves_the_source_store_in_use() {
        for begun in [("copying ", 1), BEFORE_THE_MARK, ("copying ", 2)] {
            let (source, target, interrupt) =
                (MemoryStore::default(), MemoryStore::default(), Interrupt::default());
            create(&source, "db");
            let stop = || assert!(interrupt.raise());
            let stopped = move_with(&source, &target, &interrupt, begun, stop).unwrap_err();
            assert_eq!(stopped.code(), "interrupted", "{begun:?}");
            assert_eq!(run(source.moved_to()).unwrap(), None, "{begun:?}");
            create(&source, "web");
            move_while(&source, &target, AFTER_THE_MARK, || {}).unwrap();
        }
    }

    #[test]
    fn a_store_is_not_moved_to_itself_under_another_address() {
        let store = MemoryStore::default();
        create(&store, "db");
        for _ in 0..2 {
            let refused = move_while(&store, &store, BEFORE_THE_MARK, || {}).unwrap_err();
            assert!(refused.to_string().ends_with("are the same store"), "{refused:?}");
            assert_eq!(run(store.moved_to()).unwrap(), None);
            // As left by a process that dies before it removes the mark.
            run(store.set_moved(None, Some(&format!("memory:two{UNFINISHED}")))).unwrap();
        }
    }
}
