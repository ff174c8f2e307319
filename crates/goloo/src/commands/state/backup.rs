//! `goloo state backup`

use std::io::ErrorKind;
use std::path::Path;

use goloo_core::time::Timestamp;

use crate::app::App;
use crate::error::CliError;
use crate::exit;
use crate::output::bytes;
use crate::transfer::bundle::Bundle;

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
    let content = bundle.to_bytes();
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

fn client_key(app: &App) -> Result<Option<Vec<u8>>, CliError> {
    let path = app.keys.identity();
    match std::fs::read(&path) {
        Ok(key) => Ok(Some(key)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CliError::cannot("read", &path, &error)),
    }
}
