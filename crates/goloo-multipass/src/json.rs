//! Parses Multipass's output. The order and set of keys vary between versions (1.13 to 1.17 were examined); only those
//! goloo needs are read.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use goloo_model::provider::{DiskSnapshot, LiveState};
use goloo_model::time::Timestamp;
use goloo_model::usage::{GuestUsage, Share};
use serde::Deserialize;

/// An instance's state, as named by Multipass.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub(crate) enum State {
    Running,
    Stopped,
    /// In the trash.
    Deleted,
    Starting,
    Restarting,
    DelayedShutdown,
    Suspending,
    Suspended,
    /// Its availability zone is disabled (1.17).
    Unavailable,
    /// It is on, but Multipass has no address for it: it is booting, or Multipass gave up waiting for it.
    Unknown,
    /// A state from a later version.
    Other(String),
}

impl From<String> for State {
    fn from(word: String) -> Self {
        match word.as_str() {
            "Running" => Self::Running,
            "Stopped" => Self::Stopped,
            "Deleted" => Self::Deleted,
            "Starting" => Self::Starting,
            "Restarting" => Self::Restarting,
            "Delayed Shutdown" => Self::DelayedShutdown,
            "Suspending" => Self::Suspending,
            "Suspended" => Self::Suspended,
            "Unavailable" => Self::Unavailable,
            "Unknown" => Self::Unknown,
            _ => Self::Other(word),
        }
    }
}

impl State {
    /// Whether the state is transient. `Unknown` covers most of a boot but also persists if Multipass gave up on an
    /// instance, so waiting for it needs a limit.
    pub(crate) fn passes(&self) -> bool {
        matches!(self, Self::Starting | Self::Restarting | Self::Suspending | Self::Unknown)
    }

    /// goloo's equivalent, with a reason if that doesn't capture everything.
    pub(crate) fn live(&self, instance: &str) -> (LiveState, Option<String>) {
        let because = |text: String| Some(text);
        match self {
            Self::Running | Self::Starting | Self::Restarting | Self::DelayedShutdown | Self::Suspending => {
                (LiveState::Running, None)
            }
            Self::Stopped => (LiveState::Stopped, None),
            Self::Suspended => (LiveState::Suspended, None),
            Self::Deleted => (
                LiveState::Stopped,
                because(format!("in Multipass's trash: multipass recover {instance} restores it")),
            ),
            Self::Unavailable => {
                (LiveState::Unknown, because("its zone is turned off: multipass enable-zones".to_owned()))
            }
            Self::Unknown => (
                LiveState::Unknown,
                because(format!(
                    "it is booting, and Multipass has no address for it yet; if that takes more than 5 minutes, it \
                     failed to boot: run multipass stop --force {instance}, then multipass start {instance}"
                )),
            ),
            Self::Other(word) => {
                (LiveState::Unknown, because(format!("Multipass reports the unknown state \"{word}\"")))
            }
        }
    }
}

/// An instance, as `info` describes it without contacting its guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Instance {
    pub(crate) name: String,
    pub(crate) state: State,
    /// The hash of the image its disk was created from.
    pub(crate) image_hash: Option<String>,
    /// Mount points in the instance.
    pub(crate) mounted: Vec<String>,
}

#[derive(Deserialize)]
struct List {
    list: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    name: String,
    #[serde(default)]
    ipv4: Vec<String>,
}

#[derive(Deserialize)]
struct Info {
    info: BTreeMap<String, Details>,
}

#[derive(Deserialize)]
struct Details {
    state: Option<State>,
    #[serde(default)]
    image_hash: Option<String>,
    #[serde(default)]
    mounts: BTreeMap<String, serde::de::IgnoredAny>,
    #[serde(default)]
    snapshots: BTreeMap<String, Snapshot>,
}

/// Read apart from [`Info`]: figures in an unexpected form must not hide an instance's state.
#[derive(Deserialize)]
struct GuestInfo {
    info: BTreeMap<String, GuestDetails>,
}

#[derive(Deserialize)]
struct GuestDetails {
    #[serde(default)]
    memory: Amounts,
    #[serde(default)]
    disks: BTreeMap<String, Amounts>,
    #[serde(default)]
    load: Vec<f64>,
}

/// Two amounts in bytes; absent where the guest wasn't asked.
#[derive(Default, Deserialize)]
struct Amounts {
    used: Option<Amount>,
    total: Option<Amount>,
}

/// Disks are measured in strings, memory in numbers.
#[derive(Deserialize)]
#[serde(untagged)]
enum Amount {
    Number(u64),
    Text(String),
}

impl Amount {
    fn bytes(&self) -> Option<u64> {
        match self {
            Self::Number(bytes) => Some(*bytes),
            Self::Text(text) => text.parse().ok(),
        }
    }
}

impl Amounts {
    fn share(&self) -> Option<Share> {
        Some(Share { used: self.used.as_ref()?.bytes()?, total: self.total.as_ref()?.bytes()? })
    }
}

#[derive(Deserialize)]
struct Snapshot {
    #[serde(default)]
    created: String,
}

/// The output of `version`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Version {
    pub(crate) multipass: String,
    /// Absent if the daemon doesn't respond.
    #[serde(default)]
    pub(crate) multipassd: Option<String>,
}

/// Parses `list --format json`: the instance's own address for each instance that has one. It comes first, followed by
/// those of networks inside the instance. `N/A` stands for an address unknown to Multipass.
pub(crate) fn addresses(bytes: &[u8]) -> serde_json::Result<BTreeMap<String, Ipv4Addr>> {
    let List { list } = serde_json::from_slice(bytes)?;
    let own = |listed: Listed| {
        let ip = listed.ipv4.iter().find_map(|ip| ip.parse().ok())?;
        Some((listed.name, ip))
    };
    Ok(list.into_iter().filter_map(own).collect())
}

/// Parses `info --format json`, with or without names.
pub(crate) fn instances(bytes: &[u8]) -> serde_json::Result<Vec<Instance>> {
    let Info { info } = serde_json::from_slice(bytes)?;
    let instance = |(name, details): (String, Details)| Instance {
        name,
        state: details.state.unwrap_or(State::Other(String::new())),
        image_hash: details.image_hash.filter(|hash| !hash.is_empty()),
        mounted: details.mounts.into_keys().collect(),
    };
    Ok(info.into_iter().map(instance).collect())
}

/// Parses `info NAME --snapshots --format json`, oldest first.
pub(crate) fn snapshots(bytes: &[u8], name: &str) -> serde_json::Result<Vec<DiskSnapshot>> {
    let Info { mut info } = serde_json::from_slice(bytes)?;
    let details = info.remove(name).map(|details| details.snapshots).unwrap_or_default();
    let mut all: Vec<DiskSnapshot> = details
        .into_iter()
        .map(|(label, snapshot)| DiskSnapshot { label, created_at: time(&snapshot.created) })
        .collect();
    all.sort_by(|a, b| (a.created_at, &a.label).cmp(&(b.created_at, &b.label)));
    Ok(all)
}

/// Parses what the guest reports in `info NAME --format json`. An instance has one disk.
pub(crate) fn guest_usage(bytes: &[u8], name: &str) -> serde_json::Result<Option<GuestUsage>> {
    let GuestInfo { mut info } = serde_json::from_slice(bytes)?;
    Ok(info.remove(name).map(|details| GuestUsage {
        memory: details.memory.share(),
        disk: details.disks.values().find_map(Amounts::share),
        load: details.load.try_into().ok(),
    }))
}

/// Parses `version --format json`.
pub(crate) fn version(bytes: &[u8]) -> serde_json::Result<Version> {
    serde_json::from_slice(bytes)
}

/// Parses a snapshot's time: RFC 3339 up to 1.14, later the format of `date` in the C locale (goloo requests that
/// locale, and UTC): `Sat Jan  1 10:00:20 1972 UTC`.
fn time(text: &str) -> Option<Timestamp> {
    if let Ok(time) = Timestamp::parse(text) {
        return Some(time);
    }
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split_whitespace().collect();
    let [_, month, day, clock, year, "UTC" | "GMT"] = words[..] else { return None };
    let month = MONTHS.iter().position(|known| *known == month)? + 1;
    Timestamp::parse(&format!("{year}-{month:02}-{day:0>2}T{clock}Z")).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn output_of_old_and_new_versions_reads_the_same() {
        let old = r#"{"list":[{"ipv4":["10.21.124.56","172.17.0.1"],"name":"a","release":"Ubuntu 24.04 LTS","state":"Running"}]}"#;
        let new = r#"{"list":[{"name":"a","state":"Running","ipv4":["10.21.124.56","172.17.0.1"],"release":"Ubuntu 24.04 LTS","zone":{"name":"zone1","available":true}}]}"#;
        let read = addresses(old.as_bytes()).unwrap();
        assert_eq!(read, addresses(new.as_bytes()).unwrap());
        assert_eq!(read["a"], Ipv4Addr::new(10, 21, 124, 56), "the first one is its own");
    }

    #[test]
    fn placeholders_for_an_address_are_ignored() {
        let list = r#"{"list":[{"name":"a","state":"Running","ipv4":["N/A"]},{"name":"b","state":"Unknown","ipv4":[]},
            {"name":"c","state":"Running","ipv4":["UNKNOWN","10.0.0.2"]}]}"#;
        let read = addresses(list.as_bytes()).unwrap();
        assert_eq!(read.into_iter().collect::<Vec<_>>(), [("c".to_owned(), Ipv4Addr::new(10, 0, 0, 2))]);
    }

    #[test]
    fn information_known_only_to_the_guest_may_be_empty() {
        let info = r#"{"errors":[],"info":{"a":{"state":"Stopped","image_hash":"","release":"","cpu_count":"","load":[],"disks":{"sda1":{}},"memory":{},"ipv4":[],"mounts":{"/m":{"source_path":"/x"}}},
            "b":{"state":"Running","image_hash":"8b7a","snapshot_count":"0"}}}"#;
        let read = instances(info.as_bytes()).unwrap();
        assert_eq!((&read[0].state, &read[0].image_hash), (&State::Stopped, &None));
        assert_eq!(read[0].mounted, ["/m"]);
        assert_eq!((&read[1].state, read[1].image_hash.as_deref()), (&State::Running, Some("8b7a")));
    }

    #[test]
    fn an_unknown_state_of_a_newer_version_is_named_in_the_reason() {
        let odd = r#"{"errors":[],"info":{"a":{"state":"Levitating"}}}"#;
        let (state, reason) = instances(odd.as_bytes()).unwrap()[0].state.live("a");
        assert_eq!(state, LiveState::Unknown);
        assert!(reason.unwrap().contains("Levitating"));
    }

    #[test]
    fn instance_states_map_to_live_states() {
        let live = |word: &str| State::from(word.to_owned()).live("x").0;
        for word in ["Running", "Starting", "Restarting", "Delayed Shutdown", "Suspending"] {
            assert_eq!(live(word), LiveState::Running, "{word}");
        }
        for word in ["Stopped", "Deleted"] {
            assert_eq!(live(word), LiveState::Stopped, "{word}");
        }
        assert_eq!(live("Suspended"), LiveState::Suspended);
        for word in ["Unknown", "Unavailable"] {
            assert_eq!(live(word), LiveState::Unknown, "{word}");
        }
    }

    #[test]
    fn a_stopped_daemon_reports_no_version() {
        assert_eq!(version(br#"{"multipass":"1.16.1"}"#).unwrap().multipassd, None);
        let up = version(br#"{"multipass":"1.16.1","multipassd":"1.16.0","update":{}}"#).unwrap();
        assert_eq!(up.multipassd.as_deref(), Some("1.16.0"));
    }

    #[test]
    fn a_guest_s_figures_are_read_from_numbers_and_texts_and_may_be_missing() {
        let info = r#"{"errors":[],"info":{"a":{"state":"Running","load":[0.45,0.51,0.15],
            "disks":{"sda1":{"used":"1288490188","total":"5153960756"}},"memory":{"used":60817408,"total":1503238554}},
            "b":{"state":"Stopped","load":[],"disks":{"sda1":{}},"memory":{}}}}"#;
        let read = |name: &str| guest_usage(info.as_bytes(), name).unwrap();
        let expected = GuestUsage {
            memory: Some(Share { used: 60_817_408, total: 1_503_238_554 }),
            disk: Some(Share { used: 1_288_490_188, total: 5_153_960_756 }),
            load: Some([0.45, 0.51, 0.15]),
        };
        assert_eq!(read("a"), Some(expected));
        assert_eq!((read("b"), read("c")), (Some(GuestUsage::default()), None));
    }

    #[test]
    fn snapshots_are_sorted_oldest_first_in_both_time_formats() {
        let json = r#"{"errors":[],"info":{"a":{"snapshots":{
            "b":{"created":"1972-01-01T10:00:20.021Z","parent":"c"},
            "c":{"created":"Sat Jan  1 09:59:59 1972 UTC"},
            "z":{"created":"Sa 01 Jan 1972 10:00:20 CET"}}}}}"#;
        let read = snapshots(json.as_bytes(), "a").unwrap();
        let labels: Vec<&str> = read.iter().map(|one| one.label.as_str()).collect();
        assert_eq!(labels, ["z", "c", "b"]);
        assert_eq!(read[0].created_at, None, "no guessing");
        assert_eq!(read[1].created_at.unwrap().to_string(), "1972-01-01T09:59:59Z");
    }

    /// Addresses and release names come from guests.
    #[test]
    fn mutated_responses_do_not_cause_a_panic() {
        let corpus = [
            &br#"{"list":[{"name":"a","state":"Running","ipv4":["10.21.124.56","172.17.0.1"],"release":"Ubuntu 24.04 LTS","zone":{"available":true,"name":"zone1"}}]}"#[..],
            br#"{"errors":[],"info":{"a":{"state":"Running","image_hash":"00","release":"Ubuntu 24.04.3 LTS","cpu_count":"2","snapshot_count":"0","load":[0.45],"disks":{"sda1":{"used":"1288490188","total":"5153960756"}},"memory":{"used":60817408},"ipv4":["10.21.124.56"],"mounts":{"/home":{"source_path":"/home/u"}}}}}"#,
            br#"{"errors":[],"info":{"a":{"snapshots":{"b":{"created":"1972-01-01T10:00:20.021Z","parent":"c"},"c":{"created":"Sat Jan  1 09:59:59 1972 UTC"}}}}}"#,
            br#"{"multipass":"1.16.1","multipassd":"1.16.0"}"#,
        ];
        goloo_testkit::mutate::run(&corpus.map(<[u8]>::to_vec), |input| {
            drop((addresses(input), instances(input), snapshots(input, "a"), version(input)));
            drop(guest_usage(input, "a"));
        });
    }

    #[test]
    fn invalid_output_is_an_error() {
        assert!(addresses(b"\x1b[2K").is_err());
        assert!(instances(b"{}").is_err());
    }
}
