//! `goloo cp`

use std::ffi::OsString;
use std::process::{Command, Stdio};
use std::time::Duration;

use goloo_command::Limits;
use goloo_core::name::VmName;
use goloo_core::provider::Errand;

use super::reach::{self, Way};
use crate::app::App;
use crate::error::CliError;
use crate::ssh::SCP_USER;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Copy folders with all that is in them
    #[arg(short, long)]
    recursive: bool,
    /// Where from: a path, or NAME:PATH in a VM
    from: String,
    /// Where to: a path, or NAME:PATH in a VM
    to: String,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let recursive = args.recursive;
    let (name, from, to, errand) = match (remote(&args.from), remote(&args.to)) {
        (Some((name, from)), None) => {
            let errand = Errand::Download { from, to: &args.to, recursive };
            (name, Side::Guest(from), Side::Here(&args.to), errand)
        }
        (None, Some((name, to))) => {
            let errand = Errand::Upload { from: &args.from, to, recursive };
            (name, Side::Here(&args.from), Side::Guest(to), errand)
        }
        _ => {
            return Err(CliError::usage(
                "one side must be in a VM, and one here",
                "goloo cp ./file devbox:/tmp/  or  goloo cp devbox:/etc/motd .",
            ));
        }
    };
    let (record, target) = match reach::way(app, &VmName::parse(name)?, errand)? {
        Way::Ssh(record, target) => (record, target),
        Way::Native(words) => return Err(reach::become_program(&words)),
    };
    let mut words: Vec<OsString> = Vec::new();
    let protocol = protocol(matches!(from, Side::Guest(_)))?;
    if let Some(ssh) = record.ssh.as_ref().filter(|ssh| ssh.account.is_some()) {
        let transport = app.keys.scp_transport()?;
        words.extend(["env".into(), format!("{SCP_USER}={}", ssh.user).into()]);
        words.extend(["scp".into(), "-S".into(), transport.into()]);
    } else {
        words.push("scp".into());
    }
    words.extend(protocol);
    words.extend(app.keys.options(&target)?);
    if recursive {
        words.push("-r".into());
    }
    words.extend(["--".into(), from.argument(&target.host), to.argument(&target.host)]);
    Err(reach::become_program(&words))
}

/// The option that makes `scp` speak SFTP, where it has one. In its old protocol the other side says what the files are
/// called; from OpenSSH 8.0 on the client compares that with what was asked for, before that a guest could write anywhere.
fn protocol(is_download: bool) -> Result<Option<OsString>, CliError> {
    let mut command = Command::new("scp");
    command.stdin(Stdio::null());
    let limits = Limits { time: Duration::from_secs(10), stdout: 4096, stderr: 4096 };
    // Why it can't be run is said when it is to copy.
    let said =
        goloo_command::run_blocking(command, limits).map(|finished| finished.stderr).unwrap_or_default();
    match Scp::of_usage(&String::from_utf8_lossy(&said)) {
        Some(Scp { speaks_sftp: true, .. }) => Ok(Some("-s".into())),
        Some(Scp { compares_names: false, .. }) if is_download => Err(CliError::failed(
            "this scp takes any file name that the VM sends, so a VM could write any file of yours",
            "install OpenSSH 8.7 or later",
        )),
        _ => Ok(None),
    }
}

/// What OpenSSH's `scp` can do.
#[derive(Debug, PartialEq, Eq)]
struct Scp {
    /// From 8.7 on.
    speaks_sftp: bool,
    /// From 8.0 on.
    compares_names: bool,
}

impl Scp {
    /// From its usage: `usage: scp [-346ABCOpqRrsTv] …`. `-T` turns the comparison off.
    fn of_usage(said: &str) -> Option<Self> {
        let flags = said.split_once("usage: scp [-")?.1.split(']').next()?;
        Some(Self { speaks_sftp: flags.contains('s'), compares_names: flags.contains('T') })
    }
}

enum Side<'a> {
    Here(&'a str),
    Guest(&'a str),
}

impl Side<'_> {
    fn argument(&self, host: &str) -> OsString {
        match self {
            // scp takes a colon before the first slash for a host's end.
            Self::Here(path) if path.contains(':') && !path.starts_with(['/', '.']) => {
                format!("./{path}").into()
            }
            Self::Here(path) => path.into(),
            Self::Guest(path) => format!("{host}:{path}").into(),
        }
    }
}

/// `NAME:PATH`; a path with a slash before the colon is here.
fn remote(text: &str) -> Option<(&str, &str)> {
    text.split_once(':').filter(|(name, _)| !name.is_empty() && !name.contains(['/', '.']))
}

#[cfg(test)]
mod tests {
    use super::remote;

    #[test]
    fn a_vm_is_named_before_the_colon() {
        assert_eq!(remote("devbox:/tmp/x"), Some(("devbox", "/tmp/x")));
        assert_eq!(remote("devbox:"), Some(("devbox", "")));
        for here in ["file", "./a:b", "/tmp/a:b", ":x", "a.b:c"] {
            assert_eq!(remote(here), None, "{here}");
        }
    }
}
