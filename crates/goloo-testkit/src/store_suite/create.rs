//! Create.

use super::*;

pub async fn a_created_record_is_seen_by_the_other_handle(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = creating(&devbox);
    create(&*store, &mut record).await;
    let loaded = other.load(&devbox).await.unwrap().unwrap();
    assert_eq!((loaded.record, loaded.recovered), (record.clone(), None));
    assert_eq!(other.names().await.unwrap(), ["devbox"]);
    assert_eq!(other.list().await.unwrap().entries, [Summary::from(&record)]);
}

pub async fn a_created_record_has_serial_one(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    assert_eq!(created(&*store, &name("devbox")).await.serial, 1);
    assert_eq!(read(&*other, &name("devbox")).await.unwrap().serial, 1);
}

pub async fn a_snapshot_is_kept_byte_for_byte(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let all = Snapshot {
        files: BTreeMap::from([
            ("config.json".to_owned(), b"{}\r\n\xff\x00".to_vec()),
            ("cloud-init.yaml".to_owned(), Vec::new()),
            ("configure.sh".to_owned(), vec![b'x'; 300_000]),
        ]),
    };
    let mut held = lock(&*store, &devbox).await;
    held.create(&mut creating(&devbox), &all).await.unwrap();
    assert_eq!(held.snapshot().await.unwrap(), all);
    assert_eq!(other.snapshot(&devbox).await.unwrap(), all);
}

pub async fn an_empty_snapshot_is_an_empty_one(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    lock(&*store, &devbox).await.create(&mut creating(&devbox), &Snapshot::default()).await.unwrap();
    assert_eq!(other.snapshot(&devbox).await.unwrap(), Snapshot::default());
}

pub async fn a_taken_name_is_refused_and_nothing_changes(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let first = created(&*store, &devbox).await;
    let mut second = in_aws(&devbox);
    let refused = lock(&*other, &devbox).await.create(&mut second, &Snapshot::default()).await;
    assert_error!(refused, StoreError::NameTaken { name } if name == devbox);
    assert_eq!(second.serial, 0, "the refused record was touched");
    assert_eq!(read(&*store, &devbox).await.unwrap(), first);
    assert_eq!(store.snapshot(&devbox).await.unwrap(), snapshot());
}

pub async fn a_taken_name_is_refused_under_the_same_lock(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut first = creating(&devbox);
    let mut held = lock(&*store, &devbox).await;
    held.create(&mut first, &snapshot()).await.unwrap();
    let second = held.create(&mut creating(&devbox), &snapshot()).await;
    assert_error!(second, StoreError::NameTaken { .. });
    assert_eq!(read(&*other, &devbox).await.unwrap(), first);
}

pub async fn a_record_that_was_saved_before_is_not_created(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = Record { serial: 3, ..creating(&devbox) };
    assert!(lock(&*store, &devbox).await.create(&mut record, &snapshot()).await.is_err());
    assert_eq!(record.serial, 3);
    assert_eq!(read(&*other, &devbox).await, None);
}

pub async fn a_record_of_another_name_is_not_created(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let mut record = creating(&name("web"));
    assert!(lock(&*store, &name("devbox")).await.create(&mut record, &snapshot()).await.is_err());
    assert!(other.names().await.unwrap().is_empty());
}

pub async fn a_record_of_a_newer_format_is_not_created(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    let mut record = Record { schema: SCHEMA + 1, ..creating(&devbox) };
    let refused = lock(&*store, &devbox).await.create(&mut record, &snapshot()).await;
    assert_error!(refused, StoreError::Newer { .. });
    assert_eq!(read(&*other, &devbox).await, None);
}

pub async fn a_snapshot_with_a_file_of_another_name_is_refused(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let devbox = name("devbox");
    for odd in ["state.json", "../config.json", ""] {
        let odd = Snapshot { files: BTreeMap::from([(odd.to_owned(), b"x".to_vec())]) };
        assert!(lock(&*store, &devbox).await.create(&mut creating(&devbox), &odd).await.is_err());
    }
    assert_eq!(read(&*other, &devbox).await, None);
}

pub async fn the_shortest_and_the_longest_name_are_kept_apart(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let names = ["a".to_owned(), "a".repeat(63), "a-1".to_owned(), "a1".to_owned()].map(|text| name(&text));
    for (n, each) in names.iter().enumerate() {
        let mut record = Record { stack: format!("stack-{n}").into(), ..ready(each) };
        create(&*store, &mut record).await;
    }
    for (n, each) in names.iter().enumerate() {
        assert_eq!(read(&*other, each).await.unwrap().stack, format!("stack-{n}"));
    }
}
