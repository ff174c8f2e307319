//! How large what a person writes may be. A stack comes from anyone, and what reads it needs more than linear time in
//! places: within these limits each file takes less than a second.

use super::problem::Problem;
use crate::text::shortened;

/// How many values a document may hold, with all that are within others.
pub(crate) const VALUES_MAX: usize = 10_000;
/// How deep values may be nested in a JSON file.
const DEPTH_MAX: usize = 50;
/// The longest key of a JSON file, in bytes.
const KEY_MAX: usize = 256;
/// How many characters of a message are kept.
const MESSAGE_MAX: usize = 500;

/// What is beyond a limit: where, in bytes, what, and what to do.
pub(super) type Beyond = (usize, String, &'static str);

/// Looks at the structure of a JSON text alone, in one pass; whether it is JSON is left to the parser.
pub(super) fn beyond(text: &str) -> Option<Beyond> {
    let bytes = text.as_bytes();
    let (mut depth, mut values, mut at) = (0_usize, 0_usize, 0_usize);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                values += 1;
                if depth > DEPTH_MAX {
                    let message = format!("values are nested more than {DEPTH_MAX} deep");
                    return Some((at, message, "nest them less deep"));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' => values += 1,
            b'"' => {
                let end = string_end(bytes, at);
                if end - at > KEY_MAX && is_key(bytes, end) {
                    let message = format!("the key is longer than {KEY_MAX} bytes");
                    return Some((at, message, "take a shorter key"));
                }
                at = end;
                continue;
            }
            _ => {}
        }
        if values > VALUES_MAX {
            let message = format!("the file holds more than {VALUES_MAX} values");
            return Some((at, message, "remove what the machine doesn't need"));
        }
        at += 1;
    }
    None
}

/// Behind the string that begins here.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn is_key(bytes: &[u8], end: usize) -> bool {
    bytes.get(end..).is_some_and(|rest| rest.trim_ascii_start().starts_with(b":"))
}

impl Problem {
    /// The same with texts that can be shown: what a file holds is quoted in them.
    pub(crate) fn shortened(self) -> Self {
        Self {
            pointer: shortened(&self.pointer, MESSAGE_MAX),
            message: shortened(&self.message, MESSAGE_MAX),
            hint: shortened(&self.hint, MESSAGE_MAX),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Option<String> {
        beyond(text).map(|(at, message, _)| format!("{at}: {message}"))
    }

    #[test]
    fn depth_values_and_keys_are_limited_and_strings_do_not_count() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(said(&nested(DEPTH_MAX)), None);
        assert_eq!(said(&nested(DEPTH_MAX + 1)).as_deref(), Some("50: values are nested more than 50 deep"));
        assert_eq!(said(&format!("{{\"a\": \"{}\\\"{}\"}}", "[".repeat(99), ",".repeat(99_999))), None);
        assert!(said(&format!("[{}1]", "1,".repeat(VALUES_MAX))).is_some());
        assert_eq!(said(&format!("[{}1]", "1,".repeat(VALUES_MAX - 1))), None);
        let long = "k".repeat(KEY_MAX);
        assert!(said(&format!("{{\"{long}\" : 1}}")).is_some_and(|said| said.starts_with("1: the key")));
        assert_eq!(said(&format!("[\"{long}\"]")), None);
        for cut_off in ["\"", "\"\\", "{\"a", "[[", ""] {
            assert_eq!(said(cut_off), None, "{cut_off}");
        }
    }
}
