//! goloo's marks before lines.

use super::Style;
use super::charset::Charset;

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
        charset.choose(text, plain)
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
    fn a_mark_has_one_column_and_an_ascii_form() {
        for mark in [Mark::Good, Mark::Absent, Mark::Notice, Mark::Wrong, Mark::Step, Mark::Log] {
            assert_eq!(mark.text(Charset::Utf8).chars().count(), 1);
            let plain = mark.text(Charset::Ascii);
            assert!(plain.is_ascii() && plain.len() == 1, "{plain}");
        }
    }
}
