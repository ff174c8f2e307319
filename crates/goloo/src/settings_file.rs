//! `settings.json` of a user, without a session: a setting that prevents the store from being opened must be fixable.

use std::path::PathBuf;
use std::sync::Arc;

use goloo_model::events::Events;
use goloo_model::store::StoreError;
use goloo_store::Options;

use crate::error::Error;
use crate::former;
use crate::paths::{self, Paths};
use crate::providers::Providers;
use crate::session::wait_notice;
use crate::settings::{self, Settings, Shown};

/// The settings in a user's settings folder.
pub struct SettingsFile {
    home: PathBuf,
    folder: PathBuf,
}

/// A setting that was changed.
#[derive(Debug)]
pub struct SettingChanged {
    /// The file.
    pub path: PathBuf,
    /// Why the new store could not be checked; it is checked before the first write.
    pub unchecked: Option<Error>,
}

impl SettingsFile {
    /// The one that the environment names; the file may not exist.
    ///
    /// # Errors
    /// When the folder isn't private.
    pub fn of_user() -> Result<Self, Error> {
        let home = paths::home()?;
        let folder = Paths::config_dir(&home);
        Paths::check_config(&folder)?;
        Ok(Self { home, folder })
    }

    /// Its path.
    pub fn path(&self) -> PathBuf {
        settings::file(&self.folder)
    }

    /// The effective values of all settings in a program with these providers.
    ///
    /// # Errors
    /// When the file or a variable of the environment can't be used; [`Error::NoLocalProvider`].
    pub fn effective(&self, providers: &Providers) -> Result<Vec<Shown>, Error> {
        let settings = Settings::read(&self.folder)?;
        let paths = Paths::resolve(self.home.clone(), settings.state_dir(&self.home));
        settings::shown(&settings, &paths, providers)
    }

    /// Sets a key, and remembers the former store when another one is named. Refuses a bucket whose service could lose
    /// records.
    ///
    /// # Errors
    /// As [`settings::set`]; [`StoreError::UnsafeWrites`].
    pub fn set(&self, events: &Arc<dyn Events>, key: &str, value: &str) -> Result<SettingChanged, Error> {
        let place = || former::place(&Settings::read(&self.folder)?, &self.home);
        let before = place().ok();
        let unchecked = self.check_writes(events, key, value)?;
        settings::set(&**events, &self.folder, key, value)?;
        if let Some(before) = before.filter(|before| place().is_ok_and(|now| now != *before)) {
            former::remember(&self.folder, &before)?;
        }
        Ok(SettingChanged { path: self.path(), unchecked })
    }

    /// Checks the bucket that the changed settings name; returns why it can't be checked now.
    fn check_writes(&self, events: &Arc<dyn Events>, key: &str, value: &str) -> Result<Option<Error>, Error> {
        let settings = settings::preview(&self.folder, key, value)?;
        let backend = settings.own_backend(&self.home);
        // A file that can't be read names no backend.
        let before = Settings::read(&self.folder).map(|settings| settings.own_backend(&self.home));
        if before.is_ok_and(|before| before == backend) {
            return Ok(None);
        }
        let paths = Paths::resolve(self.home.clone(), settings.state_dir(&self.home));
        let store = backend.open(&paths, Options { on_wait: wait_notice(events), ..Options::default() })?;
        match pollster::block_on(store.require_safe_writes()) {
            Err(error @ StoreError::UnsafeWrites { .. }) => Err(error.into()),
            checked => Ok(checked.err().map(Error::from)),
        }
    }
}
