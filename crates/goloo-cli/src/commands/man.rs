//! `goloo man`

use crate::error::CliError;
use crate::exit;
use crate::output::Ui;

pub fn run(ui: &Ui, command_line: clap::Command) -> Result<u8, CliError> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command_line).render(&mut page).expect("a vector takes all bytes");
    ui.document(&String::from_utf8_lossy(&page));
    Ok(exit::DONE)
}
