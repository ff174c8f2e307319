//! `list` filters and sorts active and archived VMs, and `create --tag` sets the tags that it filters by.

use crate::common::World;
use goloo_model::record::{Phase, Record};
use goloo_model::store::Store;
use goloo_model::time::Timestamp;
use goloo_store::{DirStore, Options};
use goloo_testkit::samples::{in_aws, name, owner, ready, snapshot};
use goloo_testkit::store_suite::run;

fn days_ago(days: i64) -> Timestamp {
    Timestamp::from_unix(Timestamp::now().unix() - days * 86_400).unwrap()
}

fn by(user: &str, mut record: Record) -> Record {
    record.created_by.user = user.into();
    record.created_by.host = format!("{user}s-desk").into();
    record
}

fn tagged(tags: &[(&str, &str)], record: Record) -> Record {
    Record { tags: tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(), ..record }
}

fn put(world: &World, mut record: Record, archived: bool) {
    let store = DirStore::open(&world.state(), Options::default());
    let mut lock = run(store.lock(&record.name, &owner(1))).unwrap();
    run(lock.create(&mut record, &snapshot())).unwrap();
    if archived {
        record.phase = Phase::Destroyed;
        run(lock.archive(&mut record, Timestamp::now())).unwrap();
    }
}

/// Three VMs, active or archived: Ann's `api`, Bob's `db`, and Ann's `web` in AWS.
fn world(archived: bool) -> World {
    let world = World::new();
    let api = Record { created_at: days_ago(1), phase: Phase::Degraded, ..ready(&name("api")) };
    put(&world, tagged(&[("team", "blue")], by("ann", api)), archived);
    let db = Record { created_at: days_ago(10), ..ready(&name("db")) };
    put(&world, tagged(&[("team", "red"), ("keep", "")], by("bob", db)), archived);
    let web = Record { created_at: days_ago(5), ..in_aws(&name("web")) };
    put(&world, tagged(&[], by("ann", web)), archived);
    world
}

fn names(world: &World, place: &str, query: &[&str]) -> Vec<String> {
    let key = if place == "--archive" { "archived" } else { "vms" };
    let list = world.json(&[&["list", "--json", place], query].concat());
    list[key].as_array().unwrap().iter().map(|vm| vm["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn active_and_archived_vms_are_filtered_and_sorted_alike() {
    for (archived, place) in [(false, "--all"), (true, "--archive")] {
        let world = world(archived);
        for (query, expected) in [
            (&["--tag", "team"][..], &["api", "db"][..]),
            (&["--tag", "team=red"], &["db"]),
            (&["--tag", "keep="], &["db"]),
            (&["--tag", "team", "--tag", "keep"], &["db"]),
            (&["--filter", "provider=aws"], &["web"]),
            (&["--filter", "age>7d"], &["db"]),
            (&["--filter", "age>2d,age<7d"], &["web"]),
            (&["--filter", "creator=bob"], &["db"]),
            (&["--filter", "creator=ann@anns-desk", "--filter", "provider!=aws"], &["api"]),
            (&["--filter", "creator=ann@bobs-desk"], &[]),
            (&["--sort", "age"], &["api", "web", "db"]),
            (&["--sort", "-age"], &["db", "web", "api"]),
            (&["--sort=-name"], &["web", "db", "api"]),
            (&["--sort", "provider"], &["web", "api", "db"]),
            (&["--local", "--sort", "-creator"], &["db", "api"]),
        ] {
            let query = [query, if query.concat().contains("--sort") { &[] } else { &["--sort", "name"] }];
            assert_eq!(names(&world, place, &query.concat()), expected, "{place} {query:?}");
        }
    }
}

#[test]
fn list_filters_by_phase() {
    let world = world(false);
    assert_eq!(names(&world, "--all", &["--filter", "phase!=ready"]), ["api"]);
    let quiet = world.run(&["list", "-q", "--filter", "phase=ready", "--sort", "-name"]).expect(0);
    assert_eq!(quiet.stdout(), "web\ndb\n");
}

#[test]
fn list_shows_creators_if_there_are_several_and_always_in_json() {
    let world = world(false);
    let table = world.run(&["list"]).expect(0).stdout();
    assert!(table.contains("ann@anns-desk") && table.contains("bob@bobs-desk"), "{table}");
    let one = world.run(&["list", "--filter", "creator=ann"]).expect(0).stdout();
    assert!(!one.contains("BY") && !one.contains("anns-desk"), "{one}");
    let wide = world.run(&["list", "-v", "--tag", "keep"]).expect(0).stdout();
    assert!(wide.contains("bob@bobs-desk") && wide.contains("keep= team=red"), "{wide}");
    let list = world.json(&["list", "--json", "--tag", "keep"]);
    assert_eq!(list["vms"][0]["createdBy"], serde_json::json!({"user": "bob", "host": "bobs-desk"}));
}

#[test]
fn an_invalid_query_is_refused_with_the_valid_values() {
    let world = world(false);
    for (query, said) in [
        (["--filter", "provdier=aws"], "did you mean \"provider\"?"),
        (["--filter", "phase=up"], "possible values: creating, ready, degraded, deleting, destroyed"),
        (["--filter", "old"], "a filter looks like provider=aws"),
        (["--sort", "size"], "possible values: name, age, provider, phase, creator, stack"),
        (["--tag", "no blanks"], "a tag's key has 1 to 63"),
    ] {
        let ran = world.run(&["list", query[0], query[1]]).expect(2);
        assert!(ran.stderr().contains(said), "{ran:?}");
    }
}

#[test]
fn create_sets_tags_and_recreate_keeps_those_not_overridden() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait", "--tag", "team=blue", "--tag", "env=test"]).expect(0);
    let tags = |vm: &str| world.json(&["status", vm, "--json"])["vm"]["tags"].clone();
    assert_eq!(tags("hello"), serde_json::json!({"env": "test", "team": "blue"}));
    world.run(&["recreate", "hello", "--as", "two", "--no-wait", "--tag", "env=prod"]).expect(0);
    assert_eq!(tags("two"), serde_json::json!({"env": "prod", "team": "blue"}));
    world.run(&["create", "hello", "--as", "three", "--tag", "blue"]).expect(2);
}
