//! Folders shared over virtiofs: finds virtiofsd, the program that shares one, and knows its command line and the names
//! of its processes. The supervisor starts them; guests without virtiofs get the same folders from QEMU, over 9p.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use goloo_command::{Limits, find_program};
use rustix::process::{Resource, getegid, geteuid, getrlimit};
use serde::{Deserialize, Serialize};

use crate::shared_folder::SharedFolder;

/// Which virtiofsd shares folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VirtiofsdChoice {
    /// The first usable one in the search path and in the folders where systems install it.
    Search,
    /// This one, by its path or its name in the search path.
    Program(OsString),
    /// None: folders are shared over 9p.
    Off,
}

/// How a machine's folders are shared beside 9p, as stored in `machine.json`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Virtiofs {
    /// An earlier version created the machine: its guest only mounts 9p.
    #[default]
    Unsupported,
    /// Its guest chooses at each boot, and the last start left it no choice.
    Unused,
    /// The last start shared each folder over virtiofs too.
    Used,
}

/// Why folders aren't shared over virtiofs.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoVirtiofsd {
    #[error("GOLOO_VIRTIOFSD is off")]
    Off,
    #[error("{} isn't installed", .0.display())]
    Missing(PathBuf),
    #[error("{} is older than version 1.13", .0.display())]
    TooOld(PathBuf),
    #[error("this user can open only {0} files at once (ulimit -Hn)")]
    FewFiles(u64),
}

/// Where systems install a program that isn't for people, and so isn't in the search path.
const FOLDERS: [&str; 4] = ["/usr/libexec", "/usr/lib", "/usr/lib/qemu", "/usr/local/libexec"];
const NAME: &str = "virtiofsd";

/// Options that older versions lack, as does QEMU's own program of the same name.
const NEEDED: [&str; 3] = ["--translate-uid", "--translate-gid", "--readonly"];

/// virtiofsd keeps a file open for each one that the guest remembers, unless it runs as root; with too few, the guest
/// can't access more. systemd's default is 524288.
const OPEN_FILES_MIN: u64 = 500_000;

const ANSWER_LIMITS: Limits = Limits { time: Duration::from_secs(10), stdout: 256 << 10, stderr: 4 << 10 };

/// The program that shares folders, and how it runs here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Virtiofsd {
    program: PathBuf,
    is_isolated: bool,
    /// This user and its group; root is `None`.
    user: Option<(u32, u32)>,
}

impl Virtiofsd {
    pub(crate) fn find(choice: &VirtiofsdChoice) -> Result<Self, NoVirtiofsd> {
        let program = usable_program(choice)?;
        let is_root = geteuid().is_root();
        // Without a limit there are enough.
        let files = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        if !is_root && files < OPEN_FILES_MIN {
            return Err(NoVirtiofsd::FewFiles(files));
        }
        let user = (!is_root).then(|| (geteuid().as_raw(), getegid().as_raw()));
        Ok(Self { program, is_isolated: can_isolate(is_root), user })
    }

    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// The command line of the process that shares a folder. Its standard input is the socket.
    pub(crate) fn command(&self, folder: &SharedFolder) -> Vec<OsString> {
        let sandbox = if self.is_isolated { "namespace" } else { "none" };
        let mut words: Vec<OsString> = vec![
            self.program.clone().into(),
            "--fd=0".into(),
            "--shared-dir".into(),
            folder.source.clone().into(),
            format!("--sandbox={sandbox}").into(),
            "--log-level=error".into(),
        ];
        if folder.readonly {
            words.push("--readonly".into());
        }
        if let Some((user, group)) = self.user {
            // As with 9p: what any user of the guest creates belongs to this user, and the guest sees the numbers of
            // this computer, which its login user has been given.
            words.push(format!("--translate-uid=squash-guest:0:{user}:{}", u32::MAX).into());
            words.push(format!("--translate-gid=squash-guest:0:{group}:{}", u32::MAX).into());
        }
        words
    }
}

fn usable_program(choice: &VirtiofsdChoice) -> Result<PathBuf, NoVirtiofsd> {
    let names: Vec<PathBuf> = match choice {
        VirtiofsdChoice::Off => return Err(NoVirtiofsd::Off),
        VirtiofsdChoice::Program(name) => vec![name.into()],
        VirtiofsdChoice::Search => {
            std::iter::once(NAME.into()).chain(FOLDERS.map(|folder| Path::new(folder).join(NAME))).collect()
        }
    };
    let found: Vec<PathBuf> = names.iter().filter_map(|name| find_program(name.as_os_str())).collect();
    let Some(first) = found.first() else {
        return Err(NoVirtiofsd::Missing(names.into_iter().next().unwrap_or_default()));
    };
    let usable = found.iter().find(|program| has_needed_options(program));
    let usable = usable.ok_or_else(|| NoVirtiofsd::TooOld(first.clone()))?;
    // It is started in the machine's folder.
    Ok(std::path::absolute(usable).unwrap_or_else(|_| usable.clone()))
}

fn has_needed_options(program: &Path) -> bool {
    let mut command = Command::new(program);
    command.arg("--help");
    goloo_command::run_blocking(command, ANSWER_LIMITS).is_ok_and(|finished| {
        let help = String::from_utf8_lossy(&finished.stdout);
        NEEDED.iter().all(|option| help.contains(option))
    })
}

/// Whether a process can get namespaces of its own and mount there what virtiofsd does. Some systems restrict that.
fn can_isolate(is_root: bool) -> bool {
    let mut command = Command::new("unshare");
    if !is_root {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--mount", "--pid", "--net", "--fork", "--mount-proc", "true"]);
    goloo_command::run_silent_blocking(command, ANSWER_LIMITS.time).is_ok_and(|status| status.success())
}

/// The socket over which a machine gets its folder of this index, in the machine's folder.
pub(crate) fn socket(index: usize) -> String {
    format!("share{index}.sock")
}

/// The first word of the command line of the process behind that socket, which identifies it.
pub(crate) fn process_name(machine: &Path, index: usize) -> OsString {
    let mut name = process_prefix(machine);
    name.push(socket(index));
    name
}

/// What the names of all processes begin with that share folders with a machine.
pub(crate) fn process_prefix(machine: &Path) -> OsString {
    let mut prefix = OsStr::new("virtiofsd:").to_owned();
    prefix.push(machine);
    prefix.push("/");
    prefix
}

/// Whether QEMU failed because of virtiofs: the process that shares a folder has failed, or this QEMU lacks the device
/// or the kind of memory.
pub(crate) fn is_cause_of(message: &str) -> bool {
    ["virtiofsd", "vhost", "memfd", "share0", "memory-backend"].iter().any(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn program(folder: &Path, help: &str) -> VirtiofsdChoice {
        let path = folder.join("virtiofsd");
        std::fs::write(&path, format!("#!/bin/sh\necho '{help}'\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        VirtiofsdChoice::Program(path.into())
    }

    #[test]
    fn only_a_virtiofsd_with_all_needed_options_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("virtiofsd");
        let all = "--readonly\n--translate-uid <UID>\n--translate-gid <GID>";
        assert_eq!(usable_program(&program(folder.path(), all)), Ok(path.clone()));
        for option in NEEDED {
            let older = program(folder.path(), &all.replace(option, "--print-capabilities"));
            assert_eq!(usable_program(&older), Err(NoVirtiofsd::TooOld(path.clone())), "{option}");
        }
        let none = VirtiofsdChoice::Program("no-such-virtiofsd".into());
        assert_eq!(usable_program(&none).unwrap_err().to_string(), "no-such-virtiofsd isn't installed");
        assert_eq!(usable_program(&VirtiofsdChoice::Off), Err(NoVirtiofsd::Off));
    }

    #[test]
    fn users_own_what_the_guest_creates_and_root_keeps_the_numbers_of_the_guest() {
        let words = |virtiofsd: &Virtiofsd, readonly| {
            let folder = SharedFolder { source: "/srv/a b".into(), readonly };
            virtiofsd.command(&folder).join(OsStr::new("|")).into_string().unwrap()
        };
        let root = Virtiofsd { program: "/v".into(), is_isolated: true, user: None };
        assert_eq!(
            words(&root, false),
            "/v|--fd=0|--shared-dir|/srv/a b|--sandbox=namespace|--log-level=error"
        );
        let user = Virtiofsd { is_isolated: false, user: Some((1234, 100)), ..root };
        assert_eq!(
            words(&user, true),
            "/v|--fd=0|--shared-dir|/srv/a b|--sandbox=none|--log-level=error|--readonly|\
             --translate-uid=squash-guest:0:1234:4294967295|--translate-gid=squash-guest:0:100:4294967295"
        );
    }
}
