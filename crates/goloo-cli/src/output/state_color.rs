//! The colors of states: green is good, yellow is worth knowing, red is wrong, dim is secondary.

use super::style::Style;

/// The color of a state or an outcome. A state in parentheses wasn't checked, and is dim unless something is wrong.
pub fn state_color(text: &str) -> Option<Style> {
    let is_unchecked = text.starts_with('(');
    let word = text.trim_start_matches('(').split([')', ':', ',']).next().unwrap_or_default();
    match word {
        "failed" | "missing" | "broken" | "gone" | "invalid" => Some(Style::Red),
        _ if is_unchecked => Some(Style::Dim),
        "running" | "ready" | "done" => Some(Style::Green),
        "stopped" | "suspended" => Some(Style::Dim),
        "creating" | "deleting" | "unverified" | "unknown" | "interrupted" | "unfinished"
        | "not imported" => Some(Style::Yellow),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wrong_is_red_and_what_was_not_checked_is_dim() {
        let codes = |texts: &[&str]| texts.iter().map(|text| state_color(text)).collect::<Vec<_>>();
        assert_eq!(codes(&["running", "done"]), [Some(Style::Green); 2]);
        assert_eq!(codes(&["failed", "failed: no disk space", "(failed)"]), [Some(Style::Red); 3]);
        assert_eq!(codes(&["(ready)", "(unverified)", "stopped"]), [Some(Style::Dim); 3]);
        assert_eq!(codes(&["unverified", "creating"]), [Some(Style::Yellow); 2]);
        assert_eq!(codes(&["STATE", "-", ""]), [None; 3]);
    }
}
