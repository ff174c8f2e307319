//! The place where records were kept before: its VMs aren't listed any more, and must not be forgotten.
//!
//! `settings set` remembers it in the folder of the settings. The state folder itself is always looked at when
//! records are kept elsewhere, since settings.json can be changed by hand too.

use std::path::{Path, PathBuf};

use goloo_os::read;

use crate::app::App;
use crate::backend::Backend;
use crate::error::CliError;
use crate::files;
use crate::paths::Paths;
use crate::settings::Settings;

fn file(config: &Path) -> PathBuf {
    config.join("former-store")
}

/// Which place these settings name, with its path written out.
pub fn place(settings: &Settings, home: &Path) -> Result<Backend, CliError> {
    let paths = Paths::resolve(home.to_owned(), settings.state_dir(home));
    Ok(settings.backend(home)?.with_paths(&paths))
}

/// Remembers the place that was in use until now.
pub fn remember(config: &Path, former: &Backend) -> Result<(), CliError> {
    let path = file(config);
    files::replace(&path, format!("{former}\n").as_bytes())
        .map_err(|error| CliError::cannot("write", &path, &error))
}

/// Says where VMs are that the place in use doesn't have. A place that can't be read is no reason to say anything.
pub fn note(app: &App) {
    let Ok(current) = app.settings.backend(&app.paths.home) else { return };
    let current = current.with_paths(&app.paths);
    let remembered = read::text(&file(&app.paths.config), read::FILE_MAX).ok();
    let mut places: Vec<Backend> =
        remembered.and_then(|address| Backend::parse(address.trim()).ok()).into_iter().collect();
    places.push(Backend::Dir(Some(app.paths.state.clone())));
    if !crate::paths::state_is_given() {
        places.push(Backend::Dir(Some(Paths::default_state(&app.paths.home))));
    }
    let mut said = vec![current];
    for place in places {
        if said.contains(&place) {
            continue;
        }
        if let Some(count) = vms_in(app, &place) {
            let address = place.to_string();
            let shown = shlex::try_quote(&address).unwrap_or_default();
            let vms = if count == 1 { "1 VM is".to_owned() } else { format!("{count} VMs are") };
            app.ui.note(&format!(
                "{vms} still in {address}, where records were kept before: GOLOO_STATE_BACKEND={shown} goloo list"
            ));
        }
        said.push(place);
    }
}

/// How many VMs are left there; none where they were moved away.
fn vms_in(app: &App, place: &Backend) -> Option<usize> {
    let store =
        place.open(&app.paths, app.settings.seal(&app.paths.home).ok()?, app.ui.wait_notice()).ok()?;
    let names = app.wait_for(async {
        match store.moved_to().await {
            Ok(None) => store.names().await.ok(),
            _ => None,
        }
    })?;
    (!names.is_empty()).then_some(names.len())
}
