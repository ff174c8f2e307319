//! `goloo man`

use clap::CommandFactory;

use crate::args::Cli;
use crate::error::CliError;
use crate::exit;

pub fn run() -> Result<u8, CliError> {
    clap_mangen::Man::new(Cli::command())
        .render(&mut std::io::stdout())
        .map_err(|error| CliError::failed("can't print the page", "try again").because(&error))?;
    Ok(exit::DONE)
}
