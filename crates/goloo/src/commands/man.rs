//! `goloo man`

use clap::CommandFactory;

use crate::args::Cli;
use crate::error::CliError;
use crate::exit;
use crate::output::Ui;

pub fn run(ui: &Ui) -> Result<u8, CliError> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page).expect("a vector takes all bytes");
    ui.document(&String::from_utf8_lossy(&page));
    Ok(exit::DONE)
}
