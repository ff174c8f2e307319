//! The namespaces of one run.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::GuestImage;

const INIT: &str = include_str!("init.sh");
pub(super) const SYSTEMCTL: &str = include_str!("systemctl.py");
/// Where the script in place of `systemctl` keeps its log and its unit states.
pub(super) const HOME: &str = "/run/goloo-harness";

/// How often a process is polled.
const POLL: Duration = Duration::from_millis(2);
/// How long the namespaces may take to be created and to end.
const NAMESPACES: Duration = Duration::from_secs(20);

/// A document may write without limit; this bounds the size of its files and output.
const FILE_LIMIT: &str = "--fsize=268435456";
const SAID_LIMIT: u64 = 1 << 20;

/// The environment systemd gives to services.
const ENVIRONMENT: [&str; 3] =
    ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LANG=C.UTF-8", "HOME=/root"];

/// A run. All its processes and files end with it.
#[derive(Debug)]
pub struct GuestRoot {
    init: Child,
    /// The first process of the namespaces, in this machine's pid namespace.
    pid: u32,
    folder: tempfile::TempDir,
    deadline: Instant,
}

/// The result of a command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finished {
    /// Its exit status; `None` if it was killed by a signal or by the limit.
    pub status: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// Login credentials.
#[derive(Debug, Clone, Copy)]
pub struct Login<'a> {
    /// The client's private key.
    pub identity: &'a Path,
    /// The only accepted host key, in OpenSSH's format.
    pub host_key: &'a str,
}

/// A call of `systemctl` or a related command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// `systemctl`, `systemd-run`, `shutdown`, …; `deadlock` for a start that would never have returned.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
}

impl GuestRoot {
    /// Starts a run of at most `limit`: a root like the image's, without any running processes.
    pub fn start(image: &GuestImage, limit: Duration) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let script = folder.path().join("init.sh");
        std::fs::write(&script, INIT)?;
        let mut init = Command::new("unshare")
            .args(["--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child"])
            .args(["--propagation", "private", "bash"])
            .arg(&script)
            .arg(image.tree())
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(folder.path().join("init.log"))?)
            .spawn()?;
        let mut line = String::new();
        let stdout = init.stdout.take().ok_or_else(|| io::Error::other("no standard output"))?;
        BufReader::new(stdout).read_line(&mut line)?;
        if line != "ready\n" {
            let log = std::fs::read_to_string(folder.path().join("init.log")).unwrap_or_default();
            let _ = init.wait();
            return Err(io::Error::other(format!("the namespaces can't be made (root is needed): {log}")));
        }
        let pid = child_of(init.id())?;
        let root = Self { init, pid, folder, deadline: Instant::now() + limit };
        root.install_systemctl()?;
        Ok(root)
    }

    /// The run's folder on this machine.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The guest's root inside the namespaces.
    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn install_systemctl(&self) -> io::Result<()> {
        let script = self.folder.path().join("systemctl.py");
        std::fs::write(&script, SYSTEMCTL)?;
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
        let bin = self.root().join("usr/bin");
        let install = "rm -f \"$1/systemctl\" \"$1/systemd-run\" && cp \"$0\" \"$1/systemctl\" && cd \"$1\" && \
                       for name in systemd-run harness-boot harness-start harness-after; do \
                       ln -s systemctl \"$name\" || exit 1; done";
        let mut command = self.enter();
        command.args(["sh", "-c", install]).arg(&script).arg(&bin);
        self.finish(&mut command, NAMESPACES)?.expect_success("installing systemctl")
    }

    /// Enters all namespaces; the command that follows sees this machine's files and the run's mounts.
    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            "--target",
            &self.pid.to_string(),
            "--mount",
            "--pid",
            "--net",
            "--uts",
            "--ipc",
            "--",
        ]);
        command.args(["prlimit", FILE_LIMIT]);
        command
    }

    /// A guest command, run as its root with the environment of services.
    pub fn command<S: AsRef<OsStr>>(&self, words: &[S]) -> Command {
        let mut command = self.enter();
        command.arg("chroot").arg(self.root()).args(["/usr/bin/env", "-i"]);
        command.args(ENVIRONMENT).args(words);
        command
    }

    /// Runs a guest command as its root.
    pub fn exec<S: AsRef<OsStr>>(&self, words: &[S]) -> io::Result<Finished> {
        self.exec_within(words, self.left())
    }

    pub(super) fn exec_within<S: AsRef<OsStr>>(&self, words: &[S], limit: Duration) -> io::Result<Finished> {
        self.finish(&mut self.command(words), limit)
    }

    /// Writes a guest file, creating its folder.
    pub fn write(&self, path: &str, content: &[u8]) -> io::Result<()> {
        let source = self.folder.path().join("written");
        std::fs::write(&source, content)?;
        let mut command = self.command(&["sh", "-c", "mkdir -p \"${0%/*}\" && cat > \"$0\"", path]);
        command.stdin(File::open(source)?);
        self.finish_as_set(&mut command, NAMESPACES)?.expect_success(path)
    }

    /// Reads a guest file; `None` if it doesn't exist.
    pub fn file(&self, path: &str) -> Option<String> {
        let found = self.exec(&["cat", path]).ok()?;
        (found.status == Some(0)).then_some(found.stdout)
    }

    /// A user's line in the guest's /etc/passwd.
    pub fn passwd(&self, user: &str) -> Option<String> {
        let found = self.exec(&["getent", "passwd", user]).ok()?;
        (found.status == Some(0)).then(|| found.stdout.trim_end().to_owned())
    }

    /// The calls of `systemctl` and related commands in this boot.
    pub fn calls(&self) -> Vec<Call> {
        let text = self.file(&format!("{HOME}/calls")).unwrap_or_default();
        let call = |line: &str| -> Option<Call> {
            let value: serde_json::Value = serde_json::from_str(line).ok()?;
            let arguments = value["arguments"].as_array()?;
            Some(Call {
                program: value["program"].as_str()?.to_owned(),
                arguments: arguments.iter().filter_map(|word| Some(word.as_str()?.to_owned())).collect(),
            })
        };
        text.lines().filter_map(call).collect()
    }

    /// A program of this machine in the guest's network.
    pub fn in_network(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid.to_string(), "--net", "--"]).arg(program);
        command
    }

    /// This machine's `ssh` command into the guest, to be followed by the remote command. Only the network is the
    /// guest's.
    pub fn ssh(&self, user: &str, login: Login<'_>) -> io::Result<Command> {
        let known_hosts = self.folder.path().join("known_hosts");
        std::fs::write(&known_hosts, format!("guest {}\n", login.host_key))?;
        let mut command = self.in_network("ssh");
        command.args(["-F", "none"]);
        let mut option = |name: &str, value: &OsStr| {
            let mut text = std::ffi::OsString::from(format!("{name}="));
            text.push(value);
            command.arg("-o").arg(text);
        };
        option("IdentityFile", login.identity.as_os_str());
        option("UserKnownHostsFile", known_hosts.as_os_str());
        for (name, value) in [
            ("IdentitiesOnly", "yes"),
            ("GlobalKnownHostsFile", "/dev/null"),
            ("StrictHostKeyChecking", "yes"),
            ("UpdateHostKeys", "no"),
            ("LogLevel", "ERROR"),
            ("BatchMode", "yes"),
            ("ConnectTimeout", "10"),
            ("HostKeyAlias", "guest"),
            ("Port", "22"),
            ("User", user),
        ] {
            option(name, value.as_ref());
        }
        command.args(["127.0.0.1", "--"]);
        Ok(command)
    }

    /// Logs in and runs a command.
    pub fn login(&self, user: &str, login: Login<'_>, command: &str) -> io::Result<Finished> {
        self.finish(self.ssh(user, login)?.arg(command), self.left())
    }

    /// The number of zombies in the run: the first process must leave none.
    pub fn zombies(&self) -> io::Result<usize> {
        let listed = self.exec(&["sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null; true"])?;
        let is_zombie = |line: &str| line.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'));
        Ok(listed.stdout.lines().filter(|line| is_zombie(line)).count())
    }

    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn finish(&self, command: &mut Command, limit: Duration) -> io::Result<Finished> {
        self.finish_as_set(command.stdin(Stdio::null()), limit)
    }

    /// Runs a command with its configured standard input.
    fn finish_as_set(&self, command: &mut Command, limit: Duration) -> io::Result<Finished> {
        let (mut stdout, mut stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
        let mut child = command.stdout(stdout.try_clone()?).stderr(stderr.try_clone()?).spawn()?;
        let end = Instant::now() + limit.min(self.left());
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status.code();
            }
            if Instant::now() >= end {
                // Processes it started inside end with the run.
                child.kill()?;
                child.wait()?;
                break None;
            }
            std::thread::sleep(POLL);
        };
        Ok(Finished { status, stdout: read_from_start(&mut stdout)?, stderr: read_from_start(&mut stderr)? })
    }
}

impl Call {
    /// Whether it powers off or restarts the machine.
    pub fn ends_the_machine(&self) -> bool {
        const ENDS: [&str; 4] = ["poweroff", "halt", "reboot", "shutdown"];
        let verb = self.arguments.iter().find(|word| !word.starts_with('-')).map(String::as_str);
        let word = if self.program == "systemctl" { verb.unwrap_or_default() } else { &self.program };
        ENDS.contains(&word)
    }
}

impl Drop for GuestRoot {
    fn drop(&mut self) {
        // The first process exits when its standard input closes, and the kernel then kills all others.
        drop(self.init.stdin.take());
        let end = Instant::now() + NAMESPACES;
        while matches!(self.init.try_wait(), Ok(None)) {
            if Instant::now() >= end {
                let _ = self.init.kill();
                let _ = self.init.wait();
                return;
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Finished {
    pub(super) fn expect_success(&self, what: &str) -> io::Result<()> {
        if self.status == Some(0) {
            return Ok(());
        }
        Err(io::Error::other(format!("{what}: status {:?}: {}", self.status, self.stderr)))
    }
}

/// The text of a file, or its beginning if it is long.
pub(super) fn read_from_start(file: &mut File) -> io::Result<String> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(SAID_LIMIT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The only child of the `unshare` process.
fn child_of(parent: u32) -> io::Result<u32> {
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // "pid (name) state ppid …"
        let ppid = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        if ppid == Some(parent) {
            return Ok(pid);
        }
    }
    Err(io::Error::other("unshare has no child"))
}
