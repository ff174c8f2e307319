//! Records from other stores.

use super::*;

/// A record as another store contains it after some saves.
fn from_elsewhere(name: &VmName, serial: u64) -> Record {
    let mut record = Record { serial, ..ready(name) };
    record.extra.insert("later".to_owned(), serde_json::json!({"a": [1, null, "\u{e4}"]}));
    record
}

async fn put(store: &dyn Store, record: &Record) -> Result<(), StoreError> {
    lock_when_free(store, &record.name).await.put(record, &snapshot()).await
}

pub async fn a_record_from_elsewhere_keeps_id_serial_and_bytes(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let record = from_elsewhere(&devbox, 17);
    put(&*store, &record).await.unwrap();
    let found = read(&*other, &devbox).await.unwrap();
    assert_eq!((found.serial, &found.id), (17, &record.id));
    assert_eq!(to_json(&found), to_json(&record));
    assert_eq!(other.snapshot(&devbox).await.unwrap(), snapshot());
    assert_eq!(other.list().await.unwrap().entries, [Summary::from(&record)]);
}

pub async fn a_record_put_again_is_success_and_changes_nothing(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let record = from_elsewhere(&name("devbox"), 17);
    put(&*store, &record).await.unwrap();
    put(&*other, &record).await.unwrap();
    let mut held = lock(&*other, &record.name).await;
    held.put(&record, &snapshot()).await.unwrap();
    held.put(&record, &snapshot()).await.unwrap();
    assert_eq!(read(&*store, &record.name).await.unwrap(), record);
}

pub async fn a_newer_record_from_elsewhere_replaces_an_older_one(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let first = created(&*store, &name("devbox")).await;
    let second = Record { serial: 9, stack: "second".into(), ..first };
    put(&*other, &second).await.unwrap();
    assert_eq!(read(&*store, &second.name).await.unwrap(), second);
    assert_eq!(store.snapshot(&second.name).await.unwrap(), snapshot());
}

pub async fn an_older_record_from_elsewhere_is_refused(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let record = from_elsewhere(&name("devbox"), 17);
    put(&*store, &record).await.unwrap();
    let older = Record { serial: 16, stack: "older".into(), ..record.clone() };
    assert_error!(put(&*other, &older).await, StoreError::Stale { expected: 16, found: 17, .. });
    assert_eq!(read(&*store, &record.name).await.unwrap(), record);
}

pub async fn another_vm_s_record_is_not_put_over_one(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let record = created(&*store, &name("devbox")).await;
    for serial in [1, 2] {
        let foreign = from_elsewhere(&name("devbox"), serial);
        assert_error!(put(&*other, &foreign).await, StoreError::NameTaken { name } if name == record.name);
    }
    assert_eq!(read(&*store, &record.name).await.unwrap(), record);
}

pub async fn a_record_that_can_t_be_created_is_not_put(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut held = lock(&*store, &devbox).await;
    assert!(held.put(&from_elsewhere(&name("web"), 3), &snapshot()).await.is_err());
    let newer = Record { schema: SCHEMA + 1, ..from_elsewhere(&devbox, 3) };
    assert_error!(held.put(&newer, &snapshot()).await, StoreError::Newer { .. });
    let odd = Snapshot { files: BTreeMap::from([("../config.json".to_owned(), b"x".to_vec())]) };
    assert!(held.put(&from_elsewhere(&devbox, 3), &odd).await.is_err());
    assert!(other.names().await.unwrap().is_empty());
}

pub async fn a_record_that_was_put_is_saved_and_archived_like_any_other(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let mut record = from_elsewhere(&name("devbox"), 17);
    put(&*store, &record).await.unwrap();
    lock(&*other, &record.name.clone()).await.save(&mut record).await.unwrap();
    assert_eq!(record.serial, 18);
    let id = archive(&*other, &mut record, "2025-02-01T00:00:00Z").await;
    assert_eq!(store.archive_load(&id).await.unwrap().unwrap().record, record);
    assert_eq!(store.archive_snapshot(&id).await.unwrap(), snapshot());
}

pub async fn of_many_who_put_one_record_all_succeed(subject: &dyn Subject) {
    let record = from_elsewhere(&name("devbox"), 17);
    let put = race(subject, 6, async |_, store| put(&*store, &record).await);
    for outcome in put {
        outcome.unwrap();
    }
    assert_eq!(read(&*subject.handle(), &record.name).await.unwrap(), record);
}

pub async fn of_two_vms_that_are_put_under_one_name_one_wins(subject: &dyn Subject) {
    let outcomes = race(subject, 4, async |n, store| {
        let record = from_elsewhere(&name("devbox"), n as u64 + 1);
        put(&*store, &record).await.map(|()| record)
    });
    let won: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
    assert_eq!(won.len(), 1);
    let mut lost = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    assert!(lost.all(|error| matches!(error, StoreError::NameTaken { .. })));
    assert_eq!(read(&*subject.handle(), &name("devbox")).await.as_ref(), Some(won[0]));
}

pub async fn of_many_serials_that_are_put_the_highest_stays(subject: &dyn Subject) {
    let first = from_elsewhere(&name("devbox"), 1);
    let outcomes = race(subject, 6, async |n, store| {
        let mine = Record { serial: n as u64 + 1, stack: format!("stack-{n}").into(), ..first.clone() };
        put(&*store, &mine).await
    });
    for outcome in outcomes {
        assert!(matches!(outcome, Ok(()) | Err(StoreError::Stale { .. })), "{outcome:?}");
    }
    let found = read(&*subject.handle(), &first.name).await.unwrap();
    assert_eq!((found.serial, found.stack.as_str()), (6, "stack-5"));
}

/// An archived record as another store contains it.
pub(super) fn archived_elsewhere(name: &VmName, serial: u64) -> Archived {
    let record = Record { phase: Phase::Destroyed, ..from_elsewhere(name, serial) };
    let deleted_at = time("2025-02-01T00:00:00Z");
    Archived { id: ArchiveId::new(name, deleted_at, &record.id), deleted_at, record }
}

pub async fn an_archived_record_from_elsewhere_keeps_id_serial_and_bytes(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let active = created(&*store, &name("devbox")).await;
    let archived = archived_elsewhere(&name("devbox"), 17);
    store.archive_put(&archived, &snapshot()).await.unwrap();
    let found = other.archive_load(&archived.id).await.unwrap().unwrap();
    assert_eq!(found, archived);
    assert_eq!(to_json(&found.record), to_json(&archived.record));
    assert_eq!(other.archive_snapshot(&archived.id).await.unwrap(), snapshot());
    assert_eq!(other.archive_list().await.unwrap().entries, [archived]);
    assert_eq!(read(&*other, &active.name).await.unwrap(), active);
}

pub async fn an_archived_record_put_again_is_success_and_changes_nothing(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let archived = archived_elsewhere(&name("devbox"), 17);
    for store in [&store, &other, &store] {
        store.archive_put(&archived, &snapshot()).await.unwrap();
        assert_eq!(store.archive_list().await.unwrap().entries, std::slice::from_ref(&archived));
    }
}

pub async fn a_newer_archived_record_from_elsewhere_replaces_an_older_one(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let mut archived = archived_elsewhere(&name("devbox"), 17);
    store.archive_put(&archived, &snapshot()).await.unwrap();
    archived.record.serial = 18;
    other.archive_put(&archived, &snapshot()).await.unwrap();
    assert_eq!(store.archive_list().await.unwrap().entries, [archived]);
}

pub async fn an_older_archived_record_from_elsewhere_is_refused(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let archived = archived_elsewhere(&name("devbox"), 17);
    store.archive_put(&archived, &snapshot()).await.unwrap();
    let mut older = archived.clone();
    older.record.serial = 16;
    let refused = other.archive_put(&older, &snapshot()).await;
    assert_error!(refused, StoreError::Stale { expected: 16, found: 17, .. });
    assert_eq!(store.archive_list().await.unwrap().entries, [archived]);
}

pub async fn an_archived_record_is_not_put_under_another_name_s_id(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let mut archived = archived_elsewhere(&name("devbox"), 17);
    archived.record.name = name("web");
    assert!(store.archive_put(&archived, &snapshot()).await.is_err());
    assert_eq!(other.archive_list().await.unwrap(), Default::default());
}

pub async fn of_many_who_put_one_archived_record_all_succeed(subject: &dyn Subject) {
    let archived = archived_elsewhere(&name("devbox"), 17);
    let put = race(subject, 6, async |_, store| store.archive_put(&archived, &snapshot()).await);
    for outcome in put {
        outcome.unwrap();
    }
    assert_eq!(subject.handle().archive_list().await.unwrap().entries, [archived]);
}

pub async fn of_many_serials_put_into_the_archive_the_highest_stays(subject: &dyn Subject) {
    let first = archived_elsewhere(&name("devbox"), 1);
    let outcomes = race(subject, 6, async |n, store| {
        let mut mine = first.clone();
        mine.record.serial = n as u64 + 1;
        store.archive_put(&mine, &snapshot()).await
    });
    for outcome in outcomes {
        assert!(matches!(outcome, Ok(()) | Err(StoreError::Stale { .. })), "{outcome:?}");
    }
    let found = subject.handle().archive_load(&first.id).await.unwrap().unwrap();
    assert_eq!(found.record.serial, 6);
}

pub async fn records_are_what_a_load_of_each_gives(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    assert_eq!(store.records().await.unwrap(), Default::default());
    for each in ["web", "api", "a1"] {
        created(&*store, &name(each)).await;
    }
    archived(&*store, &name("gone"), "2025-02-01T00:00:00Z").await;
    subject.plant(&name("zoo"), b"{").await;
    let records = other.records().await.unwrap();
    let mut loaded = Vec::new();
    for each in ["a1", "api", "web"] {
        loaded.extend(other.load(&name(each)).await.unwrap());
    }
    assert_eq!(records.entries, loaded);
    assert_eq!(records.broken, other.list().await.unwrap().broken);
    assert_eq!(records.broken.len(), 1);
}
