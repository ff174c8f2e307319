//! Scalars as loaded by PyYAML's safe loader: the type of each (YAML 1.1), and its value.
//! Returns an error where Python's functions raise one.

use super::tree::{Content, Node, ScalarStyle};

const PREFIX: &str = "tag:yaml.org,2002:";
/// Python refuses to convert decimal numbers with more digits.
const DIGITS_MAX: usize = 4_300;
/// The smallest exponent of 60 whose power exceeds a float.
const SEXAGESIMAL_MAX: usize = 174;

/// A node's tag: explicit, or resolved by PyYAML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag<'n> {
    Null,
    Bool,
    Int,
    Float,
    Binary,
    Timestamp,
    Str,
    Seq,
    Map,
    Set,
    /// `!!omap` and `!!pairs`, which are constructed the same way.
    Pairs,
    /// `<<`.
    Merge,
    /// `=`.
    Value,
    Unknown(&'n str),
}

impl<'n> Tag<'n> {
    /// The tag of a node that isn't an alias.
    pub fn of(node: &'n Node) -> Self {
        let own = node.tag.as_deref().filter(|tag| *tag != "!");
        match (own, &node.content) {
            (Some(tag), _) => Self::named(tag),
            (None, Content::List(_)) => Self::Seq,
            (None, Content::Map(_)) => Self::Map,
            (None, Content::Scalar(text, style)) if is_plain(node, *style) => Self::implicit(text),
            (None, Content::Scalar(..) | Content::Alias(_)) => Self::Str,
        }
    }

    fn named(tag: &'n str) -> Self {
        match tag.strip_prefix(PREFIX) {
            Some("null") => Self::Null,
            Some("bool") => Self::Bool,
            Some("int") => Self::Int,
            Some("float") => Self::Float,
            Some("binary") => Self::Binary,
            Some("timestamp") => Self::Timestamp,
            Some("str") => Self::Str,
            Some("seq") => Self::Seq,
            Some("map") => Self::Map,
            Some("set") => Self::Set,
            Some("omap" | "pairs") => Self::Pairs,
            Some("merge") => Self::Merge,
            Some("value") => Self::Value,
            _ => Self::Unknown(tag),
        }
    }

    fn implicit(text: &str) -> Self {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => Self::Null,
            "<<" => Self::Merge,
            "=" => Self::Value,
            "!" | "&" | "*" => Self::Unknown("tag:yaml.org,2002:yaml"),
            _ if is_bool(text) => Self::Bool,
            _ if is_float(text) => Self::Float,
            _ if is_int(text) => Self::Int,
            _ if is_timestamp(text) => Self::Timestamp,
            _ => Self::Str,
        }
    }

    /// Whether it constructs a list, a mapping or a set.
    pub fn is_collection(self) -> bool {
        matches!(self, Self::Seq | Self::Map | Self::Set | Self::Pairs)
    }

    /// The tag as users write it.
    pub fn written(tag: &str) -> String {
        match tag.strip_prefix(PREFIX) {
            Some(name) => format!("!!{name}"),
            None if tag.starts_with('!') => tag.to_owned(),
            None => format!("!<{tag}>"),
        }
    }
}

/// PyYAML resolves a scalar with the tag `!` as if it were plain.
fn is_plain(node: &Node, style: ScalarStyle) -> bool {
    style == ScalarStyle::Plain || node.tag.is_some()
}

/// The value of a scalar.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scalar<'s> {
    Null,
    Bool(bool),
    /// A value out of range is clamped.
    Int(i128),
    Float(f64),
    Bytes,
    /// A date, or a date with a time.
    Moment,
    Text(&'s str),
}

impl<'s> Scalar<'s> {
    /// Constructs the value, or returns why that fails.
    pub fn new(tag: Tag<'_>, text: &'s str) -> Result<Self, String> {
        match tag {
            Tag::Null => Ok(Self::Null),
            Tag::Bool => truth(text).map(Self::Bool).ok_or_else(|| format!("\"{text}\" isn't true or false")),
            Tag::Int => int(text).map(Self::Int),
            Tag::Float => float(text).map(Self::Float),
            Tag::Binary => base64(text).map(|()| Self::Bytes),
            Tag::Timestamp => moment(text).map(|()| Self::Moment),
            _ => Ok(Self::Text(text)),
        }
    }
}

fn is_bool(text: &str) -> bool {
    let is_cased = |word: &str| {
        let (first, rest) = word.split_at(1);
        text == word || text == word.to_uppercase() || text.strip_prefix(&first.to_uppercase()) == Some(rest)
    };
    ["yes", "no", "true", "false", "on", "off"].into_iter().any(is_cased)
}

fn truth(text: &str) -> Option<bool> {
    match text.to_lowercase().as_str() {
        "yes" | "true" | "on" => Some(true),
        "no" | "false" | "off" => Some(false),
        _ => None,
    }
}

fn unsigned(text: &str) -> &str {
    text.strip_prefix(['-', '+']).unwrap_or(text)
}

fn is_digit_or_underscore(byte: u8) -> bool {
    byte.is_ascii_digit() || byte == b'_'
}

/// A digit, followed by digits and underscores.
fn is_number(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit()) && text.bytes().all(is_digit_or_underscore)
}

/// `12:30:45`, a base-60 number.
fn is_sexagesimal(text: &str) -> bool {
    let mut parts = text.split(':');
    let is_sixty = |part: &str| match part.as_bytes() {
        [one] => one.is_ascii_digit(),
        [ten, one] => (b'0'..=b'5').contains(ten) && one.is_ascii_digit(),
        _ => false,
    };
    parts.next().is_some_and(is_number) && text.contains(':') && parts.all(is_sixty)
}

fn is_float(text: &str) -> bool {
    let number = unsigned(text);
    if matches!(number, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let Some((whole, rest)) = number.split_once('.') else { return false };
    let (fraction, exponent) = match rest.split_once(['e', 'E']) {
        Some((fraction, exponent)) => (fraction, Some(exponent)),
        None => (rest, None),
    };
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_exponent = exponent.is_none_or(|text| text.strip_prefix(['-', '+']).is_some_and(is_digits));
    let is_fraction = fraction.bytes().all(is_digit_or_underscore);
    match whole {
        "" => number.len() == text.len() && is_number(fraction) && is_exponent,
        _ if whole.contains(':') => is_sexagesimal(whole) && is_fraction && exponent.is_none(),
        _ => is_number(whole) && is_fraction && is_exponent,
    }
}

fn is_int(text: &str) -> bool {
    let number = unsigned(text);
    let is_of = |digits: &str, is_digit: fn(u8) -> bool| {
        !digits.is_empty() && digits.bytes().all(|byte| byte == b'_' || is_digit(byte))
    };
    let is_zero_first = number.starts_with('0');
    match (number.strip_prefix("0b"), number.strip_prefix("0x"), number.strip_prefix('0')) {
        (Some(digits), _, _) => is_of(digits, |byte| matches!(byte, b'0' | b'1')),
        (_, Some(digits), _) => is_of(digits, |byte| byte.is_ascii_hexdigit()),
        (_, _, Some("")) => true,
        (_, _, Some(digits)) => is_of(digits, |byte| matches!(byte, b'0'..=b'7')),
        _ => !is_zero_first && (is_number(number) || is_sexagesimal(number)),
    }
}

fn int(text: &str) -> Result<i128, String> {
    let fault = || format!("\"{text}\" isn't a whole number");
    let number = text.replace('_', "");
    let is_negative = number.starts_with('-');
    let number = unsigned(&number);
    let value = if let Some(digits) = number.strip_prefix("0b") {
        python_int(digits, 2)
    } else if let Some(digits) = number.strip_prefix("0x") {
        python_int(digits, 16)
    } else if number.starts_with('0') && number != "0" {
        python_int(number, 8)
    } else {
        // The last part has weight one; a single part is the number itself.
        number.split(':').try_fold(0_i128, |value, part| {
            Some(value.saturating_mul(60).saturating_add(python_int(part, 10)?))
        })
    };
    let value = value.ok_or_else(fault)?;
    Ok(if is_negative { value.saturating_neg() } else { value })
}

/// Python's `int`, for a text without underscores.
fn python_int(text: &str, base: u32) -> Option<i128> {
    let text = text.trim();
    let is_negative = text.starts_with('-');
    let digits = unsigned(text).to_ascii_lowercase();
    let prefix = match base {
        2 => "0b",
        8 => "0o",
        16 => "0x",
        _ => "",
    };
    let digits = digits.strip_prefix(prefix).unwrap_or(&digits);
    if digits.is_empty() || (base == 10 && digits.len() > DIGITS_MAX) {
        return None;
    }
    let value = digits.chars().try_fold(0_i128, |value, digit| {
        let digit = i128::from(digit.to_digit(base)?);
        Some(value.saturating_mul(i128::from(base)).saturating_add(digit))
    })?;
    Some(if is_negative { -value } else { value })
}

fn float(text: &str) -> Result<f64, String> {
    let fault = || format!("\"{text}\" isn't a number");
    let number = text.replace('_', "").to_lowercase();
    let is_negative = number.starts_with('-');
    let value = match unsigned(&number) {
        ".inf" => f64::INFINITY,
        ".nan" => f64::NAN,
        "" => return Err(fault()),
        number => {
            let parts = number.split(':');
            if parts.clone().count() > SEXAGESIMAL_MAX {
                return Err(fault());
            }
            let value = parts.map(|part| part.trim().parse::<f64>().ok());
            value.reduce(|value, part| Some(value? * 60.0 + part?)).flatten().ok_or_else(fault)?
        }
    };
    Ok(if is_negative { -value } else { value })
}

/// Whether Python can decode a text: it ignores all characters outside of the alphabet.
fn base64(text: &str) -> Result<(), String> {
    if !text.is_ascii() {
        return Err("it contains characters that are not base64".to_owned());
    }
    let (mut digits, mut pads) = (0, 0);
    for byte in text.bytes() {
        match byte {
            b'=' => {
                pads += 1;
                if digits % 4 >= 2 && digits % 4 + pads >= 4 {
                    return Ok(());
                }
            }
            b'+' | b'/' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => (digits, pads) = (digits + 1, 0),
            _ => {}
        }
    }
    if digits % 4 == 0 { Ok(()) } else { Err("this base64 text is truncated".to_owned()) }
}

/// The fields of a timestamp.
#[derive(Debug, Default)]
struct Moment {
    year: u32,
    month: u32,
    day: u32,
    time: Option<[u32; 3]>,
    /// The absolute value of the time zone offset.
    offset_minutes: u32,
}

impl Moment {
    fn read(text: &str) -> Option<Self> {
        let mut rest = Rest(text);
        let year = rest.number(4, 4)?;
        let (month, day) = (rest.behind("-")?.number(1, 2)?, rest.behind("-")?.number(1, 2)?);
        let mut moment = Self { year, month, day, ..Self::default() };
        if rest.0.is_empty() {
            return Some(moment);
        }
        if !rest.skip(&['T', 't'], 1) && !rest.skip(&[' ', '\t'], usize::MAX) {
            return None;
        }
        let (hour, minute) = (rest.number(1, 2)?, rest.behind(":")?.number(2, 2)?);
        moment.time = Some([hour, minute, rest.behind(":")?.number(2, 2)?]);
        if rest.behind(".").is_some() {
            rest.0 = rest.0.trim_start_matches(|c: char| c.is_ascii_digit());
        }
        rest.skip(&[' ', '\t'], usize::MAX);
        // Trailing blanks aren't allowed.
        let is_end = text.ends_with(|c: char| c.is_ascii_digit() || c == '.' || c == 'Z');
        if rest.behind("Z").is_none() && rest.skip(&['-', '+'], 1) {
            moment.offset_minutes = 60 * rest.number(1, 2)?;
            if rest.behind(":").is_some() {
                moment.offset_minutes += rest.number(2, 2)?;
            }
        }
        (rest.0.is_empty() && is_end).then_some(moment)
    }

    fn exists(&self) -> bool {
        let small = |number: u32| i8::try_from(number).ok();
        let year = i16::try_from(self.year).ok().filter(|year| *year > 0);
        let date = year.zip(small(self.month)).zip(small(self.day));
        let is_date =
            date.is_some_and(|((year, month), day)| jiff::civil::Date::new(year, month, day).is_ok());
        let is_time = |[hour, minute, second]: [u32; 3]| hour < 24 && minute < 60 && second < 60;
        is_date && self.time.is_none_or(is_time) && self.offset_minutes < 24 * 60
    }
}

/// The unparsed rest.
struct Rest<'t>(&'t str);

impl Rest<'_> {
    fn number(&mut self, min: usize, max: usize) -> Option<u32> {
        let length = self.0.bytes().take(max).take_while(u8::is_ascii_digit).count();
        let (digits, rest) = self.0.split_at(length);
        self.0 = rest;
        if length < min { None } else { digits.parse().ok() }
    }

    fn behind(&mut self, text: &str) -> Option<&mut Self> {
        self.0 = self.0.strip_prefix(text)?;
        Some(self)
    }

    /// Whether at least one of these characters was skipped.
    fn skip(&mut self, characters: &[char], max: usize) -> bool {
        let length = self.0.chars().take(max).take_while(|c| characters.contains(c)).count();
        self.0 = &self.0[length..];
        length > 0
    }
}

fn is_timestamp(text: &str) -> bool {
    Moment::read(text).is_some_and(|moment| moment.time.is_some() || text.len() == "2001-01-01".len())
}

fn moment(text: &str) -> Result<(), String> {
    match Moment::read(text) {
        None => Err(format!("\"{text}\" isn't a date")),
        Some(moment) if !moment.exists() => Err(format!("there is no date {text}")),
        Some(_) => Ok(()),
    }
}
