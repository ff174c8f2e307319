//! Reading from an empty store.

use super::*;

pub async fn a_store_in_which_nothing_was_written_is_empty(subject: &dyn Subject) {
    for store in [subject.handle(), subject.handle()] {
        assert!(store.names().await.unwrap().is_empty());
        assert_eq!(store.list().await.unwrap(), Default::default());
        assert_eq!(store.load(&name("devbox")).await.unwrap(), None);
        assert_eq!(store.archive_list().await.unwrap(), Default::default());
        let id = ArchiveId::parse("devbox-20250115T103000Z-3f9c").unwrap();
        assert_eq!(store.archive_load(&id).await.unwrap(), None);
    }
}

pub async fn nothing_has_no_snapshot(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    assert_error!(store.snapshot(&name("devbox")).await, StoreError::NotFound { .. });
    let id = ArchiveId::parse("devbox-20250115T103000Z-3f9c").unwrap();
    assert_error!(other.archive_snapshot(&id).await, StoreError::NotArchived { .. });
}

pub async fn nothing_can_be_removed_from_an_empty_archive(subject: &dyn Subject) {
    let id = ArchiveId::parse("devbox-20250115T103000Z-3f9c").unwrap();
    for store in [subject.handle(), subject.handle()] {
        assert_error!(store.archive_delete(&id, &owner(1)).await, StoreError::NotArchived { id: gone } if gone == id);
    }
}

pub async fn a_store_says_where_it_is(subject: &dyn Subject) {
    let (store, other) = (subject.handle(), subject.handle());
    assert!(!store.location().is_empty());
    assert_eq!(store.location(), other.location());
}
