//! The only rule about which characters goloo uses in its own output. All its other texts are ASCII; texts of users stay
//! as they are, since a shown path must work as an argument.

use std::borrow::Cow;
use std::ffi::OsString;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The characters that the locale has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charset {
    /// All of Unicode.
    Utf8,
    /// Those that each locale has.
    Ascii,
}

/// The lines of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    pub horizontal: &'static str,
    pub vertical: &'static str,
    /// Left and right.
    pub top: [&'static str; 2],
    /// Left and right.
    pub bottom: [&'static str; 2],
}

impl Charset {
    /// Of this process's locale.
    pub fn of_locale() -> Self {
        Self::of(|name| std::env::var_os(name))
    }

    /// The first of these variables that isn't empty decides, as in POSIX.
    fn of(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let locale =
            ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(variable).find(|value| !value.is_empty());
        let name = locale.map(|value| value.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        if name.contains("utf-8") || name.contains("utf8") { Self::Utf8 } else { Self::Ascii }
    }

    /// One of two forms of a text.
    pub(super) fn choose<T>(self, text: T, ascii: T) -> T {
        match self {
            Self::Utf8 => text,
            Self::Ascii => ascii,
        }
    }

    /// The characters of a spinner.
    pub fn spinner(self) -> &'static str {
        self.choose("⠁⠂⠄⡀⢀⠠⠐⠈ ", "-\\|/ ")
    }

    /// The prefix of further lines of a message: no line of goloo's own begins with it.
    pub fn continued(self) -> &'static str {
        self.choose("  │ ", "  | ")
    }

    /// The lines of a box.
    pub fn frame(self) -> Frame {
        self.choose(
            Frame { horizontal: "─", vertical: "│", top: ["┌", "┐"], bottom: ["└", "┘"] },
            Frame { horizontal: "-", vertical: "|", top: ["+", "+"], bottom: ["+", "+"] },
        )
    }

    /// The beginning of a text that is wider than this on a terminal, with an ellipsis.
    pub fn shortened(self, text: &str, width: usize) -> Cow<'_, str> {
        if width_of(text) <= width {
            return text.into();
        }
        let ellipsis: String = self.choose("…", "...").chars().take(width).collect();
        let mut left = width - ellipsis.width();
        let fits = |letter: &char| {
            let needed = letter.width().unwrap_or_default();
            left.checked_sub(needed).map(|rest| left = rest).is_some()
        };
        let beginning: String = text.chars().take_while(fits).collect();
        (beginning.trim_end().to_owned() + &ellipsis).into()
    }
}

/// The width of the text on a terminal; for plain text, the common case, that is its length.
pub fn width_of(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.width() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_is_set_decides_about_the_characters() {
        for (all, ctype, lang, expected) in [
            ("", "", "", Charset::Ascii),
            ("", "", "de_DE.UTF-8", Charset::Utf8),
            ("", "", "C.utf8", Charset::Utf8),
            ("", "", "de_DE@euro", Charset::Ascii),
            ("", "C", "de_DE.UTF-8", Charset::Ascii),
            ("", "UTF-8", "C", Charset::Utf8),
            ("POSIX", "en_US.UTF-8", "en_US.UTF-8", Charset::Ascii),
            ("C.UTF-8", "C", "C", Charset::Utf8),
        ] {
            let variable = |name: &str| match name {
                "LC_ALL" => Some(all.into()),
                "LC_CTYPE" => Some(ctype.into()),
                _ => Some(lang.into()),
            };
            assert_eq!(Charset::of(variable), expected, "{all:?} {ctype:?} {lang:?}");
        }
        assert_eq!(Charset::of(|_| None), Charset::Ascii);
    }

    #[test]
    fn a_shortened_text_has_an_ellipsis_of_the_charset_and_at_most_the_width() {
        for (text, width, utf8, ascii) in [
            ("running", 7, "running", "running"),
            ("running", 6, "runni…", "run..."),
            ("db one", 4, "db…", "d..."),
            ("日本日本", 6, "日本…", "日..."),
            ("日本日本", 5, "日本…", "日..."),
            ("running", 2, "r…", ".."),
            ("running", 0, "", ""),
        ] {
            assert_eq!(Charset::Utf8.shortened(text, width), utf8);
            assert_eq!(Charset::Ascii.shortened(text, width), ascii);
        }
    }

    #[test]
    fn the_ascii_forms_are_ascii_and_as_wide() {
        let (utf8, ascii) = (Charset::Utf8.frame(), Charset::Ascii.frame());
        let parts =
            |frame: Frame| [&[frame.horizontal, frame.vertical][..], &frame.top, &frame.bottom].concat();
        let frames = parts(utf8).into_iter().zip(parts(ascii));
        for (utf8, ascii) in frames.chain([(Charset::Utf8.continued(), Charset::Ascii.continued())]) {
            assert!(ascii.is_ascii() && utf8.width() == ascii.len(), "{utf8} {ascii}");
        }
        assert!(Charset::Ascii.spinner().is_ascii());
    }
}
