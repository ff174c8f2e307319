//! The folders for state, settings and cache.

use std::env;
use std::path::{Path, PathBuf};

use goloo_model::provider::ProviderContext;
use goloo_model::record::Trust;
use goloo_sys::private;

use crate::error::Error;

/// goloo's folders; none of them needs to exist.
#[derive(Debug, Clone)]
pub struct Paths {
    /// Records, machines and keys.
    pub state: PathBuf,
    /// Settings and the library of stacks.
    pub config: PathBuf,
    /// Images and responses that can be downloaded again.
    pub cache: PathBuf,
    /// The user's home.
    pub home: PathBuf,
}

impl Paths {
    /// The settings folder: `GOLOO_CONFIG_DIR`, else XDG's.
    pub fn config_dir(home: &Path) -> PathBuf {
        from_env("GOLOO_CONFIG_DIR").unwrap_or_else(|| xdg("XDG_CONFIG_HOME", home, ".config"))
    }

    /// The default state folder.
    pub fn default_state(home: &Path) -> PathBuf {
        xdg("XDG_DATA_HOME", home, ".local/share")
    }

    /// What a provider is opened with, trusting no record and knowing no key.
    pub(crate) fn context(&self) -> ProviderContext {
        let (state, cache) = (self.state.clone(), self.cache.clone());
        ProviderContext { state, cache, trust: Trust::default(), client_key: None }
    }

    /// All folders; the settings' `stateDir` applies when the environment names none.
    pub fn resolve(home: PathBuf, state_setting: Option<PathBuf>) -> Self {
        let state = from_env(STATE_VARIABLE).or(state_setting).unwrap_or_else(|| Self::default_state(&home));
        let cache = from_env("GOLOO_CACHE_DIR").unwrap_or_else(|| xdg("XDG_CACHE_HOME", &home, ".cache"));
        Self { state: absolute(state), config: Self::config_dir(&home), cache: absolute(cache), home }
    }
}

impl Paths {
    /// Checks the settings folder and the settings before they are read: a user who could change them could choose the
    /// folders that goloo uses.
    ///
    /// # Errors
    /// As [`Self::check_private`].
    pub fn check_config(folder: &Path) -> Result<(), Error> {
        private::check_readable(folder)?;
        private::check_readable(&folder.join("stacks"))?;
        Ok(private::check_readable(&folder.join("settings.json"))?)
    }

    /// Checks goloo's folders and keys as ssh checks its own: they belong to this user, and no other user can write
    /// them.
    ///
    /// # Errors
    /// Names the first that isn't private, with the command that repairs it.
    pub fn check_private(&self) -> Result<(), Error> {
        [&self.state, &self.cache].into_iter().try_for_each(|path| private::check(path))?;
        let in_state = IN_STATE.map(|name| self.state.join(name));
        let in_cache = IN_CACHE.map(|name| self.cache.join(name));
        Ok(in_state.iter().chain(&in_cache).try_for_each(|path| private::check_within(path))?)
    }
}

/// The files and folders in the state folder that control access and which code is run.
const IN_STATE: [&str; 9] = [
    "keys",
    "keys/id_ed25519",
    "keys/known_hosts.d",
    "state-key",
    "active",
    "archive",
    "locks",
    "vms",
    "operations",
];
/// The folders in the cache with files that VMs are created from.
const IN_CACHE: [&str; 4] = ["github-keys", "images", "images/names", "images/store"];

const STATE_VARIABLE: &str = "GOLOO_STATE_DIR";

/// Whether the environment names the state folder. A command that runs there doesn't affect the place that
/// the settings name.
pub fn state_is_given() -> bool {
    from_env(STATE_VARIABLE).is_some()
}

/// The home folder, on which every default depends.
///
/// # Errors
/// [`Error::NoHome`].
pub fn home() -> Result<PathBuf, Error> {
    from_env("HOME").ok_or(Error::NoHome)
}

/// A path from the settings: `~/` is the home folder, and relative paths start there too.
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
