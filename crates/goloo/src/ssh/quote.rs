//! Quotes paths for ssh_config(5), in a file and after `-o`.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use crate::error::SshError;

/// The value that ssh reads as exactly this path: in quotes, `%` doubled, and a backslash before what would end
/// the quotes. A backslash that escapes nothing is kept, also in ssh before 8.7, which has no escapes.
///
/// # Errors
/// If the path contains `${`, which starts a variable and can't be escaped, or a line break, which ends the line.
pub fn quoted(path: &Path) -> Result<OsString, SshError> {
    let bytes = path.as_os_str().as_bytes();
    let impossible = bytes
        .windows(2)
        .any(|pair| pair == b"${")
        .then_some("\"${\"")
        .or_else(|| bytes.iter().any(|byte| matches!(byte, b'\n' | b'\r' | 0)).then_some("a line break"));
    if let Some(what) = impossible {
        return Err(SshError::UnusablePath { path: path.to_owned(), what });
    }
    let mut text = vec![b'"'];
    for (at, byte) in bytes.iter().enumerate() {
        let next = bytes.get(at + 1);
        match byte {
            b'%' => text.push(b'%'),
            b'"' => text.push(b'\\'),
            b'\\' if matches!(next, None | Some(b'"' | b'\'' | b'\\')) => text.push(b'\\'),
            _ => {}
        }
        text.push(*byte);
    }
    text.push(b'"');
    Ok(OsString::from_vec(text))
}

/// Like [`quoted`], as a `String`.
pub fn quoted_text(path: &Path) -> Result<String, SshError> {
    quoted(path)?.into_string().map_err(|path| SshError::NotUtf8 { path })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::ffi::OsStr;
    use std::process::Command;

    use super::*;

    const ODD: [&str; 12] = [
        "/plain/id",
        "/100%/%h/%%/id",
        "/a \"quoted\" b/id",
        "/ann's/id",
        "/a,b;c#d=e/id",
        "/~/$HOME/$x/id",
        "/back\\slash/id",
        "/two\\\\back/id",
        "/back\\\"quote\\'s/id",
        "/ends\\",
        "/\t tab  and blanks /id ",
        "/\u{e4}\u{1f600}/[x]*?/{a}/id",
    ];

    /// ssh's own interpretation of these settings.
    fn effective(arguments: &[OsString]) -> Vec<String> {
        let output = Command::new("ssh").arg("-G").args(arguments).arg("host").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    /// `-G` shows the known-hosts path with its tokens expanded but the identity before expansion, where `%%` still
    /// stands for a percent sign.
    fn assert_reads(lines: &[String], path: &str) {
        for line in
            [format!("userknownhostsfile {path}"), format!("identityfile {}", path.replace('%', "%%"))]
        {
            assert!(lines.contains(&line), "{line:?} is not in {lines:#?}");
        }
    }

    #[test]
    fn ssh_reads_quoted_paths_exactly_in_options_and_files() {
        for path in ODD {
            let value = quoted(Path::new(path)).unwrap();
            let option = |name: &str| {
                let mut text = OsString::from(format!("{name}="));
                text.push(&value);
                text
            };
            let (identity, hosts) = (option("IdentityFile"), option("UserKnownHostsFile"));
            let o = || OsString::from("-o");
            let by_option = effective(&["-F".into(), "none".into(), o(), identity, o(), hosts]);
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("config");
            let value = value.to_str().unwrap();
            let text = format!("Host host\n  IdentityFile {value}\n  UserKnownHostsFile {value}\n");
            std::fs::write(&file, text).unwrap();
            let by_file = effective(&["-F".into(), file.into_os_string()]);
            for lines in [by_option, by_file] {
                assert_reads(&lines, path);
            }
        }
    }

    #[test]
    fn paths_that_ssh_cannot_represent_are_refused() {
        for path in ["/a/${HOME}/id", "/a\nb/id"] {
            let error = quoted(Path::new(path)).unwrap_err();
            assert!(error.to_string().starts_with("ssh can't use the path"), "{error:?}");
        }
        let latin = Path::new(OsStr::from_bytes(b"/\xe4/id"));
        assert_eq!(quoted(latin).unwrap().as_bytes(), b"\"/\xe4/id\"");
        quoted_text(latin).unwrap_err();
    }
}
