#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::name::VmName;
use crate::provider_id::ProviderId;

const PROVIDERS: [ProviderId; 2] = [ProviderId::known("qemu"), ProviderId::known("aws")];

fn read(text: &str) -> Result<Environment, Vec<String>> {
    Environment::read(ENVIRONMENT_FILE, text.as_bytes(), "shop", &PROVIDERS)
        .map_err(|diagnostics| diagnostics.iter().map(ToString::to_string).collect())
}

fn names(ordered: &[OrderedMember]) -> Vec<String> {
    ordered.iter().map(|ordered| ordered.member.short_name()).collect()
}

const SHOP: &str = r#"{"network": true, "machines": {
    "proxy": {"stack": "proxy", "after": ["web"], "ports": ["8080:80", 443]},
    "web": {"stack": "web", "count": 2, "after": ["db"], "vars": {"db": "db"}, "memory": "1G"},
    "db": {"stack": "./db", "cpus": 4, "provider": "qemu"}}}"#;

#[test]
fn a_valid_file_gives_its_machines_with_their_overrides() {
    let shop = read(SHOP).unwrap();
    assert_eq!((shop.name.as_str(), shop.network), ("shop", true));
    let members: Vec<String> = shop.members().map(|(_, member)| member.short_name()).collect();
    assert_eq!(members, ["db", "proxy", "web-1", "web-2"]);
    let overrides = |name: &str| {
        let machine = shop.machines.iter().find(|machine| machine.name.as_str() == name).unwrap();
        machine.overrides.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>()
    };
    assert_eq!(overrides("db"), ["vm.cpus=4"]);
    assert_eq!(overrides("proxy"), [r#"vm.ports=["8080:80",443]"#]);
    assert_eq!(overrides("web"), [r#"cloud_init.vars.db="db""#, r#"vm.memory="1G""#]);
}

#[test]
fn all_problems_are_reported_at_once_each_with_its_place() {
    let text = r#"{"nmae": "x", "machines": {
  "Web": {"stack": "web"},
  "a": {"stack": "a", "count": 0, "after": ["b", "cc", "a"], "vars": {"machines": 1, "a.b": 2}},
  "b": {"after": ["a"], "cpus": "4", "provider": "azure", "prots": []},
  "c": {"stack": 5}}}"#;
    let problems = read(text).unwrap_err();
    let expect = [
        "goloo.json:1:2: unknown key \"nmae\"",
        "goloo.json:2:10: \"Web\" has upper-case letters; names are lower case: \"web\"",
        "goloo.json:3:32: count is 0, which is out of range",
        "there is no machine \"cc\"",
        "the machine a can't come after itself",
        "the variable machines is goloo's own",
        "the variable \"a.b\" can't be used",
        "the machine b has no stack",
        "machines.b.cpus must be a whole number, not the string \"4\"",
        "there is no provider \"azure\"",
        "unknown key \"prots\"",
        "machines.c.stack must be a string, not the number 5",
    ];
    for expected in expect {
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{expected}: {problems:#?}");
    }
    assert!(!problems.iter().any(|problem| problem.contains("machine c has no stack")), "{problems:#?}");
    assert_eq!(problems.len(), expect.len(), "{problems:#?}");
}

#[test]
fn a_cycle_is_reported_once_with_its_path() {
    let text = r#"{"machines": {"a": {"stack": "x", "after": ["b"]}, "b": {"stack": "x", "after": ["c"]},
        "c": {"stack": "x", "after": ["b"]}, "d": {"stack": "x"}}}"#;
    assert_eq!(
        read(text).unwrap_err(),
        ["goloo.json:1:81: these machines wait for each other: b after c after b"]
    );
}

#[test]
fn names_that_collide_or_are_too_long_are_refused() {
    let collision = r#"{"machines": {"web": {"stack": "x", "count": 2}, "web-1": {"stack": "x"}}}"#;
    let problems = read(collision).unwrap_err();
    assert!(problems[0].contains("web and web-1 both have a machine called \"web-1\""), "{problems:?}");
    let machine =
        |length: usize| json!({"machines": {"m".repeat(length): {"stack": "x", "count": 10}}}).to_string();
    // "shop-", the machine, and "-10".
    assert!(read(&machine(55)).is_ok());
    let problems = read(&machine(56)).unwrap_err();
    assert!(problems[0].contains("more than 63 characters"), "{problems:?}");
}

#[test]
fn problems_of_a_config_are_shown_where_the_file_says_it() {
    let web = VmName::parse("web").unwrap();
    for (pointer, expected) in [
        ("/vm/cpus", "/machines/web/cpus"),
        ("/vm/ports/1", "/machines/web/ports/1"),
        ("/cloud_init/vars/db", "/machines/web/vars/db"),
        ("/vm/image", "/machines/web"),
        ("/dns/ttl", "/machines/web"),
        ("", "/machines/web"),
    ] {
        assert_eq!(pointer_in_environment(&web, pointer), expected, "{pointer}");
    }
}

#[test]
fn selected_machines_come_with_what_they_wait_for() {
    let shop = read(SHOP).unwrap();
    let of =
        |selection: &[&str]| ordered(&shop, &Selection::of(selection.iter().copied())).map(|all| names(&all));
    assert_eq!(of(&[]).unwrap(), ["db", "web-1", "web-2", "proxy"]);
    assert_eq!(of(&["web-2"]).unwrap(), ["db", "web-2"]);
    assert_eq!(of(&["web"]).unwrap(), ["db", "web-1", "web-2"]);
    assert_eq!(of(&["proxy"]).unwrap(), ["db", "web-1", "web-2", "proxy"]);
    let unknown = of(&["db", "web-3"]).unwrap_err();
    assert_eq!(unknown.given, "web-3");
    assert_eq!(unknown.known, ["db", "proxy", "web", "web-1", "web-2"]);
}

#[test]
fn vms_that_the_file_no_longer_has_are_named() {
    let shop = read(SHOP).unwrap();
    let smaller = read(
        &SHOP
            .replace("\"count\": 2", "\"count\": 1")
            .replace("\"db\": {", "\"data\": {")
            .replace("[\"db\"]", "[]"),
    );
    let existing: Vec<_> = shop.members().map(|(_, member)| member).collect();
    let removed: Vec<_> =
        removed(&smaller.unwrap(), existing.iter()).iter().map(|member| member.short_name()).collect();
    assert_eq!(removed, ["db", "web-2"]);
}

/// Machines that come only after earlier ones, so that there are no cycles.
fn environments() -> impl Strategy<Value = Environment> {
    let machine =
        (proptest::option::of(1..=4_u64), proptest::collection::vec(any::<prop::sample::Index>(), 0..3));
    proptest::collection::vec(machine, 1..8).prop_map(|machines| {
        let described = machines.iter().enumerate().map(|(place, (count, after))| {
            let after: Vec<String> = match place {
                0 => Vec::new(),
                _ => after.iter().map(|index| name_of(index.index(place))).collect(),
            };
            (name_of(place), json!({"stack": "x", "count": count, "after": after}))
        });
        let machines: serde_json::Map<_, _> = described.collect();
        read(&json!({"machines": machines}).to_string()).unwrap()
    })
}

/// Names whose order isn't that of the places.
fn name_of(place: usize) -> String {
    format!("{}{place}", ["m", "c", "x", "a"][place % 4])
}

proptest! {
    #[test]
    fn the_order_is_topological_complete_and_always_the_same(
        environment in environments(),
        selected in any::<prop::sample::Index>(),
    ) {
        let all = ordered(&environment, &Selection::default()).unwrap();
        prop_assert_eq!(all.len(), environment.members().count());
        for (place, one) in all.iter().enumerate() {
            prop_assert!(one.after.iter().all(|before| *before < place));
            let machine = environment.machines.iter().find(|machine| machine.name == one.member.machine).unwrap();
            let before: BTreeSet<VmName> =
                one.after.iter().map(|before| all[*before].member.machine.clone()).collect();
            prop_assert_eq!(before.into_iter().collect::<Vec<_>>(), machine.after.clone());
        }
        prop_assert_eq!(&all, &ordered(&environment, &Selection::default()).unwrap());
        // A selection has what it needs, in the same order.
        let one = &all[selected.index(all.len())];
        let some = ordered(&environment, &Selection::of([one.member.short_name()])).unwrap();
        prop_assert!(some.iter().any(|other| other.member == one.member));
        let places: Vec<usize> = some
            .iter()
            .map(|some| all.iter().position(|other| other.member == some.member).unwrap())
            .collect();
        for (some, place) in some.iter().zip(&places) {
            let mapped: Vec<usize> = some.after.iter().map(|before| places[*before]).collect();
            prop_assert_eq!(&mapped, &all[*place].after);
        }
    }
}
