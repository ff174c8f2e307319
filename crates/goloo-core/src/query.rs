//! Which VMs a list shows, and in what order. Pure: a text becomes a filter or an order, and that
//! decides over whatever has what a list shows, active or archived.

use std::cmp::Ordering;
use std::time::Duration;

use crate::name::VmName;
use crate::record::{Phase, ProviderKind, Record};
use crate::spec::{duration_seconds, nearest};
use crate::store::Summary;
use crate::tags::{self, TagError};
use crate::time::Timestamp;

/// What filters and orders look at.
pub trait Listed {
    /// The VM's name.
    fn name(&self) -> &VmName;
    /// Who made the machine.
    fn provider(&self) -> ProviderKind;
    /// Where it is in its life.
    fn phase(&self) -> Phase;
    /// The stack's name.
    fn stack(&self) -> &str;
    /// When its record was made.
    fn created_at(&self) -> Timestamp;
    /// The user who made it.
    fn user(&self) -> &str;
    /// The host on which that was.
    fn host(&self) -> &str;
    /// The value of a tag, where it has it.
    fn tag(&self, key: &str) -> Option<&str>;
}

impl Listed for Summary {
    fn name(&self) -> &VmName {
        &self.name
    }
    fn provider(&self) -> ProviderKind {
        self.provider
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
}

impl Listed for Record {
    fn name(&self) -> &VmName {
        &self.name
    }
    fn provider(&self) -> ProviderKind {
        self.provider
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
}

/// Why a text is no filter and no order; says what is possible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// Nothing can be asked of that.
    #[error("there is no {what} \"{found}\"{}: {} are possible", meant(.nearest), .known.join(", "))]
    Unknown {
        /// What was looked for: filter, provider, …
        what: &'static str,
        /// What was found instead.
        found: String,
        /// What was probably meant.
        nearest: Option<&'static str>,
        /// All there are.
        known: Vec<&'static str>,
    },
    /// Not of a filter's form.
    #[error(
        "a filter looks like provider=aws, phase!=ready, age>7d, age<12h, creator=ann or creator=ann@host"
    )]
    Form,
    /// A span of time that isn't one.
    #[error("\"{0}\" is no span of time: one looks like 90s, 15m, 8h or 90d")]
    Age(String),
    /// A tag that can't be.
    #[error(transparent)]
    Tag(#[from] TagError),
}

fn meant(nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |word| format!(" (did you mean \"{word}\"?)"))
}

/// One condition that a VM must meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// The provider is this one, or isn't.
    Provider(ProviderKind, bool),
    /// The phase is this one, or isn't.
    Phase(Phase, bool),
    /// The record was made longer ago than this.
    OlderThan(Duration),
    /// The record was made less long ago than this.
    YoungerThan(Duration),
    /// This user made it, or didn't; on this host, where one is named.
    Creator(String, Option<String>, bool),
    /// It has this tag, with this value where one is named.
    Tag(String, Option<String>),
}

const KEYS: [&str; 4] = ["provider", "phase", "age", "creator"];

impl Filter {
    /// Reads `provider=aws`, `phase!=ready`, `age>7d`, `age<12h`, `creator=ann`, `creator=ann@host`.
    ///
    /// # Errors
    /// [`QueryError`] says what is possible.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
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
                let all = ProviderKind::ALL.iter().map(|kind| (kind.as_str(), *kind));
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

    /// Reads what `--tag` takes: `key`, or `key=value`.
    ///
    /// # Errors
    /// [`QueryError::Tag`] when there can't be such a tag.
    pub fn parse_tag(text: &str) -> Result<Self, QueryError> {
        if text.contains('=') {
            let (key, value) = tags::parse(text)?;
            return Ok(Self::Tag(key, Some(value)));
        }
        tags::check_key(text)?;
        Ok(Self::Tag(text.to_owned(), None))
    }

    /// Whether a VM meets it.
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
        }
    }
}

fn age(text: &str) -> Result<Duration, QueryError> {
    let seconds = duration_seconds(text).ok_or_else(|| QueryError::Age(text.to_owned()))?;
    Ok(Duration::from_secs(seconds))
}

fn one_of<T>(
    what: &'static str,
    found: &str,
    known: impl Iterator<Item = (&'static str, T)> + Clone,
) -> Result<T, QueryError> {
    if let Some((_, value)) = known.clone().find(|(word, _)| *word == found) {
        return Ok(value);
    }
    let known: Vec<&str> = known.map(|(word, _)| word).collect();
    let nearest = nearest(found, known.iter().copied());
    Err(QueryError::Unknown { what, found: found.to_owned(), nearest, known })
}

/// What VMs are sorted by.
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

/// An order of VMs; those that are equal in it go by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    key: Key,
    reverse: bool,
}

impl Order {
    /// Reads `name`, `age` (the youngest first), `provider`, `phase`, `creator` or `stack`; with `-`
    /// before it the other way round.
    ///
    /// # Errors
    /// [`QueryError::Unknown`] says what is possible.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        let (reverse, word) = text.strip_prefix('-').map_or((false, text), |word| (true, word));
        Ok(Self { key: one_of("order", word, SORT_KEYS.into_iter())?, reverse })
    }

    /// Which of two comes first.
    pub fn compare(self, a: &(impl Listed + ?Sized), b: &(impl Listed + ?Sized)) -> Ordering {
        let order = match self.key {
            Key::Name => a.name().cmp(b.name()),
            Key::Age => b.created_at().cmp(&a.created_at()),
            Key::Provider => a.provider().as_str().cmp(b.provider().as_str()),
            // As a life goes, not as the alphabet does.
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

    const NOW: &str = "2025-01-15T10:30:00Z";

    fn time(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn vm(name: &str) -> Summary {
        Summary {
            name: VmName::parse(name).unwrap(),
            id: VmId::generate(),
            provider: ProviderKind::Qemu,
            phase: Phase::Ready,
            operation: false,
            stack: "web".into(),
            created_at: time("2025-01-14T10:30:00Z"),
            created_by: CreatedBy { user: "ann".into(), host: "laptop".into() },
            ends_at: None,
            ip: None,
            ssh_port: None,
            fqdn: None,
            source_config_path: None,
            tags: vec![("env".into(), String::new()), ("team".into(), "web".into())],
        }
    }

    fn holds(filter: &str, vm: &Summary) -> bool {
        Filter::parse(filter).unwrap().holds(vm, time(NOW))
    }

    #[test]
    fn each_filter_holds_for_what_it_says_and_for_nothing_else() {
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
    fn a_tag_is_found_by_its_key_and_by_its_value() {
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
    fn what_is_no_filter_is_refused_with_what_is_possible() {
        let refused = |text: &str| Filter::parse(text).unwrap_err().to_string();
        assert_eq!(
            refused("provdier=aws"),
            "there is no filter \"provdier\" (did you mean \"provider\"?): provider, phase, age, creator are possible"
        );
        assert_eq!(
            refused("provider=gcp"),
            "there is no provider \"gcp\": qemu, multipass, aws are possible"
        );
        assert!(refused("phase=redy").contains("did you mean \"ready\"?"));
        assert_eq!(refused("age>soon"), "\"soon\" is no span of time: one looks like 90s, 15m, 8h or 90d");
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
    fn orders_go_both_ways_and_equals_go_by_name() {
        let old = Summary { created_at: time("2025-01-01T00:00:00Z"), ..vm("b") };
        let other = Summary {
            provider: ProviderKind::Aws,
            phase: Phase::Creating,
            created_by: CreatedBy { user: "bob".into(), host: "desk".into() },
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
