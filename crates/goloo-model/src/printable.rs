//! Which characters may be shown as they are: the single rule for output, and for values that are checked on reading.

/// Whether a terminal or an editor only displays this character: not a control character (C0, DEL, C1), not one that
/// changes the direction of text or ends a line, not an invisible one.
///
/// The invisible ones are Unicode's `Default_Ignorable_Code_Point`s, except for the variation selectors, which emoji
/// need and which change no other character.
pub const fn is_printable(c: char) -> bool {
    !matches!(c,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180e}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Whether a whole text may be shown as it is, on one line.
pub fn is_printable_text(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~')) || text.chars().all(is_printable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_format_characters_are_not_printable() {
        for c in ('\0'..='\u{10ffff}').filter(|c| c.is_control()) {
            assert!(!is_printable(c), "{c:?}");
        }
        // Bidi_Control, line and paragraph separators, zero-width characters, a tag.
        for c in "\u{61c}\u{200b}\u{200c}\u{200d}\u{200e}\u{200f}\u{202a}\u{202e}\u{2066}\u{2069}\u{2028}\u{2029}\u{2060}\u{feff}\u{e0041}".chars()
        {
            assert!(!is_printable(c), "{c:?}");
        }
        for text in ["", "web-1 (ann@host)", "é日本 🎉 ❤\u{fe0f} שלום"] {
            assert!(is_printable_text(text), "{text:?}");
        }
        assert!(!is_printable_text("a\nb") && !is_printable_text("日\u{202e}本"));
    }
}
