//! Points in time as goloo writes them: UTC, whole seconds.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A point in time, UTC, to the second: `2025-01-15T10:30:00Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("format" = "date-time"))]
pub struct Timestamp(jiff::Timestamp);

/// A text that isn't a time in RFC 3339 format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time; times look like 2025-01-15T10:30:00Z")]
pub struct TimeError(String);

/// 0001-01-01T00:00:00Z, in seconds since 1970.
const FIRST: i64 = -62_135_596_800;
/// 9999-12-30T22:00:00Z, the maximum of jiff, in seconds since 1970.
const LAST: i64 = 253_402_207_200;

const COMPACT: &str = "%Y%m%dT%H%M%SZ";

impl Timestamp {
    /// The current time of this host's clock.
    pub fn now() -> Self {
        let now = jiff::Timestamp::try_from(std::time::SystemTime::now());
        // A time after the year 9999 can't be represented.
        Self::truncated(now.unwrap_or(jiff::Timestamp::MAX))
    }

    /// From seconds since 1970, as in `stat` and the kernel; `None` if the year doesn't have exactly four
    /// digits.
    pub fn from_unix(seconds: i64) -> Option<Self> {
        jiff::Timestamp::from_second(seconds).ok().map(Self).filter(|time| time.has_four_digits())
    }

    /// Whether every form of it can be parsed again: archive ids require four-digit years.
    fn has_four_digits(self) -> bool {
        (FIRST..=LAST).contains(&self.unix())
    }

    /// Seconds since 1970.
    pub fn unix(self) -> i64 {
        self.0.as_second()
    }

    /// Parses RFC 3339; fractions of a second are dropped.
    pub fn parse(text: &str) -> Result<Self, TimeError> {
        let read = text.parse::<jiff::Timestamp>().ok().map(Self::truncated);
        read.filter(|time| time.has_four_digits()).ok_or_else(|| TimeError(text.chars().take(40).collect()))
    }

    /// The form used in archive ids: `20250115T103000Z`.
    pub fn compact(self) -> String {
        self.0.strftime(COMPACT).to_string()
    }

    /// Parses the form of [`Timestamp::compact`].
    pub fn parse_compact(text: &str) -> Option<Self> {
        let civil = jiff::civil::DateTime::strptime(COMPACT, text).ok()?;
        let zoned = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        Some(Self(zoned.timestamp())).filter(|time| time.has_four_digits())
    }

    /// This many seconds later; `None` after the year 9999.
    pub fn plus_seconds(self, seconds: u64) -> Option<Self> {
        Self::from_unix(self.unix().checked_add(i64::try_from(seconds).ok()?)?)
    }

    /// How long ago `earlier` was; zero if it is in the future.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(u64::try_from(self.unix() - earlier.unix()).unwrap_or(0))
    }

    fn truncated(time: jiff::Timestamp) -> Self {
        Self(jiff::Timestamp::from_second(time.as_second()).unwrap_or(time))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for Timestamp {
    type Error = TimeError;
    fn try_from(text: String) -> Result<Self, TimeError> {
        Self::parse(&text)
    }
}

impl From<Timestamp> for String {
    fn from(time: Timestamp) -> Self {
        time.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn timestamp_arithmetic_never_leaves_the_valid_range(a in any::<i64>(), near in -400_000_000_000_i64..400_000_000_000, seconds in any::<u64>(), text in "[-+]?[0-9]{4,6}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(Z|[+-][0-9]{2}:[0-9]{2})") {
            prop_assert!(Timestamp::from_unix(i64::MAX).is_none() && Timestamp::from_unix(i64::MIN).is_none());
            let parsed = [Timestamp::parse(&text).ok(), Timestamp::parse_compact(&text)];
            let times: Vec<Timestamp> = [a, near].into_iter().filter_map(Timestamp::from_unix).chain(parsed.into_iter().flatten()).collect();
            for time in &times {
                prop_assert_eq!(Timestamp::parse(&time.to_string()), Ok(*time));
                let _ = (time.compact(), time.since(Timestamp::now()), Timestamp::now().since(*time));
                if let Some(later) = time.plus_seconds(seconds) {
                    prop_assert_eq!(later.since(*time).as_secs(), seconds);
                }
            }
        }
    }

    #[test]
    fn timestamps_are_utc_in_whole_seconds() {
        let time = Timestamp::parse("2025-01-15T11:30:00.987+01:00").expect("a time");
        assert_eq!(time.to_string(), "2025-01-15T10:30:00Z");
        assert_eq!(time.compact(), "20250115T103000Z");
        assert_eq!(Timestamp::parse_compact("20250115T103000Z"), Some(time));
        assert_eq!(Timestamp::from_unix(time.unix()), Some(time));
        let later = time.plus_seconds(90).expect("a time");
        assert_eq!((later.to_string().as_str(), later.since(time).as_secs()), ("2025-01-15T10:31:30Z", 90));
        assert_eq!(time.plus_seconds(u64::MAX), None);
    }

    #[test]
    fn timestamps_outside_four_digit_years_are_refused() {
        for (text, is_time) in [
            ("0001-01-01T00:00:00Z", true),
            ("9999-12-30T22:00:00Z", true),
            ("0000-12-31T23:59:59Z", false),
            ("-000001-01-01T00:00:00Z", false),
            ("-009999-01-02T01:59:59Z", false),
            ("+010000-01-01T00:00:00Z", false),
        ] {
            let time = Timestamp::parse(text).ok();
            assert_eq!(time.is_some(), is_time, "{text}");
            assert_eq!(time.and_then(|time| Timestamp::parse_compact(&time.compact())), time, "{text}");
        }
        assert_eq!(Timestamp::from_unix(FIRST - 1), None);
        assert_eq!(Timestamp::from_unix(LAST + 1), None);
    }
}
