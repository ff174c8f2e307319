//! goloo's marks before lines, and the only rule about which characters can be shown.

use std::ffi::OsString;

use super::Style;

/// A mark before a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Done, or as it should be.
    Good,
    /// Not there.
    Absent,
    /// Worth knowing.
    Notice,
    /// To be fixed.
    Wrong,
    /// A step, where there is no terminal.
    Step,
    /// A line of a machine's log.
    Log,
}

/// The characters that the locale has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charset {
    /// All of Unicode.
    Utf8,
    /// Those that each locale has.
    Ascii,
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

    /// The characters of a spinner.
    pub fn spinner(self) -> &'static str {
        match self {
            Self::Utf8 => "⠁⠂⠄⡀⢀⠠⠐⠈ ",
            Self::Ascii => "-\\|/ ",
        }
    }
}

impl Mark {
    /// The mark as text.
    pub fn text(self, charset: Charset) -> &'static str {
        let (text, plain) = match self {
            Self::Good => ("✓", "+"),
            Self::Absent => ("–", "-"),
            Self::Notice => ("!", "!"),
            Self::Wrong => ("✗", "x"),
            Self::Step => ("·", "-"),
            Self::Log => ("│", "|"),
        };
        if charset == Charset::Utf8 { text } else { plain }
    }

    /// Its style.
    pub fn style(self) -> Style {
        match self {
            Self::Good => Style::Green,
            Self::Absent | Self::Step | Self::Log => Style::Dim,
            Self::Notice => Style::Yellow,
            Self::Wrong => Style::Red,
        }
    }
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
    fn a_mark_has_one_column_and_an_ascii_form() {
        for mark in [Mark::Good, Mark::Absent, Mark::Notice, Mark::Wrong, Mark::Step, Mark::Log] {
            assert_eq!(mark.text(Charset::Utf8).chars().count(), 1);
            let plain = mark.text(Charset::Ascii);
            assert!(plain.is_ascii() && plain.len() == 1, "{plain}");
        }
        assert!(Charset::Ascii.spinner().is_ascii());
    }
}
