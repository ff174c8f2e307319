//! `goloo state backup`

use std::path::Path;

use goloo_core::time::Timestamp;

use crate::app::App;
use crate::error::CliError;
use crate::output::bytes;
use crate::transfer::bundle::{Bundle, ClientKey};
use crate::{exit, files};

pub fn run(app: &App, file: &Path) -> Result<u8, CliError> {
    if super::is_standard_stream(file) {
        return Err(CliError::usage("a backup is a file", "name it: goloo state backup goloo.tar.zst"));
    }
    let whole = app.wait_for(super::read_sound(app, &*app.store))?;
    let bundle = Bundle {
        created_at: Timestamp::now(),
        from: app.store.location(),
        whole,
        client_key: client_key(app)?,
    };
    let content = bundle.to_bytes().map_err(|error| {
        CliError::failed(
            format!("no backup was made: {error}"),
            "goloo state pull FILE writes all of it as one document",
        )
    })?;
    super::write_file(file, &content)?;
    app.ui.line(&format!(
        "{} are in {} ({})",
        bundle.whole.count(),
        file.display(),
        bytes(content.len() as u64)
    ));
    app.ui.note("it holds secrets (cloud-init files, goloo's SSH key), and no disks of VMs");
    Ok(exit::DONE)
}

fn client_key(app: &App) -> Result<Option<ClientKey>, CliError> {
    let path = app.keys.identity();
    let kept = files::read_own(&path).map_err(|error| CliError::cannot("read", &path, &error))?;
    let key = kept.map(|key| ClientKey::parse(&key)).transpose();
    Ok(key.unwrap_or_else(|error| {
        app.ui
            .warning(&format!("the backup has no client key: {} is no private key: {error}", path.display()));
        None
    }))
}
