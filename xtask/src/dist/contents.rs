//! What every package contains: the binary and what it says about itself, the README and the licenses.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::Timestamp;

use super::Result;
use super::program::output;

pub struct Release {
    pub version: String,
    pub target: String,
    /// When the source was committed; all files in packages have this time.
    pub date: Timestamp,
    /// Sorted by path.
    pub files: Vec<PackedFile>,
}

pub struct PackedFile {
    /// Below the prefix, as in `bin/goloo`.
    pub path: String,
    pub mode: u32,
    pub content: Vec<u8>,
}

/// Completion scripts: the shell, and the file that it reads.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "share/bash-completion/completions/goloo"),
    ("fish", "share/fish/vendor_completions.d/goloo.fish"),
    ("zsh", "share/zsh/site-functions/_goloo"),
];

/// zsh runs an autoloaded file at the first completion. The script only defines the function, so without this line the
/// first Tab of a session completes nothing.
const ZSH_FIRST_CALL: &str = "[[ $funcstack[1] = _goloo ]] && _clap_dynamic_completer_goloo \"$@\"\n";

const DOCUMENTS: [&str; 3] = ["LICENSE-APACHE", "LICENSE-MIT", "README.md"];

impl Release {
    /// A release with this binary, which is run for its version, its manual pages and its completions.
    pub fn read(workspace: &Path, binary: &Path) -> Result<Self> {
        let home = tempfile::tempdir()?;
        // Neither settings nor variables of the user can change a package.
        let goloo = |arguments: &[&str]| {
            let path = env::var_os("PATH").unwrap_or_default();
            output(
                Command::new(binary).args(arguments).env_clear().env("PATH", path).env("HOME", home.path()),
            )
        };
        let version = goloo(&["--version"])?;
        let version =
            version.strip_prefix("goloo ").ok_or_else(|| format!("no version: {version}"))?.to_owned();
        let mut files = vec![PackedFile::new("bin/goloo", 0o755, fs::read(binary)?)];
        let pages = home.path().join("pages");
        goloo(&["man", "--dir", &pages.to_string_lossy()])?;
        for entry in fs::read_dir(&pages)? {
            let entry = entry?;
            let path = format!("share/man/man1/{}", entry.file_name().to_string_lossy());
            files.push(PackedFile::new(&path, 0o644, fs::read(entry.path())?));
        }
        for (shell, path) in COMPLETIONS {
            let mut script = goloo(&["completion", shell])? + "\n";
            if shell == "zsh" {
                script += ZSH_FIRST_CALL;
            }
            files.push(PackedFile::new(path, 0o644, script));
        }
        for name in DOCUMENTS {
            let content = fs::read(workspace.join(name))?;
            files.push(PackedFile::new(&format!("share/doc/goloo/{name}"), 0o644, content));
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let target = output(Command::new("rustc").args(["--print", "host-tuple"]))?;
        Ok(Self { version, target, date: date(workspace)?, files })
    }
}

impl PackedFile {
    pub fn new(path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        Self { path: path.to_owned(), mode, content: content.into() }
    }

    /// Writes the file below a folder.
    pub fn write(&self, folder: &Path) -> Result<PathBuf> {
        use std::os::unix::fs::PermissionsExt;

        let path = folder.join(&self.path);
        fs::create_dir_all(path.parent().expect("a packed file is in a folder"))?;
        fs::write(&path, &self.content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(self.mode))?;
        Ok(path)
    }
}

/// <https://reproducible-builds.org/docs/source-date-epoch/>
fn date(workspace: &Path) -> Result<Timestamp> {
    let seconds = match env::var("SOURCE_DATE_EPOCH") {
        Ok(seconds) => seconds,
        Err(_) => output(Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(workspace))?,
    };
    let seconds: i64 = seconds.parse().map_err(|_| format!("SOURCE_DATE_EPOCH is no number: {seconds}"))?;
    Ok(Timestamp::from_second(seconds)?)
}
