//! Size limits of user-written files. A stack may come from anyone, and parts of its processing need more than linear
//! time: within these limits each file takes less than a second.

use super::diagnostic::Diagnostic;
use crate::text::shortened;

/// The maximum number of values in a document, including nested ones.
pub const VALUES_MAX: usize = 10_000;
/// The maximum nesting depth of values in a JSON file.
const DEPTH_MAX: usize = 50;
/// The maximum length of a key in a JSON file, in bytes.
const KEY_MAX: usize = 256;
/// The number of characters of a message that are kept.
const MESSAGE_MAX: usize = 500;

/// An exceeded limit: its position in bytes, what exceeds it, and what to do.
pub type Beyond = (usize, String, &'static str);

/// Checks only the structure of a JSON text, in one pass; its validity is left to the parser.
pub fn beyond(text: &str) -> Option<Beyond> {
    let bytes = text.as_bytes();
    let (mut depth, mut values, mut at) = (0_usize, 0_usize, 0_usize);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                values += 1;
                if depth > DEPTH_MAX {
                    let message = format!("values are nested more than {DEPTH_MAX} levels deep");
                    return Some((at, message, "reduce the nesting"));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' => values += 1,
            b'"' => {
                let end = string_end(bytes, at);
                if end - at > KEY_MAX && is_key(bytes, end) {
                    let message = format!("the key is longer than {KEY_MAX} bytes");
                    return Some((at, message, "use a shorter key"));
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

/// The position after the string that begins here.
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

impl Diagnostic {
    /// The same with shortened texts, since they quote the file's content.
    pub fn shortened(self) -> Self {
        Self {
            pointer: shortened(&self.pointer, MESSAGE_MAX),
            message: shortened(&self.message, MESSAGE_MAX),
            hint: self.hint.map_text(|text| shortened(text, MESSAGE_MAX)),
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
    fn depth_values_and_keys_are_limited_regardless_of_string_contents() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(said(&nested(DEPTH_MAX)), None);
        assert_eq!(
            said(&nested(DEPTH_MAX + 1)).as_deref(),
            Some("50: values are nested more than 50 levels deep")
        );
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
