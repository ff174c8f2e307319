//! `goloo state backup`

use std::path::Path;

use goloo::actions::Backup;

use super::files;
use crate::app::App;
use crate::error::CliError;
use crate::exit;
use crate::output::bytes;

pub fn run(app: &App, file: &Path) -> Result<u8, CliError> {
    if files::is_standard_stream(file) {
        return Err(CliError::usage(
            "a backup can't be written to standard output",
            "name a file, as in `goloo state backup goloo.tar.zst`",
        ));
    }
    let Backup { export, invalid_key, bytes: content } = app.session.backup()?;
    files::warn_of_broken(app, &export);
    if let Some((path, reason)) = invalid_key {
        app.ui.warning(&format!(
            "the backup has no client key: {} is not a private key: {reason}",
            path.display()
        ));
    }
    files::write_file(file, &content)?;
    app.ui.line(&format!(
        "wrote {} to {} ({})",
        export.contents.count(),
        file.display(),
        bytes(content.len() as u64)
    ));
    app.ui.note("the backup contains secrets (cloud-init files, goloo's SSH key), but no disks of VMs");
    Ok(exit::DONE)
}
