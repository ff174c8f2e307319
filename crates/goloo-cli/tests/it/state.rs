//! `goloo state`: moving records between stores. The contents of stores are compared as the documents that `state pull`
//! writes, so every kind of store is checked in the same way.

use crate::common;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::common::{World, wait_until};
use goloo_model::name::ArchiveId;
use goloo_model::record::{Phase, Record};
use goloo_model::store::{Store, VmLock};
use goloo_store::{DirStore, Options};
use goloo_testkit::samples::{creating, in_aws, name, owner, ready, snapshot, time};
use goloo_testkit::store_suite::run;
use serde_json::json;

/// The stores that records are moved to and back from, in a world's folder.
fn places(world: &World) -> Vec<String> {
    vec![dir(world, "elsewhere"), format!("sqlite:{}", world.path().join("elsewhere.db").display())]
}

fn dir(world: &World, folder: &str) -> String {
    format!("dir:{}", world.path().join(folder).display())
}

fn store(root: &Path) -> DirStore {
    DirStore::open(root, Options::default())
}

fn lock(store: &DirStore, vm: &str) -> Box<dyn VmLock> {
    run(store.lock(&name(vm), &owner(std::process::id()))).unwrap()
}

fn create(store: &DirStore, mut record: Record) -> Record {
    run(lock(store, record.name.as_str()).create(&mut record, &snapshot())).unwrap();
    record
}

fn archive(store: &DirStore, vm: &str) -> ArchiveId {
    let mut held = lock(store, vm);
    let mut record = run(held.load()).unwrap().unwrap().record;
    record.phase = Phase::Destroyed;
    run(held.archive(&mut record, time("2025-02-01T00:00:00Z"))).unwrap()
}

/// A world with three VMs and two archived ones, of which one has a name that is in use again.
fn filled() -> World {
    let world = World::new();
    let store = store(&world.state());
    for vm in ["gone", "web"] {
        create(&store, ready(&name(vm)));
        archive(&store, vm);
    }
    create(&store, in_aws(&name("api")));
    create(&store, ready(&name("web")));
    let mut db = create(&store, ready(&name("db")));
    run(lock(&store, "db").save(&mut db)).unwrap();
    world
}

fn pulled(world: &World) -> String {
    world.run(&["state", "pull", "-"]).expect(0).stdout()
}

fn settings(world: &World) -> serde_json::Value {
    serde_json::from_slice(&fs::read(world.path().join("config/settings.json")).unwrap()).unwrap()
}

/// Archives a VM as if it was done long ago, under an id that a lock would no longer assign.
fn archive_by_document(world: &World, vm: &str) {
    let mut document: serde_json::Value = serde_json::from_str(&pulled(world)).unwrap();
    let vms = document["vms"].as_array_mut().unwrap();
    let at = vms.iter().position(|entry| entry["record"]["name"] == vm).unwrap();
    let mut entry = vms.remove(at);
    let serial = entry["record"]["serial"].as_u64().unwrap();
    entry["record"]["serial"] = json!(serial + 1);
    entry["record"]["phase"] = json!("destroyed");
    let end = entry["record"]["id"].as_str().unwrap()[22..].to_lowercase();
    entry["id"] = json!(format!("{vm}-20200101T000000Z-{end}"));
    document["archived"].as_array_mut().unwrap().push(entry);
    let file = world.path().join("archive-one.json");
    fs::write(&file, document.to_string()).unwrap();
    world.run(&["state", "push", &file.display().to_string()]).expect(0);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&pulled(world)).unwrap(), document);
}

// Move.

#[test]
fn a_move_there_and_back_preserves_every_byte() {
    let world = filled();
    let before = pulled(&world);
    for place in places(&world) {
        world.run(&["state", "move", &place]).expect(0);
        assert_eq!(pulled(&world), before, "{place}");
        let shown = world.json(&["state", "show", "--json"]);
        assert_eq!(
            (&shown["address"], &shown["vms"], &shown["archived"]),
            (&json!(place), &json!(3), &json!(2))
        );
        assert_eq!(settings(&world)["localProvider"], "qemu", "other settings stay");
        assert_eq!(world.names(), ["api", "db", "web"]);
    }
    world.run(&["state", "move", "dir"]).expect(0);
    assert_eq!(pulled(&world), before);
    assert_eq!(settings(&world), json!({"localProvider": "qemu"}));
}

#[test]
fn changes_in_the_target_store_survive_the_move_back() {
    // A separate world for each: the order of two VMs archived in the same second is undefined.
    for nth in 0..places(&World::new()).len() {
        let world = filled();
        let place = places(&world).remove(nth);
        world.run(&["state", "move", &place]).expect(0);
        world.run(&["protect", "db"]).expect(0);
        world.run(&["create", "hello", "--no-wait"]).expect(0);
        world.run(&["create", "hello", "--as", "again", "--no-wait"]).expect(0);
        world.run(&["delete", "again", "--yes"]).expect(0);
        archive_by_document(&world, "api");
        // Its record is archived here, and its name is used again.
        world.run(&["delete", "web", "--yes", "--forget"]).expect(0);
        world.run(&["create", "hello", "--as", "web", "--no-wait"]).expect(0);
        let before = pulled(&world);
        world.run(&["state", "move", "dir"]).expect(0);
        assert_eq!(pulled(&world), before, "{place}");
    }
}

#[test]
fn a_store_is_read_only_after_it_was_moved() {
    let world = filled();
    let old = fs::read_to_string(world.path().join("config/settings.json")).unwrap();
    let place = dir(&world, "elsewhere");
    world.run(&["state", "move", &place]).expect(0);
    world.settings(&old);
    assert_eq!(world.names(), ["api", "db", "web"]);
    let list = world.run(&["list"]).expect(0);
    assert!(list.stderr().contains("was moved to") && list.stderr().contains("out of date"), "{list:?}");
    let refused = world.run(&["protect", "db"]).expect(1);
    assert!(refused.stderr().contains(&format!("was moved to {place}")), "{refused:?}");
    assert!(refused.stderr().contains(&format!("goloo state move {place}")), "{refused:?}");
    // This only switches the setting: changes in the new store are kept.
    let new = store(&world.path().join("elsewhere"));
    archive(&new, "db");
    world.run(&["state", "move", &place]).expect(0);
    assert_eq!(world.names(), ["api", "web"]);
    world.settings(&old);
    let elsewhere = world.run(&["state", "move", &dir(&world, "third")]).expect(1);
    assert!(elsewhere.stderr().contains(&format!("was moved to {place}")), "{elsewhere:?}");
    assert!(!world.path().join("third").exists());
}

#[test]
fn a_move_to_the_current_store_changes_nothing() {
    let world = filled();
    let before = pulled(&world);
    for place in ["dir".to_owned(), dir(&world, "data/goloo")] {
        let ran = world.run(&["state", "move", &place]).expect(0);
        assert!(ran.stdout().contains("already"), "{ran:?}");
    }
    assert_eq!((pulled(&world), settings(&world)), (before, json!({"localProvider": "qemu"})));
    world.run(&["protect", "db"]).expect(0);
}

#[test]
fn a_move_is_refused_while_a_vm_is_locked_or_unfinished() {
    let world = filled();
    let store = store(&world.state());
    let place = dir(&world, "elsewhere");
    let held = lock(&store, "db");
    let refused = world.run(&["state", "move", &place]).expect(5);
    assert!(refused.stderr().contains("db is locked by ann on laptop"), "{refused:?}");
    drop(held);
    create(&store, creating(&name("half")));
    let refused = world.run(&["state", "move", &place]).expect(5);
    assert!(refused.stderr().contains("create of half is unfinished"), "{refused:?}");
    assert!(!world.path().join("elsewhere").exists());
    assert_eq!(settings(&world), json!({"localProvider": "qemu"}));
}

#[test]
fn a_move_is_refused_if_the_target_has_other_or_newer_records() {
    let world = filled();
    let here = store(&world.state());
    let place = dir(&world, "elsewhere");
    let there = store(&world.path().join("elsewhere"));
    create(&there, ready(&name("other")));
    create(&there, ready(&name("db")));
    let mut newer = run(here.load(&name("api"))).unwrap().unwrap().record;
    newer.serial = 9;
    run(lock(&there, "api").put(&newer, &snapshot())).unwrap();
    let refused = world.run(&["state", "move", &place]).expect(1);
    for said in [
        "other is in the target store but not in the source",
        "db is another VM in the target store",
        "api is newer in the target store: its serial is 9",
    ] {
        assert!(refused.stderr().contains(said), "{said}: {refused:?}");
    }
    world.run(&["protect", "db"]).expect(0);
    assert_eq!(run(there.names()).unwrap(), ["api", "db", "other"]);
}

#[test]
fn a_move_is_refused_if_a_record_is_broken() {
    let world = filled();
    fs::write(world.state().join("active/db/state.json"), "{").unwrap();
    let refused = world.run(&["state", "move", &dir(&world, "elsewhere")]).expect(1);
    assert!(refused.stderr().contains("active/db/state.json"), "{refused:?}");
    assert!(!world.path().join("elsewhere").exists());
}

#[test]
fn concurrent_moves_run_one_after_another_or_are_refused() {
    let world = filled();
    let before = pulled(&world);
    let targets = ["one", "two", "three"].map(|folder| dir(&world, folder));
    let start = |to: &String| world.command().args(["state", "move", to]).output();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = targets.iter().map(|to| scope.spawn(move || start(to).unwrap())).collect();
        running.into_iter().map(|ran| common::Ran(ran.join().unwrap())).collect()
    });
    assert!(outcomes.iter().any(|ran| ran.code() == 0), "{outcomes:?}");
    for ran in &outcomes {
        let fine = ran.code() == 0
            || ran.code() == 5 && ran.stderr().contains("another move")
            || ran.stderr().contains("was moved to");
        assert!(fine, "{ran:?}");
    }
    assert_eq!(pulled(&world), before);
    // Exactly one of the stores is in use.
    let all =
        [world.state()].into_iter().chain(["one", "two", "three"].map(|folder| world.path().join(folder)));
    let live = all.filter(|root| root.join("active/db").exists() && !root.join("moved.json").exists());
    assert_eq!(live.count(), 1);
    world.run(&["protect", "db"]).expect(0);
}

#[test]
fn one_of_two_hosts_moving_a_store_succeeds_and_the_other_is_told_its_target() {
    let world = filled();
    let before = pulled(&world);
    let places = ["one", "two"].map(|folder| dir(&world, folder));
    let computer = |nth: usize, arguments: &[&str]| {
        let mut command = world.command();
        command.env("GOLOO_CONFIG_DIR", world.path().join(["config", "other"][nth])).args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let run_on = |nth: usize, arguments: &[&str]| common::Ran(computer(nth, arguments).output().unwrap());
    // No mark can be set while somebody may be writing.
    let writer = fs::File::open(world.state().join("locks/.store")).unwrap();
    writer.lock_shared().unwrap();
    let movers = [0, 1].map(|nth| computer(nth, &["state", "move", &places[nth]]).spawn().unwrap());
    // By then, both have seen a store without a mark.
    wait_until("both have copied all", || {
        ["one", "two"].iter().all(|folder| {
            let copy = store(&world.path().join(folder));
            (run(copy.names()).unwrap().len(), run(copy.archive_list()).unwrap().entries.len()) == (3, 2)
        })
    });
    drop(writer);
    let ran = movers.map(|mover| common::Ran(mover.wait_with_output().unwrap()));
    let winner = ran.iter().position(|ran| ran.code() == 0).unwrap_or_else(|| panic!("{ran:?}"));
    let (place, loser) = (&places[winner], 1 - winner);
    assert_eq!(ran[loser].code(), 1, "{ran:?}");
    for said in [
        &format!("was moved to {place}"),
        &format!("goloo state move {place}"),
        &format!("the copy in {} is not used", world.path().join(["one", "two"][loser]).display()),
    ] {
        assert!(ran[loser].stderr().contains(said), "{said}: {ran:?}");
    }
    // The loser is refused when it continues as before, and follows the hint.
    let refused = run_on(loser, &["protect", "db"]).expect(1);
    assert!(refused.stderr().contains(&format!("goloo state move {place}")), "{refused:?}");
    run_on(loser, &["state", "move", place]).expect(0);
    for nth in [0, 1] {
        assert_eq!(run_on(nth, &["state", "pull", "-"]).expect(0).stdout(), before);
    }
    run_on(loser, &["protect", "db"]).expect(0);
}

#[test]
fn a_vm_created_during_a_move_is_not_lost() {
    let world = filled();
    let place = dir(&world, "elsewhere");
    let names: Vec<_> = (0..6).map(|n| format!("vm-{n}")).collect();
    let made: Vec<_> = std::thread::scope(|scope| {
        let create = |vm: &str| {
            let output = world.command().args(["create", "hello", "--as", vm, "--no-wait"]).output();
            common::Ran(output.unwrap())
        };
        let running: Vec<_> = names.iter().map(|vm| scope.spawn(move || create(vm))).collect();
        // Refused while a create is in progress.
        while world.run(&["state", "move", &place]).code() != 0 {}
        running.into_iter().map(|ran| ran.join().unwrap()).collect()
    });
    let mut expected = vec!["api".to_owned(), "db".to_owned()];
    for (vm, ran) in names.iter().zip(&made) {
        match ran.code() {
            0 => expected.push(vm.clone()),
            _ => assert!(ran.stderr().contains("was moved to"), "{ran:?}"),
        }
    }
    expected.push("web".to_owned());
    assert_eq!(world.names(), expected);
    assert_eq!(world.machines().len(), expected.len() - 3, "each machine has a record");
    for vm in &expected[2..expected.len() - 1] {
        world.run(&["delete", vm, "--yes"]).expect(0);
    }
    assert_eq!(world.qemus(), Vec::<u32>::new());
}

// Backup and restore.

fn backup(world: &World, file: &str) -> String {
    let path = world.path().join(file).display().to_string();
    world.run(&["state", "backup", &path]).expect(0);
    path
}

/// A private key and its fingerprint according to ssh-keygen.
fn client_key() -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("id");
    let run = |arguments: &[&str]| {
        let done =
            std::process::Command::new("ssh-keygen").args(arguments).arg("-f").arg(&path).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap()
    };
    run(&["-q", "-t", "ed25519", "-N", ""]);
    let fingerprint = run(&["-l"]).split(' ').nth(1).unwrap().to_owned();
    (fs::read_to_string(&path).unwrap(), fingerprint)
}

/// Another computer, without records.
fn empty() -> World {
    World::new()
}

#[test]
fn a_backup_restored_on_another_host_gives_the_same_store() {
    let world = filled();
    fs::create_dir_all(world.state().join("keys")).unwrap();
    let (private, fingerprint) = client_key();
    fs::write(world.state().join("keys/id_ed25519"), &private).unwrap();
    let file = backup(&world, "goloo.tar.zst");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let other = empty();
    let said = other.run(&["state", "restore", &file, "--dry-run"]).expect(0);
    assert_eq!(said.stdout().lines().count(), 5, "{said:?}");
    assert!(said.stderr().contains(&fingerprint), "{said:?}");
    assert!(!other.state().exists(), "a dry run writes nothing");
    // Somebody else's key would give them access to all future VMs.
    let refused = other.run(&["state", "restore", &file]).expect(2).stderr();
    assert!(refused.contains(&fingerprint) && refused.contains("--yes"), "{refused}");
    assert!(!other.state().exists(), "nothing is written before the answer");
    for _ in 0..2 {
        other.run(&["state", "restore", &file, "--yes"]).expect(0);
        assert_eq!(pulled(&other), pulled(&world));
    }
    let key = other.state().join("keys/id_ed25519");
    assert_eq!(fs::read_to_string(&key).unwrap(), private);
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn restore_keeps_an_existing_client_key() {
    let world = filled();
    let key = |world: &World| world.state().join("keys/id_ed25519");
    fs::create_dir_all(world.state().join("keys")).unwrap();
    let ((old, fingerprint), (new, _)) = (client_key(), client_key());
    fs::write(key(&world), old).unwrap();
    let file = backup(&world, "goloo.tar.zst");
    fs::write(key(&world), &new).unwrap();
    let ran = world.run(&["state", "restore", &file]).expect(0);
    assert!(
        ran.stderr().contains("differs from the backup's key") && ran.stderr().contains(&fingerprint),
        "{ran:?}"
    );
    assert_eq!(fs::read_to_string(key(&world)).unwrap(), new);
}

#[test]
fn restore_refuses_to_overwrite_newer_records_and_names_each() {
    let world = filled();
    let file = backup(&world, "goloo.tar.zst");
    for vm in ["api", "db"] {
        world.run(&["protect", vm]).expect(0);
    }
    let store = store(&world.state());
    let id = archive(&store, "web");
    let before = pulled(&world);
    let refused = world.run(&["state", "restore", &file]).expect(1);
    for said in [
        "api is newer in the target store: its serial is 2, this record's is 1",
        "db is newer in the target store: its serial is 3, this record's is 2",
        &format!("web was deleted in the target store; its archived record is {id}"),
    ] {
        assert!(refused.stderr().contains(said), "{said}: {refused:?}");
    }
    assert_eq!(pulled(&world), before);
}

#[test]
fn restore_updates_older_records() {
    let world = filled();
    let old = backup(&world, "old.tar.zst");
    world.run(&["protect", "db"]).expect(0);
    archive(&store(&world.state()), "web");
    let new = backup(&world, "new.tar.zst");
    let other = empty();
    other.run(&["state", "restore", &old]).expect(0);
    let said = other.run(&["state", "restore", &new, "--dry-run"]).expect(0);
    assert!(said.stdout().contains("would write db") && !said.stdout().contains("api"), "{said:?}");
    other.run(&["state", "restore", &new]).expect(0);
    assert_eq!(pulled(&other), pulled(&world));
}

#[test]
fn a_damaged_backup_is_refused_and_nothing_is_written() {
    let world = filled();
    let file = backup(&world, "goloo.tar.zst");
    let sound = fs::read(&file).unwrap();
    let other = empty();
    let refuse = |bytes: &[u8], said: &str| {
        fs::write(&file, bytes).unwrap();
        let refused = other.run(&["state", "restore", &file]).expect(1);
        assert!(refused.stderr().contains(said), "{said}: {refused:?}");
        assert!(!other.state().exists());
    };
    refuse(&sound[..sound.len() - 1], "it is incomplete: its end, at byte");
    refuse(b"", "too short");
    for at in [0, 100, sound.len() / 2, sound.len() - 45] {
        let mut altered = sound.clone();
        altered[at] ^= 0x10;
        refuse(&altered, "it was altered: ");
    }
}

#[test]
fn backup_does_not_replace_an_existing_file() {
    let world = filled();
    let file = backup(&world, "goloo.tar.zst");
    let before = fs::read(&file).unwrap();
    let refused = world.run(&["state", "backup", &file]).expect(1);
    assert!(refused.stderr().contains("use another name"), "{refused:?}");
    assert_eq!(fs::read(&file).unwrap(), before);
}

#[test]
fn backup_skips_unreadable_records_and_reports_them() {
    let world = filled();
    for (vm, damage) in [("api", "{"), ("db", "")] {
        fs::write(world.state().join("active").join(vm).join("state.json"), damage).unwrap();
    }
    let path = world.path().join("goloo.tar.zst").display().to_string();
    let said = world.run(&["state", "backup", &path]).expect(0).stderr();
    assert!(said.contains("api/state.json is broken") && said.contains("it is skipped"), "{said}");
    assert!(said.contains("db/state.json is broken") && said.contains("its previous copy is used"), "{said}");
    let other = empty();
    other.run(&["state", "restore", &path]).expect(0);
    assert_eq!(other.names(), ["db", "web"]);
}

#[test]
fn tar_and_zstd_unpack_a_backup() {
    let world = filled();
    let file = backup(&world, "goloo.tar.zst");
    let listed = std::process::Command::new("tar").args(["--zstd", "-tf", &file]).output();
    let listed = listed.unwrap();
    let text = String::from_utf8_lossy(&listed.stdout);
    assert!(
        listed.status.success() && text.starts_with("manifest.json\nactive/api/state.json\n"),
        "{listed:?}"
    );
}

// Pull and push.

#[test]
fn a_pulled_document_can_be_pushed_into_another_store() {
    let world = filled();
    let file = world.path().join("all.json").display().to_string();
    world.run(&["state", "pull", &file]).expect(0);
    let other = empty();
    for _ in 0..2 {
        other.run(&["state", "push", &file]).expect(0);
        assert_eq!(pulled(&other), pulled(&world));
    }
}

#[test]
fn a_push_of_older_or_foreign_records_is_refused() {
    let world = filled();
    let file = world.path().join("all.json").display().to_string();
    world.run(&["state", "pull", &file]).expect(0);
    world.run(&["protect", "db"]).expect(0);
    let before = pulled(&world);
    let refused = world.run(&["state", "push", &file]).expect(1);
    assert!(refused.stderr().contains("db is newer in the target store"), "{refused:?}");
    assert!(refused.stderr().contains("--force"), "{refused:?}");
    assert_eq!(pulled(&world), before);
    world.run(&["state", "push", "--force", &file]).expect(0);
    let db = world.json(&["status", "db", "--json"]);
    assert_eq!((&db["vm"]["serial"], db["vm"].get("protected")), (&json!(4), None));

    let other = empty();
    create(&store(&other.state()), ready(&name("db")));
    for arguments in [vec!["state", "push", &file], vec!["state", "push", "--force", &file]] {
        let refused = other.run(&arguments).expect(1);
        assert!(refused.stderr().contains("db is another VM in the target store"), "{refused:?}");
    }
    assert_eq!(other.names(), ["db"]);
}

#[test]
fn an_invalid_document_is_refused_before_any_write() {
    let world = filled();
    let document: serde_json::Value = serde_json::from_str(&pulled(&world)).unwrap();
    let other = empty();
    let refuse = |change: fn(&mut serde_json::Value), said: &str| {
        let mut document = document.clone();
        change(&mut document);
        let file = other.path().join("all.json");
        fs::write(&file, document.to_string()).unwrap();
        let refused = other.run(&["state", "push", &file.display().to_string()]).expect(1);
        assert!(refused.stderr().contains(said), "{said}: {refused:?}");
        assert!(!other.state().exists());
    };
    refuse(|all| all["vms"][2]["record"]["schema"] = json!(3), "web was written by a newer goloo");
    refuse(|all| all["vms"][2]["record"]["phase"] = json!("destroyed"), "web is active, but its phase is");
    refuse(
        |all| all["vms"][2]["record"]["endpoint"] = json!({"address": "192.0.2.1", "sshPort": 22}),
        "web: endpoint.address: ",
    );
    refuse(
        |all| all["archived"][0]["record"]["phase"] = json!("ready"),
        "is archived, but its phase is ready",
    );
    refuse(
        |all| {
            let first = all["vms"][0].clone();
            all["vms"].as_array_mut().unwrap().push(first);
        },
        "api appears twice",
    );
}

#[test]
fn a_malformed_document_is_refused_with_the_position() {
    let world = filled();
    let file = world.path().join("all.json");
    let mut document: serde_json::Value = serde_json::from_str(&pulled(&world)).unwrap();
    document["vms"][1]["record"]["id"] = json!("x");
    fs::write(&file, document.to_string()).unwrap();
    let refused = world.run(&["state", "push", &file.display().to_string()]).expect(2);
    assert!(refused.stderr().contains("/vms/1: "), "{refused:?}");
}

// Locks.

#[test]
fn locks_are_listed_and_unlock_refuses_a_process_lock() {
    let world = filled();
    let store = store(&world.state());
    assert_eq!(world.json(&["state", "locks", "--json"]), json!({"schema": 1, "locks": []}));
    let free = world.run(&["state", "unlock", "db"]).expect(0);
    assert!(free.stderr().contains("db is not locked"), "{free:?}");
    let _held = lock(&store, "db");
    let pid = std::process::id();
    let locks = world.json(&["state", "locks", "--json"]);
    assert_eq!((&locks["locks"][0]["name"], &locks["locks"][0]["owner"]["pid"]), (&json!("db"), &json!(pid)));
    assert_eq!(world.json(&["state", "show", "--json"])["locks"], json!(["db"]));
    let table = world.run(&["state", "locks"]).expect(0).stdout();
    assert!(table.lines().nth(1).unwrap().starts_with("db    ann   laptop"), "{table}");
    let refused = world.run(&["state", "unlock", "db"]).expect(5);
    assert!(
        refused.stderr().contains(&format!("on laptop, run `kill {pid}` to end the process")),
        "{refused:?}"
    );
}
