//! The service of the user's session that starts VMs when they log in: a unit of systemd, or an agent of launchd.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use goloo_command::{Limits, find_program};
use goloo_sys::durable;

use crate::error::{AutostartError, Error};
use crate::program;

/// What the service runs: a program by its absolute path, and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// The variables with which goloo finds the same files and programs as now.
const VARIABLES: [&str; 10] = [
    "PATH",
    "XDG_DATA_HOME",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
    "GOLOO_STATE_DIR",
    "GOLOO_STATE_BACKEND",
    "GOLOO_CONFIG_DIR",
    "GOLOO_CACHE_DIR",
    "GOLOO_QEMU",
    "GOLOO_MULTIPASS",
];

const UNIT: &str = "goloo-autostart.service";
const AGENT: &str = "org.goloo.autostart";
const LIMITS: Limits = Limits { time: Duration::from_secs(30), stdout: 64 << 10, stderr: 4 << 10 };

/// The service of this user.
pub struct LoginService {
    home: PathBuf,
}

impl LoginService {
    /// The one for this home.
    pub fn in_home(home: &Path) -> Self {
        Self { home: home.to_owned() }
    }

    /// Has the command run at each login from now on. Nothing is written where the service manager is missing.
    ///
    /// # Errors
    /// [`AutostartError`]; errors of the system.
    pub fn enable(&self, command: &StartCommand) -> Result<(), Error> {
        let variables = variables();
        if cfg!(target_os = "macos") {
            return write(&self.agent(), &launchd_agent(command, &variables)?);
        }
        let systemctl = systemctl()?;
        write(&self.unit(), &systemd_unit(command, &variables)?)?;
        run(&systemctl, &["daemon-reload"])?;
        run(&systemctl, &["enable", UNIT])
    }

    /// Removes it; one that isn't there is no error.
    ///
    /// # Errors
    /// As [`Self::enable`].
    pub fn disable(&self) -> Result<(), Error> {
        let file = if cfg!(target_os = "macos") { self.agent() } else { self.unit() };
        if !file.exists() {
            return Ok(());
        }
        let systemctl = if cfg!(target_os = "macos") { None } else { Some(systemctl()?) };
        if let Some(systemctl) = &systemctl {
            // Not stopped: that would stop the machines, too.
            run(systemctl, &["disable", UNIT])?;
        }
        durable::remove_if_there(&file).map_err(|error| Error::cannot("remove", &file, error))?;
        systemctl.map_or(Ok(()), |systemctl| run(&systemctl, &["daemon-reload"]))
    }

    /// Whether the service runs only when the user logs in, not when the computer boots.
    pub fn waits_for_login(&self, user: &str) -> bool {
        cfg!(target_os = "macos") || !Path::new("/var/lib/systemd/linger").join(user).exists()
    }

    fn unit(&self) -> PathBuf {
        let config = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        config.unwrap_or_else(|| self.home.join(".config")).join("systemd/user").join(UNIT)
    }

    fn agent(&self) -> PathBuf {
        self.home.join("Library/LaunchAgents").join(format!("{AGENT}.plist"))
    }
}

fn variables() -> Vec<(&'static str, String)> {
    let value = |name: &&'static str| Some((*name, env::var(name).ok().filter(|value| !value.is_empty())?));
    VARIABLES.iter().filter_map(value).collect()
}

fn systemctl() -> Result<PathBuf, AutostartError> {
    find_program(OsStr::new("systemctl")).ok_or(AutostartError::NoServiceManager)
}

fn run(systemctl: &Path, words: &[&str]) -> Result<(), Error> {
    let mut command = Command::new(systemctl);
    command.arg("--user").args(words);
    let failed = |reason| AutostartError::Failed { command: words.join(" "), reason };
    program::run(command, LIMITS).map_err(failed)?;
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let written = fs::create_dir_all(folder).and_then(|()| match fs::read_to_string(path) {
        Ok(before) if before == text => Ok(()),
        _ => durable::write(path, text.as_bytes()),
    });
    written.map_err(|error: io::Error| Error::cannot("write", path, error))
}

/// The machines belong to the unit: it stays active, and only its own process is killed with it.
fn systemd_unit(command: &StartCommand, variables: &[(&str, String)]) -> Result<String, AutostartError> {
    let program = utf8(&command.program)?;
    let words = std::iter::once(program).chain(command.arguments.iter().map(String::as_str));
    // In a command line, a dollar sign starts a variable.
    let words: Vec<_> = words.map(|word| Ok(in_unit(word)?.replace('$', "$$"))).collect::<Result<_, _>>()?;
    let set: String = variables
        .iter()
        .map(|(name, value)| Ok(format!("Environment={}\n", in_unit(&format!("{name}={value}"))?)))
        .collect::<Result<_, AutostartError>>()?;
    Ok(format!(
        "[Unit]\nDescription=VMs of goloo that start at login\n\n[Service]\nType=oneshot\nRemainAfterExit=yes\n\
         KillMode=process\n{set}ExecStart={}\n\n[Install]\nWantedBy=default.target\n",
        words.join(" ")
    ))
}

/// A word in quotes, as systemd.syntax(7) and systemd.unit(5) define them.
fn in_unit(word: &str) -> Result<String, AutostartError> {
    expect_one_line(word)?;
    Ok(format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%")))
}

fn launchd_agent(command: &StartCommand, variables: &[(&str, String)]) -> Result<String, AutostartError> {
    let string = |text: &str| -> Result<String, AutostartError> {
        expect_one_line(text)?;
        let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        Ok(format!("<string>{escaped}</string>"))
    };
    let program = utf8(&command.program)?;
    let words = std::iter::once(program).chain(command.arguments.iter().map(String::as_str));
    let words: String = words.map(string).collect::<Result<_, _>>()?;
    let set: String = variables
        .iter()
        .map(|(name, value)| Ok(format!("<key>{name}</key>{}", string(value)?)))
        .collect::<Result<_, AutostartError>>()?;
    // The machines are processes of its group, which launchd would kill when the command ends.
    Ok(format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <plist version=\"1.0\"><dict>\n<key>Label</key><string>{AGENT}</string>\n\
         <key>ProgramArguments</key><array>{words}</array>\n\
         <key>EnvironmentVariables</key><dict>{set}</dict>\n\
         <key>RunAtLoad</key><true/>\n<key>AbandonProcessGroup</key><true/>\n</dict></plist>\n"
    ))
}

fn utf8(path: &Path) -> Result<&str, AutostartError> {
    path.to_str().ok_or_else(|| AutostartError::UnusableText { text: path.to_string_lossy().into_owned() })
}

fn expect_one_line(text: &str) -> Result<(), AutostartError> {
    match text.chars().any(char::is_control) {
        true => Err(AutostartError::UnusableText { text: text.to_owned() }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn command() -> StartCommand {
        let arguments = ["autostart", "--start"].map(str::to_owned).to_vec();
        StartCommand { program: "/opt/my \"100%\" $x\\/program".into(), arguments }
    }

    #[test]
    fn systemd_accepts_the_unit_with_any_path() {
        let unit = systemd_unit(&command(), &[("PATH", "/a b:/100%/$x\"\\".to_owned())]).unwrap();
        let exec = r#"ExecStart="/opt/my \"100%%\" $$x\\/program" "autostart" "--start""#;
        assert!(unit.contains(&format!("\n{exec}\n")), "{unit}");
        assert!(unit.contains("\nEnvironment=\"PATH=/a b:/100%%/$x\\\"\\\\\"\n"), "{unit}");
        systemd_unit(&command(), &[("PATH", "/a\nExecStart=/bin/x".to_owned())]).unwrap_err();
        if find_program(OsStr::new("systemd-analyze")).is_none() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(UNIT);
        let runnable = StartCommand { program: "/bin/true".into(), ..command() };
        fs::write(&path, systemd_unit(&runnable, &[("PATH", "/usr/bin".to_owned())]).unwrap()).unwrap();
        let verified =
            Command::new("systemd-analyze").args(["verify", "--user"]).arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&verified.stderr).into_owned();
        assert!(!said.contains(UNIT), "{said}");
    }

    #[test]
    fn the_agent_of_launchd_is_well_formed() {
        let hostile = StartCommand { program: "/a<&>".into(), arguments: Vec::new() };
        let agent = launchd_agent(&hostile, &[("PATH", "/b&c".to_owned())]).unwrap();
        assert!(agent.contains("<array><string>/a&lt;&amp;&gt;</string></array>"), "{agent}");
        assert!(agent.contains("<dict><key>PATH</key><string>/b&amp;c</string></dict>"), "{agent}");
    }
}
