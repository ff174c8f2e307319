//! `goloo state pull`

use std::path::Path;

use crate::app::App;
use crate::error::CliError;
use crate::exit;
use crate::transfer::document;

pub fn run(app: &App, file: &Path) -> Result<u8, CliError> {
    let whole = app.wait_for(super::read_sound(app, &*app.store))?;
    let document = document::to_json(&whole);
    if super::is_standard_stream(file) {
        app.ui.json_document(&String::from_utf8_lossy(&document));
        return Ok(exit::DONE);
    }
    super::write_file(file, &document)?;
    app.ui.say(&format!("{} are in {}", whole.count(), file.display()));
    Ok(exit::DONE)
}
