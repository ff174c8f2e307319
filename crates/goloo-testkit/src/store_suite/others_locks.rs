//! Locks of other users.

use super::*;

pub(super) async fn holders(store: &dyn Store) -> Vec<(String, Option<u32>)> {
    let locks = store.locks().await.unwrap();
    locks.into_iter().map(|held| (held.name.to_string(), held.owner.map(|owner| owner.pid))).collect()
}

pub async fn locks_are_shown_with_their_holders(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    assert_eq!(holders(&*other).await, []);
    created(&*store, &name("web")).await;
    let web = store.lock(&name("web"), &owner(42)).await.unwrap();
    let devbox = other.lock(&name("devbox"), &owner(43)).await.unwrap();
    let expected = [("devbox".to_owned(), Some(43)), ("web".to_owned(), Some(42))];
    assert_eq!(holders(&*other).await, expected);
    assert_eq!(holders(&*store).await, expected);
    drop(devbox);
    assert_eq!(holders(&*store).await, expected[1..]);
    drop(web);
    assert_eq!(holders(&*other).await, []);
}

pub async fn looking_at_locks_refuses_nobody_one(subject: &dyn Subject) {
    let done = AtomicBool::new(false);
    drop(lock(&*subject.handle(), &name("devbox")).await);
    race(subject, 3, async |n, store| {
        if n == 0 {
            let mut refused = 0;
            for _ in 0..subject.rounds(200) {
                // Nobody else takes it, so it is always free.
                refused += u32::from(store.lock(&name("devbox"), &owner(1)).await.is_err());
            }
            done.store(true, Ordering::Release);
            assert_eq!(refused, 0);
            return;
        }
        while !done.load(Ordering::Acquire) {
            store.locks().await.unwrap();
        }
    });
}

pub async fn a_lease_s_end_is_told_alike_to_its_holder_and_to_others(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut held = lock(&*store, &devbox).await;
    held.create(&mut creating(&devbox), &snapshot()).await.unwrap();
    let own = held.lease_end();
    let shown = other.locks().await.unwrap()[0].lease_end;
    let Err(StoreError::Locked { lease_end: refused, .. }) = other.lock(&devbox, &owner(2)).await else {
        panic!("it was not refused");
    };
    // A service's clock has a resolution of one second, and this computer's may be behind.
    let near = |end: Timestamp| {
        own.is_some_and(|own| {
            own.since(end) <= Duration::from_secs(5) && end.since(own) <= Duration::from_secs(5)
        })
    };
    for told in [shown, refused] {
        assert!(told.map_or(own.is_none(), near), "{own:?} and {told:?}");
    }
}

pub async fn nobody_s_lock_can_t_be_broken(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    assert_eq!(store.break_lock(&devbox).await.unwrap(), None);
    drop(lock(&*store, &devbox).await);
    assert_eq!(other.break_lock(&devbox).await.unwrap(), None);
    assert_eq!(lock(&*store, &devbox).await.taken_over(), None);
}

/// If locks end with their process, breaking one is refused and its holder continues; otherwise the holder's next write
/// is refused, and the next owner learns whose lock it was.
pub async fn a_broken_lock_writes_no_more(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = created(&*store, &devbox).await;
    let mut held = store.lock(&devbox, &owner(42)).await.unwrap();
    match other.break_lock(&devbox).await {
        Err(StoreError::Unbreakable { holder, .. }) => {
            assert!(holder.contains("42"), "{holder}");
            held.save(&mut record).await.unwrap();
            assert_error!(other.lock(&devbox, &owner(43)).await, StoreError::Locked { .. });
        }
        broken => {
            let broken = broken.unwrap().unwrap();
            assert_eq!((broken.name, broken.owner), (devbox.clone(), Some(owner(42))));
            assert_error!(held.save(&mut record.clone()).await, StoreError::LockLost { .. });
            let mut next = other.lock(&devbox, &owner(43)).await.unwrap();
            assert_eq!(next.taken_over(), Some(&owner(42)));
            next.save(&mut record).await.unwrap();
            assert_error!(held.save(&mut record.clone()).await, StoreError::LockLost { .. });
            drop(held);
            next.save(&mut record).await.unwrap();
        }
    }
    assert_eq!(read(&*store, &devbox).await.unwrap(), record);
}
