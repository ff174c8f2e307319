//! `goloo state pull`

use std::path::Path;

use super::files;
use crate::app::App;
use crate::error::CliError;
use crate::exit;

pub fn run(app: &App, file: &Path) -> Result<u8, CliError> {
    let export = app.session.export()?;
    files::warn_of_broken(app, &export);
    let document = export.to_json();
    if files::is_standard_stream(file) {
        app.ui.json_document(&String::from_utf8_lossy(&document));
        return Ok(exit::DONE);
    }
    files::write_file(file, &document)?;
    app.ui.say(&format!("wrote {} to {}", export.contents.count(), file.display()));
    Ok(exit::DONE)
}
