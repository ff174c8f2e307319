//! Where PyYAML, by which cloud-init reads, and the parser here don't agree.
//!
//! The parser is libyaml's, of which PyYAML has the rules, too, but for these: PyYAML takes no tabs
//! between words, a comma into a tag, a question mark in brackets for a key, and no comment right behind
//! the sign of a block text. The parser here takes no tab at the start of a block text, and panics at a tag
//! in front of a comma and at a block text that the file's end cuts off.

use libyaml_safer::{Encoding, ScalarStyle, Scanner, Token, TokenData};

use super::tree::{DEPTH_MAX, problem_at};
use crate::spec::{Problem, VALUES_MAX};

/// What ends a line.
const BREAKS: [char; 5] = ['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'];

/// A text for the parser: of the same length but for a line end behind it, and of the same structure.
pub(super) struct Readable {
    pub text: String,
    /// Where a tab begins a block text and has become a letter, in bytes.
    tabs: Vec<usize>,
}

/// How often the text is made readable for the parser; each time all of it is looked at again.
const REPAIRS_MAX: usize = 32;
/// How many words that could be tags with a comma are looked at, for the same reason. What is beyond is left to the
/// parser.
const TAGS_MAX: usize = 32;
/// More tokens than a document of so many values has: each has its own, an indicator, an anchor, a tag, and the ends
/// of what it is in.
const TOKENS_MAX: usize = 8 * VALUES_MAX;

/// What stands in the way.
enum Obstacle {
    /// Of the parser alone, where this tab begins a block text.
    FirstTab(usize),
    /// Of PyYAML: a tab.
    Tab(usize),
    /// Of PyYAML: where, what and what to do.
    Other(usize, &'static str, &'static str),
}

impl Readable {
    /// Makes the text readable, or says what PyYAML doesn't take.
    pub fn new(text: &str) -> Result<Self, Problem> {
        no_control_characters(text)?;
        let line_end = if text.ends_with(BREAKS) { "" } else { "\n" };
        let mut readable = Self { text: format!("{text}{line_end}"), tabs: Vec::new() };
        while let Some(obstacle) = readable.obstacle() {
            match obstacle {
                Obstacle::FirstTab(at) if readable.tabs.len() >= REPAIRS_MAX => {
                    let message = "this isn't YAML to goloo: there are tabs at the beginning of many lines";
                    return Err(problem_at(text, at, message, "use blanks in place of tabs"));
                }
                Obstacle::FirstTab(at) => {
                    readable.text.replace_range(at..=at, "x");
                    readable.tabs.push(at);
                }
                Obstacle::Tab(at) => {
                    let behind = text.len() - text[at..].trim_start_matches([' ', '\t']).len();
                    let message = "this isn't YAML to cloud-init: there is a tab before this";
                    return Err(problem_at(text, behind, message, "use blanks in place of tabs"));
                }
                Obstacle::Other(at, message, hint) => {
                    let message = format!("this isn't YAML to cloud-init: {message}");
                    return Err(problem_at(text, at, message, hint));
                }
            }
        }
        Ok(readable)
    }

    /// A scalar's value, as the original text gives it.
    pub fn original(&self, mut value: String, start: usize, end: usize) -> String {
        if self.tabs.iter().any(|at| (start..end).contains(at)) {
            let first = value.len() - value.trim_start_matches(BREAKS).len();
            value.replace_range(first..=first, "\t");
        }
        value
    }

    /// The first one, as far as the scanner comes.
    fn obstacle(&self) -> Option<Obstacle> {
        if let Some(at) = tag_with_comma(&self.text) {
            let message = "a comma becomes part of the tag before it";
            return Some(Obstacle::Other(at, message, "put a blank before the comma"));
        }
        let (mut checked, mut brackets) = (0, 0_usize);
        for (number, token) in tokens(&self.text).enumerate() {
            if number > TOKENS_MAX {
                // The tree's builder says so.
                return None;
            }
            let token = match token {
                Ok(token) => token,
                Err(error) => return self.tab_at(error.problem_mark().map_or(0, |mark| byte(mark.index))),
            };
            let (start, end) = (byte(token.start_mark.index), byte(token.end_mark.index));
            match token.data {
                TokenData::FlowSequenceStart | TokenData::FlowMappingStart if brackets >= DEPTH_MAX => {
                    // Deeper brackets take the scanner quadratic time.
                    let message = "brackets are nested more than 200 deep";
                    return Some(Obstacle::Other(start, message, "nest them less deep"));
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
            return Some(Obstacle::Other(at, "this ? begins a key", "quote the text that has it"));
        }
        let at = self.first_line(start, end).find('#').filter(|_| is_block(token))?;
        let is_apart = self.text[..start + at].ends_with(' ');
        (!is_apart).then_some(Obstacle::Other(
            start + at,
            "this # begins no comment",
            "put a blank before it",
        ))
    }

    fn first_line(&self, start: usize, end: usize) -> &str {
        self.text[start..end].split(BREAKS).next().unwrap_or_default()
    }

    /// The tab at which the parser stopped, if it did at one.
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

/// A mark's index, which is one of bytes.
pub(super) fn byte(index: u64) -> usize {
    usize::try_from(index).expect("the text is in memory")
}

fn tokens(text: &str) -> Scanner<&[u8]> {
    let mut scanner = Scanner::new();
    // Else it would look for one, and not count a byte-order mark.
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

fn no_control_characters(text: &str) -> Result<(), Problem> {
    let is_printable = |character: char| {
        matches!(character,
            '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..)
    };
    match text.char_indices().find(|(_, character)| !is_printable(*character)) {
        None => Ok(()),
        Some((at, character)) => {
            let message =
                format!("this isn't YAML: there is a control character, U+{:04X}", u32::from(character));
            let hint = "remove it, or write it as an escape in double quotes";
            Err(problem_at(text, at, message, hint))
        }
    }
}

/// A tag that nobody has.
const PROBE: &str = "goloo-looks-for-a-tag";

/// Where a tag begins that has a comma at its end. Whether it is one and not text, the scanner says of what
/// is in front of it.
fn tag_with_comma(text: &str) -> Option<usize> {
    let begins_tag = |at: usize| {
        // By its name and not by its place: marks behind a line end of two characters are off.
        let probe = format!("{}!{PROBE}\n", &text[..at]);
        let is_probe =
            |token: &Token| matches!(&token.data, TokenData::Tag { suffix, .. } if suffix == PROBE);
        tokens(&probe).map_while(Result::ok).any(|token| is_probe(&token))
    };
    let marks = text.match_indices('!').map(|(at, _)| at);
    marks.filter(|at| has_comma(&text[*at..])).take(TAGS_MAX).find(|at| begins_tag(*at))
}

/// Whether the word at a text's start has a comma that isn't between `!<` and `>`.
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
    fn a_tag_in_front_of_a_comma_is_found_behind_any_line_end() {
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
            // What fails, fails for everybody.
            rng_seed: RngSeed::Fixed(20_261_124),
            ..ProptestConfig::default()
        })]
        #[test]
        fn the_parser_panics_at_nothing_but_a_tag_before_a_comma(
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
