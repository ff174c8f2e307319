//! What the installed `scp` can do. In its old protocol the other side says what the files are called; since OpenSSH
//! 8.0 the client compares that with the request, before that a guest could write anywhere.

use std::process::{Command, Stdio};
use std::time::Duration;

use goloo_command::Limits;

use crate::error::UnreachableError;

/// The program's features; `None` when it doesn't tell.
#[derive(Debug, PartialEq, Eq)]
pub struct Scp(Option<Features>);

#[derive(Debug, PartialEq, Eq)]
struct Features {
    /// From 8.7 on.
    speaks_sftp: bool,
    /// From 8.0 on.
    compares_names: bool,
}

impl Scp {
    /// Those of the installed program.
    pub fn installed() -> Self {
        let mut command = Command::new("scp");
        command.stdin(Stdio::null());
        let limits = Limits { time: Duration::from_secs(10), stdout: 4096, stderr: 4096 };
        // If it can't be run, the copy itself reports why.
        let said =
            goloo_command::run_blocking(command, limits).map(|finished| finished.stderr).unwrap_or_default();
        Self::of_usage(&String::from_utf8_lossy(&said))
    }

    /// Parses its usage message: `usage: scp [-346ABCOpqRrsTv] …`. `-T` turns the comparison off.
    fn of_usage(said: &str) -> Self {
        let flags = said.split_once("usage: scp [-").and_then(|(_, rest)| rest.split(']').next());
        Self(
            flags.map(|flags| Features {
                speaks_sftp: flags.contains('s'),
                compares_names: flags.contains('T'),
            }),
        )
    }

    /// The option that makes it speak SFTP, where it has one.
    ///
    /// # Errors
    /// [`UnreachableError::UnsafeScp`] for a download with a program that accepts any file names.
    pub fn protocol(&self, is_download: bool) -> Result<Option<&'static str>, UnreachableError> {
        match self.0 {
            Some(Features { speaks_sftp: true, .. }) => Ok(Some("-s")),
            Some(Features { compares_names: false, .. }) if is_download => Err(UnreachableError::UnsafeScp),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_needs_sftp_or_a_comparison_of_file_names() {
        for (usage, download, upload) in [
            ("usage: scp [-346ABCOpqRrsTv] [-c cipher]", Some(Some("-s")), Some(Some("-s"))),
            ("usage: scp [-346BCpqrTv] [-c cipher]", Some(None), Some(None)),
            ("usage: scp [-346BCpqrv] [-c cipher]", None, Some(None)),
            ("scp: not found", Some(None), Some(None)),
        ] {
            let scp = Scp::of_usage(usage);
            assert_eq!((scp.protocol(true).ok(), scp.protocol(false).ok()), (download, upload), "{usage}");
        }
    }
}
