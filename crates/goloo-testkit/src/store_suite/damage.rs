//! Damage.

use super::*;

pub async fn a_broken_record_is_shown_and_breaks_no_other(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let (devbox, web) = (name("devbox"), name("web"));
    let sound = created(&*store, &web).await;
    for damage in ["", "{", "null", "{\"schema\": 1}", "\u{0}\u{0}\u{0}"] {
        subject.plant(&devbox, damage.as_bytes()).await;
        let listing = other.list().await.unwrap();
        assert_eq!(listing.entries, [Summary::from(&sound)], "{damage:?}");
        assert_eq!(listing.broken.len(), 1, "{damage:?}");
        assert_eq!(listing.broken[0].name, "devbox");
        assert!(!listing.broken[0].path.is_empty() && !listing.broken[0].error.is_empty());
        assert_error!(store.load(&devbox).await, StoreError::Broken(broken) if broken == listing.broken[0]);
        assert_eq!(read(&*store, &web).await.unwrap(), sound);
        assert_eq!(store.names().await.unwrap(), ["devbox", "web"]);
    }
}

pub async fn a_broken_record_keeps_its_name_and_is_not_saved_over(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = created(&*store, &devbox).await;
    subject.plant(&devbox, b"{").await;
    let mut held = lock(&*other, &devbox).await;
    assert_error!(held.load().await, StoreError::Broken(_));
    assert_error!(held.create(&mut creating(&devbox), &snapshot()).await, StoreError::NameTaken { .. });
    assert_error!(held.save(&mut record).await, StoreError::Broken(_));
    record.phase = Phase::Destroyed;
    let refused = held.archive(&mut record, time("2025-02-01T00:00:00Z")).await;
    assert_error!(refused, StoreError::Broken(_));
    drop(held);
    assert_eq!(store.list().await.unwrap().broken.len(), 1);
    assert_eq!(store.snapshot(&devbox).await.unwrap(), snapshot());
}

pub async fn a_record_under_another_s_name_is_broken(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    subject.plant(&devbox, &to_json(&Record { serial: 1, ..ready(&name("web")) })).await;
    assert_error!(store.load(&devbox).await, StoreError::Broken(_));
    let listing = other.list().await.unwrap();
    assert_eq!((listing.entries.len(), listing.broken.len()), (0, 1));
    assert!(listing.broken[0].error.contains("\"web\""), "{:?}", listing.broken);
}

pub async fn a_broken_archived_record_breaks_no_other_and_can_be_removed(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let sound = archived(&*store, &name("web"), "2025-02-01T00:00:00Z").await;
    let id = ArchiveId::parse("devbox-20250115T103000Z-3f9c").unwrap();
    subject.plant_archived(&id, b"{").await;
    let listing = other.archive_list().await.unwrap();
    assert_eq!(listing.entries.iter().map(|archived| &archived.id).collect::<Vec<_>>(), [&sound]);
    assert_eq!(listing.broken.len(), 1);
    assert_eq!(listing.broken[0].name, id.as_str());
    assert_error!(other.archive_load(&id).await, StoreError::Broken(_));
    store.archive_delete(&id, &owner(1)).await.unwrap();
    assert!(other.archive_list().await.unwrap().broken.is_empty());
}

/// Unknown fields are kept, and others may have written them: with indentation, a small record may become large.
pub async fn no_save_makes_a_record_that_is_too_large_to_be_read(store: &dyn Store) {
    let devbox = name("devbox");
    let mut record = created(store, &devbox).await;
    let values = vec![serde_json::Value::from(1); 9000];
    let nested =
        (0..45).fold(serde_json::Value::from(values), |inner, _| serde_json::Value::from(vec![inner]));
    record.extra.insert("later".to_owned(), nested);
    record.extra.insert("long".to_owned(), "x".repeat(500_000).into());
    let mut held = lock(store, &devbox).await;
    held.save(&mut record).await.unwrap();
    assert_eq!(read(store, &devbox).await.unwrap(), record);
    let (sound, serial) = (record.extra.clone(), record.serial);
    record.extra.insert("large".to_owned(), "x".repeat(1 << 20).into());
    let refused = held.save(&mut record).await.unwrap_err();
    let said = format!("{refused:?}");
    assert!(said.contains("the limit is 1048576"), "{said}");
    record.extra = sound;
    assert_eq!(record.serial, serial);
    held.save(&mut record).await.unwrap();
    assert_eq!(read(store, &devbox).await.unwrap(), record);
    let mut large = ready(&name("web"));
    large.extra.insert("large".to_owned(), "x".repeat(1 << 20).into());
    lock(store, &large.name.clone()).await.create(&mut large, &snapshot()).await.unwrap_err();
    assert_eq!(store.names().await.unwrap(), ["devbox"]);
}
