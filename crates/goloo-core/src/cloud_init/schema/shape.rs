//! The few words in which [`super::keys`] describes values.

/// What a value must be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// Anything.
    Any,
    Null,
    Bool,
    /// `false`, and no `true`.
    False,
    /// A whole number.
    Whole,
    /// A whole number that isn't negative.
    Natural,
    /// A text, or bytes.
    Text,
    /// A text that is a date.
    Date,
    /// A text that passes a test, and what such a text looks like.
    Form(fn(&str) -> bool, &'static str),
    /// One of these texts.
    Words(&'static [&'static str]),
    List(&'static List),
    Map(&'static Map),
    /// One of several.
    OneOf(&'static [Shape]),
}

/// A list.
#[derive(Debug)]
pub(super) struct List {
    /// What each item is.
    pub items: Shape,
    /// How many there are at least.
    pub min: usize,
    /// How many there are at most.
    pub max: usize,
    /// Whether no two are equal.
    pub is_unique: bool,
}

/// A mapping.
#[derive(Debug)]
pub(super) struct Map {
    /// The keys that are known.
    pub keys: &'static [(&'static str, Shape)],
    /// What the values of all other keys are; `None` where there may be none.
    pub others: Option<Others>,
    /// Keys that must be there.
    pub required: &'static [&'static str],
    /// Keys of which exactly one must be there; none where this is empty.
    pub one_of: &'static [&'static str],
    /// How many keys there are at least.
    pub min: usize,
    /// Whether a key may have hyphens where its name has underscores.
    pub takes_hyphens: bool,
}

/// Keys that have no fixed names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Others {
    /// Which names there may be: none of them takes other values than texts.
    pub names: fn(&str) -> bool,
    /// What such a name looks like.
    pub form: &'static str,
    /// Whether keys with other names are taken, whatever their values.
    pub is_open: bool,
    /// What the values are.
    pub value: Shape,
}

impl Shape {
    /// In a sentence that says what a value must be.
    pub fn name(self) -> String {
        match self {
            Self::Any => "anything".to_owned(),
            Self::Null => "empty".to_owned(),
            Self::Bool => "true or false".to_owned(),
            Self::False => "false".to_owned(),
            Self::Whole | Self::Natural => "a whole number".to_owned(),
            Self::Text => "a text".to_owned(),
            Self::Date => "a text like 2030-12-31".to_owned(),
            Self::Form(_, example) => format!("a text like {example}"),
            Self::Words(words) => words.join(" or "),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a mapping".to_owned(),
            Self::OneOf(shapes) => shapes.iter().map(|shape| shape.name()).collect::<Vec<_>>().join(" or "),
        }
    }
}

/// Whether a text is a date; Python's short forms, without hyphens or by weeks, count too.
pub(super) fn is_date(text: &str) -> bool {
    let is_short = text.contains('W') || (text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_digit()));
    is_short || (text.len() == "2030-12-31".len() && text.parse::<jiff::civil::Date>().is_ok())
}
