//! Stores that were moved.

use super::elsewhere::archived_elsewhere;
use super::others_locks::holders;
use super::*;

const ELSEWHERE: &str = "dir:/home/ann/elsewhere";

pub async fn a_moved_store_says_where_it_is_now(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    assert_eq!(other.moved_to().await.unwrap(), None);
    store.set_moved(None, Some(ELSEWHERE)).await.unwrap();
    assert_eq!(other.moved_to().await.unwrap().as_deref(), Some(ELSEWHERE));
    other.set_moved(Some(ELSEWHERE), Some("dir:/third")).await.unwrap();
    assert_eq!(store.moved_to().await.unwrap().as_deref(), Some("dir:/third"));
}

pub async fn a_moved_store_refuses_every_lock(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    created(&*store, &name("devbox")).await;
    store.set_moved(None, Some(ELSEWHERE)).await.unwrap();
    for store in [&store, &other] {
        for each in ["devbox", "web"] {
            let refused = store.lock(&name(each), &owner(1)).await;
            assert_error!(refused, StoreError::Moved { to, .. } if to == ELSEWHERE);
        }
    }
    assert_eq!(holders(&*other).await, []);
}

pub async fn a_moved_store_refuses_every_change_of_its_archive(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let id = archived(&*store, &name("devbox"), "2025-02-01T00:00:00Z").await;
    store.set_moved(None, Some(ELSEWHERE)).await.unwrap();
    let before = other.archive_list().await.unwrap();
    assert_error!(other.archive_delete(&id, &owner(1)).await, StoreError::Moved { to, .. } if to == ELSEWHERE);
    let more = archived_elsewhere(&name("web"), 3);
    assert_error!(other.archive_put(&more, &snapshot()).await, StoreError::Moved { .. });
    assert_eq!(other.archive_list().await.unwrap(), before);
}

pub async fn a_moved_store_is_read_as_before(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let record = created(&*store, &name("devbox")).await;
    let id = archived(&*store, &name("gone"), "2025-02-01T00:00:00Z").await;
    store.set_moved(None, Some(ELSEWHERE)).await.unwrap();
    assert_eq!(other.names().await.unwrap(), ["devbox"]);
    assert_eq!(other.list().await.unwrap().entries, [Summary::from(&record)]);
    assert_eq!(read(&*other, &record.name).await.unwrap(), record);
    assert_eq!(other.records().await.unwrap().entries[0].record, record);
    assert_eq!(other.snapshot(&record.name).await.unwrap(), snapshot());
    assert_eq!(other.archive_load(&id).await.unwrap().unwrap().id, id);
    assert_eq!(other.archive_snapshot(&id).await.unwrap(), snapshot());
}

pub async fn a_moved_store_can_be_used_again(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let mut record = created(&*store, &name("devbox")).await;
    store.set_moved(None, Some(ELSEWHERE)).await.unwrap();
    other.set_moved(Some(ELSEWHERE), None).await.unwrap();
    other.set_moved(Some(ELSEWHERE), None).await.unwrap();
    assert_eq!(store.moved_to().await.unwrap(), None);
    lock(&*store, &record.name.clone()).await.save(&mut record).await.unwrap();
    archive(&*other, &mut record, "2025-02-01T00:00:00Z").await;
}

pub async fn a_moved_store_refuses_another_mark(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    store.set_moved(None, Some(ELSEWHERE)).await.unwrap();
    for store in [&store, &other] {
        let refused = store.set_moved(None, Some("dir:/third")).await;
        assert_error!(refused, StoreError::Moved { to, .. } if to == ELSEWHERE);
        assert_eq!(store.moved_to().await.unwrap().as_deref(), Some(ELSEWHERE));
    }
}

pub async fn a_mark_that_is_there_can_be_put_again(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    created(&*store, &name("devbox")).await;
    store.set_moved(None, Some(ELSEWHERE)).await.unwrap();
    other.set_moved(None, Some(ELSEWHERE)).await.unwrap();
    other.set_moved(Some("dir:/third"), Some(ELSEWHERE)).await.unwrap();
    assert_eq!(store.moved_to().await.unwrap().as_deref(), Some(ELSEWHERE));
    assert_error!(store.lock(&name("devbox"), &owner(1)).await, StoreError::Moved { .. });
}

pub async fn a_mark_is_taken_back_and_replaced_only_by_its_name(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    store.set_moved(None, Some(ELSEWHERE)).await.unwrap();
    for to in [None, Some("dir:/third")] {
        let refused = other.set_moved(Some("dir:/second"), to).await;
        assert_error!(refused, StoreError::Moved { to, .. } if to == ELSEWHERE);
    }
    assert_eq!(store.moved_to().await.unwrap().as_deref(), Some(ELSEWHERE));
    store.set_moved(Some(ELSEWHERE), None).await.unwrap();
    let refused = other.set_moved(Some(ELSEWHERE), Some("dir:/third")).await;
    assert_error!(refused, StoreError::NotMoved { .. });
    assert_eq!(other.moved_to().await.unwrap(), None);
}

pub async fn of_many_marks_at_once_one_stays(subject: &dyn Subject) {
    let place = |n: usize| format!("dir:/place-{n}");
    let outcomes = race(subject, 6, async |n, store| (n, store.set_moved(None, Some(&place(n))).await));
    let stays = subject.handle().moved_to().await.unwrap().unwrap();
    for (n, outcome) in outcomes {
        match outcome {
            Ok(()) => assert_eq!(place(n), stays),
            Err(StoreError::Moved { to, .. }) => assert!(to == stays && place(n) != stays, "{n}: {to}"),
            Err(error) => panic!("{error}"),
        }
    }
}

pub async fn of_many_who_replace_one_mark_one_does(subject: &dyn Subject) {
    subject.handle().set_moved(None, Some(ELSEWHERE)).await.unwrap();
    // Half of them try to revert the move.
    let place = |n: usize| (n.is_multiple_of(2)).then(|| format!("dir:/place-{n}"));
    let outcomes =
        race(subject, 6, async |n, store| (n, store.set_moved(Some(ELSEWHERE), place(n).as_deref()).await));
    let stays = subject.handle().moved_to().await.unwrap();
    for (n, outcome) in outcomes {
        match outcome {
            Ok(()) => assert_eq!(place(n), stays),
            Err(StoreError::Moved { to, .. }) => assert!(Some(&to) == stays.as_ref() && place(n) != stays),
            Err(StoreError::NotMoved { .. }) => assert!(stays.is_none() && place(n).is_some()),
            Err(error) => panic!("{error}"),
        }
    }
}

pub async fn a_lock_that_is_held_while_the_store_is_marked_can_t_write_afterwards(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = created(&*store, &devbox).await;
    let before = record.clone();
    let mut held = lock(&*store, &devbox).await;
    match other.set_moved(None, Some(ELSEWHERE)).await {
        // It isn't marked while someone may write.
        Err(StoreError::Locked { name, .. }) => {
            assert_eq!(name, devbox);
            assert_eq!(other.moved_to().await.unwrap(), None);
            held.save(&mut record).await.unwrap();
            drop(held);
            other.set_moved(None, Some(ELSEWHERE)).await.unwrap();
        }
        marked => {
            marked.unwrap();
            assert_error!(held.save(&mut record).await, StoreError::Moved { to, .. } if to == ELSEWHERE);
            assert_error!(held.put(&record, &snapshot()).await, StoreError::Moved { .. });
            assert_eq!(record, before);
        }
    }
    assert_eq!(read(&*other, &devbox).await.unwrap(), record);
}

pub async fn writers_beside_the_mark_change_nothing_after_it(subject: &dyn Subject) {
    let start = created(&*subject.handle(), &name("devbox")).await;
    let marked = race(subject, 4, async |n, store| {
        if n == 0 {
            loop {
                match store.set_moved(None, Some(ELSEWHERE)).await {
                    Ok(()) => return read(&*store, &name("devbox")).await,
                    Err(StoreError::Locked { .. }) => thread::yield_now(),
                    Err(error) => panic!("{error}"),
                }
            }
        }
        loop {
            let written = async {
                let mut held = store.lock(&name("devbox"), &owner(1)).await?;
                let mut record = held.load().await?.unwrap().record;
                held.save(&mut record).await
            };
            match written.await {
                Ok(()) | Err(StoreError::Locked { .. }) => thread::yield_now(),
                Err(StoreError::Moved { .. }) => return None,
                Err(error) => panic!("{error}"),
            }
        }
    });
    let at_the_mark = marked.into_iter().flatten().next().unwrap();
    assert!(at_the_mark.serial >= start.serial);
    assert_eq!(read(&*subject.handle(), &name("devbox")).await.unwrap(), at_the_mark);
}
