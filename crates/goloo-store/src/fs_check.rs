//! Checks that a store's file system can provide its guarantees.

use std::io::ErrorKind;
use std::path::Path;

use goloo_model::store::StoreError;

use crate::dir::durable::failed;
use crate::dir::fs::Fs;

/// Refuses a path on a network file system. Called by writers only: reading is safe on any
/// file system.
pub(crate) fn check(fs: &dyn Fs, root: &Path, allow_network: bool) -> Result<(), StoreError> {
    if allow_network {
        return Ok(());
    }
    for place in
        root.ancestors().map(|place| if place.as_os_str().is_empty() { Path::new(".") } else { place })
    {
        match fs.network_filesystem(place) {
            Ok(None) => return Ok(()),
            Ok(Some(filesystem)) => {
                let filesystem = filesystem.to_owned();
                return Err(StoreError::Unsuitable { path: root.to_owned(), filesystem });
            }
            // It doesn't exist yet, and will be on the same file system as its parent.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed("access", place)(error)),
        }
    }
    Ok(())
}
