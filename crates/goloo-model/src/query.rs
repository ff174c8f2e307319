//! Filters and orders of VM lists. Pure: a text is parsed into a filter or an order, which
//! is applied to anything that provides what a list shows, active or archived.

use std::cmp::Ordering;
use std::time::Duration;

use crate::name::VmName;
use crate::provider_id::ProviderId;
use crate::record::{Membership, Phase, Record};
use crate::spec::{duration_seconds, nearest};
use crate::store::Summary;
use crate::tags::{self, TagError};
use crate::time::Timestamp;

/// What filters and orders need to know about a VM.
pub trait Listed {
    /// The VM's name.
    fn name(&self) -> &VmName;
    /// The provider that created the machine.
    fn provider(&self) -> ProviderId;
    /// Whether its machine belongs to one host, as its record says.
    fn is_host_bound(&self) -> bool;
    /// The phase of its life cycle.
    fn phase(&self) -> Phase;
    /// The stack's name.
    fn stack(&self) -> &str;
    /// When its record was created.
    fn created_at(&self) -> Timestamp;
    /// The user who created it.
    fn user(&self) -> &str;
    /// The host on which it was created.
    fn host(&self) -> &str;
    /// The value of a tag, if the VM has it.
    fn tag(&self, key: &str) -> Option<&str>;
    /// Which machine of which environment it is.
    fn membership(&self) -> Option<&Membership>;
}

impl Listed for Summary {
    fn name(&self) -> &VmName {
        &self.name
    }
    fn provider(&self) -> ProviderId {
        self.provider
    }
    fn is_host_bound(&self) -> bool {
        self.host_bound
    }
    fn phase(&self) -> Phase {
        self.phase
    }
    fn stack(&self) -> &str {
        &self.stack
    }
    fn created_at(&self) -> Timestamp {
        self.created_at
    }
    fn user(&self) -> &str {
        &self.created_by.user
    }
    fn host(&self) -> &str {
        &self.created_by.host
    }
    fn tag(&self, key: &str) -> Option<&str> {
        let found = self.tags.binary_search_by(|(known, _)| known.as_str().cmp(key));
        found.ok().map(|place| self.tags[place].1.as_str())
    }
    fn membership(&self) -> Option<&Membership> {
        self.membership.as_deref()
    }
}

impl Listed for Record {
    fn name(&self) -> &VmName {
        &self.name
    }
    fn provider(&self) -> ProviderId {
        self.provider
    }
    fn is_host_bound(&self) -> bool {
        self.host_bound
    }
    fn phase(&self) -> Phase {
        self.phase
    }
    fn stack(&self) -> &str {
        &self.stack
    }
    fn created_at(&self) -> Timestamp {
        self.created_at
    }
    fn user(&self) -> &str {
        &self.created_by.user
    }
    fn host(&self) -> &str {
        &self.created_by.host
    }
    fn tag(&self, key: &str) -> Option<&str> {
        self.tags.get(key).map(String::as_str)
    }
    fn membership(&self) -> Option<&Membership> {
        self.membership.as_ref()
    }
}

/// Why a text is neither a filter nor an order; lists the alternatives.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// An unknown word.
    #[error("unknown {what} \"{found}\"{}; possible values: {}", meant(.nearest), .known.join(", "))]
    Unknown {
        /// What was expected: filter, provider, …
        what: &'static str,
        /// What was found.
        found: String,
        /// The closest known word, if any.
        nearest: Option<String>,
        /// All known words.
        known: Vec<String>,
    },
    /// A filter with a syntax error.
    #[error(
        "a filter looks like provider=aws, phase!=ready, age>7d, age<12h, creator=ann or creator=ann@host"
    )]
    Form,
    /// An invalid duration.
    #[error("\"{0}\" is not a duration; durations look like 90s, 15m, 8h or 90d")]
    Age(String),
    /// An invalid tag.
    #[error(transparent)]
    Tag(#[from] TagError),
}

fn meant(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or_else(String::new, |word| format!(" (did you mean \"{word}\"?)"))
}

/// A condition on VMs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// The provider is this one (`true`) or isn't.
    Provider(ProviderId, bool),
    /// The phase is this one (`true`) or isn't.
    Phase(Phase, bool),
    /// The record was created longer ago than this.
    OlderThan(Duration),
    /// The record was created less long ago than this.
    YoungerThan(Duration),
    /// This user created it (`true`) or didn't; on this host, if one is named.
    Creator(String, Option<String>, bool),
    /// It has this tag, with this value if one is named.
    Tag(String, Option<String>),
    /// It belongs to this environment.
    Environment(VmName),
}

const KEYS: [&str; 4] = ["provider", "phase", "age", "creator"];

impl Filter {
    /// Reads `provider=aws`, `phase!=ready`, `age>7d`, `age<12h`, `creator=ann`, `creator=ann@host`. `providers` are
    /// those that can be named.
    ///
    /// # Errors
    /// [`QueryError`] says what is possible.
    pub fn parse(text: &str, providers: &[ProviderId]) -> Result<Self, QueryError> {
        let at = text.find(['=', '!', '<', '>']).ok_or(QueryError::Form)?;
        let (key, rest) = text.split_at(at);
        let key = one_of("filter", key.trim(), KEYS.iter().map(|key| (*key, *key)))?;
        let operators = ["!=", "=", "<", ">"];
        let operator = operators.into_iter().find(|operator| rest.starts_with(operator));
        let operator = operator.ok_or(QueryError::Form)?;
        let value = rest[operator.len()..].trim();
        let is = operator == "=";
        match (key, operator) {
            ("age", ">") => Ok(Self::OlderThan(age(value)?)),
            ("age", "<") => Ok(Self::YoungerThan(age(value)?)),
            ("provider", "=" | "!=") => {
                let all = providers.iter().map(|id| (id.as_str(), *id));
                Ok(Self::Provider(one_of("provider", value, all)?, is))
            }
            ("phase", "=" | "!=") => {
                let all = Phase::ALL.iter().map(|phase| (phase.as_str(), *phase));
                Ok(Self::Phase(one_of("phase", value, all)?, is))
            }
            ("creator", "=" | "!=") if !value.is_empty() => {
                let (user, host) = value.split_once('@').map_or((value, None), |(u, h)| (u, Some(h)));
                Ok(Self::Creator(user.to_owned(), host.map(str::to_owned), is))
            }
            _ => Err(QueryError::Form),
        }
    }

    /// Parses the argument of `--tag`: `key`, or `key=value`.
    ///
    /// # Errors
    /// [`QueryError::Tag`] if the tag is invalid.
    pub fn parse_tag(text: &str) -> Result<Self, QueryError> {
        if text.contains('=') {
            let (key, value) = tags::parse(text)?;
            return Ok(Self::Tag(key, Some(value)));
        }
        tags::check_key(text)?;
        Ok(Self::Tag(text.to_owned(), None))
    }

    /// Whether a VM meets the condition.
    pub fn holds(&self, vm: &(impl Listed + ?Sized), now: Timestamp) -> bool {
        match self {
            Self::Provider(kind, is) => (vm.provider() == *kind) == *is,
            Self::Phase(phase, is) => (vm.phase() == *phase) == *is,
            Self::OlderThan(age) => now.since(vm.created_at()) > *age,
            Self::YoungerThan(age) => now.since(vm.created_at()) < *age,
            Self::Creator(user, host, is) => {
                let same_host = host.as_ref().is_none_or(|host| vm.host() == host);
                (vm.user() == user && same_host) == *is
            }
            Self::Tag(key, value) => {
                vm.tag(key).is_some_and(|found| value.as_ref().is_none_or(|value| found == value))
            }
            Self::Environment(name) => {
                vm.membership().is_some_and(|membership| membership.environment == *name)
            }
        }
    }
}

fn age(text: &str) -> Result<Duration, QueryError> {
    let seconds = duration_seconds(text).ok_or_else(|| QueryError::Age(text.to_owned()))?;
    Ok(Duration::from_secs(seconds))
}

fn one_of<'w, T>(
    what: &'static str,
    found: &str,
    known: impl Iterator<Item = (&'w str, T)> + Clone,
) -> Result<T, QueryError> {
    if let Some((_, value)) = known.clone().find(|(word, _)| *word == found) {
        return Ok(value);
    }
    let known: Vec<String> = known.map(|(word, _)| word.to_owned()).collect();
    let nearest = nearest(found, known.iter().map(String::as_str)).map(str::to_owned);
    Err(QueryError::Unknown { what, found: found.to_owned(), nearest, known })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Name,
    Age,
    Provider,
    Phase,
    Creator,
    Stack,
}

const SORT_KEYS: [(&str, Key); 6] = [
    ("name", Key::Name),
    ("age", Key::Age),
    ("provider", Key::Provider),
    ("phase", Key::Phase),
    ("creator", Key::Creator),
    ("stack", Key::Stack),
];

/// An order of VMs; equal ones are ordered by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    key: Key,
    reverse: bool,
}

impl Order {
    /// Parses `name`, `age` (the youngest first), `provider`, `phase`, `creator` or `stack`; a leading `-`
    /// reverses the order.
    ///
    /// # Errors
    /// [`QueryError::Unknown`] lists the alternatives.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        let (reverse, word) = text.strip_prefix('-').map_or((false, text), |word| (true, word));
        Ok(Self { key: one_of("order", word, SORT_KEYS.into_iter())?, reverse })
    }

    /// The words that [`Self::parse`] accepts, without a `-`.
    pub fn names() -> impl Iterator<Item = &'static str> {
        SORT_KEYS.into_iter().map(|(word, _)| word)
    }

    /// Compares two VMs.
    pub fn compare(self, a: &(impl Listed + ?Sized), b: &(impl Listed + ?Sized)) -> Ordering {
        let order = match self.key {
            Key::Name => a.name().cmp(b.name()),
            Key::Age => b.created_at().cmp(&a.created_at()),
            Key::Provider => a.provider().as_str().cmp(b.provider().as_str()),
            // In the order of the life cycle, not of the alphabet.
            Key::Phase => a.phase().cmp(&b.phase()),
            Key::Creator => (a.user(), a.host()).cmp(&(b.user(), b.host())),
            Key::Stack => a.stack().cmp(b.stack()),
        };
        let order = if self.reverse { order.reverse() } else { order };
        order.then_with(|| a.name().cmp(b.name()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::name::VmId;
    use crate::store::CreatedBy;

    const QEMU: ProviderId = ProviderId::known("qemu");
    const AWS: ProviderId = ProviderId::known("aws");
    const PROVIDERS: [ProviderId; 3] = [QEMU, ProviderId::known("multipass"), AWS];
    const NOW: &str = "2025-01-15T10:30:00Z";

    fn time(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn vm(name: &str) -> Summary {
        Summary {
            restart_pending: false,
            name: VmName::parse(name).unwrap(),
            id: VmId::generate(),
            provider: QEMU,
            host_bound: true,
            phase: Phase::Ready,
            provisioning: None,
            operation: false,
            renamed_from: None,
            stack: "web".into(),
            created_at: time("2025-01-14T10:30:00Z"),
            created_by: CreatedBy { user: "ann".into(), host: "laptop".into(), host_id: "h1".into() },
            ends_at: None,
            ip: None,
            ssh_port: None,
            fqdn: None,
            source_config_path: None,
            membership: None,
            tags: vec![("env".into(), String::new()), ("team".into(), "web".into())],
        }
    }

    fn holds(filter: &str, vm: &Summary) -> bool {
        Filter::parse(filter, &PROVIDERS).unwrap().holds(vm, time(NOW))
    }

    #[test]
    fn each_filter_matches_only_the_vms_it_describes() {
        let vm = vm("a");
        for (filter, expected) in [
            ("provider=qemu", true),
            ("provider=aws", false),
            ("provider!=aws", true),
            ("phase=ready", true),
            ("phase!=ready", false),
            ("age>23h", true),
            ("age>24h", false),
            ("age<25h", true),
            ("age<24h", false),
            ("creator=ann", true),
            ("creator=bob", false),
            ("creator!=bob", true),
            ("creator=ann@laptop", true),
            ("creator=ann@desk", false),
            ("creator!=ann@desk", true),
            (" provider = qemu ", true),
        ] {
            assert_eq!(holds(filter, &vm), expected, "{filter}");
        }
    }

    #[test]
    fn a_tag_filter_matches_by_key_or_by_key_and_value() {
        let vm = vm("a");
        for (tag, expected) in [
            ("team", true),
            ("team=web", true),
            ("team=db", false),
            ("env", true),
            ("env=", true),
            ("te", false),
        ] {
            assert_eq!(Filter::parse_tag(tag).unwrap().holds(&vm, time(NOW)), expected, "{tag}");
        }
        assert!(Filter::parse_tag("no blanks").is_err());
    }

    #[test]
    fn an_invalid_filter_is_refused_with_the_possible_values() {
        let refused = |text: &str| Filter::parse(text, &PROVIDERS).unwrap_err().to_string();
        assert_eq!(
            refused("provdier=aws"),
            "unknown filter \"provdier\" (did you mean \"provider\"?); possible values: provider, phase, age, creator"
        );
        assert_eq!(
            refused("provider=gcp"),
            "unknown provider \"gcp\"; possible values: qemu, multipass, aws"
        );
        assert!(refused("phase=redy").contains("did you mean \"ready\"?"));
        assert_eq!(
            refused("age>soon"),
            "\"soon\" is not a duration; durations look like 90s, 15m, 8h or 90d"
        );
        for text in ["ready", "age=7d", "provider>aws", "creator=", "phase!ready"] {
            assert!(
                refused(text).starts_with("a filter looks like provider=aws"),
                "{text}: {}",
                refused(text)
            );
        }
    }

    fn sorted(order: &str, vms: &[Summary]) -> String {
        let order = Order::parse(order).unwrap();
        let mut vms: Vec<&Summary> = vms.iter().collect();
        vms.sort_by(|a, b| order.compare(*a, *b));
        vms.iter().map(|vm| vm.name.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn lists_are_sorted_in_either_direction_with_ties_by_name() {
        let old = Summary { created_at: time("2025-01-01T00:00:00Z"), ..vm("b") };
        let other = Summary {
            provider: AWS,
            phase: Phase::Creating,
            created_by: CreatedBy { user: "bob".into(), host: "desk".into(), host_id: "h2".into() },
            stack: "a".into(),
            ..vm("c")
        };
        let vms = [other, old, vm("a")];
        for (order, expected) in [
            ("name", "a b c"),
            ("-name", "c b a"),
            ("age", "a c b"),
            ("-age", "b a c"),
            ("provider", "c a b"),
            ("-provider", "a b c"),
            ("phase", "c a b"),
            ("creator", "a b c"),
            ("-creator", "c a b"),
            ("stack", "c a b"),
        ] {
            assert_eq!(sorted(order, &vms), expected, "{order}");
        }
        let error = Order::parse("aeg").unwrap_err().to_string();
        assert!(error.contains("(did you mean \"age\"?)"), "{error}");
    }
}
