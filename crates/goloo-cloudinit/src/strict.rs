//! Differences between PyYAML, which cloud-init uses, and the parser used here.
//!
//! The parser is libyaml's, and PyYAML follows the same rules except for these: PyYAML accepts no tabs
//! between tokens, includes a comma in a tag, treats a question mark in brackets as a key, and accepts no comment
//! directly after a block scalar indicator. The parser here accepts no tab at the start of a block scalar, and panics
//! at a tag before a comma and at a block scalar that is cut off by the end of the file.

use crate::diagnostic::diagnostic_at;
use crate::limits::DEPTH_MAX;
use libyaml_safer::{Encoding, ScalarStyle, Scanner, Token, TokenData};

use goloo_model::spec::{Diagnostic, VALUES_MAX};

/// Line breaks.
const BREAKS: [char; 5] = ['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'];

/// A text for the parser: of the same length except for an added line break at the end, and of the same structure.
pub(super) struct Readable {
    pub text: String,
    /// Where a tab at the start of a block scalar was replaced by a letter, in bytes.
    tabs: Vec<usize>,
}

/// The maximum number of repairs for the parser; after each one the whole text is scanned again.
const REPAIRS_MAX: usize = 32;
/// The maximum number of words that are checked for tags with a comma, for the same reason. Further ones are left to
/// the parser.
const TAGS_MAX: usize = 32;
/// More tokens than a document with the maximum number of values has: each value has its own, an indicator, an anchor,
/// a tag, and the ends of what encloses it.
const TOKENS_MAX: usize = 8 * VALUES_MAX;

/// An obstacle to parsing.
enum Obstacle {
    /// For the parser alone: this tab begins a block scalar.
    FirstTab(usize),
    /// For PyYAML: a tab.
    Tab(usize),
    /// For PyYAML: position, message and hint.
    Other(usize, &'static str, &'static str),
}

impl Readable {
    /// Makes the text readable, or reports what PyYAML doesn't accept.
    pub fn new(text: &str) -> Result<Self, Diagnostic> {
        no_control_characters(text)?;
        let line_end = if text.ends_with(BREAKS) { "" } else { "\n" };
        let mut readable = Self { text: format!("{text}{line_end}"), tabs: Vec::new() };
        while let Some(obstacle) = readable.obstacle() {
            match obstacle {
                Obstacle::FirstTab(at) if readable.tabs.len() >= REPAIRS_MAX => {
                    let message = "this YAML can't be parsed: many lines begin with tabs";
                    return Err(diagnostic_at(text, at, message, "use spaces instead of tabs"));
                }
                Obstacle::FirstTab(at) => {
                    readable.text.replace_range(at..=at, "x");
                    readable.tabs.push(at);
                }
                Obstacle::Tab(at) => {
                    let behind = text.len() - text[at..].trim_start_matches([' ', '\t']).len();
                    let message = "cloud-init can't parse this YAML: there is a tab before this";
                    return Err(diagnostic_at(text, behind, message, "use spaces instead of tabs"));
                }
                Obstacle::Other(at, message, hint) => {
                    let message = format!("cloud-init can't parse this YAML: {message}");
                    return Err(diagnostic_at(text, at, message, hint));
                }
            }
        }
        Ok(readable)
    }

    /// A scalar's value, as in the original text.
    pub fn original(&self, mut value: String, start: usize, end: usize) -> String {
        if self.tabs.iter().any(|at| (start..end).contains(at)) {
            let first = value.len() - value.trim_start_matches(BREAKS).len();
            value.replace_range(first..=first, "\t");
        }
        value
    }

    /// The first obstacle, up to where scanning fails.
    fn obstacle(&self) -> Option<Obstacle> {
        if let Some(at) = tag_with_comma(&self.text) {
            let message = "a comma becomes part of the tag before it";
            return Some(Obstacle::Other(at, message, "put a space before the comma"));
        }
        let (mut checked, mut brackets) = (0, 0_usize);
        for (number, token) in tokens(&self.text).enumerate() {
            if number > TOKENS_MAX {
                // Building the tree will report this.
                return None;
            }
            let token = match token {
                Ok(token) => token,
                Err(error) => return self.tab_at(error.problem_mark().map_or(0, |mark| byte(mark.index))),
            };
            let (start, end) = (byte(token.start_mark.index), byte(token.end_mark.index));
            match token.data {
                TokenData::FlowSequenceStart | TokenData::FlowMappingStart if brackets >= DEPTH_MAX => {
                    // Scanning deeper brackets takes quadratic time.
                    let message = "brackets are nested more than 200 levels deep";
                    return Some(Obstacle::Other(start, message, "reduce the nesting"));
                }
                TokenData::FlowSequenceStart | TokenData::FlowMappingStart => brackets += 1,
                TokenData::FlowSequenceEnd | TokenData::FlowMappingEnd => {
                    brackets = brackets.saturating_sub(1)
                }
                _ => {}
            }
            let tab = self.tab_outside_comments(checked, start).or_else(|| self.tab_in(&token, start, end));
            let found = tab.map(Obstacle::Tab).or_else(|| self.other_in(&token, start, end, brackets > 0));
            if found.is_some() {
                return found;
            }
            checked = checked.max(end);
        }
        None
    }

    fn tab_in(&self, token: &Token, start: usize, end: usize) -> Option<usize> {
        let text = match style(token) {
            Some(ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted) => "",
            Some(ScalarStyle::Literal | ScalarStyle::Folded) => {
                self.first_line(start, end).split('#').next().unwrap_or_default()
            }
            _ => &self.text[start..end],
        };
        let made_a_letter = || self.tabs.iter().copied().find(|at| (start..end).contains(at));
        text.find('\t').map(|at| start + at).or_else(|| made_a_letter().filter(|_| !is_block(token)))
    }

    fn other_in(&self, token: &Token, start: usize, end: usize, is_in_brackets: bool) -> Option<Obstacle> {
        if style(token) == Some(ScalarStyle::Plain) && is_in_brackets {
            let at = start + self.text[start..end].find('?')?;
            return Some(Obstacle::Other(at, "this ? begins a key", "quote the text that contains it"));
        }
        let at = self.first_line(start, end).find('#').filter(|_| is_block(token))?;
        let is_apart = self.text[..start + at].ends_with(' ');
        (!is_apart).then_some(Obstacle::Other(
            start + at,
            "this # doesn't start a comment",
            "put a space before it",
        ))
    }

    fn first_line(&self, start: usize, end: usize) -> &str {
        self.text[start..end].split(BREAKS).next().unwrap_or_default()
    }

    /// The tab at which the parser stopped, if any.
    fn tab_at(&self, at: usize) -> Option<Obstacle> {
        if !self.text[at..].starts_with('\t') {
            return None;
        }
        let line = self.text[..at].rsplit(BREAKS).next().unwrap_or_default();
        let is_indented = !line.is_empty() && line.bytes().all(|byte| byte == b' ');
        Some(if is_indented { Obstacle::FirstTab(at) } else { Obstacle::Tab(at) })
    }

    fn tab_outside_comments(&self, from: usize, to: usize) -> Option<usize> {
        let mut at = from;
        for line in self.text[from..to.max(from)].split_inclusive(BREAKS) {
            let outside = line.split('#').next().unwrap_or_default();
            if let Some(tab) = outside.find('\t') {
                return Some(at + tab);
            }
            at += line.len();
        }
        None
    }
}

/// A mark's index, which counts bytes.
pub(super) fn byte(index: u64) -> usize {
    usize::try_from(index).expect("the text is in memory")
}

fn tokens(text: &str) -> Scanner<&[u8]> {
    let mut scanner = Scanner::new();
    // Otherwise it would detect the encoding, and not count a byte-order mark.
    scanner.set_encoding(Encoding::Utf8);
    scanner.set_input(text.as_bytes());
    scanner
}

fn style(token: &Token) -> Option<ScalarStyle> {
    if let TokenData::Scalar { style, .. } = token.data { Some(style) } else { None }
}

fn is_block(token: &Token) -> bool {
    matches!(style(token), Some(ScalarStyle::Literal | ScalarStyle::Folded))
}

fn no_control_characters(text: &str) -> Result<(), Diagnostic> {
    let is_printable = |character: char| {
        matches!(character,
            '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..)
    };
    match text.char_indices().find(|(_, character)| !is_printable(*character)) {
        None => Ok(()),
        Some((at, character)) => {
            let message =
                format!("invalid YAML: there is a control character, U+{:04X}", u32::from(character));
            let hint = "remove it, or write it as an escape in double quotes";
            Err(diagnostic_at(text, at, message, hint))
        }
    }
}

/// A tag that doesn't occur in documents.
const PROBE: &str = "goloo-looks-for-a-tag";

/// The start of a tag that ends with a comma. Whether it is a tag or text is determined by scanning the
/// text before it.
fn tag_with_comma(text: &str) -> Option<usize> {
    let begins_tag = |at: usize| {
        // Compares the name instead of the position: marks after a two-character line break are off.
        let probe = format!("{}!{PROBE}\n", &text[..at]);
        let is_probe =
            |token: &Token| matches!(&token.data, TokenData::Tag { suffix, .. } if suffix == PROBE);
        tokens(&probe).map_while(Result::ok).any(|token| is_probe(&token))
    };
    let marks = text.match_indices('!').map(|(at, _)| at);
    marks.filter(|at| has_comma(&text[*at..])).take(TAGS_MAX).find(|at| begins_tag(*at))
}

/// Whether the first word of a text has a comma that isn't between `!<` and `>`.
fn has_comma(text: &str) -> bool {
    let word = text.split([' ', '\t']).next().and_then(|text| text.split(BREAKS).next()).unwrap_or(text);
    let behind =
        if word.starts_with("!<") { word.split_once('>').map_or("", |(_, rest)| rest) } else { word };
    behind.contains(',')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::super::tree::Document;

    const PIECES: [&str; 48] = [
        "a",
        "b: ",
        "- ",
        " ",
        "\n",
        "\n  ",
        "[",
        "]",
        "{",
        "}",
        ",",
        ", ",
        ":",
        "&x",
        "*x",
        "!",
        "!!",
        "!a!",
        "!<",
        "<",
        ">",
        "%",
        "%C3",
        "%TAG",
        "%YAML",
        "|",
        "+",
        "-",
        "2",
        "'",
        "\"",
        "\\",
        "\\x",
        "\\U",
        "#",
        "\t",
        "\r\n",
        "\r",
        "é",
        "\u{2028}",
        "\u{85}",
        "---",
        "...",
        "? ",
        "@",
        "\u{feff}",
        "\u{1f600}",
        "\0",
    ];

    #[test]
    fn a_tag_before_a_comma_is_rejected_after_any_line_ending() {
        for text in ["b: \\\r\n[!,a", "[!,a", "a: b\r\nc: [!!str, d]", "[é\r\n, !x,]"] {
            assert!(Document::read(text).is_err(), "{text:?}");
        }
        for text in ["a: \"!x, y\"", "a: b !x, y", "# !x, y\na: b", "a: !t \"b !x, y\""] {
            assert!(Document::read(text).is_ok(), "{text:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 3000,
            // A failure must be reproducible.
            rng_seed: RngSeed::Fixed(20_261_124),
            ..ProptestConfig::default()
        })]
        #[test]
        fn the_parser_panics_only_at_a_tag_before_a_comma(
            pieces in prop::collection::vec(0..PIECES.len(), 0..30)
        ) {
            let text: String = pieces.into_iter().map(|piece| PIECES[piece]).collect();
            for text in [format!("a: [{text}"), text] {
                let panics = std::panic::catch_unwind(|| Document::parse(&text)).is_err();
                prop_assert!(!panics || text.contains('!') && text.contains(','), "{text:?}");
                prop_assert!(!panics || Document::read(&text).is_err());
            }
        }
    }
}
