//! Where things live: state, settings, cache.

use std::env;
use std::path::{Path, PathBuf};

use goloo_os::private::{self, Exposed};

use crate::error::CliError;
use crate::exit;

/// goloo's own folders; none of them needs to exist.
#[derive(Debug, Clone)]
pub struct Paths {
    /// Records, machines and keys.
    pub state: PathBuf,
    /// Settings and the library of stacks.
    pub config: PathBuf,
    /// Images and answers that can be had again.
    pub cache: PathBuf,
    /// The user's home.
    pub home: PathBuf,
}

impl Paths {
    /// The folder of the settings: `GOLOO_CONFIG_DIR`, else XDG's.
    pub fn config_dir(home: &Path) -> PathBuf {
        from_env("GOLOO_CONFIG_DIR").unwrap_or_else(|| xdg("XDG_CONFIG_HOME", home, ".config"))
    }

    /// The state folder where nobody names one.
    pub fn default_state(home: &Path) -> PathBuf {
        xdg("XDG_DATA_HOME", home, ".local/share")
    }

    /// All folders, with the settings' `stateDir` where the environment names none.
    pub fn resolve(home: PathBuf, state_setting: Option<PathBuf>) -> Self {
        let state = from_env(STATE_VARIABLE).or(state_setting).unwrap_or_else(|| Self::default_state(&home));
        let cache = from_env("GOLOO_CACHE_DIR").unwrap_or_else(|| xdg("XDG_CACHE_HOME", &home, ".cache"));
        Self { state: absolute(state), config: Self::config_dir(&home), cache: absolute(cache), home }
    }
}

impl Paths {
    /// Checks the folder of the settings and the settings, before they are read: whoever could change them would decide
    /// which folders are used.
    ///
    /// # Errors
    /// As [`Self::check_private`].
    pub fn check_config(folder: &Path) -> Result<(), CliError> {
        private::check_readable(folder)?;
        private::check_readable(&folder.join("stacks"))?;
        Ok(private::check_readable(&folder.join("settings.json"))?)
    }

    /// Checks goloo's own folders and keys as ssh checks its own: they belong to this user, and nobody else can write
    /// them.
    ///
    /// # Errors
    /// Names the first that isn't private, with the command that repairs it.
    pub fn check_private(&self) -> Result<(), CliError> {
        let inner =
            ["keys", "keys/id_ed25519", "state-key", "active", "archive", "locks", "vms", "operations"]
                .map(|name| self.state.join(name));
        [&self.state, &self.cache].into_iter().try_for_each(|path| private::check(path))?;
        Ok(inner.iter().try_for_each(|path| private::check_within(path))?)
    }
}

impl From<Exposed> for CliError {
    fn from(exposed: Exposed) -> Self {
        Self::new(exit::PERMISSION, "exposed", exposed.to_string(), exposed.hint())
    }
}

const STATE_VARIABLE: &str = "GOLOO_STATE_DIR";

/// Whether the environment names the state folder. What a command does there says nothing of the place that
/// the settings name.
pub fn state_is_given() -> bool {
    from_env(STATE_VARIABLE).is_some()
}

/// The home folder, which every default hangs on.
pub fn home() -> Result<PathBuf, CliError> {
    from_env("HOME").ok_or_else(|| {
        CliError::failed("HOME isn't set, so there is no place for goloo's files", "set HOME and try again")
    })
}

/// A path as a person writes it in settings: `~/` is the home folder, and so is what a relative one counts from.
pub fn in_home(text: &str, home: &Path) -> PathBuf {
    home.join(text.strip_prefix("~/").unwrap_or(text))
}

fn from_env(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// XDG's rule: a relative path in the variable is ignored.
fn xdg(name: &str, home: &Path, fallback: &str) -> PathBuf {
    from_env(name).filter(|path| path.is_absolute()).unwrap_or_else(|| home.join(fallback)).join("goloo")
}

fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}
