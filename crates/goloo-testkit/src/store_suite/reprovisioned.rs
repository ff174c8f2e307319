//! Replacing a record together with its snapshot.

use std::collections::BTreeMap;

use super::*;
use goloo_model::record::{Overrides, Reprovisioned};

fn files(document: &str) -> Snapshot {
    let files = [("config.json", "{}"), ("cloud-init.yaml", document)];
    let files: BTreeMap<_, _> =
        files.into_iter().map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())).collect();
    Snapshot { files }
}

/// The record of a VM that was provisioned with these files.
fn with(record: &Record, snapshot: &Snapshot) -> Record {
    let files = snapshot.digest();
    let reprovisioned =
        Reprovisioned { files, overrides: Overrides::default(), extra: serde_json::Map::new() };
    Record { reprovisioned: Some(reprovisioned), ..record.clone() }
}

pub async fn a_record_and_its_snapshot_are_replaced_together(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = created(&*store, &devbox).await;
    for document in ["one", "two", "one"] {
        let snapshot = files(document);
        let mut next = with(&record, &snapshot);
        let mut held = lock(&*store, &devbox).await;
        held.save_with_snapshot(&mut next, &snapshot).await.unwrap();
        assert_eq!(next.serial, record.serial + 1);
        assert_eq!(held.snapshot().await.unwrap(), snapshot);
        assert_eq!(read(&*other, &devbox).await.unwrap(), next);
        assert_eq!(other.snapshot(&devbox).await.unwrap(), snapshot, "{document}");
        held.save(&mut next).await.unwrap();
        assert_eq!(other.snapshot(&devbox).await.unwrap(), snapshot, "a save leaves it alone");
        record = next;
    }
}

pub async fn a_replacement_that_is_refused_changes_neither(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = created(&*store, &devbox).await;
    let mut stale = with(&record, &files("stale"));
    lock(&*store, &devbox).await.save(&mut record).await.unwrap();
    let mut held = lock(&*other, &devbox).await;
    let refused = held.save_with_snapshot(&mut stale, &files("stale")).await;
    assert_error!(refused, StoreError::Stale { expected: 1, found: 2, .. });
    // A record that names other files, or none.
    let mut unnamed = record.clone();
    assert!(held.save_with_snapshot(&mut unnamed, &files("one")).await.is_err());
    let mut another = with(&record, &files("two"));
    assert!(held.save_with_snapshot(&mut another, &files("one")).await.is_err());
    let odd = Snapshot { files: [("../../evil".to_owned(), b"x".to_vec())].into() };
    let mut evil = with(&record, &odd);
    assert!(held.save_with_snapshot(&mut evil, &odd).await.is_err());
    assert_eq!(read(&*store, &devbox).await.unwrap(), record);
    assert_eq!(store.snapshot(&devbox).await.unwrap(), snapshot());
}

pub async fn a_replaced_snapshot_moves_with_its_record(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let (devbox, web) = (name("devbox"), name("web"));
    let first = created(&*store, &devbox).await;
    let mut record = with(&first, &files("one"));
    lock(&*store, &devbox).await.save_with_snapshot(&mut record, &files("one")).await.unwrap();
    // Under another name, as a rename and a copy of a store do.
    let copy = Record { name: web.clone(), ..record.clone() };
    lock(&*store, &web).await.put(&copy, &files("one")).await.unwrap();
    assert_eq!(other.snapshot(&web).await.unwrap(), files("one"));
    let newer = Record { serial: copy.serial + 5, ..with(&copy, &files("two")) };
    lock(&*store, &web).await.put(&newer, &files("two")).await.unwrap();
    assert_eq!(other.snapshot(&web).await.unwrap(), files("two"));
    // And into the archive.
    record.phase = Phase::Destroyed;
    let mut held = lock(&*store, &devbox).await;
    let id = held.archive(&mut record, time("2025-02-01T00:00:00Z")).await.unwrap();
    drop(held);
    assert_eq!(other.archive_snapshot(&id).await.unwrap(), files("one"));
}
