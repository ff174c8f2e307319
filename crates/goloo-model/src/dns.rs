//! Changes that move DNS names from one VM to another, and their progress.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::name::{VmId, VmName};
use crate::record::checks;
use crate::time::Timestamp;

pub use crate::record::checks::{dns_ttl, is_record_type, is_record_value};

/// All records of one name and one type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RecordSet {
    /// The name, in lower case, without a trailing dot.
    #[serde(deserialize_with = "checks::record_name")]
    pub name: String,
    /// `A` or `CNAME`.
    #[serde(rename = "type", deserialize_with = "checks::record_type")]
    pub kind: String,
    /// The addresses or names that it points to, as written in DNS.
    #[serde(deserialize_with = "checks::record_values")]
    pub values: Vec<String>,
    /// The TTL in seconds.
    #[serde(deserialize_with = "checks::dns_ttl")]
    pub ttl: u32,
}

impl RecordSet {
    /// Whether both mean the same in DNS, in whatever spelling.
    pub fn is_equivalent(&self, other: &Self) -> bool {
        self.key() == other.key()
    }

    fn key(&self) -> (String, &str, Vec<String>, u32) {
        let plain = |text: &str| text.trim_end_matches('.').to_ascii_lowercase();
        let mut values: Vec<String> = self.values.iter().map(|value| plain(value)).collect();
        values.sort_unstable();
        (plain(&self.name), &self.kind, values, self.ttl)
    }

    /// In the form that users write: `A 192.0.2.1`.
    pub fn shown(&self) -> String {
        format!("{} {}", self.kind, self.values.join(" "))
    }
}

/// Whether one of the sets is equivalent to this one.
pub fn is_among(set: &RecordSet, sets: &[RecordSet]) -> bool {
    sets.iter().any(|other| other.is_equivalent(set))
}

/// A VM, by name and identity: the name may belong to another VM later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VmRef {
    /// Its name.
    pub name: VmName,
    /// Its identity.
    pub id: VmId,
}

/// DNS names that are moved to a VM. The change is atomic, and is applied only if the names are still in the state in
/// which they were read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DnsChange {
    /// The hosted zone.
    #[serde(deserialize_with = "checks::zone")]
    pub zone: String,
    /// The VM that gets the names; absent if they only go back to a foreign owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taker: Option<VmRef>,
    /// The VM that had them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub giver: Option<VmRef>,
    /// All record sets of the names when the change was planned.
    pub before: Vec<RecordSet>,
    /// Those of `before` that belonged to `giver`, and those that were withdrawn because it is stopped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken: Vec<RecordSet>,
    /// Those of `before` that belonged to neither VM.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub foreign: Vec<RecordSet>,
    /// The record sets that `taker` gets.
    pub give: Vec<RecordSet>,
    /// The record sets that go back to an owner that isn't a goloo VM.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restore: Vec<RecordSet>,
    /// Whether foreign records may be replaced.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

/// The progress of a change, as seen in DNS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeState {
    /// Not applied.
    Before,
    /// Applied.
    After,
    /// The names match neither state: someone else has changed them.
    Neither,
}

impl DnsChange {
    /// All record sets of the names after the change.
    pub fn after(&self) -> Vec<RecordSet> {
        self.give.iter().chain(&self.restore).cloned().collect()
    }

    /// The record sets to delete and to create. Where both are empty, the names already point to the right target.
    pub fn difference(&self) -> (Vec<RecordSet>, Vec<RecordSet>) {
        let after = self.after();
        let without = |sets: &[RecordSet], others: &[RecordSet]| -> Vec<RecordSet> {
            sets.iter().filter(|set| !is_among(set, others)).cloned().collect()
        };
        (without(&self.before, &after), without(&after, &self.before))
    }

    /// The names, without duplicates.
    pub fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for set in self.give.iter().chain(&self.restore).chain(&self.before) {
            if !names.contains(&set.name.as_str()) {
                names.push(set.name.as_str());
            }
        }
        names
    }

    /// The state of the change, given the record sets that currently exist.
    pub fn stand(&self, live: &[RecordSet]) -> ChangeState {
        let are = |sets: &[RecordSet]| sets.len() == live.len() && sets.iter().all(|set| is_among(set, live));
        if are(&self.after()) {
            ChangeState::After
        } else if are(&self.before) {
            ChangeState::Before
        } else {
            ChangeState::Neither
        }
    }
}

/// The previous owners of a VM's names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Previous {
    /// The VM that had them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<VmRef>,
    /// When they were moved.
    pub at: Timestamp,
    /// The record sets of that VM.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<RecordSet>,
    /// Foreign record sets that were overwritten with `--force`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub foreign: Vec<RecordSet>,
}

/// The owner of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// The VM in question.
    This,
    /// Another VM of this store.
    Vm(VmName),
    /// An owner unknown to goloo.
    Foreign,
}

/// A name that a VM has or asks for, and its state in DNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameStatus {
    /// The name.
    pub name: String,
    /// Its record sets, each with its owner; empty if the name isn't in use.
    pub live: Vec<(RecordSet, Holder)>,
    /// Whether goloo withdrew it when the VM was stopped, to restore it at the next start.
    pub withdrawn: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, kind: &str, value: &str) -> RecordSet {
        RecordSet { name: name.into(), kind: kind.into(), values: vec![value.into()], ttl: 60 }
    }

    fn change() -> DnsChange {
        DnsChange {
            zone: "Z1".into(),
            taker: None,
            giver: None,
            before: vec![
                set("web.example.com", "A", "192.0.2.1"),
                set("www.example.com", "CNAME", "web.example.com."),
            ],
            taken: Vec::new(),
            foreign: Vec::new(),
            give: vec![
                set("web.example.com", "A", "192.0.2.2"),
                set("www.example.com", "CNAME", "Web.example.com"),
            ],
            restore: Vec::new(),
            force: false,
        }
    }

    #[test]
    fn records_that_differ_only_in_spelling_are_equivalent() {
        let one = set("www.example.com", "CNAME", "web.example.com");
        assert!(one.is_equivalent(&set("WWW.example.com.", "CNAME", "Web.Example.com.")));
        assert!(!one.is_equivalent(&set("www.example.com", "CNAME", "other.example.com")));
        assert!(!one.is_equivalent(&RecordSet { ttl: 61, ..one.clone() }));
        let many = |values: &[&str]| RecordSet {
            values: values.iter().map(|value| (*value).to_owned()).collect(),
            ..set("a.example.com", "A", "")
        };
        assert!(many(&["192.0.2.1", "192.0.2.2"]).is_equivalent(&many(&["192.0.2.2", "192.0.2.1"])));
        assert!(!many(&["192.0.2.1"]).is_equivalent(&many(&["192.0.2.1", "192.0.2.2"])));
    }

    #[test]
    fn unchanged_records_are_not_part_of_the_batch() {
        let (gone, new) = change().difference();
        assert_eq!(gone, [set("web.example.com", "A", "192.0.2.1")]);
        assert_eq!(new, [set("web.example.com", "A", "192.0.2.2")]);
    }

    #[test]
    fn the_state_of_a_change_is_derived_from_the_live_records() {
        let change = change();
        assert_eq!(change.stand(&change.before), ChangeState::Before);
        assert_eq!(change.stand(&change.after()), ChangeState::After);
        assert_eq!(change.stand(&[]), ChangeState::Neither);
        assert_eq!(change.stand(&change.before[..1]), ChangeState::Neither);
        let more = [change.after(), vec![set("apex.example.com", "A", "192.0.2.9")]].concat();
        assert_eq!(change.stand(&more), ChangeState::Neither);
    }
}
