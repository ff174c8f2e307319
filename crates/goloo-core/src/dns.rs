//! DNS names that move from one VM to another: what a change is, and how far it has come.

use serde::{Deserialize, Serialize};

use crate::name::{VmId, VmName};
use crate::record::checks;
use crate::time::Timestamp;

/// All records of one name and one type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordSet {
    /// The name, in lower case, without a dot at its end.
    #[serde(deserialize_with = "checks::record_name")]
    pub name: String,
    /// `A` or `CNAME`.
    #[serde(rename = "type", deserialize_with = "checks::record_type")]
    pub kind: String,
    /// The addresses or names that it leads to, as they are written there.
    #[serde(deserialize_with = "checks::record_values")]
    pub values: Vec<String>,
    /// Seconds.
    #[serde(deserialize_with = "checks::dns_ttl")]
    pub ttl: u32,
}

impl RecordSet {
    /// Whether both say the same in DNS, however they are spelt.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.key() == other.key()
    }

    fn key(&self) -> (String, &str, Vec<String>, u32) {
        let plain = |text: &str| text.trim_end_matches('.').to_ascii_lowercase();
        let mut values: Vec<String> = self.values.iter().map(|value| plain(value)).collect();
        values.sort_unstable();
        (plain(&self.name), &self.kind, values, self.ttl)
    }

    /// As a person writes it: `A 192.0.2.1`.
    pub fn shown(&self) -> String {
        format!("{} {}", self.kind, self.values.join(" "))
    }
}

/// Whether one of the sets says the same as this one.
pub fn is_among(set: &RecordSet, sets: &[RecordSet]) -> bool {
    sets.iter().any(|other| other.says_the_same(set))
}

/// A VM, by name and identity: a name may belong to another one later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmRef {
    /// Its name.
    pub name: VmName,
    /// Its identity.
    pub id: VmId,
}

/// Names that one VM gets. All of it happens at once or not at all, and only where the names still are as
/// they were seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DnsChange {
    /// The hosted zone.
    #[serde(deserialize_with = "checks::zone")]
    pub zone: String,
    /// The VM that gets the names; `None` where they go back to someone else alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taker: Option<VmRef>,
    /// The VM that had them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub giver: Option<VmRef>,
    /// All that the names had when the change was worked out.
    pub before: Vec<RecordSet>,
    /// Those of `before` that were the giver's, and those that were withdrawn because it is stopped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken: Vec<RecordSet>,
    /// Those of `before` that were neither VM's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub foreign: Vec<RecordSet>,
    /// What the taker gets.
    pub give: Vec<RecordSet>,
    /// What goes back to someone who isn't a VM of goloo's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restore: Vec<RecordSet>,
    /// Whether records of others may be replaced.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

/// How far a change has come, by what DNS says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stand {
    /// Nothing of it has happened.
    Before,
    /// All of it has.
    After,
    /// The names are neither as they were nor as they were to be: someone else has changed them.
    Neither,
}

impl DnsChange {
    /// All that the names have afterwards.
    pub fn after(&self) -> Vec<RecordSet> {
        self.give.iter().chain(&self.restore).cloned().collect()
    }

    /// What is to go, and what is to come. Where both are empty, the names lead where they should already.
    pub fn difference(&self) -> (Vec<RecordSet>, Vec<RecordSet>) {
        let after = self.after();
        let without = |sets: &[RecordSet], others: &[RecordSet]| -> Vec<RecordSet> {
            sets.iter().filter(|set| !is_among(set, others)).cloned().collect()
        };
        (without(&self.before, &after), without(&after, &self.before))
    }

    /// The names, each once.
    pub fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for set in self.give.iter().chain(&self.restore).chain(&self.before) {
            if !names.contains(&set.name.as_str()) {
                names.push(set.name.as_str());
            }
        }
        names
    }

    /// How far it is where the names have `live` now.
    pub fn stand(&self, live: &[RecordSet]) -> Stand {
        let are = |sets: &[RecordSet]| sets.len() == live.len() && sets.iter().all(|set| is_among(set, live));
        if are(&self.after()) {
            Stand::After
        } else if are(&self.before) {
            Stand::Before
        } else {
            Stand::Neither
        }
    }
}

/// Who had a VM's names before it got them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Previous {
    /// The VM that had them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<VmRef>,
    /// When they went.
    pub at: Timestamp,
    /// What that VM had.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<RecordSet>,
    /// What someone else had, and was overwritten with `--force`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub foreign: Vec<RecordSet>,
}

/// Whose a record is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// The VM in question.
    This,
    /// Another VM of this store.
    Vm(VmName),
    /// Someone whom goloo doesn't know.
    Foreign,
}

/// A name that a VM has or asks for, and what DNS says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameNow {
    /// The name.
    pub name: String,
    /// What it has, each with whose that is; empty where nobody has the name.
    pub live: Vec<(RecordSet, Holder)>,
    /// Whether goloo withdrew it when the VM was stopped, to set it again at the start.
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
    fn spelling_makes_no_other_record() {
        let one = set("www.example.com", "CNAME", "web.example.com");
        assert!(one.says_the_same(&set("WWW.example.com.", "CNAME", "Web.Example.com.")));
        assert!(!one.says_the_same(&set("www.example.com", "CNAME", "other.example.com")));
        assert!(!one.says_the_same(&RecordSet { ttl: 61, ..one.clone() }));
        let many = |values: &[&str]| RecordSet {
            values: values.iter().map(|value| (*value).to_owned()).collect(),
            ..set("a.example.com", "A", "")
        };
        assert!(many(&["192.0.2.1", "192.0.2.2"]).says_the_same(&many(&["192.0.2.2", "192.0.2.1"])));
        assert!(!many(&["192.0.2.1"]).says_the_same(&many(&["192.0.2.1", "192.0.2.2"])));
    }

    #[test]
    fn what_stays_as_it_is_is_no_part_of_the_batch() {
        let (gone, new) = change().difference();
        assert_eq!(gone, [set("web.example.com", "A", "192.0.2.1")]);
        assert_eq!(new, [set("web.example.com", "A", "192.0.2.2")]);
    }

    #[test]
    fn the_live_records_tell_how_far_a_change_is() {
        let change = change();
        assert_eq!(change.stand(&change.before), Stand::Before);
        assert_eq!(change.stand(&change.after()), Stand::After);
        assert_eq!(change.stand(&[]), Stand::Neither);
        assert_eq!(change.stand(&change.before[..1]), Stand::Neither);
        let more = [change.after(), vec![set("apex.example.com", "A", "192.0.2.9")]].concat();
        assert_eq!(change.stand(&more), Stand::Neither);
    }
}
