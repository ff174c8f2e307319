//! Rules of changes that hold for all stacks: what differs is found, and nothing else; and a VM that is changed and
//! changed back is as before.

use std::collections::BTreeSet;

use goloo_engine::{ApplyRequest, GuestInputs};
use goloo_model::change::{Documents, Setting, SettingChange, changes};
use goloo_model::record::{ApplyInputs, Overrides, Record, RecordedStack, UserKeys};
use goloo_model::store::Store;
use goloo_testkit::fake_provider::{FakeGuest, FakeProvider};
use goloo_testkit::memory_store::MemoryStore;
use goloo_testkit::providers::{AWS, QEMU};
use goloo_testkit::samples::name;
use goloo_testkit::store_suite::run;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};

use crate::engine_crash::{engine, request};

/// The values of each field of a recorded stack, and the setting that it belongs to.
fn fields() -> Vec<(&'static str, Setting, Vec<Value>)> {
    let lists = |entries: Value| {
        let entries = entries.as_array().unwrap().clone();
        let reversed = entries.iter().rev().cloned().collect::<Vec<_>>();
        vec![json!([]), json!(entries[..1]), json!(entries), json!(reversed)]
    };
    let texts = || vec![Value::Null, json!("a"), json!("b")];
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGl0c2FuZXhhbXBsZWtleXRoYXRpc25vdHVzZWRhbnl3";
    vec![
        ("cpus", Setting::Cpus, vec![json!(1), json!(2)]),
        ("memory", Setting::Memory, vec![json!(1u64 << 30), json!((1u64 << 30) + 1)]),
        ("disk", Setting::Disk, vec![json!(4u64 << 30), json!(5u64 << 30)]),
        ("image", Setting::Image, vec![json!("debian-12"), json!("debian-13")]),
        ("imageSha256", Setting::Image, texts()),
        ("os", Setting::Os, vec![json!("debian-12"), json!("ubuntu-24.04")]),
        ("instanceType", Setting::InstanceType, texts()),
        ("region", Setting::Region, texts()),
        ("vpcId", Setting::VpcId, texts()),
        ("subnetId", Setting::SubnetId, texts()),
        ("iamInstanceProfile", Setting::IamInstanceProfile, texts()),
        ("spot", Setting::Spot, vec![json!(false), json!(true)]),
        (
            "users",
            Setting::Users,
            lists(json!([{"username": "ann"}, {"username": "bob", "keys": [{"inline": key}]}])),
        ),
        (
            "mounts",
            Setting::Mounts,
            lists(json!([
            {"source": "/a", "target": "/b"}, {"source": "/a", "target": "/b", "readonly": true}])),
        ),
        (
            "ports",
            Setting::Ports,
            lists(json!([
            {"host": 80, "guest": 80, "protocol": "tcp"}, {"host": 80, "guest": 80, "protocol": "udp"}])),
        ),
        ("autoPorts", Setting::AutoPorts, vec![json!(false), json!(true)]),
        ("sshCidr", Setting::SshCidr, lists(json!(["10.0.0.0/8", "me"]))),
        ("ttl", Setting::Ttl, vec![Value::Null, json!(3600), json!(3601)]),
        (
            "dns",
            Setting::Dns,
            vec![
                Value::Null,
                json!({"hostname": "web", "domain": "example.com", "ttl": 60}),
                json!({"hostname": "web", "domain": "example.com", "ttl": 60, "isApexDomain": true}),
                json!({"hostname": "web", "domain": "example.com", "ttl": 60, "zoneId": "Z1"}),
            ],
        ),
        ("sections", Setting::ProviderSection, vec![json!({}), json!({"qemu": 1}), json!({"qemu": [1]})]),
    ]
}

fn parsed(json: &Map<String, Value>) -> RecordedStack {
    let json: Map<_, _> = json.clone().into_iter().filter(|(_, value)| !value.is_null()).collect();
    serde_json::from_value(Value::Object(json)).unwrap()
}

/// A stack, and another one in which some fields may differ.
fn pairs() -> impl Strategy<Value = (Map<String, Value>, Map<String, Value>)> {
    let field = |(name, _, values): (&'static str, Setting, Vec<Value>)| {
        (select(values.clone()), select(values)).prop_map(move |(one, other)| (name, one, other))
    };
    let all: Vec<_> = fields().into_iter().map(field).collect();
    let names: Vec<_> = fields().into_iter().map(|(name, ..)| name).collect();
    let count = names.len();
    (all, subsequence(names, 0..=count)).prop_map(|(values, changed)| {
        let side = |is_second: bool| {
            let value = |(name, one, other): &(&str, Value, Value)| {
                let value = if is_second && changed.contains(name) { other } else { one };
                ((*name).to_owned(), value.clone())
            };
            values.iter().map(value).collect()
        };
        (side(false), side(true))
    })
}

fn found(before: &RecordedStack, after: &RecordedStack) -> Vec<SettingChange> {
    let documents = Documents::default();
    changes(&QEMU, (before, &documents), (after, &documents))
}

proptest! {
    #[test]
    fn exactly_what_differs_is_found((before, after) in pairs()) {
        let expected: BTreeSet<_> = fields()
            .into_iter()
            .filter(|(name, ..)| before[*name] != after[*name])
            .map(|(_, setting, _)| setting)
            // Of the two keys for images, this provider reads one.
            .filter(|setting| *setting != Setting::Os)
            .collect();
        let (before, after) = (parsed(&before), parsed(&after));
        let found: BTreeSet<_> = found(&before, &after).into_iter().map(|change| change.setting).collect();
        prop_assert_eq!(found, expected);
    }
}

proptest! {
    // Each creates a VM and changes it four times.
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn what_is_changed_back_is_as_before((before, after) in pairs()) {
        there_and_back(&parsed(&before), &parsed(&after));
    }
}

/// A field that is added to recorded stacks must be added to [`fields`], whose test finds it.
#[test]
fn no_field_of_a_stack_is_forgotten() {
    let last = |(name, _, values): (&'static str, Setting, Vec<Value>)| {
        (name.to_owned(), values.into_iter().next_back().unwrap())
    };
    let full: Map<_, _> = fields().into_iter().map(last).collect();
    let stored = serde_json::to_value(parsed(&full)).unwrap();
    let stored: BTreeSet<_> = stored.as_object().unwrap().keys().cloned().collect();
    assert_eq!(stored, full.keys().cloned().collect());
    let schema = serde_json::to_value(schemars::schema_for!(RecordedStack)).unwrap();
    let schema: BTreeSet<_> = schema["properties"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(schema, stored);
    // AWS reads the other key for images.
    let documents = Documents::default();
    let (one, mut other) = (parsed(&full), parsed(&full));
    other.os = "debian-11".into();
    let found = changes(&AWS, (&one, &documents), (&other, &documents));
    assert_eq!(found.iter().map(|change| change.setting).collect::<Vec<_>>(), [Setting::Os]);
}

/// The part of a record that changes of the VM are to restore.
fn essence(record: &Record) -> Record {
    let history = goloo_model::record::History::default();
    Record { serial: 0, updated_at: record.created_at, history, ..record.clone() }
}

fn apply(store: &MemoryStore, provider: &FakeProvider, target: &RecordedStack) -> Record {
    let record = run(store.load(&name("devbox"))).unwrap().unwrap().record;
    let had = record.resolved.as_deref().unwrap().clone();
    let changes = found(&had, target);
    let settings: Vec<_> =
        changes.iter().filter(|change| change.cost.keeps_machine()).map(|change| change.setting).collect();
    let user = |user: &goloo_model::record::RecordedUser| UserKeys {
        username: user.username.to_string(),
        github_username: None,
        keys: Vec::new(),
    };
    let inputs = ApplyInputs {
        target: target.clone(),
        users: target.users.iter().map(user).collect(),
        settings,
        overrides: Overrides::default(),
        config: None,
        login_user: record.ssh.as_ref().unwrap().user.clone(),
        restart: true,
        reprovision: None,
        running: false,
    };
    let request = ApplyRequest { record, had, inputs };
    let guest = FakeGuest::provisioned();
    let applied =
        engine(store, provider, &guest, async |engine| engine.apply(request, GuestInputs::default()).await);
    let applied = applied.unwrap();
    assert_eq!((applied.left, applied.pending), (Vec::new(), Vec::new()));
    applied.record
}

/// From one stack to another and back; of each change, what keeps the machine.
fn there_and_back(one: &RecordedStack, other: &RecordedStack) {
    let (store, provider) = (MemoryStore::default(), FakeProvider::default());
    let guest = FakeGuest::provisioned();
    engine(&store, &provider, &guest, async |engine| engine.create(request()).await).unwrap();
    let first = apply(&store, &provider, one);
    let applied = first.resolved.as_deref().unwrap();
    // What takes a new machine stays as it is, on the way back too.
    let (mut there, back) = (applied.clone(), applied.clone());
    for change in found(applied, other).iter().filter(|change| change.cost.keeps_machine()) {
        // A disk doesn't shrink again.
        if change.setting != Setting::Disk {
            there.take(change.setting, other);
        }
    }
    let second = apply(&store, &provider, &there);
    assert_eq!(second.resolved.as_deref(), Some(&there));
    let again = apply(&store, &provider, &there);
    assert_eq!(essence(&again), essence(&second), "applied twice");
    let third = apply(&store, &provider, &back);
    assert_eq!(essence(&third), essence(&first), "and back");
    assert_eq!(provider.machines(), 1);
}
