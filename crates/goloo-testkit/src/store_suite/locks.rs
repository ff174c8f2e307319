//! Locks.

use super::*;

pub async fn a_held_lock_refuses_the_other_handle(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let _held = lock(&*store, &devbox).await;
    assert_error!(other.lock(&devbox, &owner(2)).await, StoreError::Locked { name, .. } if name == devbox);
}

pub async fn a_held_lock_refuses_its_own_handle(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    created(&*other, &devbox).await;
    let _held = lock(&*store, &devbox).await;
    assert_error!(store.lock(&devbox, &owner(1)).await, StoreError::Locked { .. });
}

pub async fn a_refused_lock_names_its_holder(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    drop(store.lock(&devbox, &owner(1_234_567)).await.unwrap());
    let _held = store.lock(&devbox, &owner(42)).await.unwrap();
    let refused = other.lock(&devbox, &owner(43)).await;
    assert_error!(refused, StoreError::Locked { holder: Some(holder), .. } if holder == "ann on laptop (pid 42)");
}

pub async fn a_dropped_lock_is_free_again(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    for _ in 0..3 {
        drop(lock(&*store, &devbox).await);
        drop(lock(&*other, &devbox).await);
    }
}

pub async fn locks_of_two_names_are_apart(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let _devbox = lock(&*store, &name("devbox")).await;
    let _web = lock(&*other, &name("web")).await;
    let _web1 = lock(&*store, &name("web-1")).await;
}

pub async fn a_lock_needs_no_vm_and_leaves_none(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut held = lock(&*store, &devbox).await;
    assert_eq!(held.load().await.unwrap(), None);
    assert_error!(held.snapshot().await, StoreError::NotFound { .. });
    assert!(other.names().await.unwrap().is_empty());
    drop(held);
    assert_eq!(other.list().await.unwrap(), Default::default());
}

pub async fn a_lock_knows_its_name(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    assert_eq!(lock(&*store, &name("devbox")).await.name(), &name("devbox"));
    assert_eq!(lock(&*other, &name("web")).await.name(), &name("web"));
}

pub async fn reading_needs_no_lock(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let record = created(&*store, &devbox).await;
    let _held = lock(&*store, &devbox).await;
    assert_eq!(read(&*other, &devbox).await.unwrap(), record);
    assert_eq!(other.list().await.unwrap().entries.len(), 1);
    assert_eq!(other.snapshot(&devbox).await.unwrap(), snapshot());
}

pub async fn a_lock_reads_what_the_other_handle_wrote(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = created(&*store, &devbox).await;
    lock(&*other, &devbox).await.save(&mut record).await.unwrap();
    let mut held = lock(&*store, &devbox).await;
    assert_eq!(held.load().await.unwrap().unwrap().record, record);
    assert_eq!(held.snapshot().await.unwrap(), snapshot());
}
