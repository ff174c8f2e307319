//! SSH connections that are kept for some minutes after their last use (OpenSSH's ControlMaster), so that the next
//! command needs no handshake. Where that isn't possible, each command makes a connection of its own.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;
use std::{env, fs};

use goloo_command::RunError;
use goloo_model::guest::SshTarget;
use goloo_sys::lock::{self, FileLock, Mode};
use goloo_sys::private;
use rustix::process::geteuid;
use sha2::{Digest, Sha256};

use super::key_folder::KeyFolder;
use super::own_log::OwnLog;
use super::quote::quoted;

/// The folder of the connections' sockets.
#[derive(Debug, Clone)]
pub struct KeptConnections {
    folder: PathBuf,
}

/// The connection that a command uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connection {
    /// One that is open already: its socket.
    Kept(PathBuf),
    /// The command makes its own.
    Own,
    /// `ssh` couldn't connect, and said why. A command may still try with its own.
    Failed(String),
}

impl Connection {
    /// The options that make `ssh` and `scp` use it. If the connection ends meanwhile, they make their own.
    pub fn options(&self) -> Vec<OsString> {
        match self {
            Self::Kept(socket) => {
                let mut options = control_path(socket);
                options.extend(["-o", "ControlMaster=no"].map(OsString::from));
                options
            }
            Self::Own | Self::Failed(_) => Vec::new(),
        }
    }
}

/// How long an unused connection is kept.
const KEPT_FOR: &str = "ControlPersist=300";
/// A machine that vanished is noticed within 15 s.
const KEEP_ALIVE: [&str; 2] = ["ServerAliveInterval=5", "ServerAliveCountMax=3"];
/// The limit for connecting and logging in.
const CONNECT_LIMIT: Duration = Duration::from_secs(25);
/// The limit for ending one connection.
const END_LIMIT: Duration = Duration::from_secs(2);
/// The longest path of a Unix socket in bytes: 103 on macOS, 107 on Linux.
const SOCKET_PATH_MAX: usize = 103;
/// `ssh` adds this many bytes to the path while it creates the socket.
const SSH_SUFFIX: usize = 17;

impl KeptConnections {
    /// In `$XDG_RUNTIME_DIR/goloo`, or in /tmp where that variable isn't set. Nothing is created or read yet.
    pub fn from_env() -> Self {
        let runtime = env::var_os("XDG_RUNTIME_DIR").filter(|value| !value.is_empty()).map(PathBuf::from);
        let in_tmp = || Path::new("/tmp").join(format!("goloo-{}", geteuid().as_raw()));
        Self { folder: runtime.map_or_else(in_tmp, |runtime| runtime.join("goloo")) }
    }

    /// In this folder.
    #[cfg(test)]
    pub fn in_folder(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The open connection to this machine, if there is one.
    pub fn find(&self, keys: &KeyFolder, target: &SshTarget) -> Option<Connection> {
        let socket = self.socket(keys, target)?;
        (is_private(&self.folder) && UnixStream::connect(&socket).is_ok()).then_some(Connection::Kept(socket))
    }

    /// The open connection to this machine; connects if there is none.
    pub fn open_blocking(&self, keys: &KeyFolder, target: &SshTarget) -> Connection {
        match self.prepare(keys, target) {
            Ok((attempt, command)) => attempt.end(goloo_command::run_silent_blocking(command, CONNECT_LIMIT)),
            Err(connection) => connection,
        }
    }

    /// Like [`Self::open_blocking`], and takes no longer than `limit`.
    pub async fn open(&self, keys: &KeyFolder, target: &SshTarget, limit: Duration) -> Connection {
        match self.prepare(keys, target) {
            Ok((attempt, command)) => {
                let limit = limit.min(CONNECT_LIMIT);
                attempt.end(goloo_command::run_silent(&mut command.into(), limit).await)
            }
            Err(connection) => connection,
        }
    }

    /// Ends all connections to the machine with this alias, whatever its address was. Sessions that use them end too.
    pub async fn end(&self, alias: &str) {
        if !is_private(&self.folder) {
            return;
        }
        let prefix = prefix(alias);
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if !entry.file_name().as_bytes().starts_with(prefix.as_bytes()) {
                continue;
            }
            let path = entry.path();
            if UnixStream::connect(&path).is_ok() {
                let mut ssh = tokio::process::Command::new("ssh");
                ssh.args(["-F", "none"]).args(control_path(&path)).args(["-O", "exit", "--", "goloo"]);
                let _ = goloo_command::run_silent(&mut ssh, END_LIMIT).await;
            }
            // A process that doesn't answer can't be reached any more, and exits when its connection breaks.
            let _ = fs::remove_file(path);
        }
    }

    /// What is needed to connect; the connection to use instead where there is one, or none can be kept.
    fn prepare(&self, keys: &KeyFolder, target: &SshTarget) -> Result<(Attempt, Command), Connection> {
        let socket = self.socket(keys, target).ok_or(Connection::Own)?;
        if !is_private_or_created(&self.folder) {
            return Err(Connection::Own);
        }
        // Of two commands at the same time, one connects, and the other doesn't wait for it.
        let lock = lock::try_take(&socket.with_extension("lock"), Mode::Exclusive);
        if UnixStream::connect(&socket).is_ok() {
            return Err(Connection::Kept(socket));
        }
        let lock = lock.ok().flatten().ok_or(Connection::Own)?;
        // Left by a process that was killed.
        let _ = fs::remove_file(&socket);
        let log = OwnLog::new().map_err(|_| Connection::Own)?;
        let options = keys.options(target).map_err(|_| Connection::Own)?;
        let mut ssh = Command::new("ssh");
        // The process lives on: it must not keep the current folder busy.
        ssh.current_dir("/").args(log.arguments()).args(options).args(control_path(&socket)).arg("-N");
        for option in ["ControlMaster=yes", KEPT_FOR, "BatchMode=yes"].iter().chain(&KEEP_ALIVE) {
            ssh.args(["-o", option]);
        }
        ssh.args(["--", &target.host]);
        Ok((Attempt { socket, log, _lock: lock }, ssh))
    }

    /// The socket of the connection to this machine; `None` if its path is too long.
    fn socket(&self, keys: &KeyFolder, target: &SshTarget) -> Option<PathBuf> {
        let socket = self.folder.join(socket_name(keys, target));
        let is_short = socket.as_os_str().len() + SSH_SUFFIX <= SOCKET_PATH_MAX;
        // The path is quoted for ssh, which can't represent all of them.
        (is_short && socket.is_absolute() && quoted(&socket).is_ok()).then_some(socket)
    }
}

/// A connection that is being made.
struct Attempt {
    socket: PathBuf,
    log: OwnLog,
    _lock: FileLock,
}

impl Attempt {
    fn end(self, result: Result<ExitStatus, RunError>) -> Connection {
        let said = self.log.end();
        match result {
            Ok(status) if status.success() => Connection::Kept(self.socket),
            Ok(_) => Connection::Failed(said),
            Err(_) => Connection::Own,
        }
    }
}

fn control_path(socket: &Path) -> Vec<OsString> {
    let mut option = OsString::from("ControlPath=");
    option.push(quoted(socket).expect("it was checked when the path was made"));
    vec!["-o".into(), option]
}

/// The name depends on all that decides which machine is reached, and as whom: another VM, or the same one with another
/// address, account or key, is never reached over an earlier connection.
fn socket_name(keys: &KeyFolder, target: &SshTarget) -> String {
    let SshTarget { host, port, user, host_key, name: _, alias } = target;
    let identity = keys.identity();
    // A new key file is a new identity.
    let file = fs::metadata(&identity).map(|file| (file.ino(), file.mtime(), file.mtime_nsec())).ok();
    let all = format!("{alias}\0{host}\0{port}\0{user}\0{host_key}\0{identity:?}\0{file:?}");
    format!("{}{}", prefix(alias), hex(&all, 10))
}

/// What the names of all sockets of one VM begin with.
fn prefix(alias: &str) -> String {
    format!("{}-", hex(alias, 6))
}

fn hex(text: &str, bytes: usize) -> String {
    Sha256::digest(text).iter().take(bytes).fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Who can write to the folder can take a socket's place, and who can read it can use the connections.
fn is_private(folder: &Path) -> bool {
    let is_own = |found: fs::Metadata| {
        found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o077 == 0
    };
    fs::symlink_metadata(folder).is_ok_and(is_own) && private::check(folder).is_ok()
}

fn is_private_or_created(folder: &Path) -> bool {
    // Its parent is the system's: it isn't created here.
    let _ = fs::DirBuilder::new().mode(0o700).create(folder);
    is_private(folder)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::{PermissionsExt, symlink};

    use goloo_model::access::{Address, LoginName};
    use goloo_model::host_key::HostKey;
    use goloo_model::name::VmName;

    use super::*;

    fn target() -> SshTarget {
        SshTarget {
            host: Address::parse("127.0.0.1").unwrap(),
            port: 2222,
            user: LoginName::parse("goloo").unwrap(),
            host_key: HostKey::generate().public_openssh,
            name: VmName::parse("web").unwrap(),
            alias: "goloo-01jhn3w1t3k9q2z8f6b4c7d5e0".to_owned(),
        }
    }

    #[test]
    fn a_connection_is_only_for_the_same_machine_address_account_and_key() {
        let folder = tempfile::tempdir().unwrap();
        let keys = KeyFolder::new(folder.path());
        keys.client_key().unwrap();
        let first = target();
        let name = socket_name(&keys, &first);
        assert_eq!(
            name,
            socket_name(&keys, &SshTarget { name: VmName::parse("other").unwrap(), ..first.clone() })
        );
        let others = [
            SshTarget { host: Address::parse("127.0.0.2").unwrap(), ..first.clone() },
            SshTarget { port: 2223, ..first.clone() },
            SshTarget { user: LoginName::parse("ann").unwrap(), ..first.clone() },
            SshTarget { host_key: HostKey::generate().public_openssh, ..first.clone() },
            SshTarget { alias: "goloo-x".to_owned(), ..first.clone() },
        ];
        for other in &others {
            assert_ne!(socket_name(&keys, other), name, "{other:?}");
        }
        let of_the_same_vm =
            others.iter().filter(|other| socket_name(&keys, other).starts_with(&prefix(&first.alias)));
        assert_eq!(of_the_same_vm.count(), 4);
        fs::remove_file(keys.identity()).unwrap();
        keys.client_key().unwrap();
        assert_ne!(socket_name(&keys, &first), name, "another key file");
        assert_ne!(socket_name(&KeyFolder::new(Path::new("/other")), &first), name, "another state folder");
    }

    #[test]
    fn a_folder_that_others_can_use_keeps_no_connections() {
        let above = tempfile::tempdir().unwrap();
        let folder = above.path().join("goloo");
        assert!(is_private_or_created(&folder));
        for mode in [0o750, 0o701, 0o777] {
            fs::set_permissions(&folder, PermissionsExt::from_mode(mode)).unwrap();
            assert!(!is_private_or_created(&folder), "{mode:o}");
        }
        fs::set_permissions(&folder, PermissionsExt::from_mode(0o700)).unwrap();
        assert!(is_private(&folder));
        let link = above.path().join("link");
        symlink(&folder, &link).unwrap();
        assert!(!is_private_or_created(&link), "a link, which others may have made");
        assert!(!is_private_or_created(&above.path().join("not/there")), "a parent that doesn't exist");
    }

    #[test]
    fn a_socket_path_that_the_system_cannot_bind_is_not_used() {
        let keys = KeyFolder::new(Path::new("/state"));
        let name = socket_name(&keys, &target()).len() + 1;
        let fits = SOCKET_PATH_MAX - SSH_SUFFIX - name;
        for (length, is_used) in [(fits, true), (fits + 1, false)] {
            let folder = Path::new("/").join("x".repeat(length - 1));
            let connections = KeptConnections::in_folder(folder);
            assert_eq!(connections.socket(&keys, &target()).is_some(), is_used, "{length}");
        }
        for folder in ["/${HOME}", "relative"] {
            let connections = KeptConnections::in_folder(folder.into());
            assert_eq!(connections.socket(&keys, &target()), None, "{folder}");
        }
    }
}
