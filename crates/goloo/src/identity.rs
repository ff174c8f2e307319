//! The user and the host of this process.

use std::env;
use std::fs;

use goloo_model::name::StateId;
use goloo_model::record::{Creator, Owner};
use goloo_sys::{account, process};

/// The process as the owner of locks and operations.
pub fn owner() -> Owner {
    let pid = std::process::id();
    Owner {
        user: user().into(),
        host: host().into(),
        pid,
        pid_start: pid_start(pid),
        extra: serde_json::Map::new(),
    }
}

/// The user as the creator in a record, with the state folder that the VM will belong to.
pub fn creator(state_id: Option<StateId>) -> Creator {
    Creator {
        user: user().into(),
        host: host().into(),
        host_id: host_id().into(),
        state_id,
        goloo: env!("CARGO_PKG_VERSION").into(),
        extra: serde_json::Map::new(),
    }
}

/// The user and the host, for messages.
pub fn person() -> String {
    format!("{} on {}", user(), host())
}

/// The user's login name: from the environment, as with `sudo -E`, else from the system.
pub fn user() -> String {
    let named = ["USER", "LOGNAME"].iter().find_map(|name| env::var(name).ok().filter(|v| !v.is_empty()));
    let uid = rustix::process::getuid().as_raw();
    named.or_else(|| account::login_name(uid)).unwrap_or_else(|| format!("uid{uid}"))
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The host's id, which a rename doesn't change; its name when there is none.
pub fn host_id() -> String {
    let read =
        ["/etc/machine-id", "/var/lib/dbus/machine-id"].iter().find_map(|path| fs::read_to_string(path).ok());
    read.map(|text| text.trim().to_owned()).filter(|id| !id.is_empty()).unwrap_or_else(host)
}

/// Whether a process has certainly ended: it ran on this host, and its pid is now unused or used by another process.
pub fn is_gone(owner: &Owner) -> bool {
    owner.host == *host() && owner.pid_start != 0 && owner.pid_start != pid_start(owner.pid)
}

/// When the process started, in ticks since boot; 0 if it has ended or the time is unavailable.
fn pid_start(pid: u32) -> u64 {
    process::start_of(pid).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{is_gone, owner, pid_start};
    use goloo_model::record::Owner;

    #[test]
    fn only_a_missing_process_of_this_host_counts_as_ended() {
        let me = owner();
        if pid_start(me.pid) == 0 {
            return;
        }
        assert!(!is_gone(&me));
        let former = Owner { pid_start: me.pid_start + 1, ..me.clone() };
        assert!(is_gone(&former));
        assert!(!is_gone(&Owner { host: "desk".into(), ..former.clone() }));
        assert!(!is_gone(&Owner { pid_start: 0, ..former }), "a process with unknown start time");
    }

    #[test]
    fn this_process_has_a_start_time_if_proc_is_available() {
        let start = pid_start(std::process::id());
        assert_eq!(start > 0, std::path::Path::new("/proc/self/stat").exists());
    }
}
