//! The JSON output of all versions: up to 1.16 with keys in alphabetical order; in 1.17 in source order, with an
//! instance's zone.

use goloo_model::time::Timestamp;
use serde_json::{Map, Value, json};

use crate::daemon::{Daemon, World};

/// Prints in the format of the emulated version.
pub fn print(daemon: &Daemon, value: Value) {
    let value = if is_1_17(daemon) { value } else { sorted(value) };
    println!("{}", serde_json::to_string_pretty(&value).unwrap());
}

pub fn is_1_13(daemon: &Daemon) -> bool {
    daemon.fault("era-1.13")
}

fn is_1_17(daemon: &Daemon) -> bool {
    daemon.fault("era-1.17")
}

pub fn version(daemon: &Daemon) -> &'static str {
    match () {
        () if is_1_13(daemon) => "1.13.1",
        () if is_1_17(daemon) => "1.17.0",
        () => "1.16.3",
    }
}

/// The minimum memory and disk size, in bytes.
pub fn least_sizes(daemon: &Daemon) -> [u64; 2] {
    if is_1_17(daemon) { [512 << 20, 1 << 30] } else { [128 << 20, 512 << 20] }
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> = map.into_iter().collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().map(|(key, value)| (key, sorted(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

fn zone(daemon: &Daemon, object: &mut Value) {
    if is_1_17(daemon) {
        object["zone"] = json!({"name": "zone1", "available": true});
    }
}

fn addresses(instance: &Value, state: &str) -> Value {
    match &instance["ip"] {
        _ if state != "Running" => json!([]),
        Value::String(ip) => json!([ip, "172.17.0.1"]),
        _ => json!(["N/A"]),
    }
}

pub fn list(daemon: &Daemon, world: &World<'_>, with_addresses: bool) -> Value {
    let listed = world.instances.keys().filter_map(|name| {
        let state = world.state(name)?;
        let ipv4 = if with_addresses { addresses(&world.instances[name], &state) } else { json!([]) };
        let mut one = json!({"name": name, "state": state, "ipv4": ipv4, "release": "Ubuntu 24.04 LTS"});
        zone(daemon, &mut one);
        Some(one)
    });
    json!({"list": listed.collect::<Vec<_>>()})
}

pub fn snapshot_list(world: &World<'_>) -> Value {
    let mut all = Map::new();
    for (name, instance) in &world.instances {
        let snapshots = instance["snapshots"].as_array().unwrap();
        if !snapshots.is_empty() {
            let one = |snapshot: &Value| {
                let label = snapshot["label"].as_str().unwrap().to_owned();
                (label, json!({"parent": snapshot["parent"], "comment": ""}))
            };
            all.insert(name.clone(), Value::Object(snapshots.iter().map(one).collect()));
        }
    }
    json!({"errors": [], "info": all})
}

/// The output of `info` for these instances, with data only the guest has if it was queried.
pub fn info(
    daemon: &Daemon,
    world: &World<'_>,
    names: &[String],
    snapshots: bool,
    asked_guests: bool,
) -> Value {
    let details = names.iter().map(|name| {
        let instance = &world.instances[name];
        let state = world.state(name).unwrap();
        if snapshots {
            return (name.clone(), json!({"snapshots": snapshot_details(daemon, instance)}));
        }
        let mut details = match asked_guests && state == "Running" {
            true => running(instance),
            false => without_guest(instance, &state),
        };
        zone(daemon, &mut details);
        if !is_1_13(daemon) {
            let count = instance["snapshots"].as_array().unwrap().len();
            details["snapshot_count"] = json!(count.to_string());
        }
        (name.clone(), details)
    });
    json!({"errors": [], "info": details.collect::<Map<_, _>>()})
}

fn running(instance: &Value) -> Value {
    json!({
        "state": "Running", "image_hash": hash(instance), "image_release": "24.04 LTS",
        "release": "Ubuntu 24.04.3 LTS", "cpu_count": instance["cpus"], "load": [0.45, 0.51, 0.15],
        "disks": {"sda1": {"used": "1288490188", "total": "5153960756"}},
        "memory": {"used": 60_817_408, "total": 1_503_238_554}, "ipv4": addresses(instance, "Running"),
        "mounts": mounts(instance),
    })
}

fn without_guest(instance: &Value, state: &str) -> Value {
    json!({
        "state": state, "image_hash": hash(instance), "image_release": "24.04 LTS", "release": "",
        "cpu_count": "", "load": [], "disks": {"sda1": {}}, "memory": {}, "ipv4": [],
        "mounts": mounts(instance),
    })
}

fn hash(instance: &Value) -> String {
    let image = instance["image"].as_str().unwrap();
    let sum = image.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    format!("{sum:064x}")
}

fn mounts(instance: &Value) -> Value {
    let one = |(target, source): (&String, &Value)| {
        let ids = json!(["1000:default"]);
        (target.clone(), json!({"uid_mappings": ids, "gid_mappings": ids, "source_path": source}))
    };
    Value::Object(instance["mounts"].as_object().unwrap().iter().map(one).collect())
}

fn snapshot_details(daemon: &Daemon, instance: &Value) -> Value {
    let one = |snapshot: &Value| {
        let created = Timestamp::from_unix(snapshot["created"].as_i64().unwrap()).unwrap();
        let created = if is_1_13(daemon) { created.to_string() } else { as_date_writes_it(created) };
        let details = json!({
            "size": "", "cpu_count": "2", "disk_space": "5.0GiB", "memory_size": "1.0GiB", "mounts": {},
            "created": created, "parent": snapshot["parent"], "children": [], "comment": "",
        });
        (snapshot["label"].as_str().unwrap().to_owned(), details)
    };
    Value::Object(instance["snapshots"].as_array().unwrap().iter().map(one).collect())
}

/// `%c %Z`, which follows the user's locale and zone unless the C locale and UTC are requested.
fn as_date_writes_it(time: Timestamp) -> String {
    let asked = |name: &str, value: &str| std::env::var(name).is_ok_and(|set| set == value);
    if !(asked("LC_ALL", "C") && asked("TZ", "UTC")) {
        return "Mi 15 Jan 2025 11:30:00 CET".to_owned();
    }
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = time.to_string();
    let (date, clock) = text.trim_end_matches('Z').split_once('T').unwrap();
    let parts: Vec<usize> = date.split('-').map(|part| part.parse().unwrap()).collect();
    format!("Wed {} {:>2} {clock} {} UTC", MONTHS[parts[1] - 1], parts[2], parts[0])
}
