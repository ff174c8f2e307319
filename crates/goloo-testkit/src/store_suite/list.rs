//! List.

use super::*;

pub async fn names_and_lists_are_sorted(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    for each in ["web-2", "api", "web", "web-10", "a1"] {
        created(&*store, &name(each)).await;
    }
    let sorted = ["a1", "api", "web", "web-10", "web-2"];
    assert_eq!(other.names().await.unwrap(), sorted);
    let listed = other.list().await.unwrap().entries;
    assert_eq!(listed.iter().map(|summary| summary.name.as_str()).collect::<Vec<_>>(), sorted);
}

pub async fn a_list_shows_what_the_records_hold(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let mut odd = in_aws(&name("d"));
    odd.source_config_path = None;
    odd.stack = "a \"b\" \u{e4}\u{1F600}".into();
    (odd.endpoint, odd.details) = Default::default();
    let mut records = [creating(&name("a")), ready(&name("b")), in_aws(&name("c")), odd];
    for record in &mut records {
        create(&*store, record).await;
    }
    let expected: Vec<_> = records.iter().map(Summary::from).collect();
    assert_eq!(other.list().await.unwrap().entries, expected);
}

pub async fn a_long_list_is_whole_and_sorted(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    let mut expected = Vec::new();
    let count = subject.rounds(300);
    for n in 0..count {
        let vm = name(&format!("vm-{n:03}"));
        let mut record = if n % 2 == 0 { ready(&vm) } else { in_aws(&vm) };
        create(&*store, &mut record).await;
        expected.push(Summary::from(&record));
    }
    assert_eq!(other.list().await.unwrap().entries, expected);
    assert_eq!(other.names().await.unwrap().len(), count);
}
