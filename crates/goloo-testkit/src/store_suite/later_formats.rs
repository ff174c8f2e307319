//! Formats of a later version.

use super::*;

pub(super) async fn newer(subject: &dyn Subject, name: &VmName) -> Record {
    let record = Record { schema: SCHEMA + 1, ..created(&*subject.handle(), name).await };
    subject.plant(name, &to_json(&record)).await;
    record
}

pub async fn a_newer_record_is_read_and_listed(subject: &dyn Subject) {
    let devbox = name("devbox");
    let record = newer(subject, &devbox).await;
    for store in [subject.handle(), subject.handle()] {
        assert_eq!(read(&*store, &devbox).await.unwrap(), record);
        assert_eq!(store.list().await.unwrap().entries, [Summary::from(&record)]);
    }
}

pub async fn a_newer_record_is_not_written(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = newer(subject, &devbox).await;
    let refused = lock(&*store, &devbox).await.save(&mut record).await;
    assert_error!(refused, StoreError::Newer { found, known: SCHEMA, .. } if found == SCHEMA + 1);
    assert_eq!(read(&*other, &devbox).await.unwrap(), record);
}

pub async fn a_newer_record_is_not_made_older(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let record = newer(subject, &devbox).await;
    let mut older = Record { schema: SCHEMA, ..record.clone() };
    assert_error!(lock(&*store, &devbox).await.save(&mut older).await, StoreError::Newer { .. });
    assert_eq!(read(&*other, &devbox).await.unwrap(), record);
}

pub async fn a_newer_archived_record_is_not_removed(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let id = archived(&*store, &name("devbox"), "2025-02-01T00:00:00Z").await;
    let record = store.archive_load(&id).await.unwrap().unwrap().record;
    let record = Record { schema: SCHEMA + 1, ..record };
    subject.plant_archived(&id, &to_json(&record)).await;
    assert_error!(store.archive_delete(&id, &owner(1)).await, StoreError::Newer { .. });
    assert_eq!(other.archive_load(&id).await.unwrap().unwrap().record, record);
}
