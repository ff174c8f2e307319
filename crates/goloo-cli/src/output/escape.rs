//! Escaping of untrusted text: characters that a terminal would interpret, or not show, become visible.
//!
//! [`super::Ui`] and [`super::Table`] call this for all their output, so other code doesn't have to.

use std::borrow::Cow;
use std::fmt::Write;

use goloo_model::printable::is_printable;

use super::charset::Charset;

/// Text on one line: all unprintable characters are escaped, line ends and tabs too.
pub fn one_line(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// Text of several lines: line ends and tabs are kept.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| matches!(c, '\n' | '\t'))
}

/// A message: further lines are indented behind a bar, so that they can't be taken for another message.
pub fn message(text: &str, charset: Charset) -> Cow<'_, str> {
    if is_plain(text) {
        return Cow::Borrowed(text);
    }
    let mut lines = text.trim_end_matches(['\n', '\r']).split('\n');
    let mut shown = String::with_capacity(text.len());
    push(&mut shown, without_return(lines.next().unwrap_or_default()), is_tab);
    for line in lines {
        shown.push('\n');
        shown.push_str(charset.continued());
        push(&mut shown, without_return(line), is_tab);
    }
    Cow::Owned(shown)
}

/// JSON whose strings contain nothing that a terminal would interpret. Outside of strings, JSON is plain ASCII.
pub fn json(text: &str) -> Cow<'_, str> {
    let stays = |c: char| is_printable(c) || c == '\n';
    if !text.bytes().any(|byte| byte >= 0x7f) || text.chars().all(stays) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + text.len() / 8);
    for c in text.chars() {
        if stays(c) {
            shown.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(shown, "\\u{unit:04x}");
        }
    }
    Cow::Owned(shown)
}

fn escaped(text: &str, stays: impl Fn(char) -> bool) -> Cow<'_, str> {
    if is_plain(text) || text.chars().all(|c| is_printable(c) || stays(c)) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + text.len() / 8);
    push(&mut shown, text, stays);
    Cow::Owned(shown)
}

/// ASCII without control characters: the common case.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

fn is_tab(c: char) -> bool {
    c == '\t'
}

/// Strips the carriage return of a CRLF line end.
fn without_return(line: &str) -> &str {
    line.trim_end_matches('\r')
}

fn push(shown: &mut String, text: &str, stays: impl Fn(char) -> bool) {
    for c in text.chars() {
        if is_printable(c) || stays(c) {
            shown.push(c);
        } else {
            push_escape(shown, c);
        }
    }
}

fn push_escape(shown: &mut String, c: char) {
    let _ = match c {
        '\n' => write!(shown, "\\n"),
        '\r' => write!(shown, "\\r"),
        '\t' => write!(shown, "\\t"),
        '\0'..='\u{7f}' => write!(shown, "\\x{:02x}", u32::from(c)),
        _ => write!(shown, "\\u{{{:x}}}", u32::from(c)),
    };
}

/// Escapes the bytes of an untrusted log, piece by piece: line ends and tabs are kept, all else unprintable is escaped.
#[derive(Debug, Default)]
pub struct LogText {
    /// The first bytes of a character whose other bytes haven't arrived.
    partial: Vec<u8>,
    /// Carriage returns that may be part of a line end.
    returns: usize,
}

impl LogText {
    /// The text of these bytes, which follow those of earlier calls.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        let mut all = std::mem::take(&mut self.partial);
        all.extend_from_slice(bytes);
        let mut shown = String::with_capacity(all.len());
        let mut rest = all.as_slice();
        while !rest.is_empty() {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.push_text(&mut shown, text);
                    return shown;
                }
                Err(error) => {
                    let (good, bad) = rest.split_at(error.valid_up_to());
                    self.push_text(&mut shown, &String::from_utf8_lossy(good));
                    let Some(length) = error.error_len() else {
                        self.partial = bad.to_vec();
                        return shown;
                    };
                    self.push_bytes(&mut shown, &bad[..length]);
                    rest = &bad[length..];
                }
            }
        }
        shown
    }

    /// The text of the remaining bytes.
    pub fn finish(&mut self) -> String {
        let mut shown = String::new();
        let partial = std::mem::take(&mut self.partial);
        self.push_bytes(&mut shown, &partial);
        self.flush_returns(&mut shown);
        shown
    }

    fn push_text(&mut self, shown: &mut String, text: &str) {
        if self.returns == 0 && text.bytes().all(|byte| matches!(byte, b'\n' | b'\t' | b' '..=b'~')) {
            return shown.push_str(text);
        }
        for c in text.chars() {
            match c {
                '\r' => self.returns += 1,
                '\n' => {
                    self.returns = 0;
                    shown.push('\n');
                }
                _ => {
                    self.flush_returns(shown);
                    push(shown, c.encode_utf8(&mut [0; 4]), is_tab);
                }
            }
        }
    }

    fn push_bytes(&mut self, shown: &mut String, bytes: &[u8]) {
        for byte in bytes {
            self.flush_returns(shown);
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }

    fn flush_returns(&mut self, shown: &mut String) {
        for _ in 0..std::mem::take(&mut self.returns) {
            push_escape(shown, '\r');
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn control_characters_are_escaped_and_other_text_is_unchanged() {
        let hostile = "\u{1b}]0;x\u{7}\r\u{9b}31m\u{202e}\n\ta\u{7f}é";
        assert_eq!(one_line(hostile), r"\x1b]0;x\x07\r\u{9b}31m\u{202e}\n\ta\x7fé");
        assert_eq!(lines("a\tb\nc\r"), "a\tb\nc\\r");
        assert!(matches!(one_line("plain ~"), Cow::Borrowed(_)));
        assert!(matches!(one_line("日本"), Cow::Borrowed(_)));
    }

    #[test]
    fn continuation_lines_of_a_message_are_prefixed() {
        let shown = |charset| message("a\r\nerror: b\n\u{1b}c\n\n", charset);
        assert_eq!(shown(Charset::Utf8), "a\n  │ error: b\n  │ \\x1bc");
        assert_eq!(shown(Charset::Ascii), "a\n  | error: b\n  | \\x1bc");
        assert_eq!(message("", Charset::Utf8), "");
    }

    #[test]
    fn escaping_control_characters_keeps_the_json_value() {
        let value = serde_json::json!({"a\u{9b}": "x\u{7f}\u{202e}\u{e0041}é\n"});
        let text = serde_json::to_string_pretty(&value).unwrap();
        let shown = json(&text);
        assert!(shown.contains(r"x\u007f\u202e\udb40\udc41é\n"), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        assert!(matches!(json("{\n  \"a\": 1\n}"), Cow::Borrowed(_)));
    }

    #[test]
    fn log_text_is_independent_of_chunk_boundaries() {
        let log = "é\r\n\tok\r\r\n50%\r100%\u{1b}[2J\n".as_bytes();
        let log = [log, &[0xff, b'x', 0xc3]].concat();
        let expected = "é\n\tok\n50%\\r100%\\x1b[2J\n\\xffx\\xc3";
        for cut in 0..=log.len() {
            let mut text = LogText::default();
            let shown = text.push(&log[..cut]) + &text.push(&log[cut..]) + &text.finish();
            assert_eq!(shown, expected, "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn no_text_yields_control_characters(text in any::<String>(), bytes in proptest::collection::vec(any::<u8>(), 0..99)) {
            let clean = |shown: &str| shown.chars().all(is_printable);
            prop_assert!(clean(&one_line(&text)));
            prop_assert!(lines(&text).chars().all(|c| is_printable(c) || c == '\n' || c == '\t'));
            for (place, line) in message(&text, Charset::Utf8).split('\n').enumerate() {
                prop_assert!(place == 0 || line.starts_with(Charset::Utf8.continued()));
                prop_assert!(line.chars().all(|c| is_printable(c) || c == '\t'));
            }
            let value = serde_json::json!({text.clone(): text.clone()});
            let whole = value.to_string();
            let shown = json(&whole);
            prop_assert!(clean(&shown));
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
            let mut log = LogText::default();
            let shown = log.push(&bytes) + &log.finish();
            prop_assert!(shown.chars().all(|c| is_printable(c) || c == '\n' || c == '\t'));
        }
    }
}
