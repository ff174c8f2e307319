//! Records that are removed because the VM has another name by now.

use super::*;

pub async fn a_removed_record_leaves_no_archive_entry_and_frees_the_name(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let record = created(&*store, &name("devbox")).await;
    let neighbor = created(&*store, &name("neighbor")).await;
    lock(&*store, &record.name).await.remove(&record).await.unwrap();
    assert_eq!(read(&*other, &record.name).await, None);
    assert_error!(other.snapshot(&record.name).await, StoreError::NotFound { .. });
    assert_eq!(other.names().await.unwrap(), ["neighbor"]);
    assert_eq!(other.list().await.unwrap().entries, [Summary::from(&neighbor)]);
    assert!(other.archive_list().await.unwrap().entries.is_empty());
    let again = created(&*other, &record.name).await;
    assert_eq!(read(&*store, &record.name).await, Some(again));
}

pub async fn only_the_stored_record_is_removed(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut held = lock(&*store, &devbox).await;
    assert_error!(held.remove(&ready(&devbox)).await, StoreError::NotFound { .. });
    drop(held);
    let record = created(&*store, &devbox).await;
    let mut held = lock(&*store, &devbox).await;
    let stale = Record { serial: 2, ..record.clone() };
    assert_error!(held.remove(&stale).await, StoreError::Stale { expected: 2, found: 1, .. });
    let foreign = Record { serial: 1, ..ready(&devbox) };
    assert_error!(held.remove(&foreign).await, StoreError::Stale { .. });
    assert!(held.remove(&Record { name: name("web"), ..record.clone() }).await.is_err());
    assert_eq!(read(&*other, &devbox).await, Some(record));
}

pub async fn one_vm_can_be_put_under_another_name_before_it_is_removed(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let old = created(&*store, &name("devbox")).await;
    let new = Record { name: name("web"), serial: old.serial + 1, ..old.clone() };
    let (mut from, mut to) = (lock(&*store, &old.name).await, lock(&*store, &new.name).await);
    to.put(&new, &snapshot()).await.unwrap();
    assert_eq!(other.names().await.unwrap(), ["devbox", "web"]);
    from.remove(&old).await.unwrap();
    let mut saved = new.clone();
    to.save(&mut saved).await.unwrap();
    assert_eq!(read(&*other, &new.name).await, Some(saved));
    assert_eq!(other.snapshot(&new.name).await.unwrap(), snapshot());
    assert_eq!(other.names().await.unwrap(), ["web"]);
}

pub async fn nothing_is_removed_by_a_broken_lock(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let record = created(&*store, &name("devbox")).await;
    let mut held = lock(&*store, &record.name).await;
    match other.break_lock(&record.name).await {
        Ok(_) => {
            assert_error!(held.remove(&record).await, StoreError::LockLost { .. });
        }
        // Such a lock ends with its process.
        Err(error) => assert!(matches!(error, StoreError::Unbreakable { .. }), "{error:?}"),
    }
    assert_eq!(read(&*other, &record.name).await, Some(record));
}
