//! The vocabulary in which [`super::keys`] describes values.

/// The required form of a value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    Any,
    Null,
    Bool,
    /// `false`, but not `true`.
    False,
    Whole,
    /// A non-negative whole number.
    Natural,
    /// A text, or bytes.
    Text,
    /// A text that is a date.
    Date,
    /// A text that passes a test, and a description of such a text.
    Form(fn(&str) -> bool, &'static str),
    /// One of these texts.
    Words(&'static [&'static str]),
    List(&'static List),
    Map(&'static Map),
    OneOf(&'static [Shape]),
}

#[derive(Debug)]
pub(super) struct List {
    /// The shape of each item.
    pub items: Shape,
    /// The minimum number of items.
    pub min: usize,
    /// The maximum number of items.
    pub max: usize,
    /// Whether all items must be different.
    pub is_unique: bool,
}

#[derive(Debug)]
pub(super) struct Map {
    /// The known keys.
    pub keys: &'static [(&'static str, Shape)],
    /// The shape of the values of all other keys; `None` if there may be none.
    pub others: Option<Others>,
    /// The required keys.
    pub required: &'static [&'static str],
    /// Keys of which exactly one is required; not checked if empty.
    pub one_of: &'static [&'static str],
    /// The minimum number of keys.
    pub min: usize,
    /// Whether a key may be written with hyphens in place of underscores.
    pub takes_hyphens: bool,
}

/// Keys without fixed names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Others {
    /// Whether a text is allowed as a key.
    pub names: fn(&str) -> bool,
    /// A description of such a name.
    pub form: &'static str,
    /// Whether keys with other names are accepted, with any values.
    pub is_open: bool,
    /// The shape of the values.
    pub value: Shape,
}

impl Shape {
    /// The description used in messages.
    pub fn name(self) -> String {
        match self {
            Self::Any => "anything".to_owned(),
            Self::Null => "empty".to_owned(),
            Self::Bool => "true or false".to_owned(),
            Self::False => "false".to_owned(),
            Self::Whole | Self::Natural => "a whole number".to_owned(),
            Self::Text => "a string".to_owned(),
            Self::Date => "a string like 2030-12-31".to_owned(),
            Self::Form(_, example) => format!("a string like {example}"),
            Self::Words(words) => words.join(" or "),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a mapping".to_owned(),
            Self::OneOf(shapes) => shapes.iter().map(|shape| shape.name()).collect::<Vec<_>>().join(" or "),
        }
    }
}

/// Whether a text is a date, including Python's short forms, without hyphens or by weeks.
pub(super) fn is_date(text: &str) -> bool {
    let is_short = text.contains('W') || (text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_digit()));
    is_short || (text.len() == "2030-12-31".len() && text.parse::<jiff::civil::Date>().is_ok())
}
