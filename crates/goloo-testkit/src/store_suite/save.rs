//! Save.

use super::*;

pub async fn a_saved_record_is_seen_by_the_other_handle(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = creating(&devbox);
    create(&*store, &mut record).await;
    let id = record.id.clone();
    record = Record { serial: record.serial, id, ..in_aws(&devbox) };
    lock(&*store, &devbox).await.save(&mut record).await.unwrap();
    assert_eq!(read(&*other, &devbox).await.unwrap(), record);
    assert_eq!(other.list().await.unwrap().entries, [Summary::from(&record)]);
}

pub async fn each_save_raises_the_serial_by_one(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = created(&*store, &devbox).await;
    for serial in 2..=6 {
        let writer = if serial % 2 == 0 { &store } else { &other };
        lock(&**writer, &devbox).await.save(&mut record).await.unwrap();
        assert_eq!(record.serial, serial);
        assert_eq!(read(&*store, &devbox).await.unwrap().serial, serial);
    }
}

pub async fn a_save_says_when_it_was(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = created(&*store, &devbox).await;
    let before = Timestamp::now();
    lock(&*store, &devbox).await.save(&mut record).await.unwrap();
    assert!(before <= record.updated_at && record.updated_at <= Timestamp::now());
    assert_eq!(read(&*other, &devbox).await.unwrap().updated_at, record.updated_at);
}

pub async fn a_stale_serial_is_refused_and_changes_nothing(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = created(&*store, &devbox).await;
    let mut stale = record.clone();
    lock(&*store, &devbox).await.save(&mut record).await.unwrap();
    stale.stack = "other".into();
    let refused = lock(&*other, &devbox).await.save(&mut stale).await;
    assert_error!(refused, StoreError::Stale { expected: 1, found: 2, .. });
    assert_eq!(read(&*other, &devbox).await.unwrap(), record);
}

pub async fn a_stale_serial_is_refused_under_the_same_lock(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = created(&*store, &devbox).await;
    let mut stale = record.clone();
    let mut held = lock(&*store, &devbox).await;
    held.save(&mut record).await.unwrap();
    stale.stack = "other".into();
    assert_error!(held.save(&mut stale).await, StoreError::Stale { expected: 1, found: 2, .. });
    assert_eq!(read(&*other, &devbox).await.unwrap(), record);
}

pub async fn a_serial_from_the_future_is_refused(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let record = created(&*store, &devbox).await;
    let mut ahead = Record { serial: 9, ..record.clone() };
    let refused = lock(&*other, &devbox).await.save(&mut ahead).await;
    assert_error!(refused, StoreError::Stale { expected: 9, found: 1, .. });
    assert_eq!(read(&*store, &devbox).await.unwrap(), record);
}

pub async fn a_refused_save_leaves_the_writer_s_record_as_it_was(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = created(&*store, &devbox).await;
    let mut stale = record.clone();
    lock(&*store, &devbox).await.save(&mut record).await.unwrap();
    let before = stale.clone();
    assert!(lock(&*other, &devbox).await.save(&mut stale).await.is_err());
    assert_eq!(stale, before);
}

pub async fn nothing_is_saved_under_a_name_that_nobody_has(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = Record { serial: 1, ..ready(&devbox) };
    let refused = lock(&*store, &devbox).await.save(&mut record).await;
    assert_error!(refused, StoreError::NotFound { name } if name == devbox);
    assert_eq!(read(&*other, &devbox).await, None);
}

pub async fn nothing_is_saved_after_the_archive(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = created(&*store, &devbox).await;
    record.phase = Phase::Destroyed;
    let mut held = lock(&*store, &devbox).await;
    held.archive(&mut record, time("2025-02-01T00:00:00Z")).await.unwrap();
    assert_error!(held.save(&mut record).await, StoreError::NotFound { .. });
    drop(held);
    assert_error!(lock(&*other, &devbox).await.save(&mut record).await, StoreError::NotFound { .. });
}

pub async fn a_record_of_another_name_is_not_saved(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let (devbox, web) = (name("devbox"), name("web"));
    let first = created(&*store, &devbox).await;
    let mut second = created(&*store, &web).await;
    assert!(lock(&*other, &devbox).await.save(&mut second).await.is_err());
    assert_eq!(read(&*store, &devbox).await.unwrap(), first);
    assert_eq!(read(&*store, &web).await.unwrap(), second);
}

pub async fn a_record_of_a_former_vm_of_that_name_is_refused(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    archived(&*store, &devbox, "2025-02-01T00:00:00Z").await;
    let second = created(&*store, &devbox).await;
    let mut former = Record { serial: second.serial, ..ready(&devbox) };
    assert_error!(lock(&*other, &devbox).await.save(&mut former).await, StoreError::Stale { .. });
    assert_eq!(read(&*store, &devbox).await.unwrap(), second);
}

pub async fn fields_of_a_later_version_survive_a_save(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = ready(&devbox);
    record.extra.insert("later".to_owned(), serde_json::json!({"a": [1, null, "ä"]}));
    create(&*store, &mut record).await;
    let mut again = read(&*other, &devbox).await.unwrap();
    lock(&*other, &devbox).await.save(&mut again).await.unwrap();
    assert_eq!(read(&*store, &devbox).await.unwrap().extra, record.extra);
}

pub async fn a_record_of_a_megabyte_is_kept_whole(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = created(&*store, &devbox).await;
    record.extra.insert("large".to_owned(), "\u{1F600}\n\"".repeat(120_000).into());
    lock(&*store, &devbox).await.save(&mut record).await.unwrap();
    assert_eq!(read(&*other, &devbox).await.unwrap(), record);
    assert_eq!(other.list().await.unwrap().entries, [Summary::from(&record)]);
}

pub async fn a_save_leaves_the_snapshot_and_other_vms_alone(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let (devbox, web) = (name("devbox"), name("web"));
    let mut record = created(&*store, &devbox).await;
    let neighbour = created(&*store, &web).await;
    lock(&*store, &devbox).await.save(&mut record).await.unwrap();
    assert_eq!(other.snapshot(&devbox).await.unwrap(), snapshot());
    assert_eq!(read(&*other, &web).await.unwrap(), neighbour);
}
