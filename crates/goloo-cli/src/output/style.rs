//! The colors of goloo's own texts.

/// The styles in use; each is an SGR code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// What is wrong.
    Red,
    /// What is worth knowing.
    Yellow,
    /// What is good.
    Green,
    /// Headings.
    Bold,
    /// What is secondary.
    Dim,
}

/// The text in this style, where colors are on.
pub fn painted(color: bool, style: Style, text: &str) -> String {
    if !color {
        return text.to_owned();
    }
    let code = match style {
        Style::Red => "31;1",
        Style::Yellow => "33;1",
        Style::Green => "32;1",
        Style::Bold => "1",
        Style::Dim => "2",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}
