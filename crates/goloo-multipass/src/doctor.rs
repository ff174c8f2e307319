//! What this provider needs of the machine, looked at without changing anything.

use goloo_core::finding::Finding;

use crate::cli::Cli;
use crate::errors::{CallError, Refusal};
use crate::json::{self, Version};
use crate::settings::Settings;

/// The oldest version whose answers goloo knows.
const OLDEST: (u32, u32) = (1, 13);

/// Looks whether Multipass is installed, whether its daemon answers this user, and at its version.
pub async fn doctor(settings: &Settings) -> Finding {
    let cli = Cli { program: settings.program.clone() };
    let version = async {
        const VERSION: &str = "version";
        let bytes = cli.call(VERSION, ["--format", "json"], settings.limits.answer).await?;
        json::version(&bytes).map_err(|source| CallError::Unreadable { command: VERSION, source })
    };
    let version = match version.await {
        Ok(version) => version,
        Err(error @ CallError::NotInstalled { .. }) => {
            return Finding { ok: true, what: error.to_string(), hint: error.hint().to_owned() };
        }
        Err(error) => return refused(&error.to_string(), &error),
    };
    // `version` fails for none of the reasons for which all else fails, and doesn't say why it lacks the daemon's.
    match cli.call("list", ["--no-ipv4", "--format", "json"], settings.limits.answer).await {
        Ok(_) => judge(&version),
        Err(error) => refused(&format!("Multipass {} is installed, and {error}", version.multipass), &error),
    }
}

fn refused(what: &str, error: &CallError) -> Finding {
    Finding { ok: false, what: what.to_owned(), hint: error.hint().to_owned() }
}

fn judge(version: &Version) -> Finding {
    let Some(daemon) = &version.multipassd else {
        return Finding {
            ok: false,
            what: format!("Multipass {} is installed, and its daemon doesn't answer", version.multipass),
            hint: Refusal::DaemonDown.hint().to_owned(),
        };
    };
    match number(daemon) {
        Some(number) if number < OLDEST => Finding {
            ok: false,
            what: format!("Multipass {daemon} is older than {}.{}", OLDEST.0, OLDEST.1),
            hint: "sudo snap refresh multipass".to_owned(),
        },
        _ => Finding { ok: true, what: format!("Multipass {daemon}"), hint: String::new() },
    }
}

/// The first two parts of `1.16.1+mac`.
fn number(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(daemon: Option<&str>) -> Finding {
        judge(&Version { multipass: "1.16.1".to_owned(), multipassd: daemon.map(str::to_owned) })
    }

    #[test]
    fn a_daemon_that_is_down_or_too_old_is_a_fault() {
        assert!(!finding(None).ok);
        assert!(!finding(Some("1.12.2")).ok);
        assert!(finding(Some("1.13.0")).ok);
        assert!(finding(Some("1.17.0+mac")).ok);
        assert!(finding(Some("rolling")).ok, "a version that can't be read is no reason to complain");
    }
}
