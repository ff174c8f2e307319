//! Archive.

use super::later_formats::newer;
use super::*;

pub async fn an_archived_vm_is_in_the_archive_and_no_longer_active(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = created(&*store, &devbox).await;
    let id = archive(&*store, &mut record, "2025-02-01T00:00:00Z").await;
    assert_eq!(id, ArchiveId::new(&devbox, time("2025-02-01T00:00:00Z"), &record.id));
    assert_eq!(read(&*other, &devbox).await, None);
    assert!(other.names().await.unwrap().is_empty());
    assert_eq!(other.list().await.unwrap(), Default::default());
    let archived = other.archive_load(&id).await.unwrap().unwrap();
    assert_eq!((archived.id, archived.deleted_at), (id, time("2025-02-01T00:00:00Z")));
    assert_eq!(archived.record, record);
}

pub async fn the_name_is_free_after_the_archive(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut first = created(&*store, &devbox).await;
    first.phase = Phase::Destroyed;
    let mut held = lock(&*store, &devbox).await;
    held.archive(&mut first, time("2025-02-01T00:00:00Z")).await.unwrap();
    let mut second = creating(&devbox);
    held.create(&mut second, &Snapshot::default()).await.unwrap();
    assert_eq!(read(&*other, &devbox).await.unwrap(), second);
    assert_eq!(other.snapshot(&devbox).await.unwrap(), Snapshot::default());
}

pub async fn the_archive_keeps_the_last_save_and_the_snapshot(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = created(&*store, &devbox).await;
    lock(&*store, &devbox).await.save(&mut record).await.unwrap();
    record.stack = "as it was at the end".into();
    let id = archive(&*other, &mut record, "2025-02-01T00:00:00Z").await;
    assert_eq!(record.serial, 3);
    assert_eq!(store.archive_load(&id).await.unwrap().unwrap().record, record);
    assert_eq!(store.archive_snapshot(&id).await.unwrap(), snapshot());
}

pub async fn only_a_destroyed_record_is_archived(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = created(&*store, &devbox).await;
    for phase in [Phase::Creating, Phase::Ready, Phase::Degraded, Phase::Deleting] {
        let mut living = Record { phase, ..record.clone() };
        let refused = lock(&*store, &devbox).await.archive(&mut living, time("2025-02-01T00:00:00Z")).await;
        assert!(refused.is_err(), "{phase}");
    }
    assert_eq!(read(&*other, &devbox).await.unwrap(), record);
    assert_eq!(other.archive_list().await.unwrap(), Default::default());
    archive(&*other, &mut record, "2025-02-01T00:00:00Z").await;
}

pub async fn a_stale_record_is_not_archived(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = created(&*store, &devbox).await;
    let mut stale = Record { phase: Phase::Destroyed, ..record.clone() };
    lock(&*store, &devbox).await.save(&mut record).await.unwrap();
    let refused = lock(&*other, &devbox).await.archive(&mut stale, time("2025-02-01T00:00:00Z")).await;
    assert_error!(refused, StoreError::Stale { .. });
    assert_eq!(read(&*store, &devbox).await.unwrap(), record);
    assert_eq!(store.archive_list().await.unwrap(), Default::default());
}

pub async fn a_newer_record_is_not_archived(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let record = newer(subject, &devbox).await;
    let mut older = Record { schema: SCHEMA, phase: Phase::Destroyed, ..record.clone() };
    let refused = lock(&*store, &devbox).await.archive(&mut older, time("2025-02-01T00:00:00Z")).await;
    assert_error!(refused, StoreError::Newer { .. });
    assert_eq!(read(&*other, &devbox).await.unwrap(), record);
}

pub async fn the_archive_is_listed_newest_first(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let middle = archived(&*store, &name("web"), "2025-02-02T00:00:00Z").await;
    let newest = archived(&*store, &name("api"), "2025-02-03T00:00:00Z").await;
    let oldest = archived(&*other, &name("zoo"), "2025-02-01T00:00:00Z").await;
    let listing = other.archive_list().await.unwrap();
    let ids: Vec<_> = listing.entries.into_iter().map(|archived| archived.id).collect();
    assert_eq!(ids, [newest, middle, oldest]);
    assert!(listing.broken.is_empty());
}

pub async fn one_name_can_be_archived_many_times(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(archived(&*store, &devbox, "2025-02-01T00:00:00Z").await);
    }
    for id in &ids {
        assert_eq!(other.archive_load(id).await.unwrap().unwrap().id, *id);
    }
    assert_eq!(other.archive_list().await.unwrap().entries.len(), 3);
}

pub async fn one_archived_record_is_removed_and_the_others_stay(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let stays = archived(&*store, &name("web"), "2025-02-02T00:00:00Z").await;
    let goes = archived(&*store, &name("devbox"), "2025-02-01T00:00:00Z").await;
    let active = created(&*store, &name("devbox")).await;
    other.archive_delete(&goes, &owner(1)).await.unwrap();
    assert_eq!(store.archive_load(&goes).await.unwrap(), None);
    assert_error!(store.archive_snapshot(&goes).await, StoreError::NotArchived { .. });
    let left = store.archive_list().await.unwrap();
    assert_eq!((left.entries.len(), left.broken.len()), (1, 0));
    assert_eq!(left.entries[0].id, stays);
    assert_eq!(read(&*store, &name("devbox")).await.unwrap(), active);
}

pub async fn an_archived_record_is_removed_once(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let id = archived(&*store, &name("devbox"), "2025-02-01T00:00:00Z").await;
    store.archive_delete(&id, &owner(1)).await.unwrap();
    assert_error!(other.archive_delete(&id, &owner(1)).await, StoreError::NotArchived { .. });
}

pub async fn a_destroyed_record_is_not_active_and_goes_to_the_archive_with_the_next_lock(
    subject: &dyn Subject,
) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = created(&*store, &devbox).await;
    record.phase = Phase::Destroyed;
    // The state left by a process that dies between the two steps of an archive.
    lock(&*store, &devbox).await.save(&mut record).await.unwrap();
    assert_eq!(read(&*other, &devbox).await, None);
    assert_eq!(other.list().await.unwrap(), Default::default());
    let mut held = lock(&*other, &devbox).await;
    assert_eq!(held.load().await.unwrap(), None);
    let mut second = creating(&devbox);
    held.create(&mut second, &snapshot()).await.unwrap();
    assert_eq!(read(&*store, &devbox).await.unwrap(), second);
    let archive = store.archive_list().await.unwrap().entries;
    assert_eq!(archive.len(), 1);
    assert_eq!((&archive[0].record, archive[0].deleted_at), (&record, record.updated_at));
}
