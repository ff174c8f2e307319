//! Where a store's promises can be kept.

use std::io::ErrorKind;
use std::path::Path;

use goloo_core::store::StoreError;

use crate::dir::durable::failed;
use crate::dir::fs::Fs;

/// Refuses a place on a network file system. Writers alone ask: reading a store does no harm, wherever
/// it lies.
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
            // Not made yet: it will lie where its parent lies.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed("look at", place)(error)),
        }
    }
    Ok(())
}
