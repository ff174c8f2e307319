//! Rules that are specific to a store in a folder.
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use goloo_model::name::{ArchiveId, VmName};
use goloo_model::record::{Phase, Record, to_json};
use goloo_model::store::{Listing, Store, StoreError};
use goloo_store::seal::Identity;
use goloo_store::{DirStore, Options, Seal};
use goloo_testkit::samples::{name, owner, ready, snapshot, time};
use goloo_testkit::store_suite::run;
use tempfile::TempDir;

struct Folder {
    _folder: TempDir,
    root: PathBuf,
    store: DirStore,
}

fn empty() -> Folder {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("share/goloo");
    let store = DirStore::open(&root, Options::default());
    Folder { _folder: folder, root, store }
}

fn devbox() -> VmName {
    name("devbox")
}

impl Folder {
    fn create(&self, vm: &VmName) -> Record {
        let mut record = ready(vm);
        let mut lock = run(self.store.lock(vm, &owner(1))).unwrap();
        run(lock.create(&mut record, &snapshot())).unwrap();
        record
    }

    fn save(&self, record: &mut Record) {
        let mut lock = run(self.store.lock(&record.name.clone(), &owner(1))).unwrap();
        run(lock.save(record)).unwrap();
    }

    fn state(&self) -> PathBuf {
        self.root.join("active/devbox/state.json")
    }
}

fn everything_below(path: &Path, visit: &mut dyn FnMut(&Path)) {
    visit(path);
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            everything_below(&entry.unwrap().path(), visit);
        }
    }
}

#[test]
fn reading_a_missing_store_creates_nothing() {
    let folder = empty();
    assert!(run(folder.store.list()).unwrap().entries.is_empty());
    assert_eq!(run(folder.store.load(&devbox())).unwrap(), None);
    assert!(run(folder.store.archive_list()).unwrap().entries.is_empty());
    assert!(!folder.root.parent().unwrap().exists());
}

#[test]
fn folders_and_files_are_accessible_only_to_their_owner() {
    let folder = empty();
    let mut record = folder.create(&devbox());
    folder.save(&mut record);
    let mut seen = 0;
    everything_below(&folder.root, &mut |path| {
        let mode = fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode, expected, "{}: {mode:o}", path.display());
        seen += 1;
    });
    assert!(seen >= 9, "{seen}");
}

#[test]
fn a_save_keeps_the_previous_record() {
    let folder = empty();
    let mut record = folder.create(&devbox());
    let first = fs::read(folder.state()).unwrap();
    folder.save(&mut record);
    assert_eq!(fs::read(folder.state().with_extension("json.prev")).unwrap(), first);
    assert_eq!(fs::read(folder.state()).unwrap(), to_json(&record));
}

#[test]
fn an_unreadable_record_falls_back_to_the_previous_one_and_is_kept() {
    let folder = empty();
    let mut record = folder.create(&devbox());
    let first = record.clone();
    folder.save(&mut record);
    fs::write(folder.state(), b"{").unwrap();
    let loaded = run(folder.store.load(&devbox())).unwrap().unwrap();
    assert_eq!(loaded.record, first);
    assert_eq!(loaded.recovered.unwrap().path, folder.state().display().to_string());
    let listing = run(folder.store.list()).unwrap();
    assert_eq!((listing.entries.len(), listing.broken.len()), (1, 0));
    drop(run(folder.store.lock(&devbox(), &owner(1))).unwrap());
    assert_eq!(fs::read(folder.state()).unwrap(), b"{");
}

#[test]
fn a_record_of_a_newer_schema_is_neither_bypassed_nor_overwritten() {
    let folder = empty();
    let mut record = folder.create(&devbox());
    let mut before = record.clone();
    folder.save(&mut record);
    let newer = br#"{"schema": 3, "vm": "devbox"}"#;
    fs::write(folder.state(), newer).unwrap();
    assert!(matches!(run(folder.store.load(&devbox())), Err(StoreError::Broken(_))));
    let listing = run(folder.store.list()).unwrap();
    assert!(listing.broken[0].error.contains("newer goloo"), "{:?}", listing.broken);
    let mut lock = run(folder.store.lock(&devbox(), &owner(1))).unwrap();
    assert!(matches!(run(lock.save(&mut before)), Err(StoreError::Newer { found: 3, .. })));
    before.phase = Phase::Destroyed;
    let archived = run(lock.archive(&mut before, time("2025-02-01T00:00:00Z")));
    assert!(matches!(archived, Err(StoreError::Newer { found: 3, .. })));
    assert_eq!(fs::read(folder.state()).unwrap(), newer);
}

#[test]
fn an_undecryptable_record_is_broken_and_never_overwritten() {
    let folder = empty();
    let mut record = folder.create(&devbox());
    let mut before = record.clone();
    let ann = Identity::generate();
    let seal = Seal::age(vec![ann.to_public()], vec![ann]);
    let sealing = DirStore::open(&folder.root, Options { seal, ..Options::default() });
    run(run(sealing.lock(&devbox(), &owner(1))).unwrap().save(&mut record)).unwrap();
    let sealed = fs::read(folder.state()).unwrap();
    assert_ne!(sealed, to_json(&record));
    assert_eq!(run(sealing.load(&devbox())).unwrap().unwrap().record, record);
    assert!(matches!(run(folder.store.load(&devbox())), Err(StoreError::Broken(_))));
    let listing = run(folder.store.list()).unwrap();
    assert!(listing.broken[0].error.contains("encryption.identityFile"), "{:?}", listing.broken);
    let mut lock = run(folder.store.lock(&devbox(), &owner(1))).unwrap();
    assert!(matches!(run(lock.save(&mut before)), Err(StoreError::Broken(_))));
    assert_eq!(fs::read(folder.state()).unwrap(), sealed);
}

#[test]
fn a_missing_record_is_read_from_the_previous_one() {
    let folder = empty();
    let mut record = folder.create(&devbox());
    folder.save(&mut record);
    fs::remove_file(folder.state()).unwrap();
    let mut loaded = run(folder.store.load(&devbox())).unwrap().unwrap().record;
    assert_eq!(loaded.serial, 1);
    folder.save(&mut loaded);
    assert!(loaded.serial > record.serial);
}

#[test]
fn files_staged_by_a_dead_process_are_removed_by_the_next_writer() {
    let folder = empty();
    folder.create(&name("web"));
    let staged = folder.root.join("active/.new-devbox");
    let stage = || {
        fs::create_dir(&staged).unwrap();
        fs::write(staged.join("cloud-init.yaml"), "secret").unwrap();
    };
    let alive = run(folder.store.lock(&devbox(), &owner(1))).unwrap();
    stage();
    drop(run(folder.store.lock(&name("web"), &owner(1))).unwrap());
    assert!(staged.exists(), "its claim is under way");
    drop(alive);
    drop(run(folder.store.lock(&name("web"), &owner(1))).unwrap());
    assert!(!staged.exists());
    stage();
    drop(run(folder.store.lock(&devbox(), &owner(1))).unwrap());
    assert!(!staged.exists());
}

#[test]
fn foreign_files_are_skipped_and_foreign_folders_are_listed_as_broken() {
    let folder = empty();
    folder.create(&devbox());
    let active = folder.root.join("active");
    fs::write(active.join(".DS_Store"), "x").unwrap();
    fs::write(active.join("notes"), "x").unwrap();
    fs::create_dir(active.join(".git")).unwrap();
    fs::create_dir(active.join("Copy of devbox")).unwrap();
    fs::create_dir(active.join("empty")).unwrap();
    let listing = run(folder.store.list()).unwrap();
    assert_eq!(listing.entries.len(), 1);
    let broken: Vec<_> = listing.broken.iter().map(|broken| broken.name.as_str()).collect();
    assert_eq!(broken, ["Copy of devbox", "empty"]);
    assert_eq!(run(folder.store.names()).unwrap(), ["devbox", "empty"]);
}

#[test]
fn the_lock_file_is_never_replaced() {
    let folder = empty();
    let lock = folder.root.join("locks/devbox.lock");
    let mut record = folder.create(&devbox());
    let inode = fs::metadata(&lock).unwrap().ino();
    folder.save(&mut record);
    record.phase = Phase::Destroyed;
    let mut held = run(folder.store.lock(&devbox(), &owner(1))).unwrap();
    run(held.archive(&mut record, time("2025-02-01T00:00:00Z"))).unwrap();
    drop(held);
    folder.create(&devbox());
    assert_eq!(fs::metadata(&lock).unwrap().ino(), inode);
}

#[test]
fn an_archive_moves_the_whole_folder() {
    let folder = empty();
    let mut record = folder.create(&devbox());
    record.phase = Phase::Destroyed;
    let mut held = run(folder.store.lock(&devbox(), &owner(1))).unwrap();
    let id = run(held.archive(&mut record, time("2025-02-01T00:00:00Z"))).unwrap();
    let place = folder.root.join("archive").join(id.as_str());
    for file in ["state.json", "state.json.prev", "config.json", "cloud-init.yaml"] {
        assert!(place.join(file).is_file(), "{file}");
    }
    assert!(!folder.root.join("active/devbox").exists());
}

/// The state after a process died between the save and the move.
fn half_archived(folder: &Folder) -> Record {
    let mut record = folder.create(&devbox());
    record.phase = Phase::Destroyed;
    folder.save(&mut record);
    record
}

#[test]
fn a_destroyed_vm_is_listed_as_archived_before_its_folder_is_moved() {
    let folder = empty();
    let record = half_archived(&folder);
    // Its first id is taken, which never happens in practice.
    let first = ArchiveId::new(&devbox(), record.updated_at, &record.id);
    fs::create_dir_all(folder.root.join("archive").join(first.as_str())).unwrap();
    assert_eq!(run(folder.store.list()).unwrap(), Listing::default());
    let shown = run(folder.store.archive_list()).unwrap().entries.remove(0);
    assert_eq!(shown.record, record);
    assert_eq!(shown.deleted_at, shown.id.deleted_at());
    assert_eq!(run(folder.store.archive_load(&shown.id)).unwrap(), Some(shown.clone()));
    assert_eq!(run(folder.store.archive_snapshot(&shown.id)).unwrap(), snapshot());
    assert!(folder.state().exists(), "looking moves nothing");
    drop(run(folder.store.lock(&devbox(), &owner(1))).unwrap());
    assert!(!folder.state().exists());
    let moved = run(folder.store.archive_list()).unwrap().entries;
    assert_eq!(moved, [shown], "it keeps the id under which it was shown");
}

#[test]
fn a_destroyed_vm_can_be_deleted_from_the_archive_before_its_folder_is_moved() {
    let folder = empty();
    half_archived(&folder);
    let shown = run(folder.store.archive_list()).unwrap().entries.remove(0);
    run(folder.store.archive_delete(&shown.id, &owner(1))).unwrap();
    assert!(!folder.state().exists());
    assert!(run(folder.store.archive_list()).unwrap().entries.is_empty());
    // One that is being archived belongs to its owner.
    let mut record = folder.create(&devbox());
    let mut held = run(folder.store.lock(&devbox(), &owner(1))).unwrap();
    record.phase = Phase::Destroyed;
    run(held.save(&mut record)).unwrap();
    let shown = run(folder.store.archive_list()).unwrap().entries.remove(0);
    let locked = run(folder.store.archive_delete(&shown.id, &owner(1)));
    assert!(matches!(locked, Err(StoreError::Locked { .. })), "{locked:?}");
    assert!(folder.state().exists());
}

#[test]
fn a_trash_folder_is_removed_by_the_next_archive_delete() {
    let folder = empty();
    let trash = folder.root.join("archive/.trash-devbox-20250115T103000Z-3f9c");
    fs::create_dir_all(&trash).unwrap();
    fs::write(trash.join("cloud-init.yaml"), "secret").unwrap();
    assert!(run(folder.store.archive_list()).unwrap().broken.is_empty());
    let id = goloo_model::name::ArchiveId::parse("web-20250115T103000Z-3f9c").unwrap();
    assert!(matches!(run(folder.store.archive_delete(&id, &owner(1))), Err(StoreError::NotArchived { .. })));
    assert!(!trash.exists());
}

/// A folder of this user that no store may touch, with a file in it.
fn precious(folder: &Folder) -> PathBuf {
    let precious = folder._folder.path().join("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("file"), "precious").unwrap();
    precious
}

/// A link prepared by others: owned by another user, if the tests run as root.
fn foreign_link(to: &Path, at: &Path) {
    symlink(to, at).unwrap();
    if rustix::process::geteuid().is_root() {
        lchown(at, Some(54_321), None).unwrap();
    }
}

#[test]
fn a_symlink_among_leftovers_is_removed_without_its_target() {
    let folder = empty();
    folder.create(&devbox());
    let precious = precious(&folder);
    for own in [true, false] {
        for place in ["active/.new-web", "active/.new-devbox", "archive/.trash-web-20250115T103000Z-3f9c"] {
            let place = folder.root.join(place);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            if own {
                symlink(&precious, &place).unwrap()
            } else {
                foreign_link(&precious, &place)
            };
        }
        drop(run(folder.store.lock(&devbox(), &owner(1))).unwrap());
        let id = ArchiveId::parse("web-20250115T103000Z-3f9c").unwrap();
        run(folder.store.archive_delete(&id, &owner(1))).unwrap_err();
        assert_eq!(fs::read_dir(folder.root.join("archive")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(folder.root.join("active")).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(precious.join("file")).unwrap(), "precious");
    }
}

#[test]
fn a_symlink_in_place_of_a_lock_is_refused_without_writing_its_target() {
    let folder = empty();
    folder.create(&devbox());
    let file = precious(&folder).join("file");
    for (vm, lock) in [("web", "web.lock"), ("web", ".store")] {
        let lock = folder.root.join("locks").join(lock);
        let _ = fs::remove_file(&lock);
        symlink(&file, &lock).unwrap();
        let refused = run(folder.store.lock(&name(vm), &owner(1))).err().unwrap();
        assert!(
            matches!(&refused, StoreError::Io { source, .. } if source.to_string().contains("symbolic link"))
        );
        assert_eq!(run(folder.store.locks()).unwrap(), []);
        fs::remove_file(&lock).unwrap();
    }
    fs::hard_link(&file, folder.root.join("locks/web.lock")).unwrap();
    run(folder.store.lock(&name("web"), &owner(1))).err().unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn symlinks_of_other_users_are_refused_and_own_ones_are_followed() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let folder = empty();
    let mut record = folder.create(&devbox());
    folder.create(&name("web"));
    let (active, elsewhere) = (folder.root.join("active"), folder._folder.path().join("elsewhere"));
    let move_away = |place: &Path| {
        fs::rename(place, &elsewhere).unwrap();
        symlink(&elsewhere, place).unwrap();
    };
    let give_away = |place: &Path| lchown(place, Some(54_321), None).unwrap();
    let bring_back = |place: &Path| {
        fs::remove_file(place).unwrap();
        fs::rename(&elsewhere, place).unwrap();
    };
    for place in [active.join("devbox"), active.join("devbox/state.json"), active.clone()] {
        move_away(&place);
        folder.save(&mut record);
        assert_eq!(run(folder.store.list()).unwrap().entries.len(), 2, "{}", place.display());
        // Saving a record that is itself a link replaces the link by a file.
        if !fs::symlink_metadata(&place).unwrap().is_symlink() {
            fs::remove_file(&elsewhere).unwrap();
            move_away(&place);
        }
        give_away(&place);
        let text = format!("{:?}", run(folder.store.load(&devbox())).unwrap_err());
        assert!(text.contains("ForeignLink") && text.contains("54321"), "{text}");
        if place == active {
            run(folder.store.list()).unwrap_err();
            run(folder.store.lock(&name("new"), &owner(1))).err().unwrap();
        } else {
            let listing = run(folder.store.list()).unwrap();
            assert_eq!((listing.entries.len(), listing.broken.len()), (1, 1));
            assert_eq!(run(folder.store.records()).unwrap().broken.len(), 1);
        }
        bring_back(&place);
    }
    folder.save(&mut record);
    let archive = folder.root.join("archive");
    foreign_link(&precious(&folder), &archive);
    record.phase = Phase::Destroyed;
    let mut held = run(folder.store.lock(&devbox(), &owner(1))).unwrap();
    run(held.archive(&mut record, time("2025-02-01T00:00:00Z"))).unwrap_err();
    run(folder.store.archive_list()).unwrap_err();
    assert!(folder.state().exists());
}
