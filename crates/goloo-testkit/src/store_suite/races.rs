//! Races.

use super::*;

pub async fn of_many_claims_of_one_name_one_wins(subject: &dyn Subject) {
    let devbox = name("devbox");
    let claims = race(subject, 8, async |n, store| {
        let mut record = Record { stack: format!("stack-{n}").into(), ..creating(&name("devbox")) };
        lock_when_free(&*store, &name("devbox")).await.create(&mut record, &snapshot()).await.map(|()| record)
    });
    let mut winners = Vec::new();
    for claim in claims {
        match claim {
            Ok(record) => winners.push(record),
            Err(StoreError::NameTaken { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(read(&*subject.handle(), &devbox).await.unwrap(), winners[0]);
}

pub async fn claims_of_many_names_at_once_all_succeed(subject: &dyn Subject) {
    race(subject, 8, async |n, store| {
        for round in 0..4 {
            let vm = name(&format!("vm-{n}-{round}"));
            lock(&*store, &vm).await.create(&mut creating(&vm), &snapshot()).await.unwrap();
        }
    });
    assert_eq!(subject.handle().list().await.unwrap().entries.len(), 32);
}

pub async fn of_two_writers_of_one_serial_one_wins(subject: &dyn Subject) {
    let devbox = name("devbox");
    let mut record = created(&*subject.handle(), &devbox).await;
    for _ in 0..subject.rounds(20) {
        let start = &record;
        let saved = race(subject, 2, async |n, store| {
            let mut mine = Record { stack: format!("stack-{n}").into(), ..start.clone() };
            lock_when_free(&*store, &name("devbox")).await.save(&mut mine).await.map(|()| mine)
        });
        let won: Vec<_> = saved.iter().filter_map(|result| result.as_ref().ok()).collect();
        assert_eq!(won.len(), 1);
        let lost = saved.iter().find_map(|result| result.as_ref().err()).unwrap();
        assert!(matches!(lost, StoreError::Stale { .. }), "{lost}");
        let stored = read(&*subject.handle(), &devbox).await.unwrap();
        assert_eq!(&stored, won[0]);
        record = stored;
    }
}

pub async fn increments_of_many_handles_are_all_counted(subject: &dyn Subject) {
    let devbox = name("devbox");
    created(&*subject.handle(), &devbox).await;
    race(subject, 4, async |_, store| {
        for _ in 0..10 {
            let mut held = lock_when_free(&*store, &name("devbox")).await;
            let mut record = held.load().await.unwrap().unwrap().record;
            let count: u32 = record.tags.get("count").map_or(0, |count| count.parse().unwrap());
            record.tags.insert("count".to_owned(), (count + 1).to_string());
            held.save(&mut record).await.unwrap();
        }
    });
    let record = read(&*subject.handle(), &devbox).await.unwrap();
    assert_eq!(record.tags["count"], "40");
    assert_eq!(record.serial, 41);
}

pub async fn readers_beside_a_writer_see_whole_records(subject: &dyn Subject) {
    let devbox = name("devbox");
    let first = created(&*subject.handle(), &devbox).await;
    let done = AtomicBool::new(false);
    race(subject, 3, async |n, store| {
        if n == 0 {
            let mut record = first.clone();
            let mut held = lock(&*store, &name("devbox")).await;
            for round in 0..60_usize {
                // Two fields that must match, and varying lengths.
                let length = round * 97 % 4096;
                record.created_by.extra.insert("filler".into(), "x".repeat(length).into());
                record.tags.insert("length".to_owned(), length.to_string());
                held.save(&mut record).await.unwrap();
            }
            done.store(true, Ordering::Release);
            return;
        }
        let mut last = 0;
        while !done.load(Ordering::Acquire) {
            let loaded = store.load(&name("devbox")).await.unwrap().unwrap();
            assert_eq!(loaded.recovered, None);
            let record = loaded.record;
            assert!(record.serial >= last, "serial {} after {last}", record.serial);
            last = record.serial;
            if let Some(length) = record.tags.get("length") {
                let filler = record.created_by.extra["filler"].as_str().unwrap_or_default();
                assert_eq!(length, &filler.len().to_string());
            }
            let listing = store.list().await.unwrap();
            assert_eq!((listing.entries.len(), listing.broken.len()), (1, 0));
        }
    });
}

pub async fn readers_beside_claims_and_archives_see_all_or_nothing(subject: &dyn Subject) {
    let done = AtomicBool::new(false);
    let rounds = subject.rounds(20);
    race(subject, 3, async |n, store| {
        let devbox = name("devbox");
        if n == 0 {
            for _ in 0..rounds {
                archived(&*store, &devbox, "2025-02-01T00:00:00Z").await;
            }
            done.store(true, Ordering::Release);
            return;
        }
        while !done.load(Ordering::Acquire) {
            let loaded = store.load(&devbox).await.unwrap();
            assert!(loaded.is_none_or(|loaded| loaded.recovered.is_none()));
            match store.snapshot(&devbox).await {
                Ok(found) => assert_eq!(found, snapshot()),
                Err(StoreError::NotFound { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            assert_eq!(store.list().await.unwrap().broken, []);
            assert_eq!(store.archive_list().await.unwrap().broken, []);
        }
    });
    assert_eq!(subject.handle().archive_list().await.unwrap().entries.len(), rounds);
}

pub async fn of_many_who_remove_one_archived_record_one_does(subject: &dyn Subject) {
    let id = archived(&*subject.handle(), &name("devbox"), "2025-02-01T00:00:00Z").await;
    let removed = race(subject, 6, async |_, store| match store.archive_delete(&id, &owner(1)).await {
        Ok(()) => 1,
        Err(StoreError::NotArchived { .. }) => 0,
        Err(error) => panic!("{error}"),
    });
    assert_eq!(removed.into_iter().sum::<i32>(), 1);
    assert_eq!(subject.handle().archive_list().await.unwrap(), Default::default());
}
