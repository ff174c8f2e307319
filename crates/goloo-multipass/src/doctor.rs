//! Checks this provider's requirements on the machine without changing anything.

use goloo_model::check::Check;

use crate::cli::Cli;
use crate::errors::{CallError, Refusal};
use crate::json::{self, Version};
use crate::settings::Settings;

/// The oldest supported version.
const OLDEST: (u32, u32) = (1, 13);

/// Checks whether Multipass is installed, whether its daemon responds to this user, and its version.
pub async fn doctor(settings: &Settings) -> Check {
    let cli = Cli { program: settings.program.clone() };
    let version = async {
        const VERSION: &str = "version";
        let bytes = cli.call(VERSION, ["--format", "json"], settings.limits.answer).await?;
        json::version(&bytes).map_err(|source| CallError::Unreadable { command: VERSION, source })
    };
    let version = match version.await {
        Ok(version) => version,
        Err(error @ CallError::NotInstalled { .. }) => {
            return Check::absent(error.to_string(), error.hint());
        }
        Err(error) => return refused(&error.to_string(), &error),
    };
    // `version` succeeds even when everything else fails, and doesn't say why the daemon's version is missing.
    match cli.call("list", ["--no-ipv4", "--format", "json"], settings.limits.answer).await {
        Ok(_) => judge(&version),
        Err(error) => refused(&format!("Multipass {} is installed, but {error}", version.multipass), &error),
    }
}

fn refused(what: &str, error: &CallError) -> Check {
    Check::failed(what, error.hint())
}

fn judge(version: &Version) -> Check {
    let Some(daemon) = &version.multipassd else {
        return Check::failed(
            format!("Multipass {} is installed, but its daemon doesn't answer", version.multipass),
            Refusal::DaemonDown.hint(),
        );
    };
    match number(daemon) {
        Some(number) if number < OLDEST => Check::failed(
            format!("Multipass {daemon} is older than {}.{}", OLDEST.0, OLDEST.1),
            if cfg!(target_os = "linux") { "sudo snap refresh multipass" } else { "update Multipass" },
        ),
        _ => Check::ok(format!("Multipass {daemon}")),
    }
}

/// Parses the first two parts of a version like `1.16.1+mac`.
fn number(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(daemon: Option<&str>) -> Check {
        judge(&Version { multipass: "1.16.1".to_owned(), multipassd: daemon.map(str::to_owned) })
    }

    #[test]
    fn a_stopped_or_outdated_daemon_fails_the_check() {
        assert!(!check(None).is_ok());
        assert!(!check(Some("1.12.2")).is_ok());
        assert!(check(Some("1.13.0")).is_ok());
        assert!(check(Some("1.17.0+mac")).is_ok());
        assert!(check(Some("rolling")).is_ok(), "a version that can't be read is no reason to complain");
    }
}
