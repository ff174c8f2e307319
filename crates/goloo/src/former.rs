//! Stores that were used before: their VMs are no longer listed, so `list` prints a note about them.
//!
//! `settings set` saves its address in the settings folder. The state folder itself is always checked when
//! records are stored elsewhere, since settings.json can also be edited manually.

use std::path::{Path, PathBuf};

use goloo_sys::read;

use crate::backend::Backend;
use crate::error::Error;
use crate::files;
use crate::paths::Paths;
use crate::session::Session;
use crate::settings::Settings;

/// A store that was used before and still has VMs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormerPlace {
    /// The address of its store.
    pub address: String,
    /// How many VMs it has.
    pub vms: usize,
}

fn file(config: &Path) -> PathBuf {
    config.join("former-store")
}

/// The store that these settings name, with its path filled in.
///
/// # Errors
/// When they name no valid store.
pub fn place(settings: &Settings, home: &Path) -> Result<Backend, Error> {
    let paths = Paths::resolve(home.to_owned(), settings.state_dir(home));
    Ok(settings.backend(home)?.with_paths(&paths))
}

/// Saves the address of the store that was used until now.
///
/// # Errors
/// When the file can't be written.
pub fn remember(config: &Path, former: &Backend) -> Result<(), Error> {
    let path = file(config);
    files::replace(&path, format!("{former}\n").as_bytes())
        .map_err(|error| Error::cannot("write", &path, error))
}

/// Former stores that still have VMs. A store that can't be read is skipped.
pub fn places(session: &Session) -> Vec<FormerPlace> {
    let Ok(current) = session.settings.backend(&session.paths.home) else { return Vec::new() };
    let current = current.with_paths(&session.paths);
    let remembered = read::own_text(&file(&session.paths.config), read::FILE_MAX).ok();
    let mut places: Vec<Backend> =
        remembered.and_then(|address| Backend::parse(address.trim()).ok()).into_iter().collect();
    places.push(Backend::Dir(Some(session.paths.state.clone())));
    if !crate::paths::state_is_given() {
        places.push(Backend::Dir(Some(Paths::default_state(&session.paths.home))));
    }
    let (mut checked, mut former) = (vec![current], Vec::new());
    for place in places {
        if checked.contains(&place) {
            continue;
        }
        if let Some(vms) = vms_in(session, &place) {
            former.push(FormerPlace { address: place.to_string(), vms });
        }
        checked.push(place);
    }
    former
}

/// How many VMs are left there; 0 if they were moved.
fn vms_in(session: &Session, place: &Backend) -> Option<usize> {
    let seal = session.settings.seal(&session.paths.home).ok()?;
    let store = place.open(&session.paths, session.store_options(seal)).ok()?;
    let names = session.wait_for(async {
        match store.moved_to().await {
            Ok(None) => store.names().await.ok(),
            _ => None,
        }
    });
    let names = names.ok()??;
    (!names.is_empty()).then_some(names.len())
}
