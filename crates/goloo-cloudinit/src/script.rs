//! Text for user-data: short, and in a form that survives its way.

/// In base64, with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A shell script without its comments and indentation: EC2 limits the size of user-data.
pub fn squeezed(script: &str) -> String {
    let is_comment = |line: &str| line.starts_with('#') && !line.starts_with("#!");
    let lines = script.lines().map(str::trim_start).filter(|line| !line.is_empty() && !is_comment(line));
    lines.map(|line| format!("{line}\n")).collect()
}
